//! The part arithmetic, for all sizes that a store allows.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use reeltime_core::{Limits, PartNumber, PartPlan, PlanKind};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        Just(Limits::S3),
        Just(Limits::SCALEWAY),
        Just(Limits::LOCAL),
        (1..200u32, 1..50u64, 50..5_000u64).prop_map(|(max_parts, min, max)| Limits {
            max_parts,
            min_part_bytes: min,
            max_part_bytes: max,
            max_object_bytes: u64::from(max_parts) * max,
        }),
    ]
}

fn plans() -> impl Strategy<Value = PartPlan> {
    let kind = prop_oneof![Just(PlanKind::Growing), Just(PlanKind::Uniform)];
    (limits(), kind, 0.0..1.0f64).prop_map(|(limits, kind, at)| {
        let span = (limits.max_part_bytes - limits.min_part_bytes) as f64;
        let first = limits.min_part_bytes + (span * at.powi(4)) as u64;
        PartPlan::new(kind, first, limits).expect("a first part within the limits")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_byte_is_in_exactly_one_part(plan in plans(), at in 0.0..1.0f64) {
        let offset = ((plan.capacity() - 1) as f64 * at) as u64;
        let number = plan.part_at(offset).unwrap();
        let range = plan.range(number).unwrap();
        prop_assert!(range.offset <= offset && offset < range.end());
        if let Some(next) = plan.range(number.next()) {
            prop_assert_eq!(next.offset, range.end(), "no gap and no overlap");
        } else {
            prop_assert_eq!(range.end(), plan.capacity());
        }
        if number == PartNumber::FIRST {
            prop_assert_eq!(range.offset, 0);
        }
    }

    #[test]
    fn the_parts_of_a_file_are_what_a_store_takes(plan in plans(), at in 0.0..=1.0f64) {
        let size = (plan.capacity() as f64 * at) as u64;
        let size = size.min(plan.capacity());
        let count = plan.parts_for(size).unwrap();
        prop_assert!(count <= plan.limits().max_parts);
        if count > 0 {
            let last = PartNumber::new(count).unwrap();
            prop_assert_eq!(plan.range_in(last, size).unwrap().end(), size);
            prop_assert_eq!(plan.range_in(last.next(), size), None);
        }
        for number in [1, count / 2, count.saturating_sub(1)].into_iter().filter_map(PartNumber::new) {
            let Some(range) = plan.range_in(number, size) else { continue };
            prop_assert!(range.len <= plan.limits().max_part_bytes);
            if number.get() < count {
                prop_assert!(range.len >= plan.limits().min_part_bytes);
                prop_assert_eq!(Some(range), plan.range(number), "every part but the last is full");
            }
        }
    }

    #[test]
    fn growing_parts_never_shrink_and_uniform_ones_are_equal(plan in plans(), number in 1..10_000u32) {
        let number = PartNumber::new(number).unwrap();
        if let (Some(this), Some(next), Some(_)) =
            (plan.range(number), plan.range(number.next()), plan.range(number.next().next()))
        {
            match plan.kind() {
                PlanKind::Growing => prop_assert!(next.len >= this.len),
                PlanKind::Uniform => prop_assert_eq!(next.len, this.len),
            }
        }
    }

    #[test]
    fn an_enlarged_plan_holds_the_file(plan in plans(), at in 0.0..1.0f64) {
        let size = (plan.limits().max_object_bytes as f64 * at) as u64;
        match plan.enlarged(size) {
            Some(larger) => {
                prop_assert!(larger.capacity() >= size);
                prop_assert!(plan.capacity() < size || larger == plan, "a plan that suffices is kept");
            }
            None => prop_assert!(size > plan.capacity()),
        }
    }
}

#[test]
fn all_parts_of_the_default_plan_lie_side_by_side() {
    for limits in [Limits::S3, Limits::SCALEWAY] {
        let plan = PartPlan::new(PlanKind::Growing, 8 * MIB, limits).unwrap();
        let mut end = 0;
        for number in (1..=limits.max_parts).filter_map(PartNumber::new) {
            let range = plan.range(number).unwrap();
            assert_eq!(range.offset, end);
            end = range.end();
        }
        assert_eq!(end, plan.capacity());
        assert_eq!(plan.range(PartNumber::new(limits.max_parts + 1).unwrap()), None);
    }
}

#[test]
fn the_figures_of_the_documentation_are_so() {
    let plan = PartPlan::new(PlanKind::Growing, 8 * MIB, Limits::S3).unwrap();
    let part_bytes_at = |offset| plan.range(plan.part_at(offset).unwrap()).unwrap().len;
    assert_eq!(part_bytes_at(5 * GIB), 8 * MIB);
    assert_eq!(part_bytes_at(80 * GIB), 64 * MIB);
    assert!(plan.capacity() > 18 * TIB, "{}", plan.capacity());
    let largest = plan.enlarged(Limits::S3.max_object_bytes).expect("the largest object of S3 can be divided");
    assert_eq!(largest.capacity(), 50_000 * GIB);
}

#[test]
fn a_first_part_outside_the_limits_is_no_plan() {
    for bytes in [0, 5 * MIB - 1, 5 * GIB + 1] {
        assert_eq!(PartPlan::new(PlanKind::Growing, bytes, Limits::S3), None);
    }
}
