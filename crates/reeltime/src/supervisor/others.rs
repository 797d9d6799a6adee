//! Streams of other nodes: which are left alone, and which go on here.

use std::path::{Path, PathBuf};

use reeltime_core::{State, StreamRecord};

use super::Supervisor;
use super::fleet::Estate;
use super::index::Entry;
use crate::checkpoint::Liveness;
use crate::recording::version_of;

impl Supervisor {
    /// What tells a source from every other directory; empty if that is not known.
    pub(super) fn mark(&self, source: &Path) -> String {
        self.marks.get(source).cloned().unwrap_or_default()
    }

    /// The source that is the directory of this stream, under whatever name, if its object goes
    /// where those of this node go.
    fn same_source(&self, record: &StreamRecord) -> Option<&Path> {
        let goes_there = record.destination == self.outside.store.location();
        let is_same = |mark: &String| goes_there && !mark.is_empty() && *mark == record.source_mark;
        self.marks.iter().find(|(_, mark)| is_same(mark)).map(|(source, _)| source.as_path())
    }

    /// A record with the names that its directory and its file have here.
    pub(super) fn as_seen_here(&self, mut record: StreamRecord) -> StreamRecord {
        if let Some(source) = self.same_source(&record)
            && source != record.source
            && let Ok(relative) = record.path.strip_prefix(&record.source)
        {
            record.path = source.join(relative);
            record.source = source.to_owned();
        }
        record
    }

    /// Leaves streams of other nodes to them, where their files are seen here.
    pub(super) fn leave_to_others(&mut self, records: Vec<StreamRecord>) {
        for record in records {
            if self.same_source(&record).is_some() {
                self.fleet.listen_for(&record.node);
                self.index.put(record.path.clone(), elsewhere(&record));
            }
        }
    }

    /// Another node has the stream of this file.
    pub(super) fn leave_to(&mut self, record: &StreamRecord, path: PathBuf) {
        self.fleet.listen_for(&record.node);
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
                && matches!(self.outside.checkpoint.liveness(&record.node).await, Ok(Liveness::Left | Liveness::Silent))
    }

    /// The checkpoint has refused a recording, as `rival` is to become the same object. That is
    /// the same recording if it is in the same directory.
    pub(super) fn yielded(&mut self, mut record: StreamRecord, path: PathBuf, rival: &StreamRecord) {
        if self.same_source(rival).is_some_and(|source| path.starts_with(source)) {
            return self.leave_to(rival, path);
        }
        let other = format!("{} of node {}", rival.path.display(), rival.node);
        self.key_is_taken(&path, &other);
        record.version = path.symlink_metadata().ok().as_ref().map(version_of);
        self.refuse(StreamRecord { path, ..record });
    }

    /// A node is gone: its streams go on here.
    pub(super) async fn inherit(&mut self, estate: Estate) {
        let streams: Vec<_> = estate.streams.into_iter().filter(|record| self.same_source(record).is_some()).collect();
        let is_unfinished = |record: &StreamRecord| matches!(record.state, State::Active | State::PendingCompletion);
        let unfinished = streams.iter().filter(|record| is_unfinished(record)).count();
        if unfinished > 0 {
            let message = format!("node {} is gone: {unfinished} unfinished recordings of it go on here", estate.node);
            self.tell_notice(None, message, "the directory is the same; nothing that was stored is sent again");
        }
        for record in streams {
            let record = self.as_seen_here(record);
            if self.index.live(&record.path).is_some() {
                continue; // another file has the name by now
            }
            if is_unfinished(&record) {
                self.index.remove(&record.path);
                self.go_on(StreamRecord { node: self.task.node.clone(), ..record });
            } else {
                // It is claimed when its file changes.
                self.index.put(record.path.clone(), Entry::of_ended(&record));
                self.look(&record.path).await;
            }
        }
    }

    /// With `once`: what others are still at work on is not completed.
    pub(super) fn tell_of_unfinished_elsewhere(&mut self) {
        let paths: Vec<_> = self.index.unfinished_elsewhere().map(Path::to_owned).collect();
        for path in paths {
            self.failures += 1;
            let message = format!("{} is another node's, and was not completed when last heard of", path.display());
            self.tell_notice(Some(path), message, "see `reeltime status`");
        }
    }
}

fn elsewhere(record: &StreamRecord) -> Entry {
    Entry::Elsewhere { id: record.id, is_over: matches!(record.state, State::Completed | State::Failed) }
}
