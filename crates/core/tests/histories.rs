//! Random histories of one recording: everything a recorder, a store, a checkpoint, other owners,
//! other programs and a crash can do, against models of them.
//!
//! A failing history prints its seed: `REELTIME_SEED=… cargo test -p reeltime-core --test
//! histories` replays it, with every step on stderr. `REELTIME_HISTORIES` sets how many are tried.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]
#![allow(clippy::doc_markdown, clippy::needless_pass_by_value)]

mod model;

use model::World;

/// How many are lived.
fn histories() -> u64 {
    std::env::var("REELTIME_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// A world by its seed; loud if it is alone.
type Beginning = fn(u64, bool) -> World;

/// Lives every `step`th of `count` histories from `first` on.
fn live_some(begin: Beginning, first: u64, step: u64, count: u64) -> model::Seen {
    let mut seen = model::Seen::default();
    for seed in (first..count).step_by(step as usize) {
        match std::panic::catch_unwind(|| begin(seed, false).live()) {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                eprintln!("history {seed} failed; replay it with REELTIME_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    seen
}

/// Lives `count` histories on all processors, or that of `REELTIME_SEED` alone.
fn live(begin: Beginning, count: u64) -> Option<model::Seen> {
    if let Some(seed) = std::env::var("REELTIME_SEED").ok().and_then(|text| text.parse().ok()) {
        begin(seed, true).live();
        return None;
    }
    // A history depends on its seed alone, not on who lives it.
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let all: Vec<_> =
        (0..threads).map(|first| std::thread::spawn(move || live_some(begin, first, threads, count))).collect();
    let mut seen = model::Seen::default();
    for one in all {
        match one.join() {
            Ok(some) => seen.add(&some),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    eprintln!("{seen:?}");
    Some(seen)
}

#[test]
fn a_completed_object_is_the_file_whatever_happens() {
    // The histories have been where it matters.
    for (what, count) in live(World::new, histories()).iter().flat_map(model::Seen::counts) {
        assert!(count > 0, "no history has seen: {what}");
    }
}

/// However often the process is killed or another one takes over, and whatever its checkpoint has
/// lost; but for what former owners still do.
#[test]
fn what_the_store_has_is_not_sent_again() {
    if let Some(seen) = live(World::calm, histories() / 5) {
        let faults = [seen.crashes, seen.forgotten, seen.rolled_back, seen.takeovers, seen.heirs_crashed];
        let mut counts = [seen.recognised, seen.late_parts, seen.late_objects].into_iter().chain(faults);
        assert!(counts.all(|count| count > 0), "{seen:?}");
    }
}
