//! A look at the file.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use reeltime_core::{Input, temp_suffix_of};

use super::hands::Task;
use crate::events::What;
use crate::recording::{OpenError, Recording};

/// Looks at the file of one stream. A clone remembers the same.
#[derive(Clone, Default)]
pub(super) struct Looker {
    /// At the last look the name belonged to another file, while ours still had one somewhere.
    name_was_lost: Arc<AtomicBool>,
}

impl Looker {
    /// Opens the file at the first look and keeps it open.
    pub(super) async fn look(self, task: Task, ask_writers: bool, from: u64) -> Vec<Input> {
        let looked = tokio::task::spawn_blocking(move || {
            let inputs = self.look_now(&task, ask_writers, from);
            inputs.unwrap_or_else(|error| {
                task.tell_unreadable(&error);
                vec![Input::LookFailed]
            })
        });
        looked.await.unwrap_or_else(|_| vec![Input::LookFailed])
    }

    fn look_now(&self, task: &Task, ask_writers: bool, from: u64) -> io::Result<Vec<Input>> {
        let recording = match task.recording() {
            Some(recording) => recording,
            None => match Recording::open(&task.path) {
                Ok(recording) => {
                    *task.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(recording.clone());
                    recording
                }
                Err(OpenError::Missing | OpenError::NotAFile(_)) => return Ok(vec![Input::SourceMissing]),
                Err(OpenError::Unreadable(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    task.tell(What::Retrying {
                        error: format!("opening {}: {error}", task.path.display()),
                        hint: reeltime_core::Reason::SourceUnreadable.hint().to_owned(),
                    });
                    return Ok(vec![Input::SourceUnreadable]);
                }
                Err(OpenError::Unreadable(error)) => return Err(error),
            },
        };
        let seen = recording.observe(ask_writers, from)?;
        if self.name_is_lost(&recording, &task.path, seen.linked) {
            return Ok(vec![Input::Replaced]);
        }
        let mut inputs = Vec::with_capacity(2);
        if temp_suffix_of(&task.path, &task.outside.temp_suffixes).is_some() {
            inputs.push(Input::FinalNameTaken(final_name_is_taken(&task.path, &task.outside.temp_suffixes)));
        }
        inputs.push(Input::Observed(seen));
        Ok(inputs)
    }

    /// Whether another file has taken the name. A file that was renamed, and whose old name was
    /// taken at once, is given until the next look for its new name to become known.
    fn name_is_lost(&self, recording: &Recording, path: &Path, linked: bool) -> bool {
        let taken = !recording.is_at(path) && path.symlink_metadata().is_ok_and(|found| found.is_file());
        let before = self.name_was_lost.swap(taken, Ordering::Relaxed);
        taken && (before || !linked)
    }
}

/// Whether the name that a temp name will become belongs to a file already.
fn final_name_is_taken(path: &Path, temp_suffixes: &[String]) -> bool {
    let Some(suffix) = temp_suffix_of(path, temp_suffixes) else { return false };
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    bytes.truncate(bytes.len() - suffix.len());
    PathBuf::from(std::ffi::OsString::from_vec(bytes)).symlink_metadata().is_ok()
}
