//! [`Supervisor`]: routes what happens in the sources to the processors of the streams.
//!
//! It knows every path that is, or was, a recording. An event, or something new in a scan, is
//! a hint to the processor of that path, or the reason to make one. What has been completed is
//! known by the version of its file, and is left alone until that changes.
//!
//! It holds no state that a restart would miss: the checkpoint and the first scan bring it
//! back.

mod fleet;
mod index;
mod others;
mod scanning;
mod streams;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reeltime_core::{Input, Origin, PartPlan, Reason, State, StreamId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::CheckpointError;
use crate::events::{Event, What};
use crate::http::Readiness;
use crate::processor::{Left, Outside};
use crate::recording::{OpenError, Recording, identity_of};
use crate::storage::body::blocking;
use crate::watch::scan::{Found, Seen};
use crate::watch::{FileEvent, Selection, Watcher};
use fleet::Fleet;
use index::{Entry, Index};
use scanning::{Report, Scanner};

/// Streams of a backlog that are worked on, and so hold a file open, at the same time.
const BACKLOG_AT_ONCE: usize = 256;

/// Parts in flight get this long after a stop.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// What a supervisor is to do.
pub struct Task {
    /// The watched directories.
    pub sources: Vec<PathBuf>,
    /// What tells each of them from every other directory; empty where that is not known.
    pub marks: HashMap<PathBuf, String>,
    /// Which files are recordings.
    pub selection: Arc<Selection>,
    /// The name of this node.
    pub node: String,
    /// How new recordings are divided.
    pub plan: PartPlan,
    /// End when everything is completed.
    pub once: bool,
}

/// How the work ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Recordings that failed, and places that could not be read.
    pub failures: u64,
    /// Everything was worked through; `false` after a stop.
    pub is_done: bool,
}

/// Routes events to processors.
pub struct Supervisor {
    task: Task,
    outside: Outside,
    readiness: Arc<Readiness>,
    index: Index,
    processors: JoinSet<Left>,
    /// Whose stream each of them works on.
    at_work: HashMap<tokio::task::Id, StreamId>,
    scanner: Scanner,
    /// The nodes whose streams are in these sources, too.
    fleet: Fleet,
    /// The streams of other nodes because of which the checkpoint has refused these files.
    rivals: HashMap<PathBuf, StreamId>,
    /// Places for streams of the backlog.
    backlog: Arc<Semaphore>,
    /// Oddities and unreadable places that were told already.
    told: HashSet<PathBuf>,
    /// Sources that have been scanned once.
    scanned: HashSet<PathBuf>,
    /// When this process began to look.
    began: SystemTime,
    /// With `once`: nothing was left to do, and a last scan is looking whether that is true.
    last_scan: bool,
    /// Recordings that failed, and places that could not be read, in this run.
    failures: u64,
    /// Why the work cannot go on.
    fatal: Option<CheckpointError>,
    stop: CancellationToken,
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(task: Task, outside: Outside, readiness: Arc<Readiness>, stop: CancellationToken) -> Self {
        let scanner = Scanner::new(Arc::clone(&task.selection));
        let fleet = Fleet::new(Arc::clone(&outside.checkpoint), task.node.clone(), &task.marks);
        Self {
            task,
            outside,
            readiness,
            index: Index::default(),
            processors: JoinSet::new(),
            at_work: HashMap::new(),
            scanner,
            fleet,
            rivals: HashMap::new(),
            backlog: Arc::new(Semaphore::new(BACKLOG_AT_ONCE)),
            told: HashSet::new(),
            scanned: HashSet::new(),
            began: SystemTime::now(),
            last_scan: false,
            failures: 0,
            fatal: None,
            stop,
        }
    }

    /// Works until it is stopped or, with `once`, until everything is completed or has failed.
    /// [`CheckpointError::Held`] if another process with the name of this node has taken its
    /// streams over.
    ///
    /// After a stop nothing is read any more, and what is under way gets a bounded time to end.
    pub async fn run(
        mut self,
        watcher: Watcher,
        mut events: mpsc::Receiver<FileEvent>,
    ) -> Result<Ended, CheckpointError> {
        self.resume().await?;
        let mut round = tokio::time::interval(Duration::from_secs(5));
        let is_done = loop {
            self.readiness.round();
            if self.task.once && self.is_all_done() && self.is_all_done_elsewhere().await {
                break true;
            }
            if self.fatal.is_some() {
                break false;
            }
            tokio::select! {
                () = self.stop.cancelled() => break false,
                Some(event) = events.recv() => self.event(event).await,
                Some(left) = self.processors.join_next_with_id() => match left {
                    Ok((task, left)) => {
                        self.at_work.remove(&task);
                        self.ended(left).await;
                    }
                    Err(error) => self.died(&error).await,
                },
                Some(report) = self.scanner.next() => {
                    if report.dir == report.source {
                        watcher.scanned(&report.source, report.took);
                    }
                    self.take_in(report).await;
                }
                estates = self.fleet.next() => match estates {
                    Ok(estates) => estates.into_iter().for_each(|estate| self.inherit(estate)),
                    Err(error) => self.tell_unread_estates(&error),
                },
                _ = round.tick() => {}
            }
        };
        drop(watcher);
        self.wind_down().await;
        if let Some(error) = self.fatal {
            return Err(error);
        }
        Ok(Ended { failures: self.failures, is_done })
    }

    /// With `once`: nothing is left, and a scan after the last completion has found nothing.
    fn is_all_done(&mut self) -> bool {
        let idle = self.index.live_count() == 0 && self.processors.is_empty() && self.scanner.is_idle();
        // What a node has left that is gone is still to be done here.
        if !idle || self.scanned.len() < self.task.sources.len() || !self.fleet.is_all_alive() {
            return false;
        }
        if self.last_scan {
            return true;
        }
        self.last_scan = true;
        for source in self.task.sources.clone() {
            self.scanner.ask(source.clone(), source);
        }
        false
    }

    async fn wind_down(&mut self) {
        self.stop.cancel();
        let all_ended = async { while self.processors.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, all_ended).await.is_err() {
            let message = format!("parts in flight did not end within {} s of the stop", STOP_GRACE.as_secs());
            self.tell_notice(None, message, "they are sent again after the next start; nothing is lost");
            self.processors.shutdown().await;
        }
    }

    async fn event(&mut self, event: FileEvent) {
        match event {
            FileEvent::Touched(path) => self.touched(&path, Input::Touched).await,
            FileEvent::Closed(path) => self.touched(&path, Input::WriterClosed).await,
            FileEvent::Removed(path) => {
                if let Some(live) = self.index.live(&path) {
                    live.hint(Input::Touched);
                }
            }
            FileEvent::Renamed { from, to } => self.renamed(&from, &to).await,
            FileEvent::Rescan(dir) => {
                if let Some(source) = self.source_of(&dir) {
                    self.scanner.ask(source, dir);
                }
            }
        }
    }

    async fn touched(&mut self, path: &Path, hint: Input) {
        match self.index.get(path) {
            Some(Entry::Live(live)) => live.hint(hint),
            // One that is still being written would fail many times a second: the scan asks.
            Some(Entry::Failed { .. }) if hint == Input::Touched => {}
            Some(Entry::Elsewhere { .. }) => {}
            _ => self.look(path).await,
        }
    }

    /// Looks at one path, as a scan would.
    async fn look(&mut self, path: &Path) {
        let Some((source, key)) = self.recording_at(path) else { return };
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {
                self.found(&source, Found::new(path.to_owned(), key, &metadata)).await;
            }
            // A scan tells of it, and once.
            Ok(_) => self.scanner.ask(source, path.parent().unwrap_or(path).to_owned()),
            Err(_) => {}
        }
    }

    async fn take_in(&mut self, report: Report) {
        for seen in report.seen {
            match seen {
                Seen::Recording(found) => self.found(&report.source, found).await,
                Seen::Oddity { path, kind } => {
                    let message = format!("{} is {kind}, not a file, and is ignored", path.display());
                    self.tell_once(path, message, "reeltime uploads regular files only, and never follows links");
                }
                Seen::Trouble { path, error } => {
                    let message = format!("cannot look at {}: {error}", path.display());
                    let hint = "recordings there are not seen until it can be read (chmod, chown, or mount it)";
                    if self.tell_once(path, message, hint) {
                        self.failures += 1;
                    }
                }
            }
        }
        if report.dir == report.source {
            self.scanned.insert(report.source);
            if self.scanned.len() == self.task.sources.len() {
                self.readiness.scanned();
            }
        }
    }

    /// A recording's file is there.
    async fn found(&mut self, source: &Path, found: Found) {
        // First of all: it may have taken the name of one that is live or has ended.
        if let Some(old) = self.old_name_of(&found) {
            return Box::pin(self.renamed(&old, &found.path)).await;
        }
        match self.index.get(&found.path) {
            Some(Entry::Live(_)) => {
                if self.index.scanned(&found)
                    && let Some(live) = self.index.live(&found.path)
                {
                    live.hint(Input::Touched);
                }
            }
            Some(Entry::Elsewhere { .. }) => {}
            Some(Entry::Completed { version, .. })
                if version.is_some_and(|version| version.same_content(&found.version)) => {}
            Some(Entry::Failed { reason: Some(Reason::SourceUnreadable), .. })
                if is_unreadable(found.path.clone()).await => {}
            Some(Entry::Failed { reason: Some(Reason::KeyTaken), .. })
                if self.is_key_taken(source, &found) || self.has_rival_elsewhere(&found).await => {}
            Some(Entry::Failed { version, reason, .. })
                if *version == Some(found.version) && *reason != Some(Reason::KeyTaken) => {}
            Some(Entry::Completed { id, .. } | Entry::Failed { id, .. }) => {
                let id = *id;
                self.revive(id, found).await;
            }
            None => {
                // What the first scan finds was there, whatever its clock says.
                let has_appeared = self.scanned.contains(source) && found.identity.is_born_after(self.began);
                let origin = if has_appeared { Origin::Appeared } else { Origin::Present };
                self.begin(source, &found, origin);
            }
        }
    }

    /// Whether another file has the key of this one still.
    fn is_key_taken(&self, source: &Path, found: &Found) -> bool {
        let final_name = source.join(found.key.as_path());
        let waits = final_name != found.path && final_name.symlink_metadata().is_ok_and(|other| other.is_file());
        waits || self.rival_of(source, &found.path, &found.key).is_some()
    }

    /// A file under a new name, of which no event told.
    fn old_name_of(&self, found: &Found) -> Option<PathBuf> {
        let old = self.index.path_of(found.identity).filter(|old| *old != found.path)?;
        let still_there = old.symlink_metadata().is_ok_and(|at| identity_of(&at) == found.identity);
        (!still_there).then(|| old.to_owned())
    }

    /// What a processor has left behind.
    async fn ended(&mut self, Left { record, is_over, rival }: Left) {
        if is_over && record.state == State::Failed {
            self.failures += 1;
        }
        if self.stop.is_cancelled() {
            return;
        }
        if !is_over {
            self.outside.board.remove(record.id); // it is shown again where it goes on here
        }
        // `None`: another stream has taken its place.
        let Some(path) = self.index.live_path(record.id).map(Path::to_owned) else { return };
        self.index.remove(&path);
        if let Some(rival) = rival {
            return self.yielded(record, path, &rival);
        }
        match record.state {
            State::Completed | State::Failed if is_over => {
                if self.index.get(&record.path).is_none() {
                    self.index.put(record.path.clone(), Entry::of_ended(&record));
                }
                // Where its file is no more, the processor knew better.
                if path != record.path && path.symlink_metadata().is_ok() {
                    self.renamed_as_it_ended(&record, &path).await;
                }
                // Whatever was hinted at meanwhile.
                self.look(&record.path).await;
            }
            _ => self.take_up_again(record.id, &path, Some(record.epoch)).await,
        }
    }

    /// A processor panicked, which is a bug. Its stream goes on from its checkpoint.
    async fn died(&mut self, error: &JoinError) {
        let Some(id) = self.at_work.remove(&error.id()) else { return };
        let Some(path) = self.index.live_path(id).map(Path::to_owned) else { return };
        let message = format!("the work on a stream ended early: {error}");
        self.tell_notice(Some(path.clone()), message, "this is a bug; the stream goes on from its checkpoint");
        self.index.remove(&path);
        self.take_up_again(id, &path, None).await;
    }

    fn source_of(&self, path: &Path) -> Option<PathBuf> {
        self.task.sources.iter().find(|source| path.starts_with(source)).cloned()
    }

    /// Tells of a place, unless that was done before. `true` if it was told now.
    fn tell_once(&mut self, path: PathBuf, message: String, hint: &str) -> bool {
        if self.told.contains(&path) {
            return false;
        }
        self.tell_notice(Some(path.clone()), message, hint);
        self.told.insert(path)
    }

    fn tell_notice(&self, path: Option<PathBuf>, message: String, hint: &str) {
        let what = What::Notice { message, hint: hint.to_owned() };
        self.outside.events.tell(Event { stream: None, path, what });
    }
}

/// Whether a file still cannot be looked at.
async fn is_unreadable(path: PathBuf) -> bool {
    let looked = blocking(move || match Recording::open(&path) {
        Ok(recording) => recording.observe(false, 0).map(|_| ()),
        Err(OpenError::Unreadable(error)) => Err(error),
        Err(OpenError::Missing | OpenError::NotAFile(_)) => Ok(()), // another matter
    });
    looked.await.is_err()
}
