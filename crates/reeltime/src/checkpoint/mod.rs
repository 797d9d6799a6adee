//! What survives a crash: the [`CheckpointStore`] trait and its backends.
//!
//! Every backend passes one conformance suite. The checkpoint says what was intended and who
//! owns it; it is not needed to keep a recording: the disk has the bytes and the store has the
//! parts.

pub mod lock;
pub mod redis;
pub mod sqlite;
pub mod url;

use std::time::Duration;

use async_trait::async_trait;
use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord, WallTime};
use uuid::Uuid;

/// A reeltime that says that it is alive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Its name.
    pub node: String,
    /// Tells this run of it from every other.
    pub incarnation: Uuid,
    /// Its process.
    pub pid: u32,
    /// The name of its machine.
    pub host: String,
    /// Tells its machine, since the last boot, and the processes that it can see there, from
    /// others; empty if that is not known.
    pub machine: String,
    /// When it began.
    pub since: WallTime,
    /// The marks of the directories that it watches.
    pub sources: Vec<String>,
}

/// A node that the checkpoint has heard of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeState {
    /// Its name.
    pub node: String,
    /// The run that is alive; `None` if none is.
    pub alive: Option<Presence>,
}

/// Whether a node is there, in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Its lease has not ended.
    Alive,
    /// It has ended in order, or was started again without this directory, and will do nothing
    /// more there.
    Left,
    /// It has not been heard of for longer than a lease lasts, or never.
    Silent,
}

/// A checkpoint that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store is away, full or busy: waiting helps. Nothing, or everything, of the call was
    /// done.
    #[error("{op} in checkpoint {target}: {cause}")]
    Outage {
        /// What was tried.
        op: &'static str,
        /// Which store, without credentials.
        target: String,
        /// Why it failed.
        cause: String,
    },
    /// Another process or node owns what was asked for. Nothing was done.
    #[error("{what} is held by {holder}")]
    Held {
        /// The state file or the stream.
        what: String,
        /// Who holds it: process, node, since when.
        holder: String,
    },
    /// The stream is not in the state, or not of the epoch, that the write builds upon.
    /// Nothing was done.
    #[error("{op}: stream {id} has been changed by another owner (found {found})")]
    Stale {
        /// What was tried.
        op: &'static str,
        /// The stream.
        id: StreamId,
        /// What was found: state, epoch and node.
        found: String,
    },
    /// The object is to be that of another node's recording. Nothing was done.
    #[error("{} of {} is recorded by node {}", by.key.to_utf8(), by.destination, by.node)]
    Taken {
        /// The stream that has it.
        by: Box<StreamRecord>,
    },
    /// There is no such stream: never was, or the store has lost it. Nothing was done.
    #[error("{op}: {target} does not have stream {id}")]
    Unknown {
        /// What was tried.
        op: &'static str,
        /// Which store.
        target: String,
        /// The stream.
        id: StreamId,
    },
    /// The data cannot be used: written by a newer version, or damaged.
    #[error("checkpoint {target}: {cause}")]
    Unusable {
        /// Which store.
        target: String,
        /// What is wrong, and what to do.
        cause: String,
    },
}

/// A durable memory of streams.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// The store as a person would write it, without credentials.
    fn location(&self) -> String;

    /// Whether several nodes have their streams in it. Each then takes up its own only.
    fn is_shared(&self) -> bool {
        false
    }

    /// Says that a node is alive, for `lease` from now, in the place of the run `replaced` if
    /// that was the last to say so. Answers the run that has the name, if it is another one and
    /// its lease has not ended: nothing was done then. Idempotent. A store that only one process
    /// can have knows no leases.
    async fn heartbeat(
        &self,
        _presence: &Presence,
        _replaced: Option<Uuid>,
        _lease: Duration,
    ) -> Result<Option<Presence>, CheckpointError> {
        Ok(None)
    }

    /// Ends the lease of a run, if it has one. Idempotent.
    async fn leave(&self, _presence: &Presence) -> Result<(), CheckpointError> {
        Ok(())
    }

    /// Whether a node is there, in the directory with this mark; in any if that is empty. Where only
    /// one process can have the store, no other is.
    async fn liveness(&self, _node: &str, _source: &str) -> Result<Liveness, CheckpointError> {
        Ok(Liveness::Left)
    }

    /// The nodes that have ever been heard of, by name; none in a store that only one process
    /// can have.
    async fn nodes(&self) -> Result<Vec<NodeState>, CheckpointError> {
        Ok(Vec::new())
    }

    /// The records of all streams, of this node and of others, in any order.
    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError>;

    /// The records of the streams of a node, and of those of others in directories with these
    /// marks, in any order; perhaps of more. What a node needs to know when it starts.
    async fn load_near(&self, _node: &str, _marks: &[String]) -> Result<Vec<StreamRecord>, CheckpointError> {
        self.load().await
    }

    /// The record of one stream; `None` if it is not known.
    async fn find(&self, id: StreamId) -> Result<Option<StreamRecord>, CheckpointError>;

    /// The parts of a stream that belong to `generation`.
    async fn load_parts(&self, id: StreamId, generation: u32) -> Result<PartTable, CheckpointError>;

    /// Creates a stream. Creating it again with the same epoch and state is a success, and the
    /// record is the last one given; [`CheckpointError::Stale`] if the id is taken by a
    /// different epoch or state, [`CheckpointError::Taken`] if a stream of another node that has
    /// not failed is to become the same object.
    /// Durable when it returns.
    async fn create(&self, record: &StreamRecord) -> Result<(), CheckpointError>;

    /// Notes a part, replacing one with the same number (of whatever generation). Idempotent.
    /// [`CheckpointError::Stale`] if the stream's epoch is another, [`CheckpointError::Unknown`]
    /// if there is no such stream. Durable when it returns.
    async fn record_part(
        &self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), CheckpointError>;

    /// Replaces the record of a stream that is in state `from` and of `record.epoch`, moving it
    /// to `record.state` in one atomic step. [`CheckpointError::Stale`] if it is not (a
    /// repetition, with the record already in place, is a success), [`CheckpointError::Unknown`]
    /// if there is no such stream, [`CheckpointError::Taken`] as for [`CheckpointStore::create`]
    /// if the object is another one now. Durable when it returns.
    async fn transition(&self, from: State, record: &StreamRecord) -> Result<(), CheckpointError>;

    /// Makes `node` the owner of a stream that has `epoch`, and answers its epoch from now on,
    /// which is the next one: whoever owned it before can write nothing more.
    /// [`CheckpointError::Stale`] if its epoch is another, [`CheckpointError::Unknown`] if there
    /// is no such stream. Not idempotent: after an outage [`CheckpointStore::find`] says which
    /// epoch it has. Durable when it returns.
    async fn claim(&self, id: StreamId, epoch: u64, node: &str) -> Result<u64, CheckpointError>;

    /// Removes a stream and its parts. Idempotent. [`CheckpointError::Stale`] if its epoch is
    /// another. Durable when it returns.
    async fn forget(&self, id: StreamId, epoch: u64) -> Result<(), CheckpointError>;
}
