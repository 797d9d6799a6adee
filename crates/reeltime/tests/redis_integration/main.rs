//! Checkpoints in real Redis servers, each step looked at with a client that is not reeltime's.
//!
//! What every checkpoint store does is in `checkpoint_conformance`. Here is what is Redis' own:
//! its keys, its restarts and failovers, its refusals, and the built binary before it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod book;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod daemon;
mod failovers;
mod heirs;
mod life;
mod nodes;
mod objects;
mod outages;
mod owners;
mod refusals;
mod restarts;
mod secure;
mod shared;
mod trips;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{nth, part};
use reeltime::checkpoint::{CheckpointError, CheckpointStore};
use reeltime_core::StreamRecord;

type Store = Arc<dyn CheckpointStore>;
type Answer<T = ()> = Result<T, CheckpointError>;

/// For whatever should take a moment: generous, because a busy machine is no failure.
const DEADLINE: Duration = Duration::from_mins(2);

async fn open(url: &str) -> Store {
    reeltime::checkpoint::url::open(&url.parse().unwrap(), "recorder-1").await.unwrap()
}

/// Notes part `number` of a stream, with the content of the same number.
async fn note(store: &Store, record: &StreamRecord, number: u32) -> Answer {
    store.record_part(record.id, record.epoch, record.generation, nth(number), &part(number)).await
}

/// Asks again and again until it is answered; an answer that no waiting helps with is a failure.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Answer<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error @ (CheckpointError::Stale { .. } | CheckpointError::Held { .. })) => panic!("{what}: {error}"),
            Err(error) => assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // between two attempts
    }
}

/// The answer is an outage; what it says.
#[track_caller]
fn outage<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    match answer {
        Err(error @ CheckpointError::Outage { .. }) => error.to_string(),
        other => panic!("expected an outage, not {other:?}"),
    }
}

/// The answer is that waiting does not help; what it says.
#[track_caller]
fn unusable<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    match answer {
        Err(error @ CheckpointError::Unusable { .. }) => error.to_string(),
        other => panic!("expected what no waiting helps with, not {other:?}"),
    }
}

/// The answer is that the stream is not there.
#[track_caller]
fn unknown<T: std::fmt::Debug>(answer: Answer<T>) {
    match answer {
        Err(CheckpointError::Unknown { .. }) => {}
        other => panic!("expected Unknown, not {other:?}"),
    }
}

/// The answer is that the stream is another's; what was found.
#[track_caller]
fn stale<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    match answer {
        Err(CheckpointError::Stale { found, .. }) => found,
        other => panic!("expected Stale, not {other:?}"),
    }
}
