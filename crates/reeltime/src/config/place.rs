//! Which directory is inside which, however it is written.
//!
//! Names say little: symbolic links, `..` and bind mounts give one directory many. So a
//! directory is told by its device and inode, and is inside another if one of the directories
//! above it is that one. A path that does not exist yet is inside whatever its nearest
//! existing ancestor is inside of.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// A directory that exists, or that could be created.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path without symbolic links, as far as it exists.
    pub canonical: PathBuf,
    /// Whether it exists.
    pub exists: bool,
    /// The identities of the path and of all that is above it, as far as they exist; the
    /// nearest first.
    chain: Vec<Identity>,
}

type Identity = (u64, u64);

/// The path that `steps` lead to from `path`.
fn stepped(mut path: PathBuf, steps: &Path) -> PathBuf {
    for step in steps.components() {
        match step {
            Component::ParentDir => drop(path.pop()),
            step => path.push(step),
        }
    }
    path
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl Place {
    /// Looks a path up. Fails if it, or what is above it, cannot be looked at, or if what
    /// exists of it is no directory.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(path)?;
        let mut existing = absolute.as_path();
        let canonical = loop {
            match existing.canonicalize() {
                Ok(canonical) => break canonical,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    existing = existing.parent().ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        };
        if !canonical.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
        if missing.components().any(|component| component == Component::ParentDir) {
            return Self::of(&stepped(canonical, missing)); // it may lead back to what exists
        }
        let chain = canonical.ancestors().map(|dir| Ok(identity(&dir.metadata()?))).collect::<io::Result<_>>()?;
        let exists = missing.as_os_str().is_empty();
        Ok(Self { canonical: stepped(canonical, missing), exists, chain })
    }

    /// Whether this is `other`, or below it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        if other.exists {
            other.chain.first().is_some_and(|identity| self.chain.contains(identity))
                || self.canonical.starts_with(&other.canonical)
        } else {
            self.canonical.starts_with(&other.canonical)
        }
    }

    /// Whether this and `other` are one.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.is_within(other) && other.is_within(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn place(path: impl AsRef<Path>) -> Place {
        Place::of(path.as_ref()).unwrap()
    }

    #[test]
    fn a_directory_is_found_again_under_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("rec/cam")).unwrap();
        fs::create_dir(root.join("recordings")).unwrap();
        std::os::unix::fs::symlink(root.join("rec"), root.join("link")).unwrap();
        let rec = place(root.join("rec"));

        for same in ["rec/", "rec/.", "rec/cam/..", "link", "link/cam/.."] {
            assert!(place(root.join(same)).is(&rec), "{same}");
        }
        for inside in ["rec/cam", "link/cam", "rec/new/deeper", "link/new"] {
            assert!(place(root.join(inside)).is_within(&rec), "{inside}");
            assert!(!place(root.join(inside)).is(&rec), "{inside}");
        }
        for outside in ["recordings", "rec/new/../../elsewhere", "", "recording"] {
            assert!(!place(root.join(outside)).is_within(&rec), "{outside}");
        }
    }

    #[test]
    fn what_is_below_no_directory_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Place::of(file.path()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(Place::of(&file.path().join("x")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
