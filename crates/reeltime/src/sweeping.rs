//! Which unfinished uploads reeltime has left behind, and their end.
//!
//! A listing of unfinished uploads shows no mark that their owner could have put on them. The
//! checkpoint is the mark: an upload is reeltime's if a stream names its id, or if it is for
//! exactly the key of a stream, was begun after that stream was, and is divided into parts as that
//! stream divides. An upload that shows no division, because it has no parts, costs nothing and is
//! left alone.
//!
//! Nothing is aborted of a stream that may go on, of another node, or of a key that such a stream
//! has too. Uploads are listed first and the checkpoint is read (again) afterwards: a stream is
//! remembered before its upload is begun, so an upload that was listed has its stream in what is
//! read. A stream is claimed before anything of it is aborted: whoever takes it up meanwhile takes
//! it up with another epoch, and then it is left alone.

mod judging;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reeltime_core::{ObjectKey, Reason, State, StreamId, StreamRecord, Trouble, UploadState, WallTime};
use tokio::task::JoinSet;

use crate::asking::{abort_until_gone, patiently};
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::clock;
use crate::storage::{ObjectStore, StoreError, UploadRef};
use judging::Owner;

/// Finds and aborts what was left behind.
#[derive(Clone)]
pub struct Sweeper {
    /// Where the uploads are.
    pub store: Arc<dyn ObjectStore>,
    /// Whose they are.
    pub checkpoint: Arc<dyn CheckpointStore>,
    /// The node whose streams are looked at.
    pub node: String,
    /// A reeltime of that node may be running: what it may hold open is not orphaned.
    pub may_be_running: bool,
    /// Nothing is aborted.
    pub dry_run: bool,
    /// Uploads of keys that no stream has are told, too.
    pub tell_all: bool,
}

/// What becomes of an upload. The names are a contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was orphaned, and is gone.
    Aborted,
    /// It is orphaned.
    WouldAbort,
    /// It belongs to a stream that may go on, or to another node.
    Kept,
    /// It is not known to be reeltime's.
    Foreign,
    /// It is orphaned, and could not be aborted, or it could not be looked at.
    Failed,
}

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Aborted, Self::WouldAbort, Self::Kept, Self::Foreign, Self::Failed];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::WouldAbort => "would_abort",
            Self::Kept => "kept",
            Self::Foreign => "foreign",
            Self::Failed => "failed",
        }
    }
}

/// An upload, and what became of it.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Its object, as the store knows it.
    pub key: String,
    /// Its id; `None` if the key's uploads could not be listed.
    pub upload_id: Option<String>,
    /// The stream that it belongs to.
    pub stream: Option<StreamId>,
    /// What became of it.
    pub fate: Fate,
    /// Why.
    pub why: String,
    /// Bytes that the store holds of it; `None` if it was not asked.
    pub size_bytes: Option<u64>,
}

/// An upload that the store has.
struct Candidate {
    key: ObjectKey,
    id: String,
    /// `None`: the store did not list it, but a stream names it.
    initiated: Option<WallTime>,
}

type ByKey = BTreeMap<ObjectKey, Vec<StreamRecord>>;

impl Sweeper {
    /// Looks at the uploads of all keys that the node's streams have, aborts those that are
    /// orphaned, and tells `tell` what became of each.
    pub async fn sweep(&self, tell: &mut (dyn FnMut(Swept) + Send)) -> Result<(), CheckpointError> {
        let keys = self.keys().await?;
        let mut candidates = Vec::new();
        let (mut listing, mut keys) = (JoinSet::new(), keys.into_iter());
        loop {
            while listing.len() < AT_ONCE
                && let Some((key, named)) = keys.next()
            {
                let this = self.clone();
                listing.spawn(async move { (key.clone(), this.uploads_of(key, named).await) });
            }
            match listing.join_next().await {
                None => break,
                Some(Ok((_, Ok(found)))) => candidates.extend(found),
                Some(Ok((key, Err(error)))) => {
                    tell(self.swept(&key, None, (Fate::Failed, error.to_string()), None));
                }
                Some(Err(_)) => {} // panicked; that was told where it happened
            }
        }
        candidates.sort_by(|one, other| (&one.key, &one.id).cmp(&(&other.key, &other.id)));
        let mut records = ByKey::new();
        for record in self.checkpoint.load().await? {
            records.entry(record.key.clone()).or_default().push(record);
        }
        for candidate in candidates {
            let streams = records.entry(candidate.key.clone()).or_default();
            if let Some(swept) = self.end(&candidate, streams).await {
                tell(swept);
            }
        }
        if self.tell_all {
            self.tell_unknown(&records, tell).await;
        }
        Ok(())
    }

    /// Tells of uploads that are none of reeltime's business.
    async fn tell_unknown(&self, records: &ByKey, tell: &mut (dyn FnMut(Swept) + Send)) {
        let known: BTreeSet<_> = records.keys().map(|key| self.store.full_key(key)).collect();
        let swept = |key, upload_id, fate, why| Swept { key, upload_id, stream: None, fate, why, size_bytes: None };
        let mut unless_known = |key, id| {
            if !known.contains(&key) {
                tell(swept(key, Some(id), Fate::Foreign, "no stream has its key".to_owned()));
            }
        };
        if let Err(error) = self.store.each_upload(&mut unless_known).await {
            tell(swept(self.store.location(), None, Fate::Failed, error.to_string()));
        }
    }

    /// The keys of the node's streams, with the uploads that any stream names for them.
    async fn keys(&self) -> Result<BTreeMap<ObjectKey, BTreeSet<String>>, CheckpointError> {
        let records = self.checkpoint.load().await?;
        let own = records.iter().filter(|record| record.node == self.node);
        let mut keys: BTreeMap<_, BTreeSet<String>> = own.map(|record| (record.key.clone(), BTreeSet::new())).collect();
        for record in records {
            if let (Some(named), UploadState::Open { id }) = (keys.get_mut(&record.key), record.upload) {
                named.insert(id);
            }
        }
        Ok(keys)
    }

    /// Not every store lists every upload: those that streams name are added.
    async fn uploads_of(&self, key: ObjectKey, mut named: BTreeSet<String>) -> Result<Vec<Candidate>, StoreError> {
        let mut found = Vec::new();
        for upload in patiently(|| self.store.list_uploads(&key)).await? {
            named.remove(&upload.upload_id);
            found.push(Candidate { key: key.clone(), id: upload.upload_id, initiated: Some(upload.initiated) });
        }
        found.extend(named.into_iter().map(|id| Candidate { key: key.clone(), id, initiated: None }));
        Ok(found)
    }

    /// Judges an upload and, if it is orphaned, ends it. `None` if there is no such upload.
    async fn end(&self, candidate: &Candidate, streams: &mut [StreamRecord]) -> Option<Swept> {
        let upload = UploadRef { key: candidate.key.clone(), id: candidate.id.clone() };
        let parts = match patiently(|| self.store.list_parts(&upload)).await {
            Ok(parts) => parts,
            Err(error) if error.trouble == Trouble::NoSuchUpload => return None,
            Err(error) => {
                return Some(self.swept(&candidate.key, Some(candidate), (Fate::Failed, error.to_string()), None));
            }
        };
        let (stream, (fate, why)) = match self.judge(candidate, &parts, streams).await {
            Owner::Foreign(why) => (None, (Fate::Foreign, why.to_owned())),
            Owner::Kept { stream, why } => (stream, (Fate::Kept, why)),
            Owner::Orphan { stream, why } if self.dry_run => (Some(stream), (Fate::WouldAbort, why)),
            Owner::Orphan { stream, why } => {
                let record = streams.iter_mut().find(|record| record.id == stream)?;
                let ended = self.abort(&upload, record).await;
                (Some(stream), ended.map_or_else(|outcome| outcome, |()| (Fate::Aborted, why)))
            }
        };
        let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
        Some(Swept {
            stream,
            size_bytes: Some(size_bytes),
            ..self.swept(&candidate.key, Some(candidate), (fate, why), None)
        })
    }

    /// Ends an upload; the record becomes what the checkpoint has of its stream.
    async fn abort(&self, upload: &UploadRef, record: &mut StreamRecord) -> Result<(), (Fate, String)> {
        let epoch = self.checkpoint.claim(record.id, record.epoch, &self.node).await.map_err(|error| match error {
            CheckpointError::Stale { .. } | CheckpointError::Unknown { .. } => {
                (Fate::Kept, format!("its stream was taken up meanwhile: {error}"))
            }
            error => (Fate::Failed, error.to_string()),
        })?;
        record.epoch = epoch;
        abort_until_gone(&*self.store, upload).await.map_err(|why| (Fate::Failed, why))?;
        if record.upload.id() != Some(&upload.id) {
            return Ok(());
        }
        let before = record.state;
        record.upload = UploadState::None;
        if before != State::Failed {
            record.state = State::Failed;
            record.reason = Some(Reason::SourceMissing);
            record.completed_at = Some(clock::wall());
        }
        let saved = self.checkpoint.transition(before, record).await;
        saved.map_err(|error| (Fate::Failed, format!("it is gone, but its stream still names it: {error}")))
    }

    fn swept(
        &self,
        key: &ObjectKey,
        candidate: Option<&Candidate>,
        (fate, why): (Fate, String),
        size_bytes: Option<u64>,
    ) -> Swept {
        let upload_id = candidate.map(|candidate| candidate.id.clone());
        Swept { key: self.store.full_key(key), upload_id, stream: None, fate, why, size_bytes }
    }
}

/// Keys whose uploads are listed at the same time.
const AT_ONCE: usize = 8;
