//! One process per state file.
//!
//! The owner holds an exclusive `flock` on `<state>.lock`, beside the state file. The kernel
//! gives the lock back when the process ends, however it ends; the file itself stays, and what
//! it says of a former owner is harmless. Nobody deletes it: a lock on a deleted file locks
//! nothing.
//!
//! The file is not the state file itself, because closing any descriptor of that would drop
//! `SQLite`'s own (per process) locks on it. It is opened close-on-exec (the standard library
//! does so always), so that a child such as ffprobe does not keep the lock beyond the life of
//! its parent.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use reeltime_core::WallTime;

use super::CheckpointError;
use crate::view::rfc3339;

/// The right to write a state file; given back when it is dropped, or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl StateLock {
    /// Takes the lock of the state file `state` and notes in it who has it. Never waits.
    ///
    /// [`CheckpointError::Held`] says which process has it. [`CheckpointError::Unusable`] if
    /// the place does not allow locks or may not be written.
    pub fn acquire(state: &Path, node: &str) -> Result<Self, CheckpointError> {
        let path = lock_path(state);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|error| refusal(&path, "cannot be opened", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut note = String::new();
                // What cannot be read is as good as not said.
                let _ = file.read_to_string(&mut note);
                return Err(CheckpointError::Held {
                    what: format!("state file {}", state.display()),
                    holder: holder(&note),
                });
            }
            Err(TryLockError::Error(error)) => return Err(refusal(&path, "cannot be locked", &error)),
        }
        // The lock holds without the note. A full disk, of all things, must not keep those
        // recordings from being uploaded that fill it.
        let _ = file.set_len(0).and_then(|()| file.write_all_at(own_note(node).as_bytes(), 0));
        Ok(Self { file })
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // Closing is not enough: a child between fork and exec has the descriptor for a moment.
        // Should it fail, closing follows.
        let _ = self.file.unlock();
    }
}

/// The lock file of a state file.
pub fn lock_path(state: &Path) -> PathBuf {
    let mut path = OsString::from(state);
    path.push(".lock");
    path.into()
}

/// What this process writes into the lock: one word and its value a line.
fn own_note(node: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let one_line = node.replace(['\n', '\r'], " ");
    format!("pid {}\nnode {one_line}\nhost {}\nsince {}\n", std::process::id(), host_name(), rfc3339(WallTime(now)))
}

/// The note of another process as a sentence's object.
fn holder(note: &str) -> String {
    let value = |word: &str| {
        note.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).filter(|value| !value.is_empty())
    };
    let Some(pid) = value("pid") else {
        return "another process (it has not said which)".to_owned();
    };
    let node = value("node").unwrap_or("unknown");
    let since = value("since").unwrap_or("an unknown time");
    match value("host").filter(|host| *host != host_name()) {
        None => format!("process {pid} (node {node}, since {since})"),
        Some(host) => format!("process {pid} on {host} (node {node}, since {since})"),
    }
}

/// The name of this machine, or `unknown`.
fn host_name() -> String {
    crate::host::name().unwrap_or_else(|| "unknown".to_owned())
}

/// An error of the place where the state file is to be.
pub(super) fn refusal(path: &Path, what: &str, error: &io::Error) -> CheckpointError {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    let hint = match error.kind() {
        PermissionDenied => "give the user that runs reeltime the right to write there, or choose another --state",
        ReadOnlyFilesystem => "choose another --state, on a file system that can be written",
        NotADirectory | AlreadyExists => "something in this path is no directory: choose another --state",
        Unsupported => "choose another --state, on a local disk: this file system has no locks",
        _ if error.raw_os_error() == Some(libc::ENOLCK) => "choose another --state, on a local disk",
        _ => {
            return CheckpointError::Outage {
                op: "open",
                target: path.display().to_string(),
                cause: format!("{what}: {error}"),
            };
        }
    };
    CheckpointError::Unusable { target: path.display().to_string(), cause: format!("{what}: {error}; {hint}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn refused(state: &Path) -> String {
        StateLock::acquire(state, "second").expect_err("the lock is taken").to_string()
    }

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.db");
        let first = StateLock::acquire(&state, "recorder-1").unwrap();
        let answer = refused(&state);
        assert!(answer.contains(&format!("state file {}", state.display())), "{answer}");
        assert!(answer.contains(&format!("process {} (node recorder-1, since 20", std::process::id())), "{answer}");
        drop(first);
        StateLock::acquire(&state, "second").unwrap();
    }

    #[test]
    fn what_a_dead_owner_left_behind_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.db");
        let stale = format!("pid 1\nnode old\nhost gone\nsince never\n{}", "padding ".repeat(100));
        std::fs::write(lock_path(&state), stale).unwrap();
        let _lock = StateLock::acquire(&state, "new").unwrap();
        let note = std::fs::read_to_string(lock_path(&state)).unwrap();
        assert_eq!(note.lines().count(), 4, "{note}");
        assert!(note.starts_with(&format!("pid {}\nnode new\nhost ", std::process::id())), "{note}");
    }

    #[test]
    fn an_owner_on_another_machine_is_named_with_it() {
        let told = holder("pid 7\nnode a b\nhost elsewhere.example\nsince 2026-01-02T03:04:05.000Z\n");
        assert_eq!(told, "process 7 on elsewhere.example (node a b, since 2026-01-02T03:04:05.000Z)");
        assert_eq!(holder(""), "another process (it has not said which)");
    }

    #[test]
    fn a_child_does_not_inherit_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.db");
        let _lock = StateLock::acquire(&state, "parent").unwrap();
        let open_in = |pid: u32| -> Vec<PathBuf> {
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            // One that is closed meanwhile is none.
            descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
        };
        assert!(open_in(std::process::id()).contains(&lock_path(&state)), "the parent has it open");
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let inherited = open_in(child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!inherited.contains(&lock_path(&state)), "{inherited:?}");
    }

    #[test]
    fn a_place_that_may_not_be_written_is_said_so() {
        let error = StateLock::acquire(Path::new("/proc/self/status/state.db"), "n").unwrap_err();
        assert!(matches!(error, CheckpointError::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains("--state"), "{error}");
    }
}
