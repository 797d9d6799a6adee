//! What is known of every path: the streams that are worked on, and those that have ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reeltime_core::{FileVersion, Input, ObjectKey, Reason, State, StreamId, StreamRecord};
use tokio::sync::mpsc;

use crate::processor::Told;
use crate::recording::Identity;
use crate::watch::scan::Found;

/// The stream of a path.
#[derive(Debug)]
pub(super) enum Entry {
    /// A processor is at work.
    Live(Live),
    /// The object is there; of this version of the file.
    Completed {
        /// The stream.
        id: StreamId,
        /// What was completed; `None`: to be looked at again.
        version: Option<FileVersion>,
    },
    /// It is another node's, which sees the same file.
    Elsewhere {
        /// The stream.
        id: StreamId,
        /// That node.
        node: Arc<str>,
        /// It was completed when that node was last heard of, or its failure was told.
        is_over: bool,
    },
    /// It was given up, with this version of the file; `None`: to be tried again.
    Failed {
        /// The stream.
        id: StreamId,
        /// What was given up.
        version: Option<FileVersion>,
        /// Why, as far as it decides when to try again.
        reason: Option<Reason>,
    },
}

/// A stream that is worked on.
#[derive(Debug)]
pub(super) struct Live {
    /// The stream.
    pub(super) id: StreamId,
    /// Brings hints to its processor.
    pub(super) inbox: mpsc::UnboundedSender<Told>,
    /// The file as a scan last saw it.
    pub(super) scanned: Option<(FileVersion, Identity)>,
}

impl Live {
    /// A processor that has just ended does not hear: what it missed is seen when its outcome
    /// is taken in.
    pub(super) fn hint(&self, input: Input) {
        let _ = self.inbox.send(input.into());
    }
}

impl Entry {
    pub(super) fn id(&self) -> StreamId {
        match self {
            Self::Live(live) => live.id,
            Self::Completed { id, .. } | Self::Failed { id, .. } | Self::Elsewhere { id, .. } => *id,
        }
    }

    /// The entry of a stream that has ended.
    pub(super) fn of_ended(record: &StreamRecord) -> Self {
        match record.state {
            State::Completed => Self::Completed { id: record.id, version: record.version },
            _ => Self::Failed { id: record.id, version: record.version, reason: record.reason },
        }
    }
}

/// All entries by path.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<PathBuf, Entry>,
    /// Where the file of a live stream was last seen: to know it again under another name where
    /// no event tells of the rename.
    by_identity: HashMap<Identity, PathBuf>,
    /// Where the live streams are.
    live: HashMap<StreamId, PathBuf>,
}

impl Index {
    pub(super) fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub(super) fn live(&self, path: &Path) -> Option<&Live> {
        match self.entries.get(path) {
            Some(Entry::Live(live)) => Some(live),
            _ => None,
        }
    }

    /// How many streams are worked on.
    pub(super) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// The recordings that another node is at work on.
    pub(super) fn unfinished_elsewhere(&self) -> impl Iterator<Item = (&Path, StreamId)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::Elsewhere { id, is_over: false, .. } => Some((path.as_path(), *id)),
            _ => None,
        })
    }

    /// What another node had to do with this recording has come to its end.
    pub(super) fn is_over_elsewhere(&mut self, path: &Path) {
        if let Some(Entry::Elsewhere { is_over, .. }) = self.entries.get_mut(path) {
            *is_over = true;
        }
    }

    /// Nothing in this source is that node's any more.
    pub(super) fn disown(&mut self, gone: &str, source: &Path) {
        let is_theirs = |path: &Path, entry: &Entry| {
            matches!(entry, Entry::Elsewhere { node, .. } if **node == *gone) && path.starts_with(source)
        };
        self.entries.retain(|path, entry| !is_theirs(path, entry));
    }

    /// The path of a stream that is worked on, as the supervisor knows it: its processor may
    /// not have heard of a new name.
    pub(super) fn live_path(&self, id: StreamId) -> Option<&Path> {
        self.live.get(&id).map(PathBuf::as_path)
    }

    /// Puts an entry in; answers what was there before.
    pub(super) fn put(&mut self, path: PathBuf, entry: Entry) -> Option<Entry> {
        let before = self.remove(&path);
        if let Entry::Live(live) = &entry {
            self.live.insert(live.id, path.clone());
            if let Some((_, identity)) = live.scanned {
                self.by_identity.insert(identity, path.clone());
            }
        }
        self.entries.insert(path, entry);
        before
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<Entry> {
        let before = self.entries.remove(path);
        if let Some(Entry::Live(live)) = &before
            && self.live.get(&live.id).is_some_and(|at| at == path)
        {
            self.live.remove(&live.id);
        }
        if let Some(Entry::Live(Live { scanned: Some((_, identity)), .. })) = &before
            && self.by_identity.get(identity).is_some_and(|at| at == path)
        {
            self.by_identity.remove(identity);
        }
        before
    }

    /// Notes what a scan saw of a live stream's file; `true` if it is news.
    pub(super) fn scanned(&mut self, found: &Found) -> bool {
        let Some(Entry::Live(live)) = self.entries.get_mut(&found.path) else { return false };
        let seen = Some((found.version, found.identity));
        if live.scanned == seen {
            return false;
        }
        let before = std::mem::replace(&mut live.scanned, seen);
        if let Some((_, identity)) = before
            && identity != found.identity
            && self.by_identity.get(&identity).is_some_and(|at| *at == found.path)
        {
            self.by_identity.remove(&identity);
        }
        self.by_identity.insert(found.identity, found.path.clone());
        true
    }

    /// Whether this file is surely not that of the live stream whose path was `from`.
    pub(super) fn is_another(&self, from: &Path, file: Identity) -> bool {
        self.live(from).and_then(|live| live.scanned).is_some_and(|(_, scanned)| scanned != file)
    }

    /// Where this file of a live stream was last seen.
    pub(super) fn path_of(&self, file: Identity) -> Option<&Path> {
        let path = self.by_identity.get(&file)?;
        self.live(path).map(|_| path.as_path())
    }
}

/// The names under which a recording with the final name `path` may be known: that name, and
/// those with a temp suffix.
pub(super) fn names_of(source: &Path, key: &ObjectKey, temp_suffixes: &[String]) -> Vec<PathBuf> {
    let plain = source.join(key.as_path());
    let with_suffix = temp_suffixes.iter().map(|suffix| {
        let mut name = plain.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    });
    let mut names: Vec<_> = with_suffix.collect();
    names.push(plain);
    names
}
