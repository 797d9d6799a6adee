//! Whether a file system tells what happens on it.
//!
//! On file systems that other machines write to, changes arrive without events and without
//! errors, and nobody here can know who has a file open. They must be known by name, because
//! they do not say so themselves. A file system that is not in the list counts as local: what
//! its events miss, the periodic scan finds.

use std::fs::File;
use std::path::Path;

use crate::recording::file_system_type;

/// What is known of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsKind {
    /// All writers are processes of this machine, and events tell what they do.
    Local,
    /// Others may write to it unseen. The name is for people.
    Remote(&'static str),
    /// It could not be asked.
    Unknown,
}

/// `f_type` (see `statfs(2)` and the kernel's `magic.h`) of file systems that are written to
/// from elsewhere, or whose events depend on a program.
const REMOTE: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0xAAD7_AAEA, "PanFS"),
    (0xBEEF_DEAD, "StorNext"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x786F_4256, "a VirtualBox share"),
    (0xBACB_ACBC, "a VMware share"),
    (0x7C7C_6673, "a Parallels share"),
];

impl FsKind {
    /// That of the file system that a directory or file lies on. Blocks as long as a dead
    /// server does; opens nothing but a directory or a regular file.
    pub fn of_path(path: &Path) -> Self {
        File::open(path).map_or(Self::Unknown, |file| Self::of_file(&file))
    }

    /// That of the file system that an open file lies on.
    #[cfg(target_os = "linux")]
    pub fn of_file(file: &File) -> Self {
        file_system_type(file).map_or(Self::Unknown, Self::of_type)
    }

    /// Elsewhere there is nothing to ask.
    #[cfg(not(target_os = "linux"))]
    pub fn of_file(_file: &File) -> Self {
        Self::Unknown
    }

    /// Whether others may write unseen.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::Remote(_))
    }

    fn of_type(number: u32) -> Self {
        REMOTE.iter().find(|(known, _)| *known == number).map_or(Self::Local, |(_, name)| Self::Remote(name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_local_and_tells_its_events() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FsKind::of_path(dir.path()), FsKind::Local);
        assert_eq!(FsKind::of_path(&dir.path().join("missing")), FsKind::Unknown);
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        for number in [0x6969, 0xFE53_4D42, 0x6573_5546, 0x0102_1997] {
            assert!(FsKind::of_type(number).is_remote(), "{number:#x}");
        }
        assert_eq!(FsKind::of_type(0xEF53), FsKind::Local, "ext4");
        let same = |a: &(u32, &str)| REMOTE.iter().filter(|b| b.0 == a.0).count() == 1;
        assert!(REMOTE.iter().all(same), "no number twice");
    }
}
