//! The one thread that writes.
//!
//! Requests queue up while it commits; it takes all that wait (up to [`BATCH`]), carries each
//! out in a savepoint of its own within one transaction, commits once, and only then answers
//! all of them. So a hundred streams share one sync of the disk, and an answer means durable.
//!
//! An error of the disk fails the batch, not the thread: the transaction is rolled back, the
//! connection is opened anew for the next batch, and every request of the failed one is told.
//! A request that is itself impossible fails alone.
//!
//! The thread ends when the queue is closed and drained. It gives back the lock of the state
//! file after it has closed its connection.

use std::path::PathBuf;
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::connection::{Identity, open_for_owner};
use super::failure::{Failure, spares_the_batch};
use super::requests::{Outcome, Write};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::lock::StateLock;

/// Requests of one transaction.
const BATCH: usize = 512;

/// Requests that may wait; who comes then waits for a place.
const QUEUE: usize = 1024;

type Answer = Result<(), CheckpointError>;

#[derive(Debug)]
struct Job {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// The way to the writing thread. Dropping it waits for the thread, that is for what is queued.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once dropping has begun.
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `location` is the file as errors name it.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        location: String,
        lock: StateLock,
    ) -> Result<Self, Failure> {
        let identity = Identity::of(&path)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let file = StateFile { connection: Some(connection), path, identity, location, lock };
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || file.serve(jobs))
            .map_err(|error| Failure::passing(format!("the writing thread cannot be started: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Makes a change; durable when it returns `Ok`. If the caller goes away meanwhile, the
    /// change may still be made.
    pub(super) async fn write(&self, write: Write, location: &str) -> Answer {
        let op = write.op();
        let gone = || Failure::lasting("its writing thread has ended: restart reeltime").of(op, location);
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Job { write, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been answered to those who waited for it.
            let _ = thread.join();
        }
    }
}

/// The state file in the hands of the thread. The order of the fields is that in which they
/// are given back.
struct StateFile {
    /// `None` after an error: to be opened anew.
    connection: Option<Connection>,
    path: PathBuf,
    /// The file that the lock, and whatever was answered so far, is about.
    identity: Identity,
    location: String,
    #[allow(dead_code, reason = "held until the connection is closed")]
    lock: StateLock,
}

impl StateFile {
    fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let (writes, waiting): (Vec<_>, Vec<_>) = batch.drain(..).map(|job| (job.write, job.answer)).unzip();
            for (answer, sender) in self.answers(&writes).into_iter().zip(waiting) {
                let _ = sender.send(answer); // whoever asked may have gone
            }
        }
    }

    /// Carries out a batch and commits it.
    fn answers(&mut self, writes: &[Write]) -> Vec<Answer> {
        let committed = self.connection().and_then(|connection| commit(connection, writes));
        let outcomes = committed.unwrap_or_else(|failure| {
            self.connection = None;
            vec![Err(failure); writes.len()]
        });
        let answer = |(write, outcome): (&Write, Result<Outcome, Failure>)| match outcome {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Stale(found)) => Err(CheckpointError::Stale { op: write.op(), id: write.stream(), found }),
            Ok(Outcome::Unknown) => {
                Err(CheckpointError::Unknown { op: write.op(), target: self.location.clone(), id: write.stream() })
            }
            Err(failure) => Err(failure.of(write.op(), &self.location)),
        };
        writes.iter().zip(outcomes).map(answer).collect()
    }

    /// The connection, opened anew if need be, to the file that was opened at the start.
    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        self.identity.confirm(&self.path)?;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_for_owner(&self.path)?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// Makes all changes in one transaction. `Err`: none was made (or, if the commit failed on the
/// way, perhaps all).
fn commit(connection: &mut Connection, writes: &[Write]) -> Result<Vec<Result<Outcome, Failure>>, Failure> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let savepoint = transaction.savepoint()?;
        match write.apply(&savepoint) {
            Ok(outcome) => {
                savepoint.commit()?;
                outcomes.push(Ok(outcome));
            }
            Err(error) if spares_the_batch(&error) => {
                savepoint.finish()?; // rolls back to where it began
                outcomes.push(Err(error.into()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
