//! Writes a stream's progress to the checkpoint.
//!
//! A checkpoint store that is away does not stop uploads: what it misses it gets when it is
//! back, and after a crash the store's own list of parts makes up for the rest. Only
//! `completed` waits until it is durable, because a file may be deleted upon it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reeltime_core::{Input, Part, PartNumber, PartTable, State, StreamRecord};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::Outside;
use super::hands::Task;
use crate::checkpoint::CheckpointError;
use crate::events::{Event, Side, What};

const HINT: &str = "the checkpoint is written as soon as it can be; recordings go on being uploaded meanwhile";

/// Attempts before a record is owed.
const PROMPT_ATTEMPTS: u32 = 3;

/// What the checkpoint knows of one stream. A clone knows the same.
#[derive(Clone)]
pub(super) struct Ledger {
    /// Held from its reading until the write that builds upon it is answered: a record that is
    /// owed and a newer one would take each other for another owner's.
    durable_state: Arc<Mutex<State>>,
    /// Counts the saves, so that an owed record makes way for a newer one.
    newest: Arc<AtomicU64>,
}

impl Ledger {
    pub(super) fn new(durable_state: State) -> Self {
        Self { durable_state: Arc::new(Mutex::new(durable_state)), newest: Arc::default() }
    }

    /// Writes the record; answers [`Input::Saved`] or [`Input::LeaseLost`].
    pub(super) fn save(&self, task: Task, record: StreamRecord, running: &mut JoinSet<Vec<Input>>) {
        let turn = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        let ledger = self.clone();
        running.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                if let Some(answer) = ledger.write(&task, &record, turn).await {
                    return vec![answer];
                }
                let must_be_durable = record.state == State::Completed;
                if !must_be_durable && backoff.attempts >= PROMPT_ATTEMPTS {
                    break;
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    () = task.stop.cancelled() => return vec![Input::Failed(reeltime_core::Trouble::Outage)],
                }
            }
            tokio::spawn(ledger.pay(task, record, turn));
            vec![Input::Saved]
        });
    }

    /// Goes on writing a record that is owed, until it is written or a newer one is.
    async fn pay(self, task: Task, record: StreamRecord, turn: u64) {
        let mut backoff = Backoff::default();
        while self.newest.load(Ordering::SeqCst) == turn {
            tokio::select! {
                () = backoff.wait() => {}
                () = task.stop.cancelled() => return,
            }
            if self.write(&task, &record, turn).await.is_some() {
                return;
            }
        }
    }

    /// One attempt; `None` if it must be repeated. A record that a newer one has overtaken is
    /// not written any more.
    async fn write(&self, task: &Task, record: &StreamRecord, turn: u64) -> Option<Input> {
        let mut durable_state = self.durable_state.lock().await;
        if self.newest.load(Ordering::SeqCst) != turn {
            return Some(Input::Saved);
        }
        let from = *durable_state;
        match task.outside.checkpoint.transition(from, record).await {
            Ok(()) => {
                *durable_state = record.state;
                if from != record.state {
                    task.tell(What::StateChanged { from, to: record.state });
                }
                Some(Input::Saved)
            }
            Err(error @ (CheckpointError::Stale { .. } | CheckpointError::Held { .. })) => {
                let hint = "another reeltime has taken this stream over; this one leaves it alone".into();
                task.tell(What::Notice { message: error.to_string(), hint });
                Some(Input::LeaseLost)
            }
            Err(error) => {
                task.tell(What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() });
                None
            }
        }
    }
}

/// Notes a stored part. If that does not work now, the store's own list will tell after a
/// crash.
pub(super) async fn record_part(task: &Task, generation: u32, number: PartNumber, part: &Part) {
    let noted = task.outside.checkpoint.record_part(task.id, task.record.epoch, generation, number, part).await;
    if let Err(error) = noted {
        task.tell(What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() });
    }
}

/// Gives the checkpoint the parts that it does not know, or not as they are: those that were
/// found in the store after a crash, and those whose note failed.
///
/// Called before an upload is completed, because afterwards the store does not list its parts
/// any more. If it does not work now, nothing is lost by a crash but time: the recording is
/// sent again.
pub(super) async fn remember_parts(task: &Task, parts: &[(PartNumber, Part)]) {
    let generation = task.record.generation;
    let known = match task.outside.checkpoint.load_parts(task.id, generation).await {
        Ok(known) => known,
        Err(error) => {
            return task.tell(What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() });
        }
    };
    for (number, part) in parts {
        let is_known = known.get(*number).is_some_and(|known| {
            known.etag == part.etag && known.size_bytes == part.size_bytes && known.crc == part.crc
        });
        if !is_known {
            record_part(task, generation, *number, part).await;
        }
    }
}

/// Creates a stream in the checkpoint, however long that takes. `false` if its id belongs to
/// somebody else.
pub(crate) async fn create(outside: &Outside, record: &StreamRecord) -> bool {
    let mut backoff = Backoff::default();
    loop {
        let error = match outside.checkpoint.create(record).await {
            Ok(()) => return true,
            Err(CheckpointError::Stale { .. } | CheckpointError::Held { .. }) => return false,
            Err(error) => error,
        };
        let what = What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() };
        outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
        backoff.wait().await;
    }
}

/// The parts of a stream, however long it takes to load them.
pub(crate) async fn load_parts(outside: &Outside, record: &StreamRecord) -> PartTable {
    let mut backoff = Backoff::default();
    loop {
        match outside.checkpoint.load_parts(record.id, record.generation).await {
            Ok(table) => return table,
            Err(error) => {
                let what = What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() };
                outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
            }
        }
        backoff.wait().await;
    }
}

/// Waits longer and longer, up to 8 s.
#[derive(Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    async fn wait(&mut self) {
        let millis = 250 << self.attempts.min(5);
        self.attempts += 1;
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
