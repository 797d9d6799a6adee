//! The mark of a directory: what tells it from every other one, wherever it is seen.
//!
//! On a file system of this machine: which file system, which inode, born when. Containers of one
//! machine that share a directory so agree; another machine with a copy of the same disk image
//! differs by its `/etc/machine-id`. On a network file system: what is mounted, and which
//! inode, so that all machines agree that name the server alike.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::fs_kind::FsKind;

/// The mark of a directory; empty if it cannot be told.
pub fn mark_of(dir: &Path) -> String {
    try_mark(dir).unwrap_or_default()
}

fn try_mark(dir: &Path) -> io::Result<String> {
    let file = File::open(dir)?;
    let found = file.metadata()?;
    if FsKind::of_file(&file).is_remote() {
        let mounted = mounted(found.dev()).ok_or(io::ErrorKind::NotFound)?;
        return Ok(format!("{mounted}#{}", found.ino()));
    }
    let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    let file_system = rustix::fs::fstatvfs(&file)?.f_fsid;
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default(); // containers have none
    Ok(format!("{file_system:x}.{}.{born}@{}", found.ino(), machine.trim()))
}

/// What is mounted as this device, as `proc(5)` tells it: the server, and what of it.
fn mounted(device: u64) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    source_in(&table, rustix::fs::major(device), rustix::fs::minor(device))
}

fn source_in(table: &str, major: u32, minor: u32) -> Option<String> {
    let device = format!("{major}:{minor}");
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    let (_, of_file_system) = line.split_once(" - ")?;
    of_file_system.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_mark_under_another_name_and_a_copy_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (one, moved, copy) = (dir.path().join("one"), dir.path().join("moved"), dir.path().join("copy"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&copy).unwrap();
        let mark = mark_of(&one);
        assert!(!mark.is_empty());
        assert_ne!(mark_of(&copy), mark);
        std::fs::rename(&one, &moved).unwrap();
        assert_eq!(mark_of(&moved), mark);
        assert_eq!(mark_of(&one), "", "it is not there");
    }

    #[test]
    fn a_mount_is_called_by_its_server() {
        let table = "36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n\
                     37 35 0:52 /cams /mnt/nas rw - nfs4 nas:/export/cams rw,vers=4.2\n";
        assert_eq!(source_in(table, 0, 52).as_deref(), Some("nas:/export/cams"));
        assert_eq!(source_in(table, 0, 53), None);
    }
}
