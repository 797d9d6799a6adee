//! Watching one source by the system's events.
//!
//! notify is asked for one directory at a time and never for a tree. Its own recursion gives up
//! at the first directory that may not be read (`lost+found`) or that vanishes while it
//! looks, swallows such errors later on, and tells of a new directory before watching it. Here
//! a directory is watched first and read afterwards, so that whatever is made in it is either
//! read or told; and whoever hears of a new directory hears it when it is watched already.
//!
//! The thread that the events come on must never wait: what it cannot pass on at once becomes
//! a flag in the [`Inbox`], and a flag becomes a [`FileEvent::Rescan`]. So a burst costs time
//! and never an event.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::FileEvent;
use super::selection::Selection;
use super::translate::{Told, Translator};

/// New directories that are remembered one by one; for more the whole source is looked at.
const NEW_DIRECTORIES: usize = 256;

/// Why a source cannot be watched by events. It can be scanned all the same, and nothing is
/// lost.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system allows no more watches, or no more watchers.
    #[error("{source_dir}: the limit on {what} ({setting}) is reached")]
    Limit {
        /// The source.
        source_dir: String,
        /// What there are too many of.
        what: &'static str,
        /// The setting to raise.
        setting: &'static str,
    },
    /// The source is missing, is no directory, or cannot be read.
    #[error("{source_dir}: {cause}")]
    Source {
        /// The source.
        source_dir: String,
        /// Why.
        cause: String,
    },
    /// The system has no events for it.
    #[error("{source_dir}: no file events: {cause}")]
    Unavailable {
        /// The source.
        source_dir: String,
        /// Why.
        cause: String,
    },
}

impl WatchError {
    /// What an operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Limit { setting, .. } => format!(
                "raise it with `sysctl {setting}=…` (and in /etc/sysctl.d to keep it), exclude directories that hold \
                 no recordings, or use --watch poll"
            ),
            Self::Source { .. } => "create or mount the directory and let reeltime read it".to_owned(),
            Self::Unavailable { .. } => "use --watch poll, or auto, which does so by itself".to_owned(),
        }
    }
}

/// What the event thread leaves for the task that tends the source.
#[derive(Debug)]
pub(super) struct Inbox {
    todo: Mutex<Todo>,
    /// Rung whenever there is something new.
    pub(super) bell: Notify,
}

/// What is to be done about a source.
#[derive(Debug)]
pub(super) struct Todo {
    translator: Translator,
    /// To be watched and scanned.
    pub(super) new_directories: Vec<PathBuf>,
    /// Their permissions may have changed.
    pub(super) changed_directories: HashSet<PathBuf>,
    /// Somebody could not be told something: the source is to be scanned.
    pub(super) missed: bool,
    /// Watches may be wrong: they are to be made anew, and the source is to be scanned.
    pub(super) lost: bool,
}

impl Inbox {
    pub(super) fn new(source: PathBuf) -> Self {
        let todo = Todo {
            translator: Translator::new(source),
            new_directories: Vec::new(),
            changed_directories: HashSet::new(),
            missed: false,
            lost: false,
        };
        Self { todo: Mutex::new(todo), bell: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: notify::Result<notify::Event>, events: &mpsc::Sender<FileEvent>) {
        let mut todo = self.lock();
        match event {
            Ok(event) => todo.translate(events, |translator, tell| translator.take(event, Instant::now(), tell)),
            Err(_) => todo.lost = true,
        }
        if todo.has_work() {
            self.bell.notify_one();
        }
    }
}

impl Todo {
    /// Passes on what the translator held back. Answers when to ask again.
    pub(super) fn pass_on_due(&mut self, events: &mpsc::Sender<FileEvent>) -> Option<Instant> {
        self.translate(events, |translator, tell| translator.due(Instant::now(), tell));
        self.translator.next_due()
    }

    fn translate(
        &mut self,
        events: &mpsc::Sender<FileEvent>,
        work: impl FnOnce(&mut Translator, &mut dyn FnMut(Told)),
    ) {
        let Self { translator, new_directories, changed_directories, missed, lost } = self;
        work(translator, &mut |told| match told {
            Told::Event(event) => {
                if let Err(TrySendError::Full(_)) = events.try_send(event) {
                    *missed = true;
                }
            }
            Told::NewDirectory(dir) if new_directories.len() < NEW_DIRECTORIES => new_directories.push(dir),
            Told::ChangedDirectory(dir) if changed_directories.len() < NEW_DIRECTORIES => {
                changed_directories.insert(dir);
            }
            Told::NewDirectory(_) | Told::ChangedDirectory(_) | Told::Lost => *lost = true,
        });
    }

    /// Whether the tending task has something to do, be it later.
    fn has_work(&self) -> bool {
        self.missed
            || self.lost
            || !self.new_directories.is_empty()
            || !self.changed_directories.is_empty()
            || self.translator.next_due().is_some()
    }
}

/// A source that is being watched. Dropped, it stops.
#[derive(Debug)]
pub(super) struct Native {
    source: PathBuf,
    watcher: RecommendedWatcher,
    /// Directories that could not be watched because they may not be read.
    unreadable: HashSet<PathBuf>,
}

impl Native {
    /// Watches a source. Blocking. When it returns, every directory in it is watched.
    pub(super) fn start(
        source: &Path,
        selection: &Selection,
        events: mpsc::Sender<FileEvent>,
        inbox: Arc<Inbox>,
    ) -> Result<Self, WatchError> {
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(move |event| inbox.take(event, &events), config)
            .map_err(|error| cannot_start(source, &error))?;
        let mut native = Self { source: source.to_owned(), watcher, unreadable: HashSet::new() };
        native.watch_tree(selection, source)?;
        Ok(native)
    }

    /// Watches a directory and those below it, as far as they are not watched yet. Blocking.
    /// Directories that vanish meanwhile or may not be read are passed over.
    pub(super) fn watch_tree(&mut self, selection: &Selection, dir: &Path) -> Result<(), WatchError> {
        let mut to_watch = vec![dir.to_owned()];
        while let Some(dir) = to_watch.pop() {
            if selection.prunes(&self.source, &dir) || (dir != self.source && !is_real_directory(&dir)) {
                continue;
            }
            match self.watch(&dir) {
                Ok(()) => {}
                Err(error) if dir == self.source => return Err(self.cannot_watch(&error)),
                Err(error) => match io_kind(&error) {
                    Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                    // Neither can the scan read them, and it says so.
                    Some(io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename) => {
                        self.unreadable.insert(dir);
                        continue;
                    }
                    _ => return Err(self.cannot_watch(&error)),
                },
            }
            self.unreadable.remove(&dir);
            // What cannot be listed is told by the scan, to the operator too.
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            to_watch.extend(directories.map(|entry| entry.path()));
        }
        Ok(())
    }

    /// Whether a directory could not be watched before.
    pub(super) fn is_unreadable(&self, dir: &Path) -> bool {
        self.unreadable.contains(dir)
    }

    fn watch(&mut self, dir: &Path) -> notify::Result<()> {
        self.watcher.watch(dir, RecursiveMode::NonRecursive)
    }

    fn cannot_watch(&self, error: &notify::Error) -> WatchError {
        let source_dir = self.source.display().to_string();
        match (&error.kind, io_kind(error)) {
            (ErrorKind::MaxFilesWatch, _) => {
                WatchError::Limit { source_dir, what: "watched directories", setting: "fs.inotify.max_user_watches" }
            }
            (_, Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) => {
                WatchError::Source { source_dir, cause: "there is no such directory".to_owned() }
            }
            (_, Some(io::ErrorKind::PermissionDenied)) => {
                WatchError::Source { source_dir, cause: "reeltime may not read it".to_owned() }
            }
            _ => WatchError::Unavailable { source_dir, cause: error.to_string() },
        }
    }
}

fn cannot_start(source: &Path, error: &notify::Error) -> WatchError {
    let source_dir = source.display().to_string();
    match &error.kind {
        ErrorKind::Io(cause) if matches!(cause.raw_os_error(), Some(libc::EMFILE)) => WatchError::Limit {
            source_dir,
            what: "watchers (or on open files)",
            setting: "fs.inotify.max_user_instances",
        },
        _ => WatchError::Unavailable { source_dir, cause: error.to_string() },
    }
}

fn io_kind(error: &notify::Error) -> Option<io::ErrorKind> {
    match &error.kind {
        ErrorKind::Io(cause) => Some(cause.kind()),
        ErrorKind::PathNotFound => Some(io::ErrorKind::NotFound),
        _ => None,
    }
}

fn is_real_directory(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_overflown_queue_of_the_kernel_is_noticed() {
        let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queue: usize = queue.trim().parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a"), dir.path().join("b")];
        for file in &files {
            fs::write(file, b"x").unwrap();
        }
        let selection = Selection::new(&[], &[], &[]).unwrap();
        let inbox = Arc::new(Inbox::new(dir.path().to_owned()));
        let (sender, mut events) = mpsc::channel(1);
        let _native = Native::start(dir.path(), &selection, sender, Arc::clone(&inbox)).unwrap();
        {
            let held = inbox.lock(); // the event thread waits for it
            for at in 0..queue + 100 {
                // In turns: the kernel merges equal events.
                fs::File::open(&files[at % 2]).unwrap();
            }
            assert!(!held.lost);
        }
        let lost = async {
            while !inbox.lock().lost {
                inbox.bell.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), lost).await.expect("the loss is noticed");
        assert!(events.try_recv().is_err(), "opening files is told to nobody");
    }
}
