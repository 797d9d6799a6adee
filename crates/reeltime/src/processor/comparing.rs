//! Compares what is stored with the file. Blocking.

use std::io;

use md5::{Digest, Md5};
use reeltime_core::{ByteRange, Crc64Nvme, FileVersion, ObjectFacts, Part, PartNumber, PartPlan, WallTime};

use crate::recording::Recording;
use crate::storage::body::{checksum_of, checksums_of, each_block};

/// Compares a range of the file with what was sent of it: its checksum, whether it is the same,
/// and the file's version just before.
pub(super) fn compare_part(
    recording: &Recording,
    range: ByteRange,
    sent: Option<Crc64Nvme>,
    etag: &str,
) -> io::Result<(Crc64Nvme, bool, FileVersion)> {
    let read_at = recording.version()?;
    let file = recording.file();
    if let Some(sent) = sent {
        let actual = checksum_of(&file, range)?;
        return Ok((actual, actual == sent, read_at));
    }
    let (actual, md5) = checksums_of(&file, range)?;
    Ok((actual, etag.eq_ignore_ascii_case(&hex(&md5)), read_at))
}

/// What came of comparing a whole file with an object.
pub(crate) struct Compared {
    /// The object as parts of a plan, if they are the same.
    pub(crate) parts: Option<Vec<(PartNumber, Part)>>,
    /// The file's version just before its first byte was read.
    pub(crate) read_at: FileVersion,
}

/// Compares the whole file with an object of the same size.
///
/// Where the store does not tell a CRC64NVME, its `ETag` decides, if it is that of an MD5: of the
/// whole, or of the parts' MD5s, where the object was made of the plan's parts.
pub(crate) fn compare_object(
    recording: &Recording,
    facts: &ObjectFacts,
    plan: &PartPlan,
    now: WallTime,
) -> io::Result<Compared> {
    let read_at = recording.version()?;
    let file = recording.file();
    let count = plan.parts_for(facts.size_bytes).unwrap_or(0);
    let mut parts = Vec::new();
    let mut whole = Crc64Nvme::EMPTY;
    let mut whole_md5 = Md5::new();
    let mut part_md5s = Md5::new();
    for number in (1..=count).filter_map(PartNumber::new) {
        let Some(range) = plan.range_in(number, facts.size_bytes) else { return Ok(Compared { parts: None, read_at }) };
        let (crc, etag) = if facts.crc.is_some() {
            (checksum_of(&file, range)?, facts.etag.clone())
        } else {
            let mut crc = Crc64Nvme::digest();
            let mut md5 = Md5::new();
            each_block(&file, range, |block| {
                crc.update(block);
                md5.update(block);
                whole_md5.update(block);
            })?;
            let md5 = md5.finalize();
            part_md5s.update(md5);
            (crc.finish(), hex(&md5))
        };
        whole = whole.followed_by(crc, range.len);
        let part = Part {
            size_bytes: range.len,
            etag,
            crc: Some(crc),
            stored_at: now,
            uploads: 1,
            proven: None,
            dirty: false,
        };
        parts.push((number, part));
    }
    let is_same = if let Some(crc) = facts.crc {
        crc == whole
    } else {
        let of_parts = format!("{}-{count}", hex(&part_md5s.finalize()));
        [hex(&whole_md5.finalize()), of_parts].iter().any(|etag| facts.etag.eq_ignore_ascii_case(etag))
    };
    Ok(Compared { parts: is_same.then_some(parts), read_at })
}

/// Whether [`compare_object`] can know the file again in this object: by its checksum, or because
/// its `ETag` has the shape of an MD5 of the whole or of this plan's parts. Where it cannot, there
/// is nothing to read for.
pub(crate) fn can_tell(facts: &ObjectFacts, plan: &PartPlan) -> bool {
    let Some(count) = plan.parts_for(facts.size_bytes) else { return false };
    let is_md5 = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    facts.crc.is_some()
        || match facts.etag.split_once('-') {
            None => is_md5(&facts.etag),
            Some((md5, parts)) => is_md5(md5) && parts.parse() == Ok(count),
        }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
