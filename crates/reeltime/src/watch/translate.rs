//! From what the system says to what the rest of the program understands.
//!
//! Two things need memory. A move is told in two halves that share a cookie; the half that
//! says "from" is held back for a moment, because only the other half tells a rename from a
//! file that left the source. And a recorder writes many times a second: after one
//! [`FileEvent::Touched`] the next of the same file waits for a moment, during which any number
//! become one. Nothing held back is ever dropped: it comes out of [`Translator::due`].

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};

use super::FileEvent;

/// How long the other half of a move may take. The kernel queues both in one go.
const MOVE_WINDOW: Duration = Duration::from_millis(100);

/// A file is said to have changed at most once in this time.
const TOUCH_WINDOW: Duration = Duration::from_millis(100);

/// Halves of moves, and files just touched, that are remembered; what is beyond is passed on
/// without being held back.
const REMEMBERED: usize = 1024;

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// To be passed on.
    Event(FileEvent),
    /// A directory came to be, whole: it is to be watched, then scanned.
    NewDirectory(PathBuf),
    /// A directory's permissions or times changed.
    ChangedDirectory(PathBuf),
    /// Events were lost, or the source itself went away: nothing known holds any more.
    Lost,
}

#[derive(Debug)]
pub(super) struct Translator {
    source: PathBuf,
    moved_away: VecDeque<MovedAway>,
    /// Files touched within the last window: until when, and whether again since.
    touched: HashMap<PathBuf, (Instant, bool)>,
}

#[derive(Debug)]
struct MovedAway {
    cookie: usize,
    path: PathBuf,
    until: Instant,
}

impl Translator {
    pub(super) fn new(source: PathBuf) -> Self {
        Self { source, moved_away: VecDeque::new(), touched: HashMap::new() }
    }

    /// Translates one event. Looks at names (`lstat`) where the event does not say what they
    /// stand for.
    pub(super) fn take(&mut self, event: notify::Event, now: Instant, tell: &mut dyn FnMut(Told)) {
        self.due(now, tell);
        if event.need_rescan() {
            tell(Told::Lost);
            return;
        }
        let cookie = event.attrs.tracker();
        let kind = event.kind;
        for path in event.paths {
            self.take_path(kind, cookie, path, now, tell);
        }
    }

    fn take_path(
        &mut self,
        kind: EventKind,
        cookie: Option<usize>,
        path: PathBuf,
        now: Instant,
        tell: &mut dyn FnMut(Told),
    ) {
        match kind {
            EventKind::Create(CreateKind::Folder) => tell(Told::NewDirectory(path)),
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                self.touch(path, now, tell);
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.closed(path, tell),
            // Somebody reads, perhaps reeltime itself.
            EventKind::Access(_) => {}
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => match cookie {
                Some(cookie) => self.moved_from(cookie, path, now, tell),
                // A watched directory says that it was moved. Its parent said so too, but the
                // source has no watched parent.
                None if path == self.source => tell(Told::Lost),
                None => {}
            },
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => self.moved_to(cookie, path, tell),
            // Said in addition to the two halves.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) if cookie.is_some() => {}
            EventKind::Modify(ModifyKind::Metadata(_)) if is_directory(&path) => tell(Told::ChangedDirectory(path)),
            EventKind::Remove(_) => self.removed(path, tell),
            _ => match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => tell(Told::NewDirectory(path)),
                Ok(_) => self.touch(path, now, tell),
                Err(_) => self.removed(path, tell),
            },
        }
    }

    /// Passes on what has been held back for long enough.
    pub(super) fn due(&mut self, now: Instant, tell: &mut dyn FnMut(Told)) {
        while let Some(moved) = self.moved_away.pop_front_if(|moved| moved.until <= now) {
            tell(Told::Event(FileEvent::Removed(moved.path)));
        }
        self.touched.retain(|path, (until, again)| {
            if *until > now {
                return true;
            }
            if *again {
                tell(Told::Event(FileEvent::Touched(path.clone())));
                (*until, *again) = (now + TOUCH_WINDOW, false);
                return true;
            }
            false
        });
    }

    /// When [`Translator::due`] has something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let touched = self.touched.values().map(|(until, _)| *until);
        self.moved_away.front().map(|moved| moved.until).into_iter().chain(touched).min()
    }

    fn touch(&mut self, path: PathBuf, now: Instant, tell: &mut dyn FnMut(Told)) {
        if let Some((_, again)) = self.touched.get_mut(&path) {
            *again = true;
            return;
        }
        if self.touched.len() < REMEMBERED {
            self.touched.insert(path.clone(), (now + TOUCH_WINDOW, false));
        }
        tell(Told::Event(FileEvent::Touched(path)));
    }

    fn closed(&mut self, path: PathBuf, tell: &mut dyn FnMut(Told)) {
        if let Some((_, again)) = self.touched.get_mut(&path) {
            *again = false; // whoever hears that it was closed looks at it
        }
        tell(Told::Event(FileEvent::Closed(path)));
    }

    fn moved_from(&mut self, cookie: usize, path: PathBuf, now: Instant, tell: &mut dyn FnMut(Told)) {
        if self.moved_away.len() == REMEMBERED
            && let Some(oldest) = self.moved_away.pop_front()
        {
            tell(Told::Event(FileEvent::Removed(oldest.path)));
        }
        self.touched.remove(&path);
        self.moved_away.push_back(MovedAway { cookie, path, until: now + MOVE_WINDOW });
    }

    fn moved_to(&mut self, cookie: Option<usize>, path: PathBuf, tell: &mut dyn FnMut(Told)) {
        let half = self.moved_away.iter().position(|moved| Some(moved.cookie) == cookie);
        let from = half.and_then(|at| self.moved_away.remove(at)).map(|moved| moved.path);
        let directory = is_directory(&path);
        match from {
            Some(from) => tell(Told::Event(FileEvent::Renamed { from, to: path.clone() })),
            None if directory => {}
            None => {
                // It came from elsewhere, complete.
                tell(Told::Event(FileEvent::Touched(path.clone())));
                tell(Told::Event(FileEvent::Closed(path.clone())));
            }
        }
        if directory {
            tell(Told::NewDirectory(path));
        }
    }

    fn removed(&mut self, path: PathBuf, tell: &mut dyn FnMut(Told)) {
        if path == self.source {
            tell(Told::Lost);
            return;
        }
        self.touched.remove(&path);
        // A directory that somebody holds open is said to be gone only when it is let go. If
        // another has taken its name by then, notify stops watching that one.
        let replaced = is_directory(&path);
        tell(Told::Event(FileEvent::Removed(path.clone())));
        if replaced {
            tell(Told::NewDirectory(path));
        }
    }
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
#[path = "translate/tests.rs"]
mod tests;
