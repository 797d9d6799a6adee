//! The scan that guarantees: everything below a directory, looked at name by name.
//!
//! Nothing is opened but directories, and no symbolic link is followed below the source, so a
//! scan neither blocks on a FIFO nor leaves its source. It holds one directory open at a time
//! and remembers only the directories still to be visited.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use reeltime_core::{FileVersion, ObjectKey};

use super::selection::Selection;
use crate::recording::{FileKind, Identity, identity_of, version_of};

/// A recording.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// The key that belongs to the name.
    pub key: ObjectKey,
    /// The file's version.
    pub version: FileVersion,
    /// Which file it is.
    pub identity: Identity,
}

impl Found {
    /// What `metadata` tells of the file at `path`.
    pub fn new(path: PathBuf, key: ObjectKey, metadata: &Metadata) -> Self {
        Self { path, key, version: version_of(metadata), identity: identity_of(metadata) }
    }
}

/// What a scan came across.
#[derive(Debug)]
pub enum Seen {
    /// A recording.
    Recording(Found),
    /// Something that has the name of a recording and is not a regular file. It was not opened.
    Oddity {
        /// Its name.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// A directory that could not be read, or a file that could not be looked at: what is there
    /// is unknown. The scan went on with the rest.
    Trouble {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Tells `tell` everything of interest in and below `dir`, which is `source` or lies in it.
/// Blocking; in no particular order.
///
/// What vanishes meanwhile is no trouble, with the exception of the source itself: if that is
/// missing, every recording only seems to be gone.
pub fn scan(selection: &Selection, source: &Path, dir: &Path, tell: &mut dyn FnMut(Seen)) {
    if dir != source && !is_real_directory(source, dir) {
        return;
    }
    let mut to_visit = vec![dir.to_owned()];
    while let Some(dir) = to_visit.pop() {
        let visited = visit(selection, source, &dir, &mut to_visit, tell);
        if let Err(error) = visited
            && !(is_gone(&error) && dir != source)
        {
            tell(Seen::Trouble { path: dir, error });
        }
    }
}

fn visit(
    selection: &Selection,
    source: &Path,
    dir: &Path,
    to_visit: &mut Vec<PathBuf>,
    tell: &mut dyn FnMut(Seen),
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let seen = match look(selection, source, &entry, &path) {
            Ok(Looked::Nothing) => continue,
            Ok(Looked::Directory { oddity }) => {
                to_visit.push(path.clone());
                if !oddity {
                    continue;
                }
                Seen::Oddity { path, kind: FileKind::Directory }
            }
            Ok(Looked::Oddity(kind)) => Seen::Oddity { path, kind },
            Ok(Looked::Recording(key, metadata)) => Seen::Recording(Found::new(path, key, &metadata)),
            Err(error) if is_gone(&error) => continue,
            Err(error) => Seen::Trouble { path, error },
        };
        tell(seen);
    }
    Ok(())
}

enum Looked {
    Nothing,
    Directory { oddity: bool },
    Oddity(FileKind),
    Recording(ObjectKey, Metadata),
}

fn look(selection: &Selection, source: &Path, entry: &fs::DirEntry, path: &Path) -> io::Result<Looked> {
    // From the directory itself on most file systems: no look at the file.
    let kind = FileKind::of(entry.file_type()?);
    if kind == Some(FileKind::Directory) && selection.prunes(source, path) {
        return Ok(Looked::Nothing);
    }
    let key = selection.key(source, path);
    match (kind, key) {
        (Some(FileKind::Directory), key) => Ok(Looked::Directory { oddity: key.is_some() }),
        (_, None) => Ok(Looked::Nothing),
        (Some(kind), Some(_)) => Ok(Looked::Oddity(kind)),
        (None, Some(key)) => {
            let metadata = entry.metadata()?; // of the name itself: lstat
            Ok(match FileKind::of(metadata.file_type()) {
                None => Looked::Recording(key, metadata),
                Some(changed) => Looked::Oddity(changed),
            })
        }
    }
}

/// Whether `dir` is reached from `source` through directories alone.
fn is_real_directory(source: &Path, dir: &Path) -> bool {
    let Ok(relative) = dir.strip_prefix(source) else { return false };
    let mut path = source.to_owned();
    relative.components().all(|component| {
        path.push(component);
        path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
    })
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
#[path = "scan/tests.rs"]
mod tests;
