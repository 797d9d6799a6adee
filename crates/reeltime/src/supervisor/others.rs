//! Streams of other nodes: which are left alone, and which go on here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reeltime_core::{Reason, State, StreamId, StreamRecord};

use super::Supervisor;
use super::fleet::Estate;
use super::index::Entry;
use crate::checkpoint::{CheckpointError, Liveness};
use crate::events::{Event, Side, What};
use crate::recording::version_of;
use crate::watch::scan::Found;

impl Supervisor {
    /// What tells a source from every other directory; empty if that is not known.
    pub(super) fn mark(&self, source: &Path) -> String {
        self.task.marks.get(source).cloned().unwrap_or_default()
    }

    /// The source that is the directory of this stream, under whatever name, if its object goes
    /// where those of this node go.
    fn same_source(&self, record: &StreamRecord) -> Option<&Path> {
        let goes_there = record.destination == self.outside.store.location();
        self.source_with(&record.source_mark).filter(|_| goes_there)
    }

    fn source_with(&self, mark: &str) -> Option<&Path> {
        let is_it = |known: &str| !known.is_empty() && *known == *mark;
        self.task.marks.iter().find(|(_, known)| is_it(known)).map(|(source, _)| source.as_path())
    }

    /// A record with the names that its directory and its file have here.
    pub(super) fn as_seen_here(&self, mut record: StreamRecord) -> StreamRecord {
        if let Some(source) = self.same_source(&record)
            && source != record.source
        {
            let relative = record.path.strip_prefix(&record.source).unwrap_or(record.key.as_path());
            record.path = source.join(relative);
            record.source = source.to_owned();
        }
        record
    }

    /// Leaves streams of other nodes to them, where their files are seen here.
    pub(super) fn leave_to_others(&mut self, records: Vec<StreamRecord>) {
        for record in records {
            if self.same_source(&record).is_some() {
                self.fleet.listen_for(&record);
                self.index.put(record.path.clone(), elsewhere(&record));
            }
        }
    }

    /// Another node has the stream of this file.
    pub(super) fn leave_to(&mut self, record: &StreamRecord, path: PathBuf) {
        self.fleet.listen_for(record);
        let message = format!("{} belongs to node {}", path.display(), record.node);
        self.tell_once(path.clone(), message, "this node leaves it alone as long as that one is there");
        self.index.put(path, elsewhere(record));
    }

    /// Whether a stream is this node's, or may become it: its node is gone and the directory the
    /// same.
    pub(super) async fn may_have(&self, record: &StreamRecord) -> bool {
        let is_ours = record.node == self.task.node;
        is_ours
            || self.same_source(record).is_some()
                && matches!(
                    self.outside.checkpoint.liveness(&record.node, &record.source_mark).await,
                    Ok(Liveness::Left | Liveness::Silent)
                )
    }

    /// The checkpoint has refused a recording, as `rival` is to become the same object. That is
    /// the same recording if it is in the same directory.
    pub(super) fn yielded(&mut self, mut record: StreamRecord, path: PathBuf, rival: &StreamRecord) {
        if self.same_source(rival).is_some_and(|source| path.starts_with(source)) {
            self.forget_beside(record.id);
            return self.leave_to(rival, path);
        }
        let other = format!("{} of node {}", rival.path.display(), rival.node);
        self.key_is_taken(&path, &other);
        self.rivals.insert(path.clone(), rival.id);
        record.version = path.symlink_metadata().ok().as_ref().map(version_of);
        self.refuse(StreamRecord { path, ..record });
    }

    /// Whether the stream because of which a file was refused has the object still.
    pub(super) async fn has_rival_elsewhere(&self, found: &Found) -> bool {
        let Some(rival) = self.rivals.get(&found.path) else { return false };
        match self.outside.checkpoint.find(*rival).await {
            Ok(Some(rival)) => rival.key == found.key && rival.state != State::Failed,
            Ok(None) => false,
            Err(_) => true, // the next scan asks again
        }
    }

    /// A stream of this node whose recording is another's now, should the checkpoint have it.
    fn forget_beside(&self, id: StreamId) {
        let (checkpoint, node) = (Arc::clone(&self.outside.checkpoint), self.task.node.clone());
        tokio::spawn(async move {
            if let Ok(Some(record)) = checkpoint.find(id).await
                && record.node == node
                && let Err(error) = checkpoint.forget(id, record.epoch).await
            {
                tracing::debug!(%error, "a record remains that does no harm");
            }
        });
    }

    /// A node is gone: its streams go on here. Those of its recordings that are no streams of it
    /// any more, because another one was faster or the checkpoint has lost them, or that have
    /// another name by now, are found by a scan.
    pub(super) fn inherit(&mut self, Estate { node, source, streams }: Estate) {
        self.last_scan = false;
        if let Some(source) = self.source_with(&source).map(Path::to_owned) {
            self.index.disown(&node, &source);
            self.scanner.ask(source.clone(), source);
        }
        let streams = streams.into_iter().filter(|record| self.same_source(record).is_some());
        let streams = streams.map(|record| self.as_seen_here(record));
        let mut streams: Vec<_> = streams.filter(|record| self.index.get(&record.path).is_none()).collect();
        let is_unfinished = |record: &&mut StreamRecord| !matches!(record.state, State::Completed | State::Failed);
        let mut unfinished = 0;
        for record in streams.iter_mut().filter(is_unfinished) {
            unfinished += 1;
            record.node.clone_from(&self.task.node); // others are claimed when their files change
        }
        if unfinished > 0 {
            let message = format!("node {node} is gone: {unfinished} unfinished recordings of it go on here");
            self.tell_notice(None, message, "the directory is the same; nothing that was stored is sent again");
        }
        self.take_up(streams);
    }

    /// What nodes have left that are gone cannot be read.
    pub(super) fn tell_unread_estates(&self, error: &CheckpointError) {
        let hint = "recordings of a node that is gone go on here when they can be read; it is tried again and again";
        let what = What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: hint.to_owned() };
        self.outside.events.tell(Event { stream: None, path: None, what });
    }

    /// With `once`: whether nothing is left to wait for of what other nodes have. One that lives
    /// brings it to its end; what one has left that is gone is done here.
    pub(super) async fn is_all_done_elsewhere(&mut self) -> bool {
        let unfinished: Vec<_> = self.index.unfinished_elsewhere().map(|(path, id)| (path.to_owned(), id)).collect();
        let mut is_done = true;
        for (path, id) in unfinished {
            match self.outside.checkpoint.find(id).await {
                Ok(Some(record)) if record.state == State::Completed => self.index.is_over_elsewhere(&path),
                Ok(Some(record)) if record.state == State::Failed => {
                    self.index.is_over_elsewhere(&path);
                    self.failures += 1;
                    let message = format!("{} failed on node {}", path.display(), record.node);
                    self.tell_notice(Some(path), message, record.reason.map_or("", Reason::hint));
                }
                // It is asked for again in the next round.
                Ok(Some(_)) | Err(_) => is_done = false,
                Ok(None) => {
                    self.index.remove(&path);
                    self.look(&path).await;
                    is_done = false;
                }
            }
        }
        is_done
    }
}

fn elsewhere(record: &StreamRecord) -> Entry {
    Entry::Elsewhere { id: record.id, node: record.node.as_str().into(), is_over: record.state == State::Completed }
}
