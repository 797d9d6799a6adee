//! A look at the file.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reeltime_core::{Input, UploadState, temp_suffix_of};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hands::{Held, Task};
use crate::events::{Side, What};
use crate::recording::{OpenError, Recording};

/// Waits between two looks that found nothing to look at.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Looks into one source at once. Each has a thread meanwhile, and a source that does not answer
/// must not take all that there are.
const AT_ONCE: usize = 16;

const OPEN_FILES_HINT: &str = "raise the limit on open files (LimitNOFILE= in the unit, ulimit -Hn), or check the disk; \
     it is tried again, and nothing is lost";

/// The limit on looks at the same time, for each source. A clone shares it.
#[derive(Clone, Debug, Default)]
pub struct Looks(Arc<Mutex<HashMap<PathBuf, Arc<Semaphore>>>>);

impl Looks {
    fn of(&self, source: &Path) -> Arc<Semaphore> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = limits.get(source) {
            return Arc::clone(limit);
        }
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        limits.insert(source.to_owned(), Arc::clone(&limit));
        limit
    }
}

/// What came of a look.
enum Looked {
    Seen(Vec<Input>),
    Missing,
    /// That says nothing about the file.
    Later {
        error: String,
        hint: String,
    },
}

/// Looks at the file of one stream. A clone remembers the same.
#[derive(Clone, Default)]
pub(super) struct Looker {
    /// At the last look the name belonged to another file, while ours still had one somewhere.
    name_was_lost: Arc<AtomicBool>,
}

impl Looker {
    /// Opens the file at the first look and keeps it open.
    ///
    /// Answers nothing when it is stopped while it waits for what is no fault of the file: too
    /// many open files, a source that is not mounted.
    pub(super) async fn look(self, task: Task, ask_writers: bool, from: u64) -> Vec<Input> {
        let mut wait = FIRST_WAIT;
        let mut missed = false;
        loop {
            let Some(permit) = permit_to_open(&task).await else { return Vec::new() };
            let turn = tokio::select! {
                turn = task.outside.looks.of(&task.record.source).acquire_owned() => turn,
                () = task.stop.cancelled() => return Vec::new(),
            };
            let (looker, once) = (self.clone(), task.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let _turn = turn; // until the look has ended, whoever waits for it
                looker.look_now(&once, ask_writers, from, permit)
            });
            match looked.await {
                Ok(Ok(Looked::Seen(inputs))) => return inputs,
                // A file that was renamed just now is given a moment for its new name to become
                // known.
                Ok(Ok(Looked::Missing)) if missed => return vec![Input::SourceMissing],
                Ok(Ok(Looked::Missing)) => missed = true,
                Ok(Ok(Looked::Later { error, hint })) => task.tell(What::Retrying { side: Side::Source, error, hint }),
                Ok(Err(error)) => {
                    task.tell_unreadable(&error);
                    return vec![Input::LookFailed];
                }
                Err(_) => return vec![Input::LookFailed],
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                () = task.stop.cancelled() => return Vec::new(),
            }
        }
    }

    fn look_now(
        &self,
        task: &Task,
        ask_writers: bool,
        from: u64,
        permit: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Looked> {
        let path = task.path();
        let recording = match task.recording() {
            Some(recording) => recording,
            None => match Recording::open(&path) {
                Ok(recording) => {
                    let held = Held { recording: recording.clone(), _permit: permit };
                    *task.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
                    recording
                }
                Err(OpenError::Missing) if is_away(task) => {
                    let error = format!("{} is missing, and so is everything else in its source", path.display());
                    let hint = "mount or create the source; until then what is stored already is kept".to_owned();
                    return Ok(Looked::Later { error, hint });
                }
                Err(OpenError::Missing | OpenError::NotAFile(_)) => return Ok(Looked::Missing),
                Err(OpenError::Unreadable(cause)) if is_passing(&cause) => {
                    let error = format!("opening {}: {cause}", path.display());
                    let hint = OPEN_FILES_HINT.to_owned();
                    return Ok(Looked::Later { error, hint });
                }
                Err(error @ OpenError::Unreadable(_)) => {
                    task.tell(What::Retrying {
                        side: Side::Source,
                        error: format!("opening {}: {error}", path.display()),
                        hint: reeltime_core::Reason::SourceUnreadable.hint().to_owned(),
                    });
                    return Ok(Looked::Seen(vec![Input::SourceUnreadable]));
                }
            },
        };
        let seen = recording.observe(ask_writers, from)?;
        if self.name_is_lost(&recording, &path, seen.linked) {
            return Ok(Looked::Seen(vec![Input::Replaced]));
        }
        let mut inputs = Vec::with_capacity(2);
        if let Some(final_name) = final_name_of(&path, &task.outside.temp_suffixes) {
            if recording.is_at(&final_name) && !recording.is_at(&path) {
                // Renamed, and nobody has told yet.
                let key = task.record.key.clone();
                inputs.push(Input::Renamed { path: final_name, key, temp_name: false, final_name: true });
            } else {
                inputs.push(Input::FinalNameTaken(final_name.symlink_metadata().is_ok()));
            }
        }
        inputs.push(Input::Observed(seen));
        Ok(Looked::Seen(inputs))
    }

    /// Whether another file has taken the name. A file that was renamed, and whose old name was
    /// taken at once, is given until the next look for its new name to become known.
    fn name_is_lost(&self, recording: &Recording, path: &Path, linked: bool) -> bool {
        let taken = !recording.is_at(path) && path.symlink_metadata().is_ok_and(|found| found.is_file());
        let before = self.name_was_lost.swap(taken, Ordering::Relaxed);
        taken && (before || !linked)
    }
}

/// The name that a temp name will become.
fn final_name_of(path: &Path, temp_suffixes: &[String]) -> Option<PathBuf> {
    let suffix = temp_suffix_of(path, temp_suffixes)?;
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    bytes.truncate(bytes.len() - suffix.len());
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// Waits until the file may be opened, if it is not yet open. `None` after a stop.
async fn permit_to_open(task: &Task) -> Option<Option<OwnedSemaphorePermit>> {
    if task.recording().is_some() {
        return Some(None);
    }
    let handles = &task.outside.handles;
    if handles.available_permits() == 0 {
        let error = format!("opening {}: too many open files", task.path().display());
        task.tell(What::Retrying { side: Side::Source, error, hint: OPEN_FILES_HINT.to_owned() });
    }
    tokio::select! {
        permit = Arc::clone(handles).acquire_owned() => Some(permit.ok()), // it is never closed
        () = task.stop.cancelled() => None,
    }
}

/// Whether the file cannot be opened for reasons of the machine, not its own.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::EINTR
                | libc::ESTALE
                | libc::ETIMEDOUT
                | libc::EHOSTDOWN
                | libc::ENOTCONN
        )
    )
}

/// Whether the source itself is missing. An unmounted one leaves an empty directory: there the
/// file only seems to be gone, and if parts of it are stored they are worth waiting for.
fn is_away(task: &Task) -> bool {
    if task.outside.once {
        return false;
    }
    match task.record.source.read_dir() {
        Ok(mut entries) => entries.next().is_none() && task.record.upload != UploadState::None,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}
