//! Which bytes of a file are which part.
//!
//! A plan maps part numbers to byte ranges and back. It depends on nothing but the first part
//! size and the store's limits, so that a restarted process, or another node, computes the
//! same ranges.
//!
//! - *growing*: the part size doubles every `3/40` of the allowed part count, up to the
//!   largest part. With 8 MiB, 10,000 parts and 5 GiB that is 8 MiB for the first 5.9 GiB,
//!   64 MiB at 80 GiB (a day at 8 Mbit/s) and 18.2 TiB in all, more than ext4 can hold in a
//!   file. Small parts where recordings are, and still no recording meets the part count.
//! - *uniform*: all parts are equal, for stores that ask for it (Cloudflare R2).
//!
//! A recording that outgrows even that is started again with [`PartPlan::enlarged`].

use std::str::FromStr;

use crate::{ByteRange, PartNumber, UnknownName};

/// What a store allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Limits {
    /// Parts of one upload.
    pub max_parts: u32,
    /// Bytes of every part but the last.
    pub min_part_bytes: u64,
    /// Bytes of one part.
    pub max_part_bytes: u64,
    /// Bytes of one object.
    pub max_object_bytes: u64,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Limits {
    /// Amazon S3 and those that follow it: 10,000 parts of 5 MiB to 5 GiB (the product of
    /// which, 48.8 TiB, is the largest object).
    pub const S3: Self =
        Self { max_parts: 10_000, min_part_bytes: 5 * MIB, max_part_bytes: 5 * GIB, max_object_bytes: 50_000 * GIB };

    /// Scaleway Object Storage: 1,000 parts.
    pub const SCALEWAY: Self = Self { max_parts: 1_000, max_object_bytes: 5_000 * GIB, ..Self::S3 };

    /// A directory: no minimum, and no limit that a file system does not have.
    pub const LOCAL: Self = Self { min_part_bytes: 1, ..Self::S3 };
}

/// How part sizes develop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PlanKind {
    /// Doubling now and then.
    Growing,
    /// All the same.
    Uniform,
}

impl PlanKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Growing, Self::Uniform];

    /// The name on the command line and in checkpoints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Uniform => "uniform",
        }
    }
}

impl FromStr for PlanKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownName)
    }
}

/// Divides a file into numbered parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PartPlan {
    kind: PlanKind,
    first_bytes: u64,
    limits: Limits,
}

impl PartPlan {
    /// A plan whose first part has `first_bytes`; `None` if the limits do not allow that.
    pub fn new(kind: PlanKind, first_bytes: u64, limits: Limits) -> Option<Self> {
        let allowed = (limits.min_part_bytes.max(1)..=limits.max_part_bytes).contains(&first_bytes);
        (allowed && limits.max_parts > 0).then_some(Self { kind, first_bytes, limits })
    }

    /// The same plan with a first part large enough for a file of `size` bytes; `None` if no
    /// plan of this kind is.
    #[must_use]
    pub fn enlarged(self, size: u64) -> Option<Self> {
        let mut plan = self;
        while plan.capacity() < size {
            if plan.first_bytes == self.limits.max_part_bytes {
                return None;
            }
            plan.first_bytes = (plan.first_bytes * 2).min(self.limits.max_part_bytes);
        }
        Some(plan)
    }

    /// How part sizes develop.
    pub fn kind(&self) -> PlanKind {
        self.kind
    }

    /// Bytes of the first part.
    pub fn first_bytes(&self) -> u64 {
        self.first_bytes
    }

    /// The limits that the plan keeps.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The largest file that the plan can divide.
    pub fn capacity(&self) -> u64 {
        let mut sum: u64 = 0;
        for (count, bytes) in self.stages() {
            sum = sum.saturating_add(bytes.saturating_mul(u64::from(count)));
        }
        sum.min(self.limits.max_object_bytes)
    }

    /// The range of part `number` when it is full; `None` beyond the last part of the plan.
    pub fn range(&self, number: PartNumber) -> Option<ByteRange> {
        let mut before = number.get() - 1;
        let mut offset: u64 = 0;
        for (count, bytes) in self.stages() {
            if before < count {
                offset = offset.checked_add(bytes.checked_mul(u64::from(before))?)?;
                let len = bytes.min(self.limits.max_object_bytes.checked_sub(offset)?);
                return (len > 0).then_some(ByteRange { offset, len });
            }
            before -= count;
            offset = offset.checked_add(bytes.checked_mul(u64::from(count))?)?;
        }
        None
    }

    /// The range of part `number` in a file of `size` bytes: full, or the file's tail; `None`
    /// if the part begins behind the end.
    pub fn range_in(&self, number: PartNumber, size: u64) -> Option<ByteRange> {
        let full = self.range(number)?;
        let len = full.len.min(size.checked_sub(full.offset)?);
        (len > 0).then_some(ByteRange { offset: full.offset, len })
    }

    /// The part that holds the byte at `offset`; `None` beyond the capacity.
    pub fn part_at(&self, offset: u64) -> Option<PartNumber> {
        if offset >= self.capacity() {
            return None;
        }
        let mut first: u32 = 1;
        let mut begin: u64 = 0;
        for (count, bytes) in self.stages() {
            let within = (offset - begin) / bytes;
            if within < u64::from(count) {
                return PartNumber::new(first + within as u32);
            }
            first += count;
            begin += bytes * u64::from(count);
        }
        None
    }

    /// How many parts a file of `size` bytes has (none if it is empty); `None` beyond the
    /// capacity.
    pub fn parts_for(&self, size: u64) -> Option<u32> {
        match size.checked_sub(1) {
            None => Some(0),
            Some(last) => self.part_at(last).map(PartNumber::get),
        }
    }

    /// Runs of parts of equal size, in order: how many, and of how many bytes each.
    fn stages(&self) -> impl Iterator<Item = (u32, u64)> {
        let Self { kind, first_bytes, limits } = *self;
        let length = (limits.max_parts / 40 * 3).max(1);
        let mut left = limits.max_parts;
        let mut bytes = first_bytes;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let last = kind == PlanKind::Uniform || bytes == limits.max_part_bytes;
            let count = if last { left } else { length.min(left) };
            let stage = (count, bytes);
            left -= count;
            bytes = bytes.saturating_mul(2).min(limits.max_part_bytes);
            Some(stage)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_kinds_read_back() {
        assert!(PlanKind::ALL.into_iter().all(|kind| kind.as_str().parse() == Ok(kind)));
        assert_eq!("shrinking".parse::<PlanKind>(), Err(UnknownName));
    }
}
