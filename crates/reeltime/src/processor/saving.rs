//! A stream's beginning in the checkpoint, and its taking over by this process.

use std::time::Duration;

use reeltime_core::{PartTable, State, StreamRecord};

use super::Outside;
use crate::checkpoint::CheckpointError;
use crate::events::{Event, Side, What};

pub(super) const HINT: &str =
    "the checkpoint is written as soon as it can be; recordings go on being uploaded meanwhile";

const RESUMING_HINT: &str =
    "this recording goes on as soon as the checkpoint is there; it is safe on the disk meanwhile";

/// Creates a stream in the checkpoint that has failed, however long that takes. One that it has
/// as unfinished, under another name, has failed, too.
pub(crate) async fn create(outside: &Outside, record: &StreamRecord) {
    let mut backoff = Backoff::default();
    loop {
        match outside.checkpoint.create(record).await {
            Ok(()) | Err(CheckpointError::Held { .. }) => return,
            Err(CheckpointError::Stale { .. }) => match end(outside, record).await {
                Ok(()) => return,
                Err(error) => retrying(outside, record, &error, HINT),
            },
            Err(error) => retrying(outside, record, &error, HINT),
        }
        backoff.wait().await;
    }
}

/// Makes an unfinished stream of this node what `record` says.
async fn end(outside: &Outside, record: &StreamRecord) -> Result<(), CheckpointError> {
    let Some(found) = outside.checkpoint.find(record.id).await? else { return Ok(()) };
    if found.node != record.node || matches!(found.state, State::Completed | State::Failed) {
        return Ok(());
    }
    match outside.checkpoint.transition(found.state, &StreamRecord { epoch: found.epoch, ..record.clone() }).await {
        Err(CheckpointError::Stale { .. }) => Ok(()), // another owner has it
        ended => ended,
    }
}

/// Makes this process the owner of a stream of its node, however long that takes: whoever had it
/// before, and may only be frozen, cannot write any more. `record` becomes what the checkpoint
/// has, but for its names here. `false` if the stream is another node's, or is not there any more.
///
/// A store that only one process can have needs no claim: whoever could open it is the owner. So
/// a state file on a full disk keeps no recording from going on.
pub(crate) async fn claim(outside: &Outside, record: &mut StreamRecord) -> bool {
    if !outside.checkpoint.is_shared() {
        return true;
    }
    let mut backoff = Backoff::default();
    loop {
        let error = match outside.checkpoint.claim(record.id, record.epoch, &record.node).await {
            Ok(epoch) => {
                record.epoch = epoch;
                return true;
            }
            // Another one was faster, or the answer to an earlier attempt got lost.
            Err(CheckpointError::Stale { .. }) => match outside.checkpoint.find(record.id).await {
                Ok(Some(found)) if found.node == record.node => {
                    let (source, path) = (std::mem::take(&mut record.source), std::mem::take(&mut record.path));
                    *record = StreamRecord { source, path, ..found };
                    continue;
                }
                Ok(_) => return false,
                Err(error) => error,
            },
            Err(CheckpointError::Unknown { .. } | CheckpointError::Held { .. }) => return false,
            Err(error) => error,
        };
        retrying(outside, record, &error, RESUMING_HINT);
        backoff.wait().await;
    }
}

/// The parts of a stream, however long it takes to load them.
pub(crate) async fn load_parts(outside: &Outside, record: &StreamRecord) -> PartTable {
    let mut backoff = Backoff::default();
    loop {
        match outside.checkpoint.load_parts(record.id, record.generation).await {
            Ok(table) => return table,
            Err(error) => retrying(outside, record, &error, RESUMING_HINT),
        }
        backoff.wait().await;
    }
}

fn retrying(outside: &Outside, record: &StreamRecord, error: &CheckpointError, hint: &str) {
    let what = What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: hint.to_owned() };
    outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
}

/// Waits longer and longer, up to 8 s.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        let millis = 250 << self.attempts.min(5);
        self.attempts += 1;
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
