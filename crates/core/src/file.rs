//! What is known of a recording's file.

/// What tells one content of a file from another without reading it.
///
/// A write changes `mtime_ns` and `ctime_ns`; the latter cannot be set back by anybody, the
/// former can (`cp -p`, `touch -r`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FileVersion {
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Last change of content or inode, nanoseconds since the Unix epoch.
    pub ctime_ns: i64,
    /// Inode number; reused by file systems once a file is gone.
    pub inode: u64,
}

impl FileVersion {
    /// Whether a file of version `other` needs no second look: the same file, size and
    /// modification time. A changed mode, owner or name (which move `ctime_ns`) do not count.
    pub fn same_content(&self, other: &Self) -> bool {
        self.size == other.size && self.mtime_ns == other.mtime_ns && self.inode == other.inode
    }

    /// For how long timestamps must have rested before an equal timestamp proves an
    /// unchanged content, in milliseconds.
    ///
    /// Linux stamps writes with the time of the last timer interrupt (up to 10 ms coarse);
    /// some file systems keep whole seconds (FAT: two), which shows in the missing fraction.
    pub fn settle_ms(&self) -> u64 {
        if self.mtime_ns % 1_000_000_000 == 0 { 2_100 } else { 25 }
    }
}

/// Whether anybody has the file open for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writers {
    /// Nobody: the kernel said so.
    None,
    /// Somebody.
    Open,
    /// It was asked, and cannot be known here (a network file system, missing permissions).
    Unknowable,
    /// It was not asked.
    NotAsked,
}

/// One look at a recording's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Size, times and inode, taken before `writers` was asked.
    pub version: FileVersion,
    /// Where the recorder has probably got to: bytes from here to the end are all zero, as in
    /// a preallocated file. Never more than the size; a hint for what is worth sending early,
    /// never a statement about the content.
    pub content_end: u64,
    /// Milliseconds since the last change by the wall clock; 0 for a time in the future.
    pub age_ms: u64,
    /// Whether somebody is writing.
    pub writers: Writers,
    /// Whether the file still has its name. A deleted file can be read as long as it is held
    /// open.
    pub linked: bool,
}
