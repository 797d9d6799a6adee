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
    /// How often the number was sent.
    pub uploads: u32,
    /// The version of the file that surely has these bytes in this range: the bytes were read
    /// after nobody was writing any more, and its timestamps had settled. `None` if they may
    /// have changed since.
    pub proven: Option<FileVersion>,
    /// The bytes on disk are known to differ from what was sent.
    pub dirty: bool,
}

/// The sent parts of one upload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartTable {
    parts: BTreeMap<PartNumber, Part>,
}

impl PartTable {
    /// Notes a part; one with the same number is replaced, as in the store.
    pub fn insert(&mut self, number: PartNumber, part: Part) {
        self.parts.insert(number, part);
    }

    /// Forgets a part.
    pub fn remove(&mut self, number: PartNumber) -> Option<Part> {
        self.parts.remove(&number)
    }

    /// The part with this number.
    pub fn get(&self, number: PartNumber) -> Option<&Part> {
        self.parts.get(&number)
    }

    /// The part with this number.
    pub fn get_mut(&mut self, number: PartNumber) -> Option<&mut Part> {
        self.parts.get_mut(&number)
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
        self.parts.values().map(|part| part.size_bytes).sum()
    }

    /// Whether part `number` holds exactly `range` and is not known to be dirty.
    pub fn holds(&self, number: PartNumber, range: ByteRange) -> bool {
        self.get(number).is_some_and(|part| part.size_bytes == range.len && !part.dirty)
    }

    /// Drops the parts that a file of `size` bytes does not have: they are left out at
    /// completion.
    pub fn truncate(&mut self, plan: &PartPlan, size: u64) {
        self.parts.retain(|number, _| plan.range_in(*number, size).is_some());
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
}
