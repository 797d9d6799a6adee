//! Whether the file of an unfinished stream is still there to go on with.

use std::io;
use std::path::Path;

use reeltime_core::StreamRecord;

/// What is known of a stream's file on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileState {
    /// It is there, by the name that is remembered or by its final one.
    There,
    /// It was deleted: its directory tree has other things in it, and not this.
    Gone,
    /// Its watched directory is missing, empty or cannot be read: a file system that is not
    /// mounted looks like that.
    Away,
}

/// Looks for the file of a stream. Blocking.
pub fn file_state(record: &StreamRecord) -> FileState {
    // A recorder may have renamed it while nobody watched.
    for path in [&record.path, &record.source.join(record.key.as_path())] {
        match path.symlink_metadata() {
            Ok(_) => return FileState::There,
            Err(error) if is_missing(&error) => {}
            Err(_) => return FileState::Away,
        }
    }
    if has_entries(&record.source) { FileState::Gone } else { FileState::Away }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn has_entries(dir: &Path) -> bool {
    dir.read_dir().is_ok_and(|mut entries| entries.next().is_some_and(|entry| entry.is_ok()))
}
