#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// A process that has a file open for appending until it is told to end.
struct Writer(Child);

impl Writer {
    fn open(path: &Path, user: Option<u32>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3>>\"$1\" && echo opened && read line", "sh"]).arg(path);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "opened\n");
        Self(child)
    }

    fn close(mut self) {
        drop(self.0.stdin.take()); // the end of its input ends it
        self.0.wait().unwrap();
    }
}

fn file_with(content: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mp4");
    fs::write(&path, content).unwrap();
    (dir, path)
}

/// Asks until the answer is `wanted`. Other tests of this process start programs, and between
/// `fork` and `exec` those have all descriptors of this process, the one of `fs::write` too.
fn settles<T: PartialEq + std::fmt::Debug>(wanted: &T, mut ask: impl FnMut() -> T) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask() != *wanted {
        assert!(Instant::now() < deadline, "still {:?}, not {wanted:?}", ask());
        std::thread::yield_now();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Runs `work` on a thread that is the user `nobody`, with the capabilities of nobody.
#[allow(unsafe_code)]
pub(crate) fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
                // SAFETY: the raw call, unlike libc's function, changes this thread alone; it
                // takes integers.
                assert_eq!(unsafe { libc::syscall(call, 65534, 65534, 65534) }, 0);
            }
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_writer_is_seen_while_it_has_the_file_open() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    let ask = || recording.observe(true, 0).unwrap().writers;
    settles(&Writers::None, ask);
    let writer = Writer::open(&path, None);
    assert_eq!(ask(), Writers::Open);
    writer.close();
    settles(&Writers::None, ask);
    assert_eq!(recording.observe(false, 0).unwrap().writers, Writers::NotAsked);
}

#[test]
fn the_lease_itself_answers_for_the_owner() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    let writer = Writer::open(&path, None);
    let refused = sys::try_read_lease(&recording.file).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    writer.close();
    settles(
        &Writers::None,
        || if sys::try_read_lease(&recording.file).is_ok() { Writers::None } else { Writers::Open },
    );
    // It was given back: a writer need not wait, and is not refused.
    let nonblocking = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&path);
    assert!(nonblocking.is_ok(), "{nonblocking:?}");
}

#[test]
fn without_a_lease_the_writer_is_found_among_the_processes() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    let search = || writers::processes::search(&recording.file);
    // Whether every process can be looked at is not for this test to say.
    let nobody = [Writers::None, Writers::Unknowable];
    settles(&true, || nobody.contains(&search()));
    let writer = Writer::open(&path, None);
    assert_eq!(search(), Writers::Open);
    writer.close();
    settles(&true, || nobody.contains(&search()));
}

#[test]
fn nobody_is_a_writer_only_if_everybody_was_asked() {
    let (dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    let proc = dir.path().join("proc");
    let process = |pid: &str, flags: &str| {
        fs::create_dir_all(proc.join(pid).join("fd")).unwrap();
        fs::create_dir_all(proc.join(pid).join("fdinfo")).unwrap();
        let _ = std::os::unix::fs::symlink(&path, proc.join(pid).join("fd/3"));
        let info = format!("pos:\t4\nflags:\t{flags}\nmnt_id:\t30\n"); // kernels before 5.14 tell no inode
        fs::write(proc.join(pid).join("fdinfo/3"), info).unwrap();
    };
    let search = |complete| writers::processes::search_in(&proc, &recording.file, complete);
    process("10", "0100000");
    process("11", "012000001"); // O_PATH, through which nothing can be written
    assert_eq!(search(true), Writers::None, "they only read");
    assert_eq!(search(false), Writers::Unknowable, "there may be processes that are not shown");
    fs::create_dir(proc.join("12")).unwrap();
    assert_eq!(search(true), Writers::None, "it has just ended");
    fs::write(proc.join("12/fd"), b"").unwrap();
    assert_eq!(search(true), Writers::Unknowable, "one could not be looked at");
    process("10", "0102001");
    assert_eq!(search(false), Writers::Open);
}

#[test]
fn who_may_not_take_leases_finds_its_own_writers_and_claims_nothing_of_others() {
    if !is_root() {
        return; // there is no second user to be
    }
    let (dir, path) = file_with(b"film");
    for (path, mode) in [(dir.path(), 0o755), (path.as_path(), 0o666)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let ask = || {
        as_nobody(|| {
            let recording = Recording::open(&path).unwrap();
            let lease = sys::try_read_lease(&recording.file).unwrap_err();
            assert_eq!(lease.kind(), io::ErrorKind::PermissionDenied);
            recording.observe(true, 0).unwrap().writers
        })
    };
    assert_eq!(ask(), Writers::Unknowable);
    let mine = Writer::open(&path, Some(65534));
    assert_eq!(ask(), Writers::Open);
    mine.close();
    let others = Writer::open(&path, None);
    assert_eq!(ask(), Writers::Unknowable, "what the other user does cannot be seen");
    others.close();
}

#[test]
fn on_a_network_file_system_nobody_found_is_no_answer() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording { fs: FsKind::Remote("NFS"), ..Recording::open(&path).unwrap() };
    settles(&Writers::Unknowable, || recording.observe(true, 0).unwrap().writers);
    let writer = Writer::open(&path, None);
    assert_eq!(recording.observe(true, 0).unwrap().writers, Writers::Open);
    writer.close();
}

#[test]
fn a_writer_that_comes_while_leases_are_taken_does_not_end_the_process() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            for _ in 0..3000 {
                OpenOptions::new().append(true).open(&path).unwrap();
            }
        });
        while !opener.is_finished() {
            let _ = recording.observe(true, 0).unwrap();
        }
    });
}

#[test]
fn what_is_no_regular_file_is_neither_opened_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(at("fifo.mp4")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket.mp4")).unwrap();
    fs::create_dir(at("dir.mp4")).unwrap();
    fs::write(at("file"), b"x").unwrap();
    std::os::unix::fs::symlink(at("file"), at("link.mp4")).unwrap();
    let kind = |path: &Path| match Recording::open(path) {
        Err(OpenError::NotAFile(kind)) => kind,
        other => panic!("{path:?}: {other:?}"),
    };
    assert_eq!(kind(&at("fifo.mp4")), FileKind::Fifo);
    assert_eq!(kind(&at("socket.mp4")), FileKind::Socket);
    assert_eq!(kind(&at("dir.mp4")), FileKind::Directory);
    assert_eq!(kind(&at("link.mp4")), FileKind::Symlink);
    assert_eq!(kind(Path::new("/dev/null")), FileKind::Device);
    assert!(matches!(Recording::open(&at("nothing.mp4")), Err(OpenError::Missing)));
    assert!(matches!(Recording::open(&at("file/x.mp4")), Err(OpenError::Missing)));
}

#[test]
fn a_fifo_that_takes_the_name_at_the_last_moment_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mp4");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let opened = open_regular(&path).expect("without a writer, and at once");
    assert!(matches!(regular(&opened.metadata().unwrap()), Err(OpenError::NotAFile(FileKind::Fifo))));
    let link = dir.path().join("link.mp4");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open_regular(&link), Err(OpenError::NotAFile(FileKind::Symlink))));
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    if !is_root() {
        return; // root would be needed to make such a file
    }
    let (dir, path) = file_with(b"film");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    match as_nobody(|| Recording::open(&path)) {
        Err(OpenError::Unreadable(error)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        other => panic!("{other:?}"),
    }
}

#[test]
#[allow(unsafe_code)]
fn a_file_that_another_program_has_leased_is_opened_once_that_lets_go() {
    let (_dir, path) = file_with(b"film");
    sys::try_read_lease(&fs::File::open(&path).unwrap()).ok(); // from now on SIGIO is ignored
    let holder = fs::File::open(&path).unwrap();
    // SAFETY: the descriptor is open; the call takes an integer. A write lease, as Samba's.
    let lease = |kind: i32| unsafe { libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, kind) };
    let deadline = Instant::now() + Duration::from_secs(10);
    while lease(libc::F_WRLCK) != 0 {
        assert!(Instant::now() < deadline, "no lease: {}", io::Error::last_os_error());
    }
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Recording::open(&path));
        // The kernel asks for the lease back once somebody opens: F_GETLEASE tells.
        // SAFETY: the descriptor is open and the call has no argument.
        while unsafe { libc::fcntl(holder.as_raw_fd(), libc::F_GETLEASE) } == libc::F_WRLCK {
            assert!(Instant::now() < deadline, "nobody opened it");
            std::thread::yield_now();
        }
        assert_eq!(lease(libc::F_UNLCK), 0);
        assert!(opening.join().unwrap().is_ok());
    });
}

#[test]
fn a_recording_is_told_from_another_file_by_the_same_name() {
    let (dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    assert!(recording.is_at(&path));
    let moved = dir.path().join("moved.mp4");
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, b"another").unwrap();
    assert!(recording.is_at(&moved) && !recording.is_at(&path));
    assert!(recording.observe(false, 0).unwrap().linked);
    fs::remove_file(&moved).unwrap();
    assert!(!recording.is_at(&moved));
    let seen = recording.observe(false, 0).unwrap();
    assert!(!seen.linked);
    assert_eq!((seen.version.size, seen.content_end), (4, 4), "it can still be read");
}

#[test]
fn the_age_is_that_of_the_last_change_of_any_kind() {
    let (_dir, path) = file_with(b"film");
    let recording = Recording::open(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let seen = recording.observe(false, 0).unwrap();
    assert_eq!(seen.version.mtime_ns, 1_000_000_000_000_000_000);
    assert!(seen.age_ms < 60_000, "setting the time back was a change: {}", seen.age_ms);
    file.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    assert_eq!(recording.observe(false, 0).unwrap().age_ms, 0);
    let old = FileVersion { mtime_ns: 5_000_000_000, ctime_ns: 7_000_000_000, ..seen.version };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(age_ms(old).abs_diff(now_ms - 7_000) < 60_000);
}

/// Content without a zero byte.
fn film(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 + 1).collect()
}

fn preallocated(size: u64, how: &str) -> (TempDir, PathBuf, fs::File) {
    let (dir, path) = file_with(b"");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    match how {
        "sparse" => file.set_len(size).unwrap(),
        "fallocate" => {
            let made = Command::new("fallocate").args(["-l", &size.to_string()]).arg(&path).status().unwrap();
            assert!(made.success());
        }
        _ => file.write_all_at(&vec![0; size as usize], 0).unwrap(),
    }
    (dir, path, file)
}

const MIB: u64 = 1 << 20;

#[test]
fn a_file_that_grows_as_it_is_written_is_content_to_its_end() {
    let (_dir, path) = file_with(&film(100_000));
    let file = fs::File::open(&path).unwrap();
    assert_eq!(frontier::content_end(&file, 100_000, 0).unwrap(), 100_000);
    assert_eq!(frontier::content_end(&file, 100_000, 50_000).unwrap(), 100_000);
    let (_dir, path) = file_with(b"");
    assert_eq!(frontier::content_end(&fs::File::open(&path).unwrap(), 0, 0).unwrap(), 0);
}

#[test]
fn the_frontier_of_a_preallocated_file_is_found_to_the_byte() {
    for how in ["sparse", "fallocate", "zeros"] {
        let (_dir, _path, file) = preallocated(64 * MIB, how);
        let mut from = 0;
        assert_eq!(frontier::content_end(&file, 64 * MIB, 0).unwrap(), 0, "{how}: nothing written");
        let content = film(41 * MIB as usize);
        for written in [1, 4095, 4096, 4097, 100_000, 8 * MIB + 17, 9 * MIB, 41 * MIB - 1] {
            file.write_all_at(&content[..written as usize], 0).unwrap();
            for from in [from, 0, written] {
                let end = frontier::content_end(&file, 64 * MIB, from).unwrap();
                assert_eq!(end, written, "{how}, from {from}");
            }
            from = written;
        }
    }
}

#[test]
fn zeros_in_the_content_do_not_stop_the_search() {
    let (_dir, _path, file) = preallocated(64 * MIB, "sparse");
    file.write_all_at(&film(24), 0).unwrap(); // a header, room for the index, then the film
    file.write_all_at(&film(20 * MIB as usize), MIB).unwrap();
    assert_eq!(frontier::content_end(&file, 64 * MIB, 0).unwrap(), 21 * MIB);
    assert_eq!(frontier::content_end(&file, 64 * MIB, 24).unwrap(), 21 * MIB);
}

#[test]
fn a_name_that_is_used_again_starts_again() {
    let (_dir, _path, file) = preallocated(64 * MIB, "sparse");
    file.write_all_at(&film(3 * MIB as usize), 0).unwrap();
    assert_eq!(frontier::content_end(&file, 64 * MIB, 40 * MIB).unwrap(), 3 * MIB);
    file.set_len(5000).unwrap();
    assert_eq!(frontier::content_end(&file, 5000, 3 * MIB).unwrap(), 5000, "never more than the size");
    file.set_len(0).unwrap();
    assert_eq!(frontier::content_end(&file, 64 * MIB, 3 * MIB).unwrap(), 0, "it shrank while it was looked at");
}

#[test]
fn the_search_reads_a_few_blocks_of_a_huge_file() {
    let reads = || {
        let io = fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = io.lines().find(|line| line.starts_with("syscr:")).unwrap();
        line["syscr:".len()..].trim().parse::<u64>().unwrap()
    };
    let (_dir, _path, file) = preallocated(4 << 40, "sparse");
    file.write_all_at(&film(3 * MIB as usize), 0).unwrap();
    let before = reads();
    assert_eq!(frontier::content_end(&file, 4 << 40, 0).unwrap(), 3 * MIB);
    let counted = reads() - before;
    assert!(counted < 80, "{counted} reads for 4 TiB");
}

#[test]
fn errors_speak_to_people() {
    let (_dir, path) = file_with(b"x");
    let mut said = Vec::new();
    for path in [path.join("y"), PathBuf::from("/dev/null")] {
        writeln!(said, "{}", Recording::open(&path).unwrap_err()).unwrap();
    }
    assert_eq!(String::from_utf8(said).unwrap(), "the file does not exist\na device, not a regular file: not opened\n");
}

#[test]
fn a_file_keeps_its_identity_under_a_new_name_and_never_passes_it_on_with_its_inode() {
    let (dir, path) = file_with(b"first");
    let first = path.symlink_metadata().unwrap();
    let renamed = dir.path().join("y.mp4");
    fs::rename(&path, &renamed).unwrap();
    fs::write(&renamed, b"longer by now").unwrap();
    assert_eq!(identity_of(&renamed.symlink_metadata().unwrap()), identity_of(&first));

    // Until the clock that file systems stamp with has moved on.
    let probe = dir.path().join("probe");
    settles(&true, || {
        fs::write(&probe, b"").unwrap();
        probe.metadata().unwrap().modified().unwrap() > first.modified().unwrap()
    });
    fs::remove_file(&renamed).unwrap();
    fs::write(&path, b"second").unwrap(); // ext4 and others use the inode again at once
    assert_ne!(identity_of(&path.symlink_metadata().unwrap()), identity_of(&first));
}
