//! The journal of an upload into a directory: which parts its temp file holds.
//!
//! A text file beside the temp file. Each record is a line that begins and ends with a newline
//! and carries its own checksum:
//!
//! ```text
//! upload <version> <key, hex> <begun, ms> #<crc64>
//! part <number> <offset> <len> <crc64> <stored, ms> #<crc64>
//! void <number> #<crc64>
//! ```
//!
//! - The first record names the object; without it there is no upload.
//! - A part is recorded after its bytes are durable, and void before they are overwritten or cut
//!   off. So a part that the journal holds was not touched since, whatever crashed when.
//! - The last record of a number counts. A torn record fails its checksum and is skipped, and
//!   because every record begins a line, nothing that is appended later is lost with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use reeltime_core::{ByteRange, Crc64Nvme, ObjectKey, PartNumber, WallTime};

const VERSION: u32 = 1;

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Journal {
    /// The object.
    pub(super) key: ObjectKey,
    /// When the upload was begun.
    pub(super) begun: WallTime,
    /// The parts that were stored and not voided.
    pub(super) parts: BTreeMap<PartNumber, JournalPart>,
}

/// A stored part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalPart {
    /// Where it lies.
    pub(super) range: ByteRange,
    /// The checksum of its bytes.
    pub(super) crc: Crc64Nvme,
    /// When it was stored.
    pub(super) stored_at: WallTime,
}

impl Journal {
    /// Begins a journal that must not exist yet. Durable but for its name when it returns.
    pub(super) fn begin(path: &Path, key: &ObjectKey, begun: WallTime) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o644).open(path)?;
        let key: String = key.as_bytes().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        append(&file, &[format!("upload {VERSION} {key} {}", begun.0)])
    }

    /// Notes a part. Durable when it returns.
    pub(super) fn note_part(path: &Path, number: PartNumber, part: JournalPart) -> io::Result<()> {
        let JournalPart { range, crc, stored_at } = part;
        let record = format!("part {number} {} {} {:016x} {}", range.offset, range.len, crc.0, stored_at.0);
        append(&OpenOptions::new().append(true).open(path)?, &[record])
    }

    /// Takes parts back. Durable when it returns.
    pub(super) fn void_parts(path: &Path, numbers: impl IntoIterator<Item = PartNumber>) -> io::Result<()> {
        let records: Vec<_> = numbers.into_iter().map(|number| format!("void {number}")).collect();
        if records.is_empty() {
            return Ok(());
        }
        append(&OpenOptions::new().append(true).open(path)?, &records)
    }

    /// Reads a journal; `None` if its first record is missing, that is, if the upload was never
    /// begun. The error is [`io::ErrorKind::NotFound`] if there is no file.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::parse(&std::fs::read(path)?))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut records = bytes.split(|byte| *byte == b'\n').filter_map(checked);
        let mut first = records.next()?.split(' ');
        if (first.next()?, first.next()?.parse()) != ("upload", Ok(VERSION)) {
            return None;
        }
        let key = ObjectKey::from_bytes(from_hex(first.next()?)?);
        let mut journal = Self { key, begun: WallTime(first.next()?.parse().ok()?), parts: BTreeMap::new() };
        for record in records {
            journal.apply(record);
        }
        Some(journal)
    }

    /// Takes a record in; one of a kind that is not known here says nothing.
    fn apply(&mut self, record: &str) -> Option<()> {
        let mut fields = record.split(' ');
        let kind = fields.next()?;
        let number = PartNumber::new(fields.next()?.parse().ok()?)?;
        if kind == "void" {
            self.parts.remove(&number);
        } else if kind == "part" {
            let range = ByteRange { offset: fields.next()?.parse().ok()?, len: fields.next()?.parse().ok()? };
            range.offset.checked_add(range.len)?;
            let crc = Crc64Nvme(u64::from_str_radix(fields.next()?, 16).ok()?);
            let stored_at = WallTime(fields.next()?.parse().ok()?);
            self.parts.insert(number, JournalPart { range, crc, stored_at });
        }
        Some(())
    }
}

/// Appends records, each a line of its own, in one write, and makes them durable.
fn append(mut file: &File, records: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for record in records {
        let _ = write!(text, "\n{record} #{:016x}\n", Crc64Nvme::of(record.as_bytes()).0);
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// The record of a line whose checksum is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (record, sum) = std::str::from_utf8(line).ok()?.rsplit_once(" #")?;
    let right = sum.len() == 16 && u64::from_str_radix(sum, 16) == Ok(Crc64Nvme::of(record.as_bytes()).0);
    right.then_some(record)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TWO: PartNumber = PartNumber::FIRST.next();

    fn part(offset: u64, crc: u64) -> JournalPart {
        JournalPart { range: ByteRange { offset, len: 5 }, crc: Crc64Nvme(crc), stored_at: WallTime(9) }
    }

    fn key() -> ObjectKey {
        ObjectKey::from_bytes(b"a b/\xff\n#.mp4".to_vec())
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        Journal::begin(&path, &key(), WallTime(7)).unwrap();
        Journal::note_part(&path, PartNumber::FIRST, part(0, 1)).unwrap();
        Journal::note_part(&path, TWO, part(5, 2)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_last_record_of_a_number_counts() {
        let (_dir, path) = written();
        Journal::note_part(&path, PartNumber::FIRST, part(0, 3)).unwrap();
        Journal::void_parts(&path, [TWO]).unwrap();
        let journal = Journal::read(&path).unwrap().unwrap();
        assert_eq!((&journal.key, journal.begun), (&key(), WallTime(7)));
        assert_eq!(journal.parts, BTreeMap::from([(PartNumber::FIRST, part(0, 3))]));
    }

    #[test]
    fn a_journal_torn_at_any_byte_says_nothing_wrong_and_takes_what_follows() {
        let (_dir, path) = written();
        let whole = std::fs::read(&path).unwrap();
        let complete = Journal::parse(&whole).unwrap();
        for torn in 0..whole.len() {
            std::fs::write(&path, &whole[..torn]).unwrap();
            let Some(journal) = Journal::read(&path).unwrap() else { continue };
            assert!(journal.parts.iter().all(|(number, part)| complete.parts.get(number) == Some(part)), "at {torn}");
            Journal::note_part(&path, TWO, part(5, 8)).unwrap();
            let after = Journal::read(&path).unwrap().unwrap();
            assert_eq!(after.parts.get(&TWO), Some(&part(5, 8)), "torn at {torn}");
        }
    }

    #[test]
    fn a_changed_byte_never_changes_what_a_journal_says_to_something_else() {
        let (_dir, path) = written();
        let whole = std::fs::read(&path).unwrap();
        let complete = Journal::parse(&whole).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            if let Some(journal) = Journal::parse(&bytes) {
                assert_eq!(journal.key, complete.key);
                assert!(journal.parts.iter().all(|(number, part)| complete.parts.get(number) == Some(part)), "at {at}");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_journal_is_no_upload() {
        for bytes in [&b""[..], b"hello\nworld", b"\nvoid 1 #0000000000000000\n"] {
            assert_eq!(Journal::parse(bytes), None);
        }
    }
}
