//! An open recording: what its file is like now, without reading it.
//!
//! A recording is held open for as long as its stream lives, so that a file that is renamed or
//! deleted while it is uploaded can still be read. It is opened for reading only, and nothing
//! but a regular file is ever opened: a FIFO or a device in its place neither blocks nor
//! notices. All calls block for as long as the file system does; none of them is for an async
//! thread.

mod frontier;
mod sys;
mod writers;

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reeltime_core::{FileVersion, Observation, Writers};

pub(crate) use sys::file_system_type;

use crate::watch::fs_kind::FsKind;

/// What a name stands for, if not for a regular file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A symbolic link; they are not followed.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

impl FileKind {
    /// `None` for a regular file.
    pub fn of(file_type: std::fs::FileType) -> Option<Self> {
        if file_type.is_file() {
            None
        } else if file_type.is_dir() {
            Some(Self::Directory)
        } else if file_type.is_symlink() {
            Some(Self::Symlink)
        } else if file_type.is_fifo() {
            Some(Self::Fifo)
        } else if file_type.is_socket() {
            Some(Self::Socket)
        } else {
            Some(Self::Device)
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

/// Why a recording could not be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing has this name (any more).
    #[error("the file does not exist")]
    Missing,
    /// It is there and cannot be opened.
    #[error("the file cannot be opened for reading: {0}")]
    Unreadable(#[source] io::Error),
    /// The name stands for something that is not a regular file. It was left alone.
    #[error("{0}, not a regular file: not opened")]
    NotAFile(FileKind),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

/// The version that metadata tells.
pub fn version_of(metadata: &Metadata) -> FileVersion {
    let nanoseconds = |seconds: i64, fraction: i64| seconds.saturating_mul(1_000_000_000).saturating_add(fraction);
    FileVersion {
        size: metadata.len(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
    }
}

/// Which file it is, whatever its name and content: what tells a renamed file from another one.
///
/// File systems use the inode number of a deleted file again, often for the very next one; the
/// time of birth tells the two apart. Where a file system keeps none, the number alone decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl Identity {
    /// Whether the file surely did not exist at that time.
    pub fn is_born_after(&self, time: SystemTime) -> bool {
        self.born.is_some_and(|born| born > time)
    }
}

/// The identity that metadata tells.
pub fn identity_of(metadata: &Metadata) -> Identity {
    Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() }
}

/// A recording's file, held open.
#[derive(Clone, Debug)]
pub struct Recording {
    file: Arc<File>,
    device: u64,
    inode: u64,
    fs: FsKind,
}

impl Recording {
    /// Opens a recording without following a symbolic link in its last component, and without
    /// ever waiting for another process.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // Looked at first, because opening a device may be noticed by it; looked at again
        // afterwards, because the name may have changed hands in between.
        regular(&path.symlink_metadata()?)?;
        let file = open_regular(path)?;
        let metadata = file.metadata()?;
        regular(&metadata)?;
        let fs = FsKind::of_file(&file);
        Ok(Self { file: Arc::new(file), device: metadata.dev(), inode: metadata.ino(), fs })
    }

    /// The open file, for reading.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Its version now.
    pub fn version(&self) -> io::Result<FileVersion> {
        Ok(version_of(&self.file.metadata()?))
    }

    /// Looks at the file. `from` is the `content_end` of the last observation, 0 at first: it
    /// spares looking where the recorder has been already.
    pub fn observe(&self, ask_writers: bool, from: u64) -> io::Result<Observation> {
        let metadata = self.file.metadata()?;
        let version = version_of(&metadata);
        let content_end = frontier::content_end(&self.file, version.size, from)?;
        let writers = if ask_writers { writers::ask(&self.file, self.fs) } else { Writers::NotAsked };
        Ok(Observation { version, content_end, age_ms: age_ms(version), writers, linked: metadata.nlink() > 0 })
    }

    /// Whether `path` still names this very file. `false` too if that cannot be told.
    pub fn is_at(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode)
    }
}

fn regular(metadata: &Metadata) -> Result<(), OpenError> {
    FileKind::of(metadata.file_type()).map_or(Ok(()), |kind| Err(OpenError::NotAFile(kind)))
}

fn open_regular(path: &Path) -> Result<File, OpenError> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY;
    match OpenOptions::new().read(true).custom_flags(flags | libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(file),
        Err(error) => match error.raw_os_error() {
            Some(libc::ELOOP) => Err(OpenError::NotAFile(FileKind::Symlink)),
            Some(libc::ENXIO) => Err(OpenError::NotAFile(FileKind::Socket)),
            Some(libc::EWOULDBLOCK) => open_leased(path, flags),
            _ => Err(error.into()),
        },
    }
}

/// Opens a file on which somebody has a lease (Samba takes them for its oplocks): the holder is
/// told, and must have let go before the file can be opened. That it is a regular file is made
/// sure by a handle that opens nothing, so that waiting is limited by the kernel
/// (`/proc/sys/fs/lease-break-time`).
fn open_leased(path: &Path, flags: i32) -> Result<File, OpenError> {
    let handle = OpenOptions::new().read(true).custom_flags(flags | libc::O_PATH).open(path)?;
    regular(&handle.metadata()?)?;
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(by_handle).map_err(OpenError::Unreadable)
}

/// Milliseconds since the last change of content or inode; 0 if that lies in the future.
fn age_ms(version: FileVersion) -> u64 {
    let changed_ns = version.mtime_ns.max(version.ctime_ns);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let age_ns = i128::try_from(now_ns).unwrap_or(i128::MAX) - i128::from(changed_ns);
    u64::try_from(age_ns / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
#[path = "recording/tests.rs"]
mod tests;

#[cfg(test)]
pub(crate) use tests::as_nobody;
