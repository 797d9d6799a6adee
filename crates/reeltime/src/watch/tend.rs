//! The task that tends one source: it keeps the watches right and the scans coming.
//!
//! It is the only one to decide how a source is watched. A source that is replaced or mounted
//! over, lost events and errors of the watcher all end in the same way: everything is watched
//! anew, and then scanned. Periodic scans never stop, so that what no event told is found too.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fs_kind::FsKind;
use super::mode::WatchMode;
use super::native::{Inbox, Native, WatchError};
use super::{FileEvent, WatchOptions};
use crate::events::{Event, EventBus, What};

/// From one scan to the next where events tell most changes.
const SCAN_INTERVAL: Duration = Duration::from_secs(10);

/// From one scan to the next where nothing else tells of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Scanning takes at most this part of the time.
const SCAN_SHARE: u32 = 10;

/// The shortest time between two scans because of missed events: a burst that overflows one
/// scan's worth of events would otherwise feed the next.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(500);

/// How long a source that cannot be watched natively is polled before that is tried again.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// What others tell about a source.
#[derive(Debug)]
pub(super) struct SourceFacts {
    pub(super) path: PathBuf,
    /// How long its last scan took.
    scan_ms: AtomicU64,
}

impl SourceFacts {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, scan_ms: AtomicU64::new(0) }
    }

    pub(super) fn scanned(&self, took: Duration) {
        self.scan_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The time between two scans that is at least `wanted` and leaves most of it idle.
    fn at_least(&self, wanted: Duration) -> Duration {
        wanted.max(Duration::from_millis(self.scan_ms.load(Ordering::Relaxed)).saturating_mul(SCAN_SHARE))
    }
}

/// One watched source.
#[derive(Debug)]
pub(super) struct Tender {
    facts: Arc<SourceFacts>,
    options: WatchOptions,
    events: mpsc::Sender<FileEvent>,
    notices: EventBus,
    stop: CancellationToken,
    inbox: Arc<Inbox>,
    native: Option<Native>,
    /// Device and inode of the source when it was last watched anew; `None` if it was missing.
    identity: Option<(u64, u64)>,
    /// When watching natively is tried again.
    retry_at: Option<Instant>,
    /// The reason for polling that was last said.
    said: Option<String>,
    last_scan: Instant,
}

impl Tender {
    /// Begins to watch; the task itself is [`Tender::run`]. Fails in mode `native` only.
    pub(super) async fn start(
        facts: Arc<SourceFacts>,
        options: WatchOptions,
        events: mpsc::Sender<FileEvent>,
        notices: EventBus,
        stop: CancellationToken,
    ) -> Result<Self, WatchError> {
        let inbox = Arc::new(Inbox::new(facts.path.clone()));
        let mut tender = Self {
            facts,
            options,
            events,
            notices,
            stop,
            inbox,
            native: None,
            identity: None,
            retry_at: None,
            said: None,
            last_scan: Instant::now(),
        };
        let outcome = tender.watch_anew().await;
        if let Err(error) = outcome
            && tender.options.mode == WatchMode::Native
        {
            return Err(error);
        }
        Ok(tender)
    }

    /// Tends the source until it is stopped or nobody listens.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.tend() => {}
        }
    }

    async fn tend(&mut self) {
        if !self.rescan(None).await {
            return;
        }
        loop {
            let due = self.inbox.lock().pass_on_due(&self.events).map(Instant::from_std);
            let wake = due.into_iter().chain(self.catch_up_at()).chain([self.scan_at()]).min();
            let inbox = Arc::clone(&self.inbox);
            tokio::select! {
                () = inbox.bell.notified() => {}
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)) => {}
            }
            if !(self.see_to_directories().await && self.catch_up().await && self.scan_periodically().await) {
                return;
            }
        }
    }

    /// Watches directories that are new, or that may be readable now, and has them scanned.
    /// `false` if nobody listens any more.
    async fn see_to_directories(&mut self) -> bool {
        let mut dirs = {
            let mut todo = self.inbox.lock();
            let changed = std::mem::take(&mut todo.changed_directories);
            let mut dirs = std::mem::take(&mut todo.new_directories);
            let native = self.native.as_ref();
            dirs.extend(changed.into_iter().filter(|dir| native.is_some_and(|native| native.is_unreadable(dir))));
            dirs
        };
        dirs.sort_unstable();
        dirs.dedup();
        for dir in dirs {
            let Some(mut native) = self.native.take() else {
                self.inbox.lock().missed = true; // of the remaining ones, too
                return true;
            };
            let (selection, tree) = (Arc::clone(&self.options.selection), dir.clone());
            let watched = blocking(move || (native.watch_tree(&selection, &tree), native)).await;
            match watched {
                Some((Ok(()), native)) => self.native = Some(native),
                Some((Err(error), _)) => self.fall_back(&error),
                None => self.inbox.lock().lost = true,
            }
            if !self.rescan(Some(dir)).await {
                return false;
            }
        }
        true
    }

    /// Makes good what was missed or lost, though not too often.
    async fn catch_up(&mut self) -> bool {
        if self.catch_up_at().is_none_or(|at| at > Instant::now()) {
            return true;
        }
        let lost = {
            let mut todo = self.inbox.lock();
            todo.missed = false;
            std::mem::take(&mut todo.lost)
        };
        if lost {
            let _ = self.watch_anew().await; // what it fails with has been said
        }
        self.rescan(None).await
    }

    fn catch_up_at(&self) -> Option<Instant> {
        let todo = self.inbox.lock();
        (todo.missed || todo.lost).then(|| self.last_scan + self.facts.at_least(CATCH_UP_INTERVAL))
    }

    async fn scan_periodically(&mut self) -> bool {
        if self.scan_at() > Instant::now() {
            return true;
        }
        let identity = identity_of(&self.facts.path).await;
        let retry = self.retry_at.is_some_and(|at| at <= Instant::now());
        if identity != self.identity || retry {
            let _ = self.watch_anew().await; // what it fails with has been said
        }
        self.rescan(None).await
    }

    fn scan_at(&self) -> Instant {
        let usual = if self.native.is_some() { SCAN_INTERVAL } else { POLL_INTERVAL };
        self.last_scan + self.facts.at_least(self.options.scan_interval.unwrap_or(usual))
    }

    /// Has a directory, or the whole source, scanned. Waits until there is room for it.
    async fn rescan(&mut self, dir: Option<PathBuf>) -> bool {
        if dir.is_none() {
            self.last_scan = Instant::now();
        }
        let dir = dir.unwrap_or_else(|| self.facts.path.clone());
        self.events.send(FileEvent::Rescan(dir)).await.is_ok()
    }

    /// Decides how the source is watched, and does it. The error has been said.
    async fn watch_anew(&mut self) -> Result<(), WatchError> {
        self.native = None;
        self.retry_at = None;
        self.identity = identity_of(&self.facts.path).await;
        if self.options.mode == WatchMode::Poll {
            return Ok(());
        }
        let source = self.facts.path.clone();
        if self.options.mode == WatchMode::Auto
            && let Some(FsKind::Remote(name)) = blocking(move || FsKind::of_path(&source)).await
        {
            let why = format!("{name} does not tell what other machines do");
            self.say_polled(&why, "expect a second of delay; --watch native uses the events there are");
            return Ok(());
        }
        let (source, selection) = (self.facts.path.clone(), Arc::clone(&self.options.selection));
        let (events, inbox) = (self.events.clone(), Arc::clone(&self.inbox));
        match blocking(move || Native::start(&source, &selection, events, inbox)).await {
            Some(Ok(native)) => {
                self.native = Some(native);
                self.said = None;
                Ok(())
            }
            Some(Err(error)) => {
                self.fall_back(&error);
                Err(error)
            }
            None => {
                let source_dir = self.facts.path.display().to_string();
                let error = WatchError::Unavailable { source_dir, cause: "the watcher stopped".to_owned() };
                self.fall_back(&error);
                Err(error)
            }
        }
    }

    fn fall_back(&mut self, error: &WatchError) {
        self.native = None;
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        self.say_polled(&error.to_string(), &error.hint());
    }

    /// Says why a source is polled, unless that was the last thing said of it.
    fn say_polled(&mut self, why: &str, hint: &str) {
        if self.said.as_deref() == Some(why) {
            return;
        }
        self.said = Some(why.to_owned());
        let message = format!("{} is scanned instead of watched: {why}", self.facts.path.display());
        let what = What::Notice { message, hint: hint.to_owned() };
        self.notices.tell(Event { stream: None, path: Some(self.facts.path.clone()), what });
    }
}

async fn identity_of(source: &Path) -> Option<(u64, u64)> {
    let metadata = tokio::fs::metadata(source).await.ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
}

/// Runs blocking work on a thread of its own; `None` if it came to no end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
