//! Parts that are copied of a recording that is there already.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use reeltime_core::{PartNumber, Trouble};

use super::journal::{Journal, JournalPart};
use super::{Failure, etag, upload};
use crate::storage::body::checksum_of;
use crate::storage::{CopySource, Stored, UploadRef, now};

/// Copies a range of the recording into the temp file, within the kernel where the file system
/// can. To know a whole recording by its `ETag` it would have to be read for every part, so that
/// the part is known by its own checksum instead.
pub(super) fn part(
    object: &Path,
    upload: &UploadRef,
    number: PartNumber,
    source: &CopySource,
) -> Result<Stored, Failure> {
    let range = source.range;
    let other = || Failure::Because(Trouble::InvalidPart, "the recording there is another".to_owned());
    let (files, mut temp) = upload::open_for(object, upload, number, range)?;
    let mut from = match File::open(object) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(other()),
        opened => opened?,
    };
    from.seek(SeekFrom::Start(range.offset))?;
    temp.seek(SeekFrom::Start(range.offset))?;
    let copied = io::copy(&mut from.take(range.len), &mut temp)?;
    if copied != range.len || checksum_of(&temp, range)? != source.crc {
        return Err(other());
    }
    temp.sync_data()?;
    let part = JournalPart { range, crc: source.crc, stored_at: now() };
    Journal::note_part(&files.journal, number, part)?;
    Ok(Stored { etag: etag(part.crc), at: part.stored_at })
}
