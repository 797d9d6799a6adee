//! What happens in a directory, as hints, plus the scan that guarantees.
//!
//! An event means "look again", never more: it may be late, doubled or missing.

use std::path::PathBuf;

/// A hint that something happened to a file or directory below a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// A file was created or changed.
    Touched(PathBuf),
    /// A file that was open for writing was closed.
    Closed(PathBuf),
    /// A file was renamed.
    Renamed {
        /// Its old name.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
    /// A file was deleted or moved out.
    Removed(PathBuf),
    /// Anything may have happened below this directory: look at all of it.
    Rescan(PathBuf),
}
