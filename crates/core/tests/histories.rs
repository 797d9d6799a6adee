//! Random histories of one recording: everything a recorder, a store, a checkpoint and a crash
//! can do, against models of them.
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

/// Lives every `step`th history from `first` on.
fn live_some(first: u64, step: u64) -> model::Seen {
    let mut seen = model::Seen::default();
    for seed in (first..histories()).step_by(step as usize) {
        match std::panic::catch_unwind(|| World::new(seed, false).live()) {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                eprintln!("history {seed} failed; replay it with REELTIME_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    seen
}

#[test]
fn a_completed_object_is_the_file_whatever_happens() {
    if let Some(seed) = std::env::var("REELTIME_SEED").ok().and_then(|text| text.parse().ok()) {
        World::new(seed, true).live();
        return;
    }
    // A history depends on its seed alone, not on who lives it.
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut seen = model::Seen::default();
    let all: Vec<_> = (0..threads).map(|first| std::thread::spawn(move || live_some(first, threads))).collect();
    for one in all {
        match one.join() {
            Ok(some) => seen.add(&some),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    eprintln!("{seen:?}");
    // The histories have been where it matters.
    for (what, count) in seen.counts() {
        assert!(count > 0, "no history has seen: {what}");
    }
}
