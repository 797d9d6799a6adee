#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;

/// What a scan saw, by path relative to the source.
fn scanned(selection: &Selection, source: &Path, dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    scan(selection, source, dir, &mut |seen| {
        let (path, what) = match seen {
            Seen::Recording(found) => (found.path, format!("{} {}", found.key, found.version.size)),
            Seen::Oddity { path, kind } => (path, format!("{kind}")),
            Seen::Trouble { path, error } => (path, format!("{:?}", error.kind())),
        };
        let relative = path.strip_prefix(source).unwrap().to_owned();
        assert!(all.insert(relative, what).is_none(), "{path:?} twice");
    });
    all
}

fn default() -> Selection {
    Selection::new(&[], &["trash".into()], &[".part".into()]).unwrap()
}

fn written(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn every_recording_is_found_whatever_its_name() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| source.path().join(OsStr::from_bytes(name));
    for name in [&b"a.mp4"[..], b"deep/er/b.mp4.part", b".hidden/c.mp4", b"caf\xe9/\xff.mp4", b"two\nlines.mp4"] {
        written(&at(name), name);
    }
    for name in [&b"a.txt"[..], b"trash/x.mp4", b"deep/trash/x.mp4", b".reeltime-uploads/x.mp4"] {
        written(&at(name), b"x");
    }
    let seen = scanned(&default(), source.path(), source.path());
    let seen: Vec<_> = seen.values().map(String::as_str).collect();
    assert_eq!(seen, [".hidden/c.mp4 13", "a.mp4 5", "caf%E9/%FF.mp4 10", "deep/er/b.mp4 18", "two\nlines.mp4 13"]);
    let below = scanned(&default(), source.path(), &source.path().join("deep"));
    assert_eq!(below.len(), 1, "only that directory: {below:?}");
}

#[test]
fn a_version_is_that_of_the_file() {
    let source = tempfile::tempdir().unwrap();
    written(&source.path().join("a.mp4"), b"film");
    let metadata = fs::metadata(source.path().join("a.mp4")).unwrap();
    scan(&default(), source.path(), source.path(), &mut |seen| {
        let Seen::Recording(found) = seen else { panic!("{seen:?}") };
        assert_eq!((found.version.inode, found.version.size), (metadata.ino(), 4));
        assert_eq!(found.version.mtime_ns, metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
    });
}

#[test]
fn what_only_has_the_name_of_a_recording_is_reported_and_left_alone() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    assert!(Command::new("mkfifo").args([at("fifo.mp4"), at("fifo")]).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket.mp4")).unwrap();
    written(&at("dir.mp4/in.mp4"), b"x");
    symlink(at("dir.mp4/in.mp4"), at("link.mp4")).unwrap();
    symlink("/dev/null", at("dangling")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    written(&outside.path().join("out.mp4"), b"x");
    symlink(outside.path(), at("linked")).unwrap();
    symlink(source.path(), at("circle")).unwrap();
    let seen = scanned(&default(), source.path(), source.path());
    let seen: Vec<_> = seen.iter().map(|(path, what)| format!("{}: {what}", path.display())).collect();
    assert_eq!(
        seen,
        [
            "dir.mp4: a directory",
            "dir.mp4/in.mp4: dir.mp4/in.mp4 1",
            "fifo.mp4: a named pipe",
            "link.mp4: a symbolic link",
            "socket.mp4: a socket",
        ]
    );
    assert!(scanned(&default(), source.path(), &at("linked")).is_empty(), "not even when asked to");
    assert!(scanned(&default(), source.path(), &at("vanished")).is_empty(), "which is no trouble");
}

#[test]
fn a_missing_source_is_trouble() {
    let source = tempfile::tempdir().unwrap();
    let missing = source.path().join("missing");
    let seen = scanned(&default(), &missing, &missing);
    assert_eq!(seen.into_values().collect::<Vec<_>>(), ["NotFound"]);
}

#[test]
fn a_directory_that_cannot_be_read_is_reported_and_the_rest_is_scanned() {
    let source = tempfile::tempdir().unwrap();
    written(&source.path().join("a/locked/x.mp4"), b"x");
    written(&source.path().join("a/b.mp4"), b"x");
    written(&source.path().join("z.mp4"), b"x");
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(source.path().join("a/locked"), fs::Permissions::from_mode(0o0)).unwrap();
    let scan = || scanned(&default(), source.path(), source.path());
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let seen = if root { crate::recording::as_nobody(scan) } else { scan() };
    let seen: Vec<_> = seen.iter().map(|(path, what)| format!("{}: {what}", path.display())).collect();
    assert_eq!(seen, ["a/b.mp4: a/b.mp4 1", "a/locked: PermissionDenied", "z.mp4: z.mp4 1"]);
}

#[test]
fn a_hundred_nested_directories_and_many_files_are_no_difficulty() {
    let source = tempfile::tempdir().unwrap();
    let mut dir = source.path().to_owned();
    for _ in 0..100 {
        dir.push("d");
    }
    written(&dir.join("deep.mp4"), b"x");
    for at in 0..5_000 {
        fs::File::create(source.path().join(format!("{at}.mp4"))).unwrap();
    }
    assert_eq!(scanned(&default(), source.path(), source.path()).len(), 5_001);
}
