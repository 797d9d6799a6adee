//! What happens in a directory, as hints, plus the scan that guarantees.
//!
//! An event means "look again", never more: it may be late, doubled or missing. What holds is
//! this: whatever happened below a source is followed by an event that leads to it, and be it
//! the [`FileEvent::Rescan`] that comes for every source again and again. A full channel, an
//! overflown queue of the kernel, a lost watch or a source that was mounted anew delay an
//! event and never drop it.

pub mod fs_kind;
mod mark;
mod mode;
mod native;
pub mod scan;
pub mod selection;
mod tend;
mod translate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use mark::mark_of;
pub use mode::{UnknownMode, WatchMode};
pub use native::WatchError;
pub use selection::{Selection, SelectionError};

use crate::events::EventBus;
use tend::{SourceFacts, Tender};

/// Events that may wait to be taken. What comes while all places are taken becomes one
/// [`FileEvent::Rescan`].
const CHANNEL_EVENTS: usize = 4096;

/// A hint that something happened to a file or directory below a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// A file was created or changed.
    Touched(PathBuf),
    /// A file that was open for writing was closed.
    Closed(PathBuf),
    /// A file was renamed, or a directory with all that is in it; the latter is followed by a
    /// `Rescan` of it.
    Renamed {
        /// Its old name.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
    /// A file or directory was deleted or moved out.
    Removed(PathBuf),
    /// Anything may have happened below this directory: look at all of it.
    Rescan(PathBuf),
}

/// How sources are watched.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// By events, by scans, or by whatever works.
    pub mode: WatchMode,
    /// From one scan of a source to the next; `None`: 10 s with events, 1 s without. It is
    /// longer where a scan takes more than a tenth of it.
    pub scan_interval: Option<Duration>,
    /// Directories that it excludes are not watched.
    pub selection: Arc<Selection>,
}

/// Watches sources for as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    sources: Vec<Arc<SourceFacts>>,
    _stop: DropGuard,
}

impl Watcher {
    /// Watches `sources` and everything in them; the first event of each is its `Rescan`. What
    /// happens after this has returned is told.
    ///
    /// A source that cannot be watched by events is scanned more often instead, which is said
    /// as a notice on `notices`, once; in mode `native` it is an error. A source that is
    /// missing is looked for.
    pub async fn start(
        sources: Vec<PathBuf>,
        options: WatchOptions,
        notices: EventBus,
    ) -> Result<(Self, mpsc::Receiver<FileEvent>), WatchError> {
        Self::start_with_room(sources, options, notices, CHANNEL_EVENTS).await
    }

    async fn start_with_room(
        sources: Vec<PathBuf>,
        options: WatchOptions,
        notices: EventBus,
        room: usize,
    ) -> Result<(Self, mpsc::Receiver<FileEvent>), WatchError> {
        let (sender, receiver) = mpsc::channel(room);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let sources: Vec<_> = sources.into_iter().map(|path| Arc::new(SourceFacts::new(path))).collect();
        let mut tenders = Vec::with_capacity(sources.len());
        for facts in &sources {
            let (facts, options, sender) = (Arc::clone(facts), options.clone(), sender.clone());
            tenders.push(Tender::start(facts, options, sender, notices.clone(), stop.clone()).await?);
        }
        for tender in tenders {
            tokio::spawn(tender.run());
        }
        Ok((Self { sources, _stop: guard }, receiver))
    }

    /// Tells how long the scan of a whole source took, so that the next ones leave most of the
    /// time idle.
    pub fn scanned(&self, source: &Path, took: Duration) {
        if let Some(facts) = self.sources.iter().find(|facts| facts.path == source) {
            facts.scanned(took);
        }
    }
}

#[cfg(test)]
mod tests;
