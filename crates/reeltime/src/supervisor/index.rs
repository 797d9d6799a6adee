//! What is known of every path: the streams that are worked on, and those that have ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use reeltime_core::{FileVersion, Input, ObjectKey, Reason, State, StreamId, StreamRecord};
use tokio::sync::mpsc;

/// The stream of a path.
#[derive(Debug)]
pub(super) enum Entry {
    /// A processor is at work.
    Live(Live),
    /// The object is there; of this version of the file.
    Completed {
        /// The stream.
        id: StreamId,
        /// What was completed.
        version: Option<FileVersion>,
    },
    /// It was given up, with this version of the file; `None`: to be tried again.
    Failed {
        /// The stream.
        id: StreamId,
        /// What was given up.
        version: Option<FileVersion>,
        /// Because it could not be read, in this run.
        unreadable: bool,
    },
}

/// A stream that is worked on.
#[derive(Debug)]
pub(super) struct Live {
    /// The stream.
    pub(super) id: StreamId,
    /// Brings hints to its processor.
    pub(super) inbox: mpsc::UnboundedSender<Input>,
    /// The file as a scan last saw it.
    pub(super) scanned: Option<FileVersion>,
}

impl Live {
    /// A processor that has just ended does not hear: what it missed is seen when its outcome
    /// is taken in.
    pub(super) fn hint(&self, input: Input) {
        let _ = self.inbox.send(input);
    }
}

impl Entry {
    pub(super) fn id(&self) -> StreamId {
        match self {
            Self::Live(live) => live.id,
            Self::Completed { id, .. } | Self::Failed { id, .. } => *id,
        }
    }

    /// The entry of a stream that has ended.
    pub(super) fn of_ended(record: &StreamRecord) -> Self {
        match record.state {
            State::Completed => Self::Completed { id: record.id, version: record.version },
            _ => Self::Failed {
                id: record.id,
                version: record.version,
                unreadable: record.reason == Some(Reason::SourceUnreadable),
            },
        }
    }
}

/// All entries by path.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<PathBuf, Entry>,
    /// Where the file of a live stream was last seen, by inode: to know it again under another
    /// name where no event tells of the rename.
    by_inode: HashMap<u64, PathBuf>,
    live: usize,
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
        self.live
    }

    /// Puts an entry in; answers what was there before.
    pub(super) fn put(&mut self, path: PathBuf, entry: Entry) -> Option<Entry> {
        self.live += usize::from(matches!(entry, Entry::Live(_)));
        let before = self.entries.insert(path, entry);
        self.live -= usize::from(matches!(before, Some(Entry::Live(_))));
        before
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<Entry> {
        let before = self.entries.remove(path);
        self.live -= usize::from(matches!(before, Some(Entry::Live(_))));
        before
    }

    /// Notes what a scan saw of a live stream's file; `true` if it is news.
    pub(super) fn scanned(&mut self, path: &Path, version: FileVersion) -> bool {
        let Some(Entry::Live(live)) = self.entries.get_mut(path) else { return false };
        if live.scanned == Some(version) {
            return false;
        }
        live.scanned = Some(version);
        self.by_inode.insert(version.inode, path.to_owned());
        true
    }

    /// Where a live stream's file with this inode was last seen.
    pub(super) fn path_of_inode(&self, inode: u64) -> Option<&Path> {
        let path = self.by_inode.get(&inode)?;
        self.live(path).map(|_| path.as_path())
    }

    pub(super) fn forget_inode(&mut self, inode: u64) {
        self.by_inode.remove(&inode);
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
