//! Completes what a lost machine had uploaded, from checkpoint and store alone.
//!
//! The recording's file is gone with its machine. What the store has of it, from the first byte to
//! the first gap, becomes the object:
//!
//! 1. The stream is claimed: should its machine come back, it can write nothing more.
//! 2. The parts that the store lists, each full as the stream's plan divides, are completed; a
//!    short one may be the last, because it is a tail, and nothing behind it is used.
//! 3. HEAD must agree (size and checksum, or the mark).
//! 4. The metadata document is written, then `completed` is saved.
//!
//! Each step may be repeated: after a crash or an error it is begun again from what store and
//! checkpoint say.

mod pieces;

use std::sync::Arc;

use bytes::Bytes;
use reeltime_core::{
    ObjectFacts, PartTable, Reason, RemotePart, State, StreamId, StreamRecord, Trouble, UploadState, WholeObject,
};

use crate::asking::{abort_until_gone, patiently};
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::clock;
use crate::leftover::{FileState, file_state};
use crate::metadata::{MetadataDocument, Probe};
use crate::storage::{CompletedPart, ObjectStore, PartBody, StoreError, UploadRef};
use pieces::{Kept, end_of, in_order, prefix, whole};

/// Salvages streams.
#[derive(Clone)]
pub struct Salvager {
    /// Where the parts are.
    pub store: Arc<dyn ObjectStore>,
    /// Who knows of them.
    pub checkpoint: Arc<dyn CheckpointStore>,
    /// The node that becomes the owner.
    pub node: String,
}

/// What became of a stream that was not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Salvaged {
    /// Its object is complete.
    Completed {
        /// Bytes of the object.
        size_bytes: u64,
        /// Bytes behind them that the recording is known to have had.
        missing_bytes: u64,
    },
    /// Nothing of it was stored: it is marked as failed, and no upload is left.
    Nothing {
        /// Bytes that the recording is known to have had.
        missing_bytes: u64,
    },
}

/// Why a stream was not salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// It is not for this command.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// What to do instead.
        hint: String,
    },
    /// The store did not do what was asked.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The checkpoint did not.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl SalvageError {
    /// What an operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Store(error) if !error.hint.is_empty() => error.hint.clone(),
            _ => "salvage it again: nothing that the store has was dropped".to_owned(),
        }
    }
}

impl Salvager {
    /// Salvages a stream as the checkpoint has it.
    pub async fn salvage(&self, mut record: StreamRecord) -> Result<Salvaged, SalvageError> {
        refuse_if_over(&record)?;
        let copy = record.clone();
        if tokio::task::spawn_blocking(move || file_state(&copy)).await.unwrap_or(FileState::Away) == FileState::There {
            return Err(SalvageError::Refused {
                why: format!("its file {} is on this machine", record.path.display()),
                hint: format!("start `reeltime run` with --node {}: it goes on from the file", record.node),
            });
        }
        record.epoch = self.checkpoint.claim(record.id, record.epoch, &self.node).await?;
        record.node.clone_from(&self.node);
        let known = self.checkpoint.load_parts(record.id, record.generation).await?;
        let (upload, parts) = self.stored(&record).await?;
        if let Some(facts) = self.object(&record).await? {
            // It had come to its end, and only that was not written down.
            let parts = in_order(&known, &record.plan, facts.size_bytes);
            return self.finish(record, facts, parts).await;
        }
        record.size_bytes = record.size_bytes.max(end_of(&parts, &record.plan));
        let parts = prefix(parts, &record.plan, &known);
        let upload = match upload {
            Some(upload) if !parts.is_empty() => upload,
            upload => return self.fail(record, upload).await,
        };
        self.note(&record, &parts, &known).await?;
        let facts = self.complete(&record, &upload, &parts).await?;
        self.finish(record, facts, parts).await
    }

    /// The stream's upload, if there is one, and its parts.
    async fn stored(&self, record: &StreamRecord) -> Result<(Option<UploadRef>, Vec<RemotePart>), SalvageError> {
        let key = record.key.clone();
        let id = match &record.upload {
            UploadState::None => return Ok((None, Vec::new())),
            UploadState::Open { id } => id.clone(),
            UploadState::Creating { since } => {
                let listed = patiently(|| self.store.list_uploads(&key)).await?;
                let since = listed.into_iter().filter(|upload| upload.initiated.0 + LISTED_TO_MS > since.0);
                match since.max_by_key(|upload| upload.initiated) {
                    Some(upload) => upload.upload_id,
                    None => return Ok((None, Vec::new())),
                }
            }
        };
        let upload = UploadRef { key, id };
        match patiently(|| self.store.list_parts(&upload)).await {
            Ok(parts) => Ok((Some(upload), parts)),
            Err(error) if error.trouble == Trouble::NoSuchUpload => Ok((None, Vec::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// The object, if it bears the mark of this stream's present generation.
    async fn object(&self, record: &StreamRecord) -> Result<Option<ObjectFacts>, StoreError> {
        let found = patiently(|| self.store.head(&record.key)).await?;
        Ok(found.filter(|facts| facts.token.as_deref() == Some(&record.token())))
    }

    /// Tells the checkpoint of parts that it did not know: once they are an object, the store does
    /// not list them any more.
    async fn note(&self, record: &StreamRecord, parts: &[Kept], known: &PartTable) -> Result<(), CheckpointError> {
        for (number, _, part) in parts {
            if known.get(*number) != Some(part) {
                self.checkpoint.record_part(record.id, record.epoch, record.generation, *number, part).await?;
            }
        }
        Ok(())
    }

    async fn complete(
        &self,
        record: &StreamRecord,
        upload: &UploadRef,
        parts: &[Kept],
    ) -> Result<ObjectFacts, SalvageError> {
        let list: Vec<_> = parts
            .iter()
            .map(|(number, _, part)| CompletedPart { number: *number, etag: part.etag.clone(), crc: part.crc })
            .collect();
        let (size_bytes, crc) = whole(parts);
        let completed = patiently(|| self.store.complete(upload, &list, crc, size_bytes)).await;
        let etag = match completed {
            // The answer to the first attempt was lost: HEAD knows.
            Err(error) if error.trouble == Trouble::NoSuchUpload => None,
            completed => completed?,
        };
        let found = patiently(|| self.store.head(&record.key)).await?;
        let found = found.ok_or_else(|| SalvageError::Other("the store completed it and does not have it".into()))?;
        let is_ours = match (found.crc, crc) {
            (Some(found), Some(expected)) => found == expected,
            _ => found.token.as_deref() == Some(&record.token()) || etag.as_ref() == Some(&found.etag),
        };
        if is_ours && found.size_bytes == size_bytes {
            return Ok(found);
        }
        let cause = format!("the object has {} bytes and is not what was completed ({size_bytes})", found.size_bytes);
        Err(SalvageError::Other(cause))
    }

    /// Describes the object, and remembers the stream as completed.
    async fn finish(
        &self,
        mut record: StreamRecord,
        facts: ObjectFacts,
        parts: Vec<Kept>,
    ) -> Result<Salvaged, SalvageError> {
        let size_bytes = facts.size_bytes;
        let missing_bytes = record.size_bytes.saturating_sub(size_bytes);
        let before = record.state;
        record.upload = UploadState::None;
        record.size_bytes = size_bytes;
        record.etag = Some(facts.etag);
        record.checksum = facts.crc.or_else(|| whole(&parts).1);
        record.completed_at = Some(clock::wall());
        self.describe(&record, parts, missing_bytes).await?;
        let mut from = before;
        for state in before.way_to(State::Completed) {
            record.state = state;
            self.checkpoint.transition(from, &record).await?;
            from = state;
        }
        Ok(Salvaged::Completed { size_bytes, missing_bytes })
    }

    async fn describe(&self, record: &StreamRecord, parts: Vec<Kept>, missing_bytes: u64) -> Result<(), StoreError> {
        let end = match missing_bytes {
            0 => "its end may be missing".to_owned(),
            bytes => format!("{bytes} bytes at least are missing at its end"),
        };
        let probe =
            Probe::Unknown(format!("the recording was salvaged without its file, which nobody could read: {end}"));
        let whole = WholeObject { record: record.clone(), parts };
        let (bucket, key) = (self.store.bucket(), self.store.full_key(&record.key));
        let document = MetadataDocument::new(&whole, &bucket, &key, probe, clock::wall()).to_json();
        let (body, key) = (PartBody::of_bytes(Bytes::from(document)), record.key.metadata_document());
        match patiently(|| self.store.put_object(&key, None, "application/json", body.clone())).await {
            // A name that is too long, for example. The object is good without.
            Err(error) if error.trouble == Trouble::Refused => Ok(()),
            stored => stored.map(|_| ()),
        }
    }

    /// Nothing of the stream is stored.
    async fn fail(&self, mut record: StreamRecord, upload: Option<UploadRef>) -> Result<Salvaged, SalvageError> {
        if let Some(upload) = upload {
            abort_until_gone(&*self.store, &upload).await.map_err(SalvageError::Other)?;
        }
        let before = record.state;
        record.upload = UploadState::None;
        record.state = State::Failed;
        record.reason = Some(Reason::SourceMissing);
        record.completed_at = Some(clock::wall());
        self.checkpoint.transition(before, &record).await?;
        Ok(Salvaged::Nothing { missing_bytes: record.size_bytes })
    }
}

fn refuse_if_over(record: &StreamRecord) -> Result<(), SalvageError> {
    let why = match record.state {
        State::Active | State::PendingCompletion => return Ok(()),
        State::Completed => "it is completed".to_owned(),
        State::Failed => {
            format!("it has failed ({}), and nothing of it is stored", record.reason.map_or("", Reason::as_str))
        }
    };
    Err(SalvageError::Refused { why, hint: "`reeltime status` shows what is unfinished".to_owned() })
}

/// Those of a node that are unfinished, the oldest first; or those with these ids.
pub fn select(records: Vec<StreamRecord>, ids: &[StreamId], node: Option<&str>) -> Vec<StreamRecord> {
    let is_unfinished = |record: &StreamRecord| matches!(record.state, State::Active | State::PendingCompletion);
    let mut chosen: Vec<_> = records
        .into_iter()
        .filter(|record| ids.contains(&record.id) || node == Some(&record.node) && is_unfinished(record))
        .collect();
    chosen.sort_by_key(|record| (record.started_at, record.id));
    chosen
}

/// Stores list the beginning of an upload in whole seconds.
const LISTED_TO_MS: i64 = 1_000;
