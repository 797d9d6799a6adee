//! Steps through the boxes of a file (ISO/IEC 14496-12, 4.2) without loading what it passes.
//!
//! Every number comes from a file that may be damaged or hostile. So the walk only goes forward,
//! stays inside the enclosing box and the file, and reads no more than a fixed budget; boxes
//! that are not asked for cost 16 bytes, whatever their size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use mp4_atom::{Atom, FourCC};

/// Bytes of one box that is read as a whole. Those that hold a table per sample are not read.
const MAX_BODY_BYTES: u64 = 4 << 20;

/// Bytes that are read of one file. Enough for four million boxes to be passed.
const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// Boxes directly inside another one.
const MAX_CHILDREN: usize = 4096;

/// Why the boxes of a file say nothing.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// It is something else, or damaged from the first byte.
    #[error("not an MP4 file")]
    NotMp4,
    /// There is no movie header.
    #[error("no moov box: the recorder has not finished the file, or the file is damaged")]
    NoMoov,
    /// A box is longer than what it is in.
    #[error(
        "box {kind} at {offset} says that it ends at {end}, but there is no more than {limit} bytes: the file is cut off"
    )]
    Cut {
        /// Its type.
        kind: FourCC,
        /// Where it begins.
        offset: u64,
        /// Where it ends by its own word.
        end: u64,
        /// Where the enclosing box, or the file, ends.
        limit: u64,
    },
    /// A box does not have the content that its type says.
    #[error("box {kind}: {cause}")]
    Damaged {
        /// Its type.
        kind: FourCC,
        /// What is wrong.
        cause: String,
    },
    /// More would have to be read than is reasonable.
    #[error("box {kind} is too large, or there are too many boxes")]
    TooLarge {
        /// The type at which it showed.
        kind: FourCC,
    },
    /// Reading took too long.
    #[error("reading it took too long")]
    TimedOut,
    /// The file cannot be read, or has become shorter.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A box: its type and where its content is.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxAt {
    pub(super) kind: FourCC,
    /// Offset of the content.
    pub(super) body: u64,
    /// Offset behind the content.
    pub(super) end: u64,
}

/// A file while its boxes are read.
pub(super) struct Walk<'a> {
    file: &'a File,
    deadline: Instant,
    bytes_left: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a File, deadline: Instant) -> Self {
        Self { file, deadline, bytes_left: MAX_TOTAL_BYTES }
    }

    /// The box at `offset` of something that ends at `limit`. `None` at the end; fewer bytes
    /// than a box can have are padding, which `QuickTime` writes.
    pub(super) fn box_at(&mut self, offset: u64, limit: u64) -> Result<Option<BoxAt>, BoxError> {
        if limit.saturating_sub(offset) < 8 {
            return Ok(None);
        }
        let mut header = [0; 16];
        let header = &mut header[..16.min((limit - offset) as usize)];
        self.read(offset, header, FourCC::new(b"\0\0\0\0"))?;
        let kind = FourCC::new(&array(header, 4));
        let (header_len, len) = match u32::from_be_bytes(array(header, 0)) {
            0 => (8, limit - offset), // to the end
            1 if header.len() < 16 => (16, 16),
            1 => (16, u64::from_be_bytes(array(header, 8))),
            len => (8, u64::from(len)),
        };
        if len < header_len {
            return Err(BoxError::Damaged { kind, cause: format!("its size is {len}") });
        }
        let end = offset.saturating_add(len);
        if end > limit {
            return Err(BoxError::Cut { kind, offset, end, limit });
        }
        Ok(Some(BoxAt { kind, body: offset + header_len, end }))
    }

    /// The boxes directly inside `parent`.
    pub(super) fn children(&mut self, parent: BoxAt) -> Result<Vec<BoxAt>, BoxError> {
        let mut children = Vec::new();
        let mut offset = parent.body;
        while let Some(child) = self.box_at(offset, parent.end)? {
            if children.len() == MAX_CHILDREN {
                return Err(BoxError::TooLarge { kind: parent.kind });
            }
            children.push(child);
            offset = child.end;
        }
        Ok(children)
    }

    /// The first box of the type `kinds[0]` in `parent`, in that the first of `kinds[1]`, …
    pub(super) fn find(&mut self, parent: BoxAt, kinds: &[&[u8; 4]]) -> Result<Option<BoxAt>, BoxError> {
        let mut found = parent;
        for kind in kinds {
            match self.children(found)?.into_iter().find(|child| child.kind == FourCC::new(kind)) {
                Some(child) => found = child,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The whole content of a small box.
    pub(super) fn body(&mut self, of: BoxAt) -> Result<Vec<u8>, BoxError> {
        self.head(of, MAX_BODY_BYTES + 1).and_then(|body| {
            if body.len() as u64 > MAX_BODY_BYTES { Err(BoxError::TooLarge { kind: of.kind }) } else { Ok(body) }
        })
    }

    /// The first `len` bytes of the content, or all if there are fewer.
    pub(super) fn head(&mut self, of: BoxAt, len: u64) -> Result<Vec<u8>, BoxError> {
        let mut bytes = vec![0; len.min(of.end - of.body) as usize];
        self.read(of.body, &mut bytes, of.kind)?;
        Ok(bytes)
    }

    /// A small box, decoded.
    pub(super) fn decode<T: Atom>(&mut self, of: BoxAt) -> Result<T, BoxError> {
        let body = self.body(of)?;
        T::decode_body(&mut body.as_slice())
            .map_err(|error| BoxError::Damaged { kind: of.kind, cause: error.to_string() })
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8], kind: FourCC) -> Result<(), BoxError> {
        if Instant::now() > self.deadline {
            return Err(BoxError::TimedOut);
        }
        self.bytes_left = self.bytes_left.checked_sub(bytes.len() as u64).ok_or(BoxError::TooLarge { kind })?;
        Ok(self.file.read_exact_at(bytes, offset)?)
    }
}

/// `N` bytes from `at`; zeros for those that are not there.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    let there = bytes.get(at..).unwrap_or_default();
    let len = there.len().min(N);
    array[..len].copy_from_slice(&there[..len]);
    array
}
