//! How streams begin, go on after a restart, come back, and change their names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reeltime_core::{
    FRESH_MS, FileVersion, Input, ObjectKey, Origin, Reason, State, StreamId, StreamRecord, UploadState, WallTime,
    temp_suffix_of,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Supervisor;
use super::index::{Entry, Live, names_of};
use crate::checkpoint::CheckpointError;
use crate::clock;
use crate::config::AfterUpload;
use crate::events::{Event, What};
use crate::processor::{Left, Place, StreamProcessor, Told, claim, create, load_parts};
use crate::recording::{Identity, identity_of, version_of};
use crate::view::StreamView;
use crate::watch::scan::Found;

/// A stream whose work ended early is left alone for this long.
const REST: Duration = Duration::from_secs(1);

/// A file that was changed within this time may be live, and does not wait behind a backlog.
const FRESH: Duration = Duration::from_millis(FRESH_MS);

impl Supervisor {
    /// Takes up what the checkpoint knows.
    pub(super) async fn resume(&mut self) -> Result<(), CheckpointError> {
        let mut elsewhere = 0;
        let records = self.records().await?;
        let mut records: Vec<_> = records.into_iter().map(|record| self.as_seen_here(record)).collect();
        if self.outside.checkpoint.is_shared() {
            let theirs = records.extract_if(.., |record| record.node != self.task.node).collect();
            self.leave_to_others(theirs);
        }
        for record in self.take_up(records) {
            elsewhere += u64::from(matches!(record.state, State::Active | State::PendingCompletion));
        }
        if elsewhere > 0 {
            let message = format!("{elsewhere} unfinished recordings are below directories that are not watched now");
            self.tell_notice(None, message, "they go on when reeltime is started with their directories");
        }
        Ok(())
    }

    /// Takes up streams of this node, or of one that is gone; answers those whose directories are
    /// not watched.
    pub(super) fn take_up(&mut self, mut records: Vec<StreamRecord>) -> Vec<StreamRecord> {
        // Of a path the newest counts, what is completed before what has failed, and what is
        // unfinished before both. A temp name comes last: whether its final name is free is
        // known by then.
        records.sort_by_key(|record| {
            let unfinished = matches!(record.state, State::Active | State::PendingCompletion);
            let temp = unfinished && temp_suffix_of(&record.path, &self.outside.temp_suffixes).is_some();
            (unfinished, temp, record.state == State::Completed, record.completed_at, record.id)
        });
        let elsewhere = records.extract_if(.., |record| !self.task.sources.contains(&record.source)).collect();
        for record in records {
            match record.state {
                State::Completed => {
                    let mut entry = Entry::of_ended(&record);
                    // The file is still to be deleted or moved, if it is there.
                    if let Entry::Completed { version, .. } = &mut entry
                        && *self.outside.after_upload != AfterUpload::Keep
                    {
                        *version = None;
                    }
                    self.index.put(record.path.clone(), entry);
                }
                State::Failed => {
                    // A start is a reason to try again.
                    self.index.put(record.path.clone(), Entry::Failed { id: record.id, version: None, reason: None });
                }
                State::Active | State::PendingCompletion => self.go_on(record),
            }
        }
        elsewhere
    }

    /// What the checkpoint knows. One that is away is waited for: what to do is in it.
    async fn records(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        let mut has_told = false;
        let marks: Vec<_> = self.task.marks.values().filter(|mark| !mark.is_empty()).cloned().collect();
        loop {
            match self.outside.checkpoint.load_near(&self.task.node, &marks).await {
                Err(error @ CheckpointError::Outage { .. }) => {
                    if !has_told {
                        let hint = "reeltime begins when it is there; recordings are safe on the disk meanwhile";
                        self.tell_notice(None, error.to_string(), hint);
                        has_told = true;
                    }
                }
                loaded => return loaded,
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(REST)).await.is_none() {
                return Ok(Vec::new());
            }
        }
    }

    /// A new recording.
    pub(super) fn begin(&mut self, source: &Path, found: &Found, origin: Origin) {
        let mut record = StreamRecord {
            id: StreamId(Uuid::now_v7()),
            node: self.task.node.clone(),
            epoch: 1,
            source: source.to_owned(),
            source_mark: self.mark(source),
            path: found.path.clone(),
            destination: self.outside.store.location(),
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
            self.key_is_taken(&found.path, &other.display());
            record.version = Some(found.version);
            return self.refuse(record);
        }
        self.last_scan = false;
        let live = self.enlist(&record, Some((found.version, found.identity)));
        let (outside, stop) = (self.outside.clone(), self.stop.clone());
        let admission = self.admission(&record, is_fresh(found.version.mtime_ns));
        self.show(&record);
        let id = record.id;
        let work = self.processors.spawn(async move {
            let Some(place) = admission.await else { return Left::early(record) };
            let what = What::Discovered;
            outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
            // On the heap: tens of thousands may be waiting for their place.
            Box::new(StreamProcessor::begin(outside, record, origin, live, place)).run(stop).await
        });
        self.at_work.insert(work.id(), id);
    }

    /// A stream that the checkpoint has as unfinished.
    pub(super) fn go_on(&mut self, mut record: StreamRecord) {
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
        self.spawn_known(record, first, Duration::ZERO);
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
            self.key_is_taken(&found.path, &other.display());
            self.index
                .put(found.path, Entry::Failed { id, version: Some(found.version), reason: Some(Reason::KeyTaken) });
            return;
        }
        match self.outside.checkpoint.find(id).await {
            Ok(Some(record)) if !self.may_have(&record).await => self.leave_to(&record, found.path),
            Ok(Some(record)) => {
                self.last_scan = false;
                self.spawn_at(StreamRecord { node: self.task.node.clone(), ..record }, &found.path, Duration::ZERO);
            }
            Ok(None) => {
                self.index.remove(&found.path);
                if let Some(source) = self.source_of(&found.path) {
                    self.begin(&source, &found, Origin::Present);
                }
            }
            // The next scan tries again.
            Err(error) => {
                self.failures += 1;
                self.tell_notice(Some(found.path), error.to_string(), "it is tried again at the next scan");
            }
        }
    }

    /// A processor has left a stream that is not finished: another owner has it, or something
    /// happened that should not. `path`: where its file is now; `epoch`: what the processor had.
    pub(super) async fn take_up_again(&mut self, id: StreamId, path: &Path, epoch: Option<u64>) {
        match self.outside.checkpoint.find(id).await {
            // The later process has all streams, or will have them in a moment: two that went on
            // would take them from each other for ever.
            Ok(Some(known)) if known.node == self.task.node && epoch.is_some_and(|epoch| epoch < known.epoch) => {
                let what = format!("node {} in {}", self.task.node, self.outside.checkpoint.location());
                let holder = "another reeltime of the same name, which has taken over its streams".to_owned();
                self.fatal = Some(CheckpointError::Held { what, holder });
            }
            Ok(Some(known)) if known.node != self.task.node => self.leave_to(&known, path.to_owned()),
            Ok(Some(known)) => self.spawn_at(known, path, REST),
            // The checkpoint has lost it, or was never told; the store may know.
            Ok(None) => {
                if let Some((source, key)) = self.recording_at(path)
                    && let Ok(metadata) = path.symlink_metadata()
                    && metadata.is_file()
                {
                    self.begin(&source, &Found::new(path.to_owned(), key, &metadata), Origin::Present);
                }
            }
            Err(error) => {
                self.index.put(path.to_owned(), Entry::Failed { id, version: None, reason: None });
                self.tell_notice(Some(path.to_owned()), error.to_string(), "it is tried again at the next scan");
            }
        }
    }

    /// The source and the key that belong to a path, if that is a recording's.
    pub(super) fn recording_at(&self, path: &Path) -> Option<(PathBuf, ObjectKey)> {
        let source = self.source_of(path)?;
        let key = self.task.selection.key(&source, path)?;
        Some((source, key))
    }

    /// What a processor is told of a new name; `None` if that is no recording's.
    fn new_name(&self, from: &Path, to: &Path) -> Option<Input> {
        let key = self.task.selection.key(&self.source_of(to)?, to)?;
        let is_temp = |path: &Path| temp_suffix_of(path, &self.outside.temp_suffixes).is_some();
        let (temp_name, final_name) = (is_temp(to), is_temp(from) && !is_temp(to));
        Some(Input::Renamed { path: to.to_owned(), key, temp_name, final_name })
    }

    /// A stream whose file is here now. One that the checkpoint has under another name, and so
    /// perhaps with another key, is told of its name.
    fn spawn_at(&mut self, record: StreamRecord, path: &Path, rest: Duration) {
        let mut record = self.as_seen_here(record);
        let first = if record.path == path { None } else { self.new_name(&record.path, path) };
        path.clone_into(&mut record.path);
        self.spawn_known(record, first, rest);
    }

    /// `rest`: how long to wait before the work begins.
    fn spawn_known(&mut self, mut record: StreamRecord, first: Option<Input>, rest: Duration) {
        let found = record.path.symlink_metadata().ok();
        self.outside.uploads.note(record.id, &record.upload);
        let live = self.enlist(&record, found.as_ref().map(|found| (version_of(found), identity_of(found))));
        if let (Some(first), Some(entry)) = (first, self.index.live(&record.path)) {
            entry.hint(first);
        }
        let fresh =
            found.is_some_and(|metadata| metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < FRESH)));
        let (outside, stop) = (self.outside.clone(), self.stop.clone());
        let admission = self.admission(&record, fresh);
        self.show(&record);
        let id = record.id;
        let work = self.processors.spawn(async move {
            let Some(place) = admission.await else { return Left::early(record) };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => return Left::early(record),
            }
            if stop.run_until_cancelled(claim(&outside, &mut record)).await != Some(true) {
                return Left::early(record);
            }
            let Some(table) = stop.run_until_cancelled(load_parts(&outside, &record)).await else {
                return Left::early(record);
            };
            let what = What::Resumed { uploaded_bytes: table.bytes() };
            outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
            Box::new(StreamProcessor::resume(outside, record, table, live, place)).run(stop).await
        });
        self.at_work.insert(work.id(), id);
    }

    /// Enters a live stream, whose file was found like this; answers the end of its inbox.
    fn enlist(
        &mut self,
        record: &StreamRecord,
        scanned: Option<(FileVersion, Identity)>,
    ) -> mpsc::UnboundedReceiver<Told> {
        let (inbox, hints) = mpsc::unbounded_channel();
        self.index.put(record.path.clone(), Entry::Live(Live { id: record.id, inbox, scanned }));
        hints
    }

    /// A place to work in. What is fresh may be live and goes in without one. `None` after a
    /// stop.
    fn admission(&self, record: &StreamRecord, fresh: bool) -> impl Future<Output = Option<Place>> + Send + use<> {
        let (backlog, stop) = (std::sync::Arc::clone(&self.backlog), self.stop.clone());
        let waits = !fresh && record.upload == UploadState::None;
        async move {
            if !waits {
                return Some(None);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => None,
                place = backlog.acquire_owned() => Some(place.ok()),
            }
        }
    }

    fn show(&self, record: &StreamRecord) {
        let view = StreamView::of_record(record, self.outside.store.full_key(&record.key));
        self.outside.board.show(record.id, view);
    }

    /// A file has a new name.
    pub(super) async fn renamed(&mut self, from: &Path, to: &Path) {
        let Some((source, key)) = self.recording_at(to) else {
            // Out of sight: it is finished by the handle that is held.
            if let Some(live) = self.index.live(from) {
                live.hint(Input::Touched);
            }
            return;
        };
        match self.index.get(from) {
            Some(Entry::Live(_)) => self.rename_live(from, to).await,
            Some(Entry::Completed { id, .. }) => {
                let id = *id;
                self.rename_completed(id, &source, from, to, &key).await;
            }
            Some(Entry::Elsewhere { .. }) if from.symlink_metadata().is_err() => {
                self.index.remove(from); // it is that node's under its new name, too
                self.look(to).await;
            }
            _ => self.look(to).await,
        }
    }

    async fn rename_live(&mut self, from: &Path, to: &Path) {
        if let Ok(found) = to.symlink_metadata()
            && self.index.is_another(from, identity_of(&found))
        {
            // An old story: a scan has told it already, and both names have other files now.
            self.look(from).await;
            return self.look(to).await;
        }
        let Some(name) = self.new_name(from, to) else { return };
        let Some(Entry::Live(live)) = self.index.remove(from) else { return };
        live.hint(name);
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

    /// A stream has ended under its old name before it heard of the new one.
    pub(super) async fn renamed_as_it_ended(&mut self, record: &StreamRecord, to: &Path) {
        match self.recording_at(to) {
            Some((source, key)) if record.state == State::Completed => {
                self.rename_completed(record.id, &source, &record.path, to, &key).await;
            }
            _ => self.look(to).await,
        }
    }

    /// A completed recording got its final name: nothing is left to do if the key is the same.
    async fn rename_completed(&mut self, id: StreamId, source: &Path, from: &Path, to: &Path, key: &ObjectKey) {
        let record = match self.outside.checkpoint.find(id).await {
            Ok(Some(record)) if record.key == *key && record.state == State::Completed => record,
            _ => return self.look(to).await,
        };
        let (path, source_mark) = (to.to_owned(), self.mark(source));
        let renamed = StreamRecord { path, source: source.to_owned(), source_mark, ..record };
        match self.outside.checkpoint.transition(State::Completed, &renamed).await {
            Ok(()) => {
                if self.index.get(from).is_some_and(|entry| entry.id() == id) {
                    self.index.remove(from);
                }
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
            Ok(Some(record)) if self.may_have(&record).await => self.outside.checkpoint.forget(id, record.epoch).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            self.tell_notice(None, error.to_string(), "an old record remains; it does no harm");
        }
    }

    /// Another recording that would become the same object: below another source, or under
    /// another temp name. A temp name and its final name belong together: the one waits to
    /// become the other.
    pub(super) fn rival_of(&self, source: &Path, path: &Path, key: &ObjectKey) -> Option<PathBuf> {
        let suffixes = &self.outside.temp_suffixes;
        let own = temp_suffix_of(path, suffixes).is_some();
        let sources = self.task.sources.iter();
        let names = sources.flat_map(|other| names_of(other, key, suffixes));
        names.filter(|name| name != path).find(|name| {
            let together = name.starts_with(source) && temp_suffix_of(name, suffixes).is_some() != own;
            let exists = || name.symlink_metadata().is_ok_and(|found| found.is_file());
            let in_the_way = match self.index.get(name) {
                // Its object may be all there is of it by now, or soon. Within one source the name
                // is used again; from another one it is another recording.
                Some(Entry::Live(_) | Entry::Completed { .. }) => !name.starts_with(source) || exists(),
                _ => false,
            };
            !together && in_the_way
        })
    }

    /// Of a recording that would become the object of another one, that is all that is noted.
    pub(super) fn refuse(&mut self, mut record: StreamRecord) {
        record.state = State::Failed;
        record.reason = Some(Reason::KeyTaken);
        record.completed_at = Some(record.started_at);
        self.index.put(record.path.clone(), Entry::of_ended(&record));
        let outside = self.outside.clone();
        tokio::spawn(async move { create(&outside, &record).await });
    }

    pub(super) fn key_is_taken(&mut self, path: &Path, other: &dyn std::fmt::Display) {
        let message = format!("{} is not uploaded: {other} would become the same object", path.display());
        if self.tell_once(path.to_owned(), message, Reason::KeyTaken.hint()) {
            self.failures += 1;
        }
    }
}

fn is_fresh(mtime_ns: i64) -> bool {
    let WallTime(now_ms) = clock::wall();
    now_ms - mtime_ns / 1_000_000 < FRESH.as_millis() as i64
}
