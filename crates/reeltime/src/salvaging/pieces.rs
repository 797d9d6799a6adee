//! Which parts of an unfinished upload make an object, and how much is known of the rest.

use reeltime_core::{ByteRange, Crc64Nvme, Part, PartNumber, PartPlan, PartTable, RemotePart};

/// A part that becomes part of the object.
pub(super) type Kept = (PartNumber, ByteRange, Part);

/// Where the last part ends: the recording has been that long, whatever was written down of it.
pub(super) fn end_of(parts: &[RemotePart], plan: &PartPlan) -> u64 {
    let ends = parts.iter().filter_map(|part| Some(plan.range(part.number)?.offset + part.size_bytes));
    ends.max().unwrap_or(0)
}

/// The parts from the first to the first gap, as the plan divides.
pub(super) fn prefix(parts: Vec<RemotePart>, plan: &PartPlan, known: &PartTable) -> Vec<Kept> {
    let mut kept: Vec<Kept> = Vec::new();
    for (at, found) in (1..).zip(parts) {
        let Some(full) = plan.range(found.number) else { break };
        if found.number.get() != at || found.size_bytes > full.len || found.size_bytes == 0 {
            break;
        }
        let range = ByteRange { offset: full.offset, len: found.size_bytes };
        let number = found.number;
        let part = found.known_after(known.get(number).cloned());
        kept.push((number, range, part));
        if range.len < full.len {
            break;
        }
    }
    kept
}

/// The known parts of an object of this size; none if they do not make it up.
pub(super) fn in_order(known: &PartTable, plan: &PartPlan, size_bytes: u64) -> Vec<Kept> {
    let parts: Vec<_> = known
        .iter()
        .filter_map(|(number, part)| Some((number, plan.range_in(number, size_bytes)?, part.clone())))
        .collect();
    let is_all = whole(&parts).0 == size_bytes && parts.iter().all(|(_, range, part)| range.len == part.size_bytes);
    if is_all { parts } else { Vec::new() }
}

/// Size and, if it is known, checksum.
pub(super) fn whole(parts: &[Kept]) -> (u64, Option<Crc64Nvme>) {
    let size_bytes = parts.iter().map(|(_, range, _)| range.len).sum();
    let crc =
        parts.iter().try_fold(Crc64Nvme::EMPTY, |crc, (_, range, part)| Some(crc.followed_by(part.crc?, range.len)));
    (size_bytes, crc.filter(|_| !parts.is_empty()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use reeltime_core::{Limits, PlanKind, WallTime};

    use super::*;

    #[test]
    fn what_is_whole_ends_at_the_first_gap_or_short_part() {
        let plan = PartPlan::new(PlanKind::Uniform, 10, Limits::LOCAL).unwrap();
        let kept = |parts: &[(u32, u64)]| {
            let parts = parts.iter().map(|(number, size_bytes)| RemotePart {
                number: PartNumber::new(*number).unwrap(),
                size_bytes: *size_bytes,
                etag: String::new(),
                crc: None,
                stored_at: WallTime(0),
            });
            whole(&prefix(parts.collect(), &plan, &PartTable::default())).0
        };
        assert_eq!(kept(&[(1, 10), (2, 10), (3, 4)]), 24);
        assert_eq!(kept(&[(1, 10), (2, 3), (3, 10)]), 13, "a tail that was not sent again");
        assert_eq!(kept(&[(1, 10), (3, 10)]), 10);
        assert_eq!(kept(&[(2, 10), (3, 10)]), 0);
        assert_eq!(kept(&[(1, 10), (2, 11)]), 10, "not as this plan divides");
        assert_eq!(kept(&[]), 0);
    }
}
