//! What was sent of a recording.

use std::collections::BTreeMap;

use crate::{ByteRange, Crc64Nvme, FileVersion, PartNumber, PartPlan, WallTime};

/// A part that the store holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Bytes that were sent; fewer than the plan's for a tail.
    pub size_bytes: u64,
    /// The store's name for these bytes.
    pub etag: String,
    /// Checksum of the bytes that were sent; unknown for a part that was found in a store
    /// that does not tell.
    pub crc: Option<Crc64Nvme>,
    /// When the store had it.
    pub stored_at: WallTime,
    /// How often the number was sent; 0 for a part that was copied.
    pub uploads: u32,
    /// The version of the file that surely has these bytes in this range: the bytes were read
    /// after nobody was writing any more, and its timestamps had settled. `None` if they may
    /// have changed since.
    pub proven: Option<FileVersion>,
    /// The bytes on disk are known to differ from what was sent.
    pub dirty: bool,
}

/// The sent parts of one upload.
///
/// What is asked after every input (which part is the first that is missing?) is answered from
/// a remembered prefix, so that a recording of ten thousand parts costs no more than one of
/// ten. Every change of a part shortens the prefix to what lies before it.
#[derive(Clone, Debug, Default)]
pub struct PartTable {
    parts: BTreeMap<PartNumber, Part>,
    bytes: u64,
    /// So many parts from the first are known to be full and clean.
    full: u32,
    /// So many parts from the first are known to be proven for this version.
    proven: (u32, Option<FileVersion>),
}

impl PartialEq for PartTable {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for PartTable {}

impl PartTable {
    /// Notes a part; one with the same number is replaced, as in the store.
    pub fn insert(&mut self, number: PartNumber, part: Part) {
        self.changes(number);
        self.bytes += part.size_bytes;
        if let Some(before) = self.parts.insert(number, part) {
            self.bytes -= before.size_bytes;
        }
    }

    /// Forgets a part.
    pub fn remove(&mut self, number: PartNumber) -> Option<Part> {
        self.changes(number);
        let part = self.parts.remove(&number)?;
        self.bytes -= part.size_bytes;
        Some(part)
    }

    /// The part with this number.
    pub fn get(&self, number: PartNumber) -> Option<&Part> {
        self.parts.get(&number)
    }

    /// Notes that the bytes on disk differ from what was sent.
    pub fn mark_dirty(&mut self, number: PartNumber) {
        self.changes(number);
        if let Some(part) = self.parts.get_mut(&number) {
            part.dirty = true;
        }
    }

    /// Notes that a part has the same bytes as the file, which have this checksum; `proven` if
    /// that holds for a version of the file.
    pub fn mark_same(&mut self, number: PartNumber, crc: Crc64Nvme, proven: Option<FileVersion>) {
        self.changes(number);
        if let Some(part) = self.parts.get_mut(&number) {
            part.crc = Some(crc);
            part.proven = proven;
        }
    }

    /// All parts in order.
    pub fn iter(&self) -> impl Iterator<Item = (PartNumber, &Part)> {
        self.parts.iter().map(|(number, part)| (*number, part))
    }

    /// How many parts were sent.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that the store holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether part `number` holds exactly `range` and is not known to be dirty.
    pub fn holds(&self, number: PartNumber, range: ByteRange) -> bool {
        self.get(number).is_some_and(|part| part.size_bytes == range.len && !part.dirty)
    }

    /// The first part that is not full and clean.
    pub fn first_gap(&mut self, plan: &PartPlan) -> PartNumber {
        let mut number = from_count(self.full);
        while plan.range(number).is_some_and(|range| self.holds(number, range)) {
            self.full += 1;
            number = number.next();
        }
        number
    }

    /// The first part that is not proven to be what the file holds in this version.
    pub fn first_unproven(&mut self, plan: &PartPlan, version: FileVersion) -> PartNumber {
        if self.proven.1 != Some(version) {
            self.proven = (0, Some(version));
        }
        let mut number = from_count(self.proven.0);
        while plan.range_in(number, version.size).is_some_and(|range| {
            self.holds(number, range) && self.get(number).is_some_and(|part| part.proven == Some(version))
        }) {
            self.proven.0 += 1;
            number = number.next();
        }
        number
    }

    /// Drops the parts that a file of `size` bytes does not have: they are left out at
    /// completion.
    pub fn truncate(&mut self, plan: &PartPlan, size: u64) {
        while let Some((number, _)) = self.parts.last_key_value() {
            let number = *number;
            if plan.range_in(number, size).is_some() {
                return;
            }
            self.remove(number);
        }
    }

    /// The checksum of the whole file, if the parts are all there and known.
    pub fn checksum(&self) -> Option<Crc64Nvme> {
        let mut whole = Crc64Nvme::EMPTY;
        for (at, (number, part)) in (1..).zip(&self.parts) {
            if number.get() != at {
                return None;
            }
            whole = whole.followed_by(part.crc?, part.size_bytes);
        }
        Some(whole)
    }

    /// Shortens what is remembered to the parts before `number`.
    fn changes(&mut self, number: PartNumber) {
        let before = number.get() - 1;
        self.full = self.full.min(before);
        self.proven.0 = self.proven.0.min(before);
    }
}

/// The part that follows `count` parts.
fn from_count(count: u32) -> PartNumber {
    PartNumber::new(count.saturating_add(1)).unwrap_or(PartNumber::FIRST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Limits, PlanKind};

    fn part(size_bytes: u64, proven: Option<FileVersion>) -> Part {
        Part { size_bytes, etag: String::new(), crc: None, stored_at: WallTime(0), uploads: 1, proven, dirty: false }
    }

    fn number(number: u32) -> PartNumber {
        PartNumber::new(number).unwrap()
    }

    #[test]
    fn what_is_remembered_of_the_prefix_follows_every_change() {
        let plan = PartPlan::new(PlanKind::Uniform, 10, Limits::LOCAL).unwrap();
        let version = FileVersion { size: 35, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let mut table = PartTable::default();
        for at in [1, 2, 3] {
            table.insert(number(at), part(10, Some(version)));
        }
        table.insert(number(4), part(5, Some(version)));
        assert_eq!(table.first_gap(&plan), number(4));
        assert_eq!(table.first_unproven(&plan, version), number(5));
        table.mark_dirty(number(2));
        assert_eq!(table.first_gap(&plan), number(2));
        assert_eq!(table.first_unproven(&plan, version), number(2));
        table.insert(number(2), part(10, None));
        assert_eq!(table.first_gap(&plan), number(4));
        assert_eq!(table.first_unproven(&plan, version), number(2));
        table.mark_same(number(2), Crc64Nvme::EMPTY, Some(version));
        assert_eq!(table.first_unproven(&plan, version), number(5));
        let later = FileVersion { mtime_ns: 2, ..version };
        assert_eq!(table.first_unproven(&plan, later), number(1));
        table.truncate(&plan, 20);
        assert_eq!((table.len(), table.bytes(), table.first_gap(&plan)), (2, 20, number(3)));
        table.remove(number(1));
        assert_eq!((table.bytes(), table.first_gap(&plan)), (10, number(1)));
    }
}
