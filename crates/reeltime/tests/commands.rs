//! The built binary as operators and schedulers use it: `--once`, signals, status, HTTP, and
//! what it says of everything that it cannot work with.
//!
//! What is refused before anything runs is in `cli.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::daemon::{Daemon, Running};
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Finished, Style, Synthetic};

use world::{DEADLINE, LOCAL_PART, S3_PART, World, failures, record_until, wait_completed, wait_part};

const NOBODY: u32 = 65_534;

fn recorded(world: &World, name: &str, bytes: u64) -> Finished {
    fs::create_dir_all(world.path(name).parent().unwrap()).unwrap();
    Synthetic::into(world.path(name), Style::Append, bytes).seed(bytes).start().wait()
}

/// A reeltime that may do less than root. As root, who may do everything, it runs as nobody.
fn unprivileged(world: &World) -> Daemon {
    let binary = Path::new(env!("CARGO_BIN_EXE_reeltime"));
    let is_root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0;
    if !is_root {
        return world.daemon();
    }
    let home = world.beside("nobody");
    fs::create_dir(&home).unwrap();
    let copy = home.join("reeltime");
    fs::copy(binary, &copy).unwrap();
    let wrapper = home.join("run");
    let script =
        format!("#!/bin/sh\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {} \"$@\"\n", copy.display());
    fs::write(&wrapper, script).unwrap();
    for (path, mode) in [(world.beside(""), 0o755), (home.clone(), 0o755), (copy, 0o755), (wrapper.clone(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    chown(world.beside(""), Some(NOBODY), Some(NOBODY)).unwrap();
    chown(world.recordings(), Some(NOBODY), Some(NOBODY)).unwrap();
    // Who has another user's file open is not to be known.
    world.daemon_of(&wrapper, "test").args(["--idle-timeout", "500ms"])
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The last two lines that it wrote before it ended: message and hint.
#[track_caller]
fn said_at_the_end(daemon: &Running, code: i32) -> (String, String) {
    let ended = daemon.wait_exit(DEADLINE);
    let log = fs::read_to_string(daemon.log()).unwrap();
    assert_eq!(ended.code(), Some(code), "{log}");
    let lines: Vec<_> = log.lines().collect();
    let [.., message, hint] = lines.as_slice() else { panic!("{log}") };
    assert!(message.starts_with("error: ") && hint.starts_with("hint: "), "{log}");
    ((*message).to_owned(), (*hint).to_owned())
}

// --once

#[test]
fn once_uploads_a_tree_and_a_recording_in_progress_and_exits_0() {
    let world = World::local();
    let backlog: Vec<_> = (0..30)
        .map(|number| recorded(&world, &format!("{}/{}/{number}.mp4", number % 3, number % 5), number * 20_000))
        .collect();
    fs::write(world.path("notes.txt"), "no recording").unwrap();
    let live = record_until(world.path("live.mp4"), Style::Append, 3 * LOCAL_PART, LOCAL_PART + 9);
    let daemon = world.daemon().arg("--once").start();
    wait_part(&daemon, &world.path("live.mp4"), 1);
    for finished in &backlog {
        wait_completed(&daemon, &finished.path);
    }
    assert!(daemon.process().exited().is_none(), "it waits for the recording in progress");
    live.go_on();
    let live = live.wait();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    for finished in backlog.iter().chain([&live]) {
        world.assert_identical(finished);
    }
    assert_eq!(world.sha256("notes.txt"), None);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Both would become one object: the temp name waits for the other to go away, and says so once.
#[test]
fn once_ends_where_a_quiet_temp_name_lies_beside_its_final_name() {
    let world = World::local();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, LOCAL_PART).start().wait();
    Synthetic::into(world.path("a.mp4.part"), Style::Append, LOCAL_PART).seed(2).start().wait();
    let daemon = world.daemon().args(["--once", "--idle-timeout", "1s"]).start();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(1));
    assert_eq!(failures(&daemon).len(), 1, "{:#?}", failures(&daemon));
    world.assert_identical(&finished);
}

#[test]
fn once_with_nothing_to_do_exits_0() {
    assert_eq!(World::local().once(), Some(0));
}

#[test]
fn once_exits_1_when_a_file_cannot_be_read_and_0_when_it_can() {
    let world = World::local();
    let daemon = unprivileged(&world).arg("--once").start();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    let (readable, secret) = (recorded(&world, "a.mp4", 99), recorded(&world, "b.mp4", 99));
    set_mode(&secret.path, 0o000);
    let mut daemon = daemon;
    daemon.restart();
    let (message, hint) = said_at_the_end(&daemon, 1);
    assert!(message.contains("not everything is completed: 1 "), "{message}");
    assert!(hint.contains("reeltime status"), "{hint}");
    let failed = daemon.wait_event_of("failed", &secret.path, DEADLINE);
    assert_eq!(failed.text("reason"), Some("source_unreadable"));
    assert!(failed.text("hint").unwrap().contains("chmod"), "{failed}");
    world.assert_identical(&readable);

    let (code, table, _) = text(&world.command(&["status"]));
    assert_eq!(code, Some(0));
    assert!(table.contains("b.mp4  (source_unreadable)") && table.contains("1 completed, 1 failed"), "{table}");

    set_mode(&secret.path, 0o644);
    daemon.restart();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    world.assert_identical(&secret);
}

#[test]
fn once_exits_1_when_a_directory_cannot_be_read() {
    let world = World::local();
    let found = recorded(&world, "a.mp4", 99);
    recorded(&world, "closed/b.mp4", 99);
    set_mode(&world.path("closed"), 0o000);
    let daemon = unprivileged(&world).arg("--once").start();
    let (message, _) = said_at_the_end(&daemon, 1);
    assert!(message.contains("not everything is completed: 1 "), "{message}");
    let closed = world.path("closed");
    let said = daemon.wait_event_of("notice", &closed, DEADLINE);
    assert!(said.message().unwrap().contains("Permission denied"), "{said}");
    assert!(said.text("hint").unwrap().contains("chmod"), "{said}");
    world.assert_identical(&found);
    set_mode(&closed, 0o755);
}

/// Whoever deletes the recordings after exit code 0 must not lose what was not uploaded.
#[test]
fn once_that_is_stopped_before_everything_is_completed_exits_1() {
    let world = World::local();
    let live = record_until(world.path("live.mp4"), Style::Append, 2 * LOCAL_PART, LOCAL_PART);
    let daemon = world.daemon().arg("--once").start();
    wait_part(&daemon, &world.path("live.mp4"), 1);
    daemon.process().signal(libc::SIGTERM);
    let (message, hint) = said_at_the_end(&daemon, 1);
    assert!(message.contains("stopped before everything was completed"), "{message}");
    assert!(hint.contains("again"), "{hint}");
    live.go_on();
    let live = live.wait();
    assert_eq!(world.once(), Some(0));
    world.assert_identical(&live);
}

// Signals

/// Stops while a part is under way: the part ends, and is remembered.
fn stops_orderly(bucket: &str, signal: i32) {
    let world = World::s3(bucket);
    let path = world.path("a.mp4");
    let held = world.proxy().inject(When::op(Op::UploadPart), Fault::HoldAnswer);
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART, S3_PART + 9);
    let mut daemon = world.start();
    held.wait_hits(1, DEADLINE);
    daemon.process().signal(signal);
    daemon.wait_event("the stop", DEADLINE, |line| line.message().is_some_and(|text| text.starts_with("stopping: ")));
    held.lift();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    wait_part(&daemon, &path, 1);
    let (_, json, _) = text(&world.command(&["status", "--json"]));
    let streams: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&streams[0]["parts_sent"], &streams[0]["state"]), (&1.into(), &"active".into()), "{json}");

    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1]);
}

#[test]
fn sigterm_lets_parts_in_flight_end() {
    stops_orderly("stop-term", libc::SIGTERM);
}

#[test]
fn sigint_lets_parts_in_flight_end() {
    stops_orderly("stop-int", libc::SIGINT);
}

#[test]
fn a_stop_is_bounded_and_a_second_signal_ends_at_once() {
    let world = World::s3("stop-bounded");
    let path = world.path("a.mp4");
    let held = world.proxy().inject(When::op(Op::UploadPart), Fault::HoldAnswer);
    let recording = record_until(path.clone(), Style::Append, S3_PART + 9, S3_PART);
    let mut daemon = world.start();
    held.wait_hits(1, DEADLINE);
    let stopping = |daemon: &Running| {
        daemon.process().signal(libc::SIGINT);
        daemon
            .wait_event("the stop", DEADLINE, |line| line.message().is_some_and(|text| text.starts_with("stopping: ")))
    };
    stopping(&daemon);
    let second = Instant::now();
    daemon.process().signal(libc::SIGTERM);
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(130));
    assert!(second.elapsed() < Duration::from_secs(10), "{:?}", second.elapsed());

    // Once alone: it ends by itself, and says what it left.
    world.proxy().inject(When::op(Op::ListParts), Fault::HoldAnswer);
    daemon.restart();
    world.proxy().wait_for("the parts to be listed", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.op == Op::ListParts)
    });
    stopping(&daemon);
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    daemon.wait_event("what was left", DEADLINE, |line| {
        line.event() == Some("notice") && line.text("hint").is_some_and(|hint| hint.contains("nothing is lost"))
    });

    world.proxy().heal();
    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
}

// Status and HTTP

#[test]
fn status_and_http_tell_of_streams_while_it_runs_and_after() {
    let world = World::local();
    let done = recorded(&world, "done.mp4", LOCAL_PART + 9);
    let live = record_until(world.path("live.mp4"), Style::Append, 3 * LOCAL_PART, 2 * LOCAL_PART + 9);
    let daemon = world.start();
    wait_completed(&daemon, &done.path);
    wait_part(&daemon, live.path(), 2);
    daemon.wait_answers("/readyz", DEADLINE);
    daemon.wait_answers("/healthz", DEADLINE);

    let streams = daemon.api_streams();
    let of = |streams: &[Value], path: &Path| {
        let path = path.to_str().unwrap();
        streams.iter().find(|stream| stream["path"] == path).unwrap_or_else(|| panic!("{path}: {streams:?}")).clone()
    };
    let (done_view, live_view) = (of(&streams, &done.path), of(&streams, live.path()));
    assert_eq!(done_view["state"], "completed");
    assert_eq!(done_view["uploaded_bytes"], LOCAL_PART + 9);
    assert_eq!(live_view["state"], "active");
    assert_eq!(live_view["parts_sent"], 2);
    assert_eq!((&live_view["node"], &live_view["key"]), (&"test".into(), &"live.mp4".into()));
    for view in [&done_view, &live_view] {
        let one = daemon.get(&format!("/api/streams/{}", view["id"].as_str().unwrap()));
        let one: Value = serde_json::from_str(&one.text()).unwrap();
        assert_eq!((&one["id"], &one["state"], &one["path"]), (&view["id"], &view["state"], &view["path"]));
    }
    assert_eq!(daemon.get("/api/streams/01920000-0000-7000-8000-000000000000").status, 404);

    let metrics = daemon.get("/metrics").text();
    for line in ["reeltime_streams_discovered_total 2", "reeltime_streams_completed_total 1", "# EOF"] {
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }

    let status = || -> Vec<Value> {
        let (code, json, error) = text(&world.command(&["status", "--json"]));
        assert_eq!(code, Some(0), "{error}");
        serde_json::from_str(&json).unwrap()
    };
    assert_eq!(of(&status(), live.path())["state"], "active");
    live.go_on();
    let live = live.wait();
    wait_completed(&daemon, &live.path);
    assert_eq!(daemon.terminate(DEADLINE).code(), Some(0));
    let after = status();
    assert!(after.iter().all(|stream| stream["state"] == "completed"), "{after:?}");
    assert_eq!(after.len(), 2);
    let (_, table, _) = text(&world.command(&["status"]));
    assert!(table.ends_with("0 active, 0 pending_completion, 2 completed, 0 failed\n"), "{table}");
}

#[test]
fn a_second_process_with_the_same_state_is_told_who_has_it() {
    let world = World::local();
    let first = world.start();
    first.wait_answers("/readyz", DEADLINE);
    let second = world.start();
    let (message, hint) = said_at_the_end(&second, 1);
    let pid = format!("process {} (node test, since ", first.process().pid());
    assert!(message.contains(&pid) && message.contains("state.db"), "{message}");
    assert!(hint.contains("--state"), "{hint}");
    let finished = recorded(&world, "a.mp4", 99);
    wait_completed(&first, &finished.path);
}

// The destination

#[test]
fn a_bucket_that_is_missing_or_forbidden_ends_the_start() {
    let world = World::s3_without_bucket("missing-bucket");
    let (message, hint) = said_at_the_end(&world.start(), 1);
    assert!(message.contains("s3://missing-bucket") && message.contains("NoSuchBucket"), "{message}");
    assert!(hint.contains("aws s3 mb s3://missing-bucket"), "{hint}");

    world.proxy().inject(When::any(), Fault::access_denied());
    let (message, hint) = said_at_the_end(&world.start(), 1);
    assert!(message.contains("s3://missing-bucket") && message.contains("AccessDenied"), "{message}");
    assert!(hint.contains("s3:ListBucket"), "{hint}");
}

#[test]
fn a_directory_that_may_not_be_written_ends_the_start() {
    let world = World::local();
    fs::create_dir(world.beside("out")).unwrap();
    set_mode(&world.beside("out"), 0o555);
    let (message, hint) = said_at_the_end(&unprivileged(&world).start(), 1);
    assert!(message.contains("/out: Permission denied"), "{message}");
    assert!(hint.contains("chown"), "{hint}");
}

/// The client itself waits half a minute for an answer.
#[test]
fn a_store_that_never_answers_delays_neither_health_nor_stop() {
    let world = World::s3("silent-at-start");
    let silent = world.proxy().inject(When::any(), Fault::BlackHole);
    let daemon = world.start();
    silent.wait_hits(1, DEADLINE);
    let begin = Instant::now();
    daemon.wait_answers("/healthz", DEADLINE);
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.terminate(DEADLINE).code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

// What lies in the directories

#[test]
fn a_file_that_becomes_readable_is_picked_up() {
    let world = World::local();
    let daemon = unprivileged(&world).start();
    daemon.wait_answers("/readyz", DEADLINE);
    let hidden = world.beside("a.mp4");
    let mut finished = Synthetic::into(&hidden, Style::Append, LOCAL_PART + 9).start().wait();
    set_mode(&hidden, 0o000);
    finished.path = world.path("a.mp4");
    fs::rename(&hidden, &finished.path).unwrap();
    let failed = daemon.wait_event_of("failed", &finished.path, DEADLINE);
    assert_eq!(failed.text("reason"), Some("source_unreadable"));
    let view = &daemon.api_streams()[0];
    assert_eq!((&view["state"], &view["reason"]), (&"failed".into(), &"source_unreadable".into()), "{view}");

    set_mode(&finished.path, 0o644);
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(failures(&daemon).len(), 1);
}

/// Makes everything that may be called `x.mp4` and is no recording. The names, and what they
/// are said to be.
fn oddities(world: &World, prefix: &str) -> Vec<(PathBuf, &'static str)> {
    let name = |kind: &str| world.path(&format!("{prefix}-{kind}.mp4"));
    let outside = world.beside(&format!("{prefix}-outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.mp4"), "not to be uploaded").unwrap();
    symlink(outside.join("secret.mp4"), name("file-link")).unwrap();
    symlink(&outside, name("directory-link")).unwrap();
    symlink(&outside, world.path(&format!("{prefix}-linked-directory"))).unwrap();
    symlink(world.beside("nowhere"), name("dangling-link")).unwrap();
    fs::create_dir(name("directory")).unwrap();
    drop(UnixListener::bind(name("socket")).unwrap());
    let mut all = vec![
        (name("file-link"), "a symbolic link"),
        (name("directory-link"), "a symbolic link"),
        (name("dangling-link"), "a symbolic link"),
        (name("directory"), "a directory"),
        (name("socket"), "a socket"),
    ];
    let make = |path: &Path, kind: &[&str]| {
        std::process::Command::new("mknod").arg(path).args(kind).output().unwrap().status.success()
    };
    assert!(make(&name("fifo"), &["p"]));
    all.push((name("fifo"), "a named pipe"));
    if make(&name("device"), &["c", "1", "3"]) {
        assert!(name("device").symlink_metadata().unwrap().file_type().is_char_device());
        all.push((name("device"), "a device"));
    } else {
        println!("no right to make a device here");
    }
    all
}

#[test]
fn what_is_no_file_is_said_once_and_neither_opened_nor_followed() {
    let world = World::local();
    let mut odd = oddities(&world, "before");
    let mut daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    odd.extend(oddities(&world, "during"));
    for (path, kind) in &odd {
        let said = daemon.wait_event_of("notice", path, DEADLINE);
        assert!(said.message().unwrap().contains(&format!(" is {kind}, not a file, and is ignored")), "{said}");
        assert!(said.text("hint").is_some(), "{said}");
    }
    // It goes on working, and looks through everything again several times meanwhile.
    let finished = record_until(world.path("a.mp4"), Style::Append, LOCAL_PART * 2, LOCAL_PART);
    wait_part(&daemon, finished.path(), 1);
    for round in 0..3 {
        fs::write(world.path(&format!("during-directory.mp4/{round}.mp4")), [round]).unwrap();
        wait_completed(&daemon, &world.path(&format!("during-directory.mp4/{round}.mp4")));
    }
    finished.go_on();
    let finished = finished.wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);

    for (path, _) in &odd {
        let notices =
            daemon.events().iter().filter(|line| line.event() == Some("notice") && line.path() == Some(path)).count();
        assert_eq!(notices, 1, "{}", path.display());
        let key = path.file_name().unwrap().to_str().unwrap();
        assert!(world.beside("out").join(key).symlink_metadata().is_err() || path.is_dir(), "{key}");
    }
    for prefix in ["before", "during"] {
        assert_eq!(world.sha256(&format!("{prefix}-linked-directory/secret.mp4")), None);
        assert_eq!(world.sha256(&format!("{prefix}-directory-link.mp4/secret.mp4")), None);
        assert_eq!(
            fs::read_to_string(world.beside(&format!("{prefix}-outside/secret.mp4"))).unwrap(),
            "not to be uploaded"
        );
    }
    assert_eq!(failures(&daemon), Vec::<String>::new());
    daemon.restart();
    daemon.wait_answers("/readyz", DEADLINE);
    assert_eq!(daemon.terminate(DEADLINE).code(), Some(0));
    assert_eq!(world.once(), Some(0), "what is no recording is no failure");
}
