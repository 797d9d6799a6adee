//! Checkpoints in an `SQLite` file, for one process on one machine.
//!
//! # The file
//!
//! Table `streams` has a row for each stream, table `parts` one for each part that was sent;
//! view `overview` is for people: `sqlite3 -readonly state.db 'SELECT * FROM overview'`. See
//! `sqlite/schema_1.sql` for the columns. Beside the file lie `-wal` and `-shm`, which belong
//! to it while it is in use and after a crash, and `.lock` (see [`super::lock`]).
//!
//! # Invariants
//!
//! - One process owns the file, by the lock. Readers need no lock.
//! - A write that was answered is durable: it is in a transaction that was committed and
//!   synced. Nothing is answered before. After a crash the file holds everything that was
//!   answered, and perhaps what was just about to be.
//! - All writes go through one thread in the order in which they were asked for. Reads have a
//!   connection of their own: they see everything that was answered before they began, and
//!   neither wait for a write nor hold one up.
//! - A full disk, a busy file, an error of the disk: [`CheckpointError::Outage`], and the
//!   next request is tried afresh.

mod connection;
mod failure;
mod reader;
mod requests;
mod rows;
mod schema;
mod writer;

use std::path::Path;

use async_trait::async_trait;
use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};

use self::failure::Failure;
use self::reader::Reader;
use self::requests::Write;
use self::writer::Writer;
use super::lock::StateLock;
use super::{CheckpointError, CheckpointStore};

/// Checkpoints in a file.
///
/// Dropping it carries out what is still queued, closes the file and gives back the lock,
/// before it returns.
#[derive(Debug)]
pub struct SqliteStore {
    location: String,
    /// Dropped before the writer, so that the writer is the last to close the file, which puts
    /// the log away.
    reader: Reader,
    /// `None` if it was opened to be read only.
    writer: Option<Writer>,
}

impl SqliteStore {
    /// Opens the state file at `path` as its owner, node `node`. What is missing is created: the
    /// file, with mode 0600, and its directory. The whole file is read once to check it.
    ///
    /// [`CheckpointError::Held`] if another process owns it; [`CheckpointError::Unusable`] if it
    /// is damaged, written by a newer reeltime, or not reeltime's. Blocks the thread.
    pub fn open(path: &Path, node: &str) -> Result<Self, CheckpointError> {
        let path = connection::place(path)?;
        let location = location_of(&path);
        let lock = StateLock::acquire(&path, node)?;
        connection::create_missing(&path)?;
        let failed = |failure: Failure| failure.of("open", &location);
        let connection = connection::open_for_owner(&path).map_err(failed)?;
        connection::check(&connection).map_err(failed)?;
        let reader = Reader::new(connection::open_for_reading(&path).map_err(failed)?, path.clone());
        let writer = Writer::start(connection, path, location.clone(), lock).map_err(failed)?;
        Ok(Self { location, reader, writer: Some(writer) })
    }

    /// Opens the state file at `path` to look at it, whether or not its owner runs. Creates
    /// nothing and needs no lock; writes are refused.
    ///
    /// [`CheckpointError::Unusable`] if there is no such file. Blocks the thread.
    pub fn open_read_only(path: &Path) -> Result<Self, CheckpointError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let location = location_of(&path);
        let failed = |failure: Failure| failure.of("open", &location);
        if let Err(error) = std::fs::metadata(&path) {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "the file does not exist: no reeltime has run with this --state yet, or on another path"
                }
                _ => "the file cannot be looked at: run this as the user that runs reeltime",
            };
            return Err(failed(Failure::lasting(format!("{hint} ({error})"))));
        }
        let reader = Reader::new(connection::open_for_reading(&path).map_err(failed)?, path);
        Ok(Self { location, reader, writer: None })
    }

    async fn write(&self, write: Write) -> Result<(), CheckpointError> {
        match &self.writer {
            Some(writer) => writer.write(write, &self.location).await,
            None => Err(Failure::lasting("it was opened to be read only").of(write.op(), &self.location)),
        }
    }
}

fn location_of(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[async_trait]
impl CheckpointStore for SqliteStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        self.reader.read(requests::load).await.map_err(|failure| failure.of("load streams", &self.location))
    }

    async fn find(&self, id: StreamId) -> Result<Option<StreamRecord>, CheckpointError> {
        let found = self.reader.read(move |connection| requests::read_one(connection, id)).await;
        found.map_err(|failure| failure.of("find a stream", &self.location))
    }

    async fn load_parts(&self, id: StreamId, generation: u32) -> Result<PartTable, CheckpointError> {
        let parts = self.reader.read(move |connection| requests::load_parts(connection, id, generation)).await;
        parts.map_err(|failure| failure.of("load parts", &self.location))
    }

    async fn create(&self, record: &StreamRecord) -> Result<(), CheckpointError> {
        self.write(Write::Create(record.clone())).await
    }

    async fn record_part(
        &self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), CheckpointError> {
        self.write(Write::RecordPart { id, epoch, generation, number, part: part.clone() }).await
    }

    async fn transition(&self, from: State, record: &StreamRecord) -> Result<(), CheckpointError> {
        self.write(Write::Transition { from, record: record.clone() }).await
    }

    async fn claim(&self, id: StreamId, epoch: u64, node: &str) -> Result<u64, CheckpointError> {
        self.write(Write::Claim { id, epoch, node: node.to_owned() }).await?;
        Ok(epoch.wrapping_add(1))
    }

    async fn forget(&self, id: StreamId, epoch: u64) -> Result<(), CheckpointError> {
        self.write(Write::Forget { id, epoch }).await
    }
}
