//! What happens around recordings: names that change at the worst moment, limits that are
//! reached, disks that are not there, stops while everything waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use testkit::daemon::{Daemon, LogLine, Running};

const PROGRAM: &str = env!("CARGO_BIN_EXE_reeltime");
const SOON: Duration = Duration::from_secs(40);

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["src", "dst"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn src(&self, name: &str) -> PathBuf {
        self.dir.path().join("src").join(name)
    }

    fn dst(&self, name: &str) -> PathBuf {
        self.dir.path().join("dst").join(name)
    }

    fn daemon(&self) -> Daemon {
        Daemon::run(PROGRAM).arg(self.src("")).arg("--to").arg(self.dst(""))
    }
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + number * 17) as u8 | 1).collect()
}

fn hours_ago(hours: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(hours * 3600)
}

fn write_old(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(hours_ago(1)).unwrap();
}

fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {within:?} for {what}");
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    }
}

fn is(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == bytes)
}

/// A field of a log line.
fn field<'a>(line: &'a LogLine, name: &str) -> Option<&'a str> {
    match line {
        LogLine::Json(line) => line.get(name).or_else(|| line["fields"].get(name))?.as_str(),
        LogLine::Text(_) => None,
    }
}

/// Waits for `count` events of this name of a file, or of any.
fn wait_events(daemon: &Running, name: &str, path: Option<&Path>, count: usize) {
    daemon.wait_events(name, count, SOON, |line| {
        field(line, "event") == Some(name) && path.is_none_or(|path| field(line, "path") == path.to_str())
    });
}

fn count(daemon: &Running, name: &str) -> usize {
    daemon.events().iter().filter(|line| field(line, "event") == Some(name)).count()
}

fn wait_object(daemon: &Running, path: &Path, bytes: &[u8]) {
    let deadline = Instant::now() + SOON;
    while !is(path, bytes) {
        if Instant::now() > deadline {
            let seen: Vec<_> = daemon.events().iter().map(ToString::to_string).collect();
            panic!("{} is not there; seen:\n{}", path.display(), seen.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    }
}

/// Renamed in one test.
const FILES: usize = 60;

#[test]
fn a_recording_that_is_renamed_in_the_moment_it_is_completed_gets_its_new_name_too() {
    let place = Place::new();
    let daemon = place.daemon().args(["--close-grace", "0s"]).start();
    daemon.wait_answers("/readyz", SOON);
    for number in 0..FILES {
        fs::write(place.src(&format!("{number}.mp4")), content(number, 5000)).unwrap();
    }
    let mut left: BTreeSet<usize> = (0..FILES).collect();
    let deadline = Instant::now() + SOON;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "not completed: {left:?}");
        // In turns as soon as the object is there, and as soon as it is described.
        left.retain(|number| {
            let object = place.dst(&format!("{number}.mp4"));
            let sign = if number % 2 == 0 { object.with_extension("mp4.metadata.json") } else { object };
            let there = sign.exists();
            if there {
                fs::rename(place.src(&format!("{number}.mp4")), place.src(&format!("new-{number}.mp4"))).unwrap();
            }
            !there
        });
    }
    for number in 0..FILES {
        wait_object(&daemon, &place.dst(&format!("new-{number}.mp4")), &content(number, 5000));
    }
    wait_until("no stream to be left", SOON, || {
        daemon.api_streams().iter().all(|stream| stream["state"] == "completed" || stream["state"] == "failed")
    });
}

/// Runs `reeltime run --once` as a user who may not read everything, and answers its exit code
/// and what it said.
fn once_as_nobody(place: &Place, more: &[&str]) -> (Option<i32>, String) {
    let dir = place.dir.path();
    for path in [dir, &dir.join("src"), &dir.join("dst")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = dir.join("reeltime"); // where nobody may go
    if !program.exists() {
        fs::copy(PROGRAM, &program).unwrap();
    }
    let said = File::create(dir.join("said")).unwrap();
    let mut command = Command::new(program);
    command.arg("run").arg(place.src("")).arg("--to").arg(place.dst("")).args(["--listen", "off", "--once"]);
    command.arg("--state").arg(dir.join("src/state.db")).args(more).env("HOME", dir);
    command.stdout(said.try_clone().unwrap()).stderr(said);
    if fs::metadata(dir).unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + SOON;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    };
    (code, fs::read_to_string(dir.join("said")).unwrap())
}

#[test]
fn an_unreadable_recording_is_reported_once_and_is_uploaded_when_it_can_be_read() {
    let place = Place::new();
    write_old(&place.src("x.mp4"), b"film");
    fs::set_permissions(place.src("x.mp4"), fs::Permissions::from_mode(0o000)).unwrap();
    let (code, said) = once_as_nobody(&place, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("stream failed").count(), 1, "{said}");
    assert!(said.contains("chmod"), "{said}");
    fs::set_permissions(place.src("x.mp4"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = once_as_nobody(&place, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(is(&place.dst("x.mp4"), b"film"));
}

#[test]
fn a_stop_ends_in_bounded_time_though_every_thread_waits_for_the_bandwidth() {
    let place = Place::new();
    write_old(&place.src("x.mp4"), &content(1, 3 << 20));
    let daemon = place.daemon().args(["--bandwidth", "1KB/s"]).start();
    daemon.wait_event("the end of the recording", SOON, |line| field(line, "to") == Some("pending_completion"));
    let exited = daemon.terminate(Duration::from_secs(30)); // 20 s for parts in flight
    assert_eq!(exited.status.code(), Some(0));
}

#[test]
fn a_source_that_is_not_mounted_costs_nothing() {
    let place = Place::new();
    let bytes = content(3, 4 << 20);
    let writer = OpenOptions::new().create(true).append(true).open(place.src("x.mp4")).unwrap();
    (&writer).write_all(&bytes[..3 << 20]).unwrap();
    let mut daemon = place.daemon().args(["--part-size", "1MiB"]).start();
    daemon.wait_answers("/readyz", SOON);
    wait_until("three parts", SOON, || daemon.api_streams().iter().any(|stream| stream["parts_sent"] == 3));
    daemon.kill();
    (&writer).write_all(&bytes[3 << 20..]).unwrap();
    drop(writer);
    let (src, elsewhere) = (place.src(""), place.dir.path().join("elsewhere"));
    fs::rename(&src, &elsewhere).unwrap();
    fs::create_dir(&src).unwrap();
    daemon.restart();
    wait_events(&daemon, "retrying", Some(&place.src("x.mp4")), 1);
    fs::remove_dir(&src).unwrap();
    fs::rename(&elsewhere, &src).unwrap();
    wait_events(&daemon, "completed", Some(&place.src("x.mp4")), 1);
    assert!(is(&place.dst("x.mp4"), &bytes));
    assert_eq!(count(&daemon, "failed") + count(&daemon, "upload_created"), 0, "the upload of the first run went on");
}

#[test]
fn recordings_that_are_paused_keep_no_place_from_a_backlog() {
    let place = Place::new();
    let paused: Vec<_> = (0..270)
        .map(|number| {
            let path = place.src(&format!("a-{number}.mp4"));
            write_old(&path, b"paused");
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            file.set_modified(hours_ago(1)).unwrap();
            file
        })
        .collect();
    for number in 0..30 {
        write_old(&place.src(&format!("done-{number}.mp4")), b"done");
    }
    let daemon = place.daemon().start();
    for number in 0..30 {
        wait_object(&daemon, &place.dst(&format!("done-{number}.mp4")), b"done");
    }
    assert!(!place.dst("a-0.mp4").exists(), "somebody has it open");
    drop(paused);
    for number in 0..270 {
        wait_object(&daemon, &place.dst(&format!("a-{number}.mp4")), b"paused");
    }
}

#[test]
fn more_live_recordings_than_files_may_be_open_are_late_and_not_lost() {
    let place = Place::new();
    let script = place.dir.path().join("limited");
    fs::write(&script, format!("#!/bin/sh\nulimit -n 60 && exec {PROGRAM} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let live: Vec<_> = (0..90)
        .map(|number| {
            let mut file = File::create(place.src(&format!("{number}.mp4"))).unwrap();
            file.write_all(&content(number, 3000)).unwrap();
            file
        })
        .collect();
    let daemon = Daemon::run(&script).arg(place.src("")).arg("--to").arg(place.dst("")).start();
    daemon.wait_event("the limit", SOON, |line| {
        field(line, "error").is_some_and(|error| error.contains("oo many open files"))
    });
    drop(live);
    for number in 0..90 {
        wait_object(&daemon, &place.dst(&format!("{number}.mp4")), &content(number, 3000));
    }
    assert_eq!(count(&daemon, "failed"), 0);
}

#[test]
fn the_file_of_a_completed_recording_is_deleted_after_a_restart_if_that_is_still_to_be_done() {
    let place = Place::new();
    write_old(&place.src("x.mp4"), b"film");
    let (code, said) = once_as_nobody(&place, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(place.src("x.mp4").exists());
    let (code, said) = once_as_nobody(&place, &["--after-upload", "delete"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!place.src("x.mp4").exists(), "{said}");
    assert!(is(&place.dst("x.mp4"), b"film"));
}

#[test]
fn a_recording_of_another_source_never_replaces_an_object_of_the_same_key() {
    let place = Place::new();
    let other = place.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    write_old(&place.src("x.mp4"), b"first");
    let daemon = place.daemon().arg(&other).args(["--after-upload", "delete"]).start();
    wait_object(&daemon, &place.dst("x.mp4"), b"first");
    wait_until("the first file to be deleted", SOON, || !place.src("x.mp4").exists());
    write_old(&other.join("x.mp4"), b"second");
    wait_events(&daemon, "notice", Some(&other.join("x.mp4")), 1);
    write_old(&other.join("y.mp4"), b"third");
    wait_object(&daemon, &place.dst("y.mp4"), b"third");
    assert!(is(&place.dst("x.mp4"), b"first"));
    assert!(other.join("x.mp4").exists(), "what is not uploaded is not deleted");
}

#[test]
fn a_recording_of_another_source_does_not_take_the_key_of_one_that_is_deleted_as_it_goes_on() {
    let place = Place::new();
    let other = place.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let daemon = place.daemon().arg(&other).start();
    let mut recorder = File::create(place.src("x.mp4")).unwrap();
    recorder.write_all(b"first").unwrap();
    wait_events(&daemon, "discovered", Some(&place.src("x.mp4")), 1);
    wait_until("it to be held open", SOON, || {
        let links = fs::read_dir(format!("/proc/{}/fd", daemon.process().pid())).unwrap().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|file| file == place.src("x.mp4"))
    });
    fs::remove_file(place.src("x.mp4")).unwrap();
    write_old(&other.join("x.mp4"), b"second");
    wait_events(&daemon, "notice", Some(&other.join("x.mp4")), 1);
    drop(recorder);
    wait_object(&daemon, &place.dst("x.mp4"), b"first");
}

#[test]
fn a_temp_file_that_takes_the_name_of_a_completed_recording_goes_on_as_its_own_stream() {
    let place = Place::new();
    let (path, temp) = (place.src("x.mp4"), place.src("x.mp4.part"));
    write_old(&path, b"first");
    // No event tells of the rename: the scan has to see what became of the name.
    let daemon = place.daemon().args(["--watch", "poll"]).start();
    wait_object(&daemon, &place.dst("x.mp4"), b"first");
    wait_events(&daemon, "completed", Some(&path), 1);

    let mut recorder = File::create(&temp).unwrap();
    recorder.write_all(b"second").unwrap();
    wait_events(&daemon, "discovered", Some(&temp), 1);
    let stream = field(&last(&daemon, "discovered", &temp), "stream").unwrap().to_owned();
    fs::rename(&temp, &path).unwrap();
    drop(recorder);

    wait_object(&daemon, &place.dst("x.mp4"), b"second");
    wait_events(&daemon, "completed", Some(&path), 2);
    assert_eq!(
        field(&last(&daemon, "completed", &path), "stream"),
        Some(stream.as_str()),
        "the one that was recording"
    );
    assert_eq!(count(&daemon, "resumed"), 0, "the stream of the first is over");
}

/// The last event of this name of a file.
fn last(daemon: &Running, name: &str, path: &Path) -> LogLine {
    let of_this = |line: &LogLine| field(line, "event") == Some(name) && field(line, "path") == path.to_str();
    daemon.events().into_iter().rfind(of_this).unwrap()
}
