//! The bytes of a part on their way from the file to a store.
//!
//! The file is the buffer: a body holds a range of an open file and reads it in blocks as they
//! are needed, twice if a checksum has to go before the bytes. So memory depends neither on
//! the part size nor on how a store retries.
//!
//! Reading is blocking work and a hung network mount must not stop anybody else: it happens on
//! a thread of its own, a bounded number of blocks ahead of the sender.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use md5::{Digest, Md5};
use reeltime_core::{ByteRange, Crc64Nvme, Need};
use tokio::sync::mpsc;

pub use super::blocks::BLOCK_BYTES;
use super::blocks::Block;
use crate::pacing::Pacer;

/// Blocks that may be read ahead of the sender, beside the one that is being read. A second one makes
/// nothing faster, and takes memory for every part in flight.
const READ_AHEAD_BLOCKS: usize = 1;

/// A range of a file, or a small document, with its checksum.
#[derive(Clone, Debug)]
pub struct PartBody {
    source: Source,
    len: u64,
    crc: Crc64Nvme,
    /// The rate that it shares, and who goes before it.
    pace: Option<(Pacer, Need)>,
    sent: Arc<Mutex<Option<Crc64Nvme>>>,
}

#[derive(Clone, Debug)]
enum Source {
    File { file: Arc<File>, offset: u64 },
    Bytes(Bytes),
}

impl PartBody {
    /// A body over `range` of `file`. Reads the range once, on a thread of its own, for its
    /// checksum. Fails with [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    pub async fn of_file(file: Arc<File>, range: ByteRange) -> io::Result<Self> {
        let reader = Arc::clone(&file);
        let crc = blocking(move || checksum_of(&reader, range)).await?;
        Ok(Self {
            source: Source::File { file, offset: range.offset },
            len: range.len,
            crc,
            pace: None,
            sent: Arc::default(),
        })
    }

    /// A body over a small document.
    pub fn of_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            crc: Crc64Nvme::of(&bytes),
            source: Source::Bytes(bytes),
            pace: None,
            sent: Arc::default(),
        }
    }

    /// The same, at a rate that is shared by need. Otherwise as fast as it goes.
    #[must_use]
    pub fn paced(self, pacer: Pacer, need: Need) -> Self {
        Self { pace: Some((pacer, need)), ..self }
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The checksum that was computed when the body was made.
    pub fn crc(&self) -> Crc64Nvme {
        self.crc
    }

    /// The checksum of what [`PartBody::blocks`] handed out the last time it came to its end.
    /// Unlike [`PartBody::crc`] it is that of the bytes that were really sent: the file may
    /// have changed in between.
    pub fn sent(&self) -> Option<Crc64Nvme> {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the bytes once more for their MD5, for stores that want `Content-MD5`.
    pub async fn md5(&self) -> io::Result<[u8; 16]> {
        match &self.source {
            Source::Bytes(bytes) => Ok(Md5::digest(bytes).into()),
            Source::File { file, offset } => {
                let (file, range) = (Arc::clone(file), ByteRange { offset: *offset, len: self.len });
                blocking(move || {
                    let mut md5 = Md5::new();
                    each_block(&file, range, |block| md5.update(block))?;
                    Ok(md5.finalize().into())
                })
                .await
            }
        }
    }

    /// The bytes in blocks of at most [`BLOCK_BYTES`], from the beginning, no faster than the
    /// bandwidth allows. After an error nothing follows; a file that has become shorter is the
    /// error [`io::ErrorKind::UnexpectedEof`].
    pub fn blocks(&self) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD_BLOCKS);
        let (source, len, pace, sent) = (self.source.clone(), self.len, self.pace.clone(), Arc::clone(&self.sent));
        let note = move |crc: Option<Crc64Nvme>| *sent.lock().unwrap_or_else(PoisonError::into_inner) = crc;
        note(None);
        match source {
            Source::Bytes(bytes) => {
                note(Some(self.crc));
                if !bytes.is_empty() {
                    let _ = sender.try_send(Ok(bytes));
                }
            }
            Source::File { file, offset } => {
                tokio::task::spawn_blocking(move || {
                    let block_bytes = pace.as_ref().map_or(BLOCK_BYTES, |(pacer, _)| pacer.block_bytes());
                    let pace = pace.map(|(pacer, need)| pacer.begin(need));
                    let mut digest = Crc64Nvme::digest();
                    let mut done = 0;
                    if len == 0 {
                        note(Some(digest.finish()));
                    }
                    while done < len {
                        let mut block = Block::of(block_bytes.min((len - done) as usize));
                        let read = file.read_exact_at(block.as_mut(), offset + done);
                        if let Err(error) = read {
                            let _ = sender.blocking_send(Err(error));
                            return;
                        }
                        let bytes = Bytes::from_owner(block);
                        digest.update(&bytes);
                        done += bytes.len() as u64;
                        if done == len {
                            note(Some(digest.finish()));
                        }
                        if let Some(pace) = &pace {
                            pace.wait(bytes.len() as u64);
                        }
                        if sender.blocking_send(Ok(bytes)).is_err() {
                            return; // the request was given up
                        }
                    }
                });
            }
        }
        receiver
    }
}

/// The checksum of a range of a file. Blocking.
pub fn checksum_of(file: &File, range: ByteRange) -> io::Result<Crc64Nvme> {
    let mut digest = Crc64Nvme::digest();
    each_block(file, range, |block| digest.update(block))?;
    Ok(digest.finish())
}

/// Checksum and MD5 of a range of a file. Blocking.
pub fn checksums_of(file: &File, range: ByteRange) -> io::Result<(Crc64Nvme, [u8; 16])> {
    let mut digest = Crc64Nvme::digest();
    let mut md5 = Md5::new();
    each_block(file, range, |block| {
        digest.update(block);
        md5.update(block);
    })?;
    Ok((digest.finish(), md5.finalize().into()))
}

/// Hands out a range of a file in blocks. Blocking.
pub fn each_block(file: &File, range: ByteRange, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = Block::of(BLOCK_BYTES);
    let mut offset = range.offset;
    while offset < range.end() {
        let len = BLOCK_BYTES.min((range.end() - offset) as usize);
        let bytes = &mut block.as_mut()[..len];
        file.read_exact_at(bytes, offset)?;
        take(bytes);
        offset += len as u64;
    }
    Ok(())
}

/// Runs blocking work on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
