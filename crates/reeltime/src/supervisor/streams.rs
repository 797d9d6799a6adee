//! How streams begin, go on after a restart, come back, and change their names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reeltime_core::{Input, ObjectKey, Reason, State, StreamId, StreamRecord, UploadState, WallTime, temp_suffix_of};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Supervisor;
use super::index::{Entry, Live, names_of};
use crate::checkpoint::CheckpointError;
use crate::clock;
use crate::events::{Event, What};
use crate::processor::{Outcome, StreamProcessor, create};
use crate::view::StreamView;
use crate::watch::scan::Found;

/// A file that was changed within this time may be live, and does not wait behind a backlog.
const FRESH: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Takes up what the checkpoint knows.
    pub(super) async fn resume(&mut self) -> Result<(), CheckpointError> {
        let mut elsewhere = 0;
        let mut records = self.outside.checkpoint.load().await?;
        records.sort_by_key(|record| record.id); // the newest of a path counts
        for record in records {
            if !self.task.sources.contains(&record.source) {
                elsewhere += u64::from(matches!(record.state, State::Active | State::PendingCompletion));
                continue;
            }
            match record.state {
                State::Completed => {
                    self.index.put(record.path.clone(), Entry::of_ended(&record));
                }
                State::Failed => {
                    // A start is a reason to try again.
                    self.index
                        .put(record.path.clone(), Entry::Failed { id: record.id, version: None, unreadable: false });
                }
                State::Active | State::PendingCompletion => self.go_on(record),
            }
        }
        if elsewhere > 0 {
            let message = format!("{elsewhere} unfinished recordings are below directories that are not watched now");
            self.tell_notice(None, message, "they go on when reeltime is started with their directories");
        }
        Ok(())
    }

    /// A new recording.
    pub(super) fn begin(&mut self, source: &Path, found: Found) {
        let mut record = StreamRecord {
            id: StreamId(Uuid::now_v7()),
            node: self.task.node.clone(),
            epoch: 1,
            source: source.to_owned(),
            path: found.path.clone(),
            key: found.key.clone(),
            state: State::Active,
            reason: None,
            generation: 1,
            upload: UploadState::None,
            plan: self.task.plan,
            version: None,
            size_bytes: found.version.size,
            etag: None,
            checksum: None,
            started_at: clock::wall(),
            completed_at: None,
        };
        if let Some(other) = self.rival_of(source, &found.path, &found.key) {
            self.key_is_taken(&found.path, &other);
            record.state = State::Failed;
            record.reason = Some(Reason::KeyTaken);
            record.version = Some(found.version);
            record.completed_at = Some(record.started_at);
            self.index.put(found.path, Entry::of_ended(&record));
            let outside = self.outside.clone();
            tokio::spawn(async move { create(&outside, &record).await });
            return;
        }
        self.last_scan = false;
        let live = self.enlist(&record);
        let (outside, stop) = (self.outside.clone(), self.stop.clone());
        let admission = self.admission(&record, is_fresh(found.version.mtime_ns));
        self.show(&record);
        self.processors.spawn(async move {
            let _place = admission.await;
            let left = Outcome { record: record.clone(), seen: None };
            let created = tokio::select! {
                created = create(&outside, &record) => created,
                () = stop.cancelled() => false,
            };
            if !created {
                return left;
            }
            let what = What::Discovered;
            outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
            StreamProcessor::new(outside, record, reeltime_core::PartTable::default(), live).run(stop).await
        });
    }

    /// A stream that the checkpoint has as unfinished.
    fn go_on(&mut self, mut record: StreamRecord) {
        let mut first = None;
        if record.path.symlink_metadata().is_err()
            && let Some(path) = self.final_name_of(&record)
        {
            // The recorder ended, and renamed the file, while nobody was watching.
            first = Some(Input::Renamed { path, key: record.key.clone(), temp_name: false, final_name: true });
        }
        if let Some(Input::Renamed { path, .. }) = &first {
            record.path.clone_from(path);
        }
        self.spawn_known(record, first);
    }

    fn final_name_of(&self, record: &StreamRecord) -> Option<PathBuf> {
        temp_suffix_of(&record.path, &self.outside.temp_suffixes)?;
        let path = record.source.join(record.key.as_path());
        let is_free = self.index.get(&path).is_none();
        (is_free && path.symlink_metadata().is_ok_and(|found| found.is_file())).then_some(path)
    }

    /// The file of a completed or failed stream has changed.
    pub(super) async fn revive(&mut self, id: StreamId, found: Found) {
        if let Some(source) = self.source_of(&found.path)
            && let Some(other) = self.rival_of(&source, &found.path, &found.key)
        {
            self.key_is_taken(&found.path, &other);
            self.index.put(found.path, Entry::Failed { id, version: Some(found.version), unreadable: false });
            return;
        }
        match self.outside.checkpoint.find(id).await {
            Ok(Some(mut record)) => {
                self.last_scan = false;
                record.path = found.path;
                self.spawn_known(record, None);
            }
            Ok(None) => {
                self.index.remove(&found.path);
                if let Some(source) = self.source_of(&found.path) {
                    self.begin(&source, found);
                }
            }
            // The next scan tries again.
            Err(error) => self.tell_notice(Some(found.path), error.to_string(), "it is tried again at the next scan"),
        }
    }

    /// A processor has left a stream that is not finished: another owner has it, or a request
    /// failed in a way that should not be.
    pub(super) async fn take_up_again(&mut self, record: StreamRecord) {
        self.index.remove(&record.path);
        if let Ok(Some(known)) = self.outside.checkpoint.find(record.id).await
            && known.epoch == record.epoch
        {
            self.spawn_known(known, None);
        }
    }

    fn spawn_known(&mut self, record: StreamRecord, first: Option<Input>) {
        let live = self.enlist(&record);
        if let (Some(first), Some(entry)) = (first, self.index.live(&record.path)) {
            entry.hint(first);
        }
        let fresh = record
            .path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < FRESH)));
        let (outside, stop) = (self.outside.clone(), self.stop.clone());
        let admission = self.admission(&record, fresh);
        self.show(&record);
        self.processors.spawn(async move {
            let _place = admission.await;
            let mut wait = Duration::from_millis(250);
            let table = loop {
                match outside.checkpoint.load_parts(record.id, record.generation).await {
                    Ok(table) => break table,
                    Err(error) => {
                        let what = What::Retrying { error: error.to_string(), hint: String::new() };
                        outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(8)),
                    () = stop.cancelled() => return Outcome { record, seen: None },
                }
            };
            let what = What::Resumed { uploaded_bytes: table.bytes() };
            outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
            StreamProcessor::new(outside, record, table, live).run(stop).await
        });
    }

    /// Enters a live stream; answers the end of its inbox.
    fn enlist(&mut self, record: &StreamRecord) -> mpsc::UnboundedReceiver<Input> {
        let (inbox, hints) = mpsc::unbounded_channel();
        self.index.put(record.path.clone(), Entry::Live(Live { id: record.id, inbox, scanned: None }));
        hints
    }

    /// A place to work in. What is fresh may be live and gets one at once.
    fn admission(
        &self,
        record: &StreamRecord,
        fresh: bool,
    ) -> impl Future<Output = Option<tokio::sync::OwnedSemaphorePermit>> + Send + use<> {
        let backlog = std::sync::Arc::clone(&self.backlog);
        let waits = !fresh && record.upload == UploadState::None;
        async move { if waits { backlog.acquire_owned().await.ok() } else { None } }
    }

    fn show(&self, record: &StreamRecord) {
        let view = StreamView::of_record(record, self.outside.store.full_key(&record.key));
        self.outside.board.show(record.id, view);
    }

    /// A file has a new name.
    pub(super) async fn renamed(&mut self, from: &Path, to: &Path) {
        let target = self.source_of(to).and_then(|source| Some((self.task.selection.key(&source, to)?, source)));
        let Some((key, source)) = target else {
            // Out of sight: it is finished by the handle that is held.
            if let Some(live) = self.index.live(from) {
                live.hint(Input::Touched);
            }
            return;
        };
        match self.index.get(from) {
            Some(Entry::Live(_)) => self.rename_live(from, to, key).await,
            Some(Entry::Completed { id, .. }) => {
                let id = *id;
                self.rename_completed(id, &source, from, to, &key).await;
            }
            _ => self.look(to).await,
        }
    }

    async fn rename_live(&mut self, from: &Path, to: &Path, key: ObjectKey) {
        let Some(Entry::Live(mut live)) = self.index.remove(from) else { return };
        let is_temp = |path: &Path| temp_suffix_of(path, &self.outside.temp_suffixes).is_some();
        let (temp_name, final_name) = (is_temp(to), is_temp(from) && !is_temp(to));
        live.scanned = None;
        live.hint(Input::Renamed { path: to.to_owned(), key, temp_name, final_name });
        let id = live.id;
        match self.index.put(to.to_owned(), Entry::Live(live)) {
            // The recording that had this name before is superseded; its object is replaced.
            Some(Entry::Completed { id: old, .. } | Entry::Failed { id: old, .. }) if old != id => {
                self.forget(old).await;
            }
            Some(Entry::Live(old)) => old.hint(Input::Replaced),
            _ => {}
        }
        self.look(from).await;
    }

    /// A completed recording got its final name: nothing is left to do if the key is the same.
    async fn rename_completed(&mut self, id: StreamId, source: &Path, from: &Path, to: &Path, key: &ObjectKey) {
        let record = match self.outside.checkpoint.find(id).await {
            Ok(Some(record)) if record.key == *key && record.state == State::Completed => record,
            _ => return self.look(to).await,
        };
        let renamed = StreamRecord { path: to.to_owned(), source: source.to_owned(), ..record };
        match self.outside.checkpoint.transition(State::Completed, &renamed).await {
            Ok(()) => {
                self.index.remove(from);
                let before = self.index.put(to.to_owned(), Entry::of_ended(&renamed));
                if let Some(Entry::Completed { id: old, .. } | Entry::Failed { id: old, .. }) = before
                    && old != id
                {
                    self.forget(old).await;
                }
            }
            Err(error) => {
                self.tell_notice(Some(to.to_owned()), error.to_string(), "it is tried again at the next scan");
            }
        }
        self.look(to).await;
    }

    async fn forget(&self, id: StreamId) {
        let forgotten = match self.outside.checkpoint.find(id).await {
            Ok(Some(record)) => self.outside.checkpoint.forget(id, record.epoch).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            self.tell_notice(None, error.to_string(), "an old record remains; it does no harm");
        }
    }

    /// Another recording that would become the same object: below another source, or under
    /// another temp name. A temp name and its final name belong together: the one waits to
    /// become the other.
    fn rival_of(&self, source: &Path, path: &Path, key: &ObjectKey) -> Option<PathBuf> {
        let suffixes = &self.outside.temp_suffixes;
        let own = temp_suffix_of(path, suffixes).is_some();
        let sources = self.task.sources.iter();
        let names = sources.flat_map(|other| names_of(other, key, suffixes));
        names.filter(|name| name != path).find(|name| {
            let together = name.starts_with(source) && temp_suffix_of(name, suffixes).is_some() != own;
            let known = matches!(self.index.get(name), Some(Entry::Live(_) | Entry::Completed { .. }));
            !together && known && name.symlink_metadata().is_ok_and(|found| found.is_file())
        })
    }

    fn key_is_taken(&mut self, path: &Path, other: &Path) {
        self.failures += 1;
        let message = format!("{} is not uploaded: {} would become the same object", path.display(), other.display());
        self.tell_once(path.to_owned(), message, Reason::KeyTaken.hint());
    }
}

fn is_fresh(mtime_ns: i64) -> bool {
    let WallTime(now_ms) = clock::wall();
    now_ms - mtime_ns / 1_000_000 < FRESH.as_millis() as i64
}
