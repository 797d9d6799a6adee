//! What is done with the files of an upload. All functions but the writing ones block.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reeltime_core::{ByteRange, Crc64Nvme, ObjectKey, PartNumber, PendingUpload, RemotePart, Trouble};

use super::files::{self, UploadFiles};
use super::journal::{Journal, JournalPart};
use super::{Failure, LocalStore, etag};
use crate::storage::body::{blocking, checksum_of};
use crate::storage::{CompletedPart, PartBody, SOURCE_CHANGED, Stored, UploadRef, now};

/// Begins an upload; answers its id. After a crash there is an upload that can be listed, or a
/// temp file that nobody knows, or nothing.
pub(super) fn begin(object: &Path, key: &ObjectKey, token: &str) -> Result<String, Failure> {
    let dir = files::parent_of(object);
    files::create_dirs(dir)?;
    name_must_fit(object)?;
    let _ = files::uploads_in(dir); // sweeps what crashes have left; it does not matter here
    let id = files::new_id();
    let Some(files) = UploadFiles::of(object, &id) else {
        return Err(Failure::Io(io::Error::other("a new id is not valid")));
    };
    let begun = || {
        let temp = files::create_new(&files.temp)?;
        files::set_token(&temp, token)?;
        temp.sync_all()?;
        Journal::begin(&files.journal, key, now())?;
        files::sync_dir(dir)
    };
    begun().inspect_err(|_| {
        // Best effort: what stays is hidden and empty.
        let _ = files::remove(&files.temp).and_then(|()| files::remove(&files.journal));
    })?;
    Ok(id)
}

/// A name that the file system does not allow is found out now, not at completion, and so is a
/// directory of that name.
fn name_must_fit(object: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(object) {
        Ok(found) if found.is_dir() => Err(Failure::Io(io::Error::from_raw_os_error(libc::EISDIR))),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The temp file and what the journal says of it.
fn open(object: &Path, upload: &UploadRef) -> Result<(UploadFiles, File, Journal), Failure> {
    let gone = || Failure::Because(Trouble::NoSuchUpload, format!("there is no upload {}", upload.id));
    let files = UploadFiles::of(object, &upload.id).ok_or_else(gone)?;
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => gone(),
        _ => Failure::Io(error),
    };
    let temp = match OpenOptions::new().read(true).write(true).open(&files.temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // It became the object, and a crash came before its journal was removed.
            files::remove(&files.journal)?;
            return Err(gone());
        }
        opened => opened.map_err(missing)?,
    };
    let journal = Journal::read(&files.journal).map_err(missing)?;
    let journal = journal.filter(|journal| journal.key == upload.key).ok_or_else(gone)?;
    Ok((files, temp, journal))
}

/// The files of an upload whose part is about to be written: what is about to be overwritten is
/// no part any more, even if it is another's.
pub(super) fn open_for(
    object: &Path,
    upload: &UploadRef,
    number: PartNumber,
    range: ByteRange,
) -> Result<(UploadFiles, File), Failure> {
    let (files, temp, journal) = open(object, upload)?;
    let end = range.offset.saturating_add(range.len);
    let overwritten = journal
        .parts
        .iter()
        .filter(|(at, part)| **at == number || (part.range.offset < end && range.offset < part.range.end()));
    Journal::void_parts(&files.journal, overwritten.map(|(at, _)| *at))?;
    Ok((files, temp))
}

impl LocalStore {
    pub(super) async fn write_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        offset: u64,
        body: &PartBody,
    ) -> Result<Stored, Failure> {
        let range = ByteRange { offset, len: body.len() };
        let turn = self.turn(&upload.id).await;
        let (object, upload) = (self.object(&upload.key), upload.clone());
        // The turn goes along with whatever is done to the files: should this call be given up
        // meanwhile, the next one waits until that is over.
        let (mut turn, files, temp) = self
            .run(move |_| {
                let (files, temp) = open_for(&object, &upload, number, range)?;
                Ok((turn, files, Arc::new(temp)))
            })
            .await?;

        let mut at = offset;
        let mut blocks = body.blocks();
        while let Some(block) = blocks.recv().await {
            let block = block.map_err(Failure::Source)?;
            let len = block.len() as u64;
            turn = write_block(turn, Arc::clone(&temp), block, at).await?;
            at += len;
        }
        if body.sent() != Some(body.crc()) {
            return Err(Failure::Because(Trouble::SourceChanged, SOURCE_CHANGED.to_owned()));
        }
        let part = JournalPart { range, crc: body.crc(), stored_at: now() };
        self.run(move |_| {
            let _turn = turn;
            temp.sync_data()?;
            Ok(Journal::note_part(&files.journal, number, part)?)
        })
        .await?;
        Ok(Stored { etag: etag(body.crc()), at: part.stored_at })
    }

    pub(super) async fn write_object(
        &self,
        key: &ObjectKey,
        token: Option<&str>,
        body: &PartBody,
    ) -> Result<Stored, Failure> {
        let (object, token) = (self.object(key), token.map(str::to_owned));
        let path = object.clone();
        let (temp, file) = self
            .run(move |_| {
                files::create_dirs(files::parent_of(&path))?;
                name_must_fit(&path)?;
                let (temp, file) = files::create_put_temp(&path)?;
                let temp = Unfinished(temp);
                if let Some(token) = token {
                    files::set_token(&file, &token)?;
                }
                Ok((temp, Arc::new(file)))
            })
            .await?;
        let mut at = 0;
        let mut blocks = body.blocks();
        while let Some(block) = blocks.recv().await {
            let block = block.map_err(Failure::Source)?;
            let len = block.len() as u64;
            write_block((), Arc::clone(&file), block, at).await?;
            at += len;
        }
        if body.sent() != Some(body.crc()) {
            return Err(Failure::Because(Trouble::SourceChanged, SOURCE_CHANGED.to_owned()));
        }
        self.run(move |_| {
            file.sync_all()?;
            fs::rename(&temp.0, &object)?;
            Ok(files::sync_dir(files::parent_of(&object))?)
        })
        .await?;
        Ok(Stored { etag: etag(body.crc()), at: now() })
    }
}

/// A temp file that is removed unless it has been renamed.
struct Unfinished(std::path::PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = files::remove(&self.0); // it is hidden, and the next one has another name
    }
}

/// Writes a block on a thread of its own, holding `held` until it is done.
async fn write_block<T: Send + 'static>(held: T, file: Arc<File>, block: Bytes, at: u64) -> Result<T, Failure> {
    let write = move || file.write_all_at(&block, at).map(|()| held);
    Ok(blocking(write).await?)
}

/// The parts whose bytes are in the temp file as the journal says.
pub(super) fn list(object: &Path, upload: &UploadRef) -> Result<Vec<RemotePart>, Failure> {
    let (_, temp, journal) = open(object, upload)?;
    let mut parts = Vec::new();
    for (number, part) in journal.parts {
        match checksum_of(&temp, part.range) {
            Ok(crc) if crc == part.crc => parts.push(RemotePart {
                number,
                size_bytes: part.range.len,
                etag: etag(part.crc),
                crc: Some(part.crc),
                stored_at: part.stored_at,
            }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(parts)
}

/// Makes the recording of these parts; answers its checksum.
pub(super) fn complete(
    object: &Path,
    upload: &UploadRef,
    parts: &[CompletedPart],
    crc: Option<Crc64Nvme>,
    size_bytes: u64,
) -> Result<Crc64Nvme, Failure> {
    let (files, temp, journal) = open(object, upload)?;
    let whole = checked(&journal, parts, size_bytes).map_err(|why| Failure::Because(Trouble::InvalidPart, why))?;
    if crc.is_some_and(|crc| crc != whole) {
        let why = format!("the parts have the checksum {whole:?} and not {:?}", crc.unwrap_or(whole));
        return Err(Failure::Because(Trouble::InvalidPart, why));
    }
    if temp.metadata()?.len() < size_bytes {
        let why = "the temp file has become shorter than its parts".to_owned();
        return Err(Failure::Because(Trouble::InvalidPart, why));
    }
    // Should the next steps be interrupted, parts that are cut off now are no parts then.
    let dropped = journal.parts.keys().filter(|number| !parts.iter().any(|part| part.number == **number));
    Journal::void_parts(&files.journal, dropped.copied())?;
    temp.set_len(size_bytes)?;
    temp.sync_all()?;
    fs::rename(&files.temp, object)?;
    files::sync_dir(&files.dir)?;
    // The recording is complete. A journal that stays is swept with the next look.
    let _ = files::remove(&files.journal);
    Ok(whole)
}

/// Whether the journal holds these parts and they follow each other up to `size_bytes`; answers
/// the checksum of the whole, or what is wrong.
fn checked(journal: &Journal, parts: &[CompletedPart], size_bytes: u64) -> Result<Crc64Nvme, String> {
    if parts.is_empty() {
        return Err("an upload is not completed without parts".to_owned());
    }
    let mut whole = Crc64Nvme::EMPTY;
    let mut offset = 0;
    let mut last = None;
    for part in parts {
        let number = part.number;
        let held = journal.parts.get(&number).ok_or_else(|| format!("part {number} is not stored"))?;
        if last.is_some_and(|last| last >= number) {
            return Err(format!("part {number} is out of order"));
        }
        if part.etag != etag(held.crc) || part.crc.is_some_and(|crc| crc != held.crc) {
            return Err(format!("part {number} has other bytes than these"));
        }
        if held.range.offset != offset {
            return Err(format!("part {number} begins at {} and not at {offset}", held.range.offset));
        }
        whole = whole.followed_by(held.crc, held.range.len);
        offset = held.range.end();
        last = Some(number);
    }
    if offset == size_bytes { Ok(whole) } else { Err(format!("the parts have {offset} bytes and not {size_bytes}")) }
}

/// The unfinished uploads of a key.
pub(super) fn of_key(object: &Path, key: &ObjectKey) -> Result<Vec<PendingUpload>, Failure> {
    let mut uploads = Vec::new();
    for (upload_id, files) in files::uploads_in(files::parent_of(object))? {
        match Journal::read(&files.journal) {
            Ok(Some(journal)) if journal.key == *key => {
                uploads.push(PendingUpload { key: key.clone(), upload_id, initiated: journal.begun });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(uploads)
}
