//! `reeltime salvage`: the machine is lost with its recordings, and what it had uploaded becomes
//! objects.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::daemon::Running;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Recording, Style};
use testkit::servers::Provider;

use world::{
    DEADLINE, LOCAL_PART, MIB, S3_PART, StateStore, World, record_until, wait_carried_out, wait_completed, wait_part,
};

testkit::on_every_store! {
    what_a_lost_machine_had_uploaded_becomes_the_object
    what_lies_behind_a_gap_is_missing_at_the_end
    nothing_stored_is_said_and_leaves_nothing
    an_object_that_was_completed_and_not_written_down_is_found
    what_is_not_lost_is_refused
}

const KEY: &str = "cam/a.mp4";

/// A reeltime that sends tails at once, at work on a recording that is held after so many bytes.
fn at_work(world: &World, held_at: u64) -> (Running, Recording) {
    fs::create_dir(world.path("cam")).unwrap();
    let recording = record_until(world.path(KEY), Style::Append, 4 * S3_PART, held_at);
    let daemon = world.daemon().args(["--tail-flush", "300ms"]).start();
    (daemon, recording)
}

/// The machine is gone; answers the first `bytes` of what it had recorded.
fn lose(world: &World, daemon: &Running, bytes: u64) -> Vec<u8> {
    daemon.kill();
    let mut recorded = fs::read(world.path(KEY)).unwrap();
    recorded.truncate(bytes as usize);
    fs::rename(world.recordings(), world.beside("away with its machine")).unwrap();
    recorded
}

fn salvage(world: &World, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let Output { status, stdout, stderr } =
        world.mend(&[&["salvage", "--json", "--as", "saver", "--node", "test", "--yes"], more].concat());
    let lines = String::from_utf8(stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (status.code(), lines, String::from_utf8(stderr).unwrap())
}

fn what_a_lost_machine_had_uploaded_becomes_the_object(provider: Provider) {
    let world = World::at(provider);
    let held_at = 2 * S3_PART + MIB;
    let (daemon, recording) = at_work(&world, held_at);
    for part in [1, 2, 3] {
        wait_part(&daemon, recording.path(), part);
    }
    let recorded = lose(&world, &daemon, held_at);
    drop(recording);

    let (code, lines, stderr) = salvage(&world, &[]);
    assert_eq!((code, lines.len()), (Some(0), 1), "{stderr}");
    assert_eq!((&lines[0]["outcome"], &lines[0]["key"]), (&"completed".into(), &KEY.into()));
    assert_eq!((&lines[0]["size_bytes"], &lines[0]["missing_bytes"]), (&held_at.into(), &0.into()));
    assert!(world.bytes(KEY).unwrap() == recorded, "the object is what was recorded up to the last part");
    assert_eq!(world.leftovers(), Vec::<String>::new());

    let told = world.state.streams().pop().unwrap();
    assert_eq!((told.state.as_str(), told.node.as_str(), told.upload.as_str()), ("completed", "saver", "none"));
    assert_eq!((told.size_bytes, told.numbers()), (held_at, vec![1, 2, 3]));
    let document: Value = serde_json::from_slice(&world.bytes(&format!("{KEY}.metadata.json")).unwrap()).unwrap();
    assert!(document["probe_error"].as_str().unwrap().contains("salvaged without its file"), "{document:#}");
    assert_eq!((&document["node"], &document["total_size_bytes"]), (&"saver".into(), &held_at.into()));
    assert_eq!(document["chunks"].as_array().unwrap().len(), 3);

    let (code, lines, _) = salvage(&world, &[]);
    assert_eq!((code, lines.len()), (Some(0), 0), "there is nothing left to salvage");

    // The machine comes back after all.
    fs::rename(world.beside("away with its machine"), world.recordings()).unwrap();
    fs::remove_file(world.path(KEY)).unwrap(); // that recorder never ends
    let whole = testkit::recorders::synthetic::Synthetic::into(world.path(KEY), Style::Append, 4 * S3_PART);
    let whole = whole.start().wait();
    let daemon = world.start();
    wait_completed(&daemon, &whole.path);
    world.assert_identical(&whole);
}

fn what_lies_behind_a_gap_is_missing_at_the_end(provider: Provider) {
    let world = World::at(provider);
    world.proxy().inject(When::op(Op::UploadPart).part(2), Fault::Hold);
    let (daemon, recording) = at_work(&world, 3 * S3_PART + MIB);
    for part in [1, 3] {
        wait_part(&daemon, recording.path(), part);
    }
    let recorded = lose(&world, &daemon, S3_PART);
    world.proxy().heal();
    // With nobody's word that it is lost: a lease ends by itself.
    let began = Instant::now();
    let (code, lines, stderr) = loop {
        let Output { status, stdout, stderr } = world.mend(&["salvage", "--json", "--as", "saver", "--node", "test"]);
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        if !stderr.contains("is not lost") {
            let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            break (status.code(), lines, stderr);
        }
        assert!(began.elapsed() < DEADLINE, "{stderr}");
        std::thread::sleep(Duration::from_millis(500)); // between two looks
    };
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(lines[0]["size_bytes"], S3_PART);
    let missing = lines[0]["missing_bytes"].as_u64().unwrap();
    assert!((2 * S3_PART..=2 * S3_PART + MIB).contains(&missing), "at least as far as part 3 reached: {missing}");
    assert!(world.bytes(KEY).unwrap() == recorded);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn nothing_stored_is_said_and_leaves_nothing(provider: Provider) {
    let world = World::at(provider);
    let held = world.proxy().inject(When::op(Op::UploadPart), Fault::Hold);
    let (daemon, recording) = at_work(&world, S3_PART + MIB);
    held.wait_hits(1, DEADLINE);
    let open = world.wait_told("its upload to be remembered", recording.path(), |told| told.upload == "open");
    lose(&world, &daemon, 0);
    world.proxy().heal();
    let (code, lines, stderr) = salvage(&world, &[]);
    assert_eq!(
        (code, &lines[0]["outcome"], &lines[0]["size_bytes"]),
        (Some(1), &"failed".into(), &0.into()),
        "{stderr}"
    );
    assert!(stderr.contains("1 of 1 streams were not completed"), "{stderr}");
    assert_eq!(world.bytes(KEY), None);
    assert_eq!(world.stored_parts(KEY, &open.upload_id.unwrap()), None);
    let told = world.state.streams().pop().unwrap();
    assert_eq!((told.state.as_str(), told.reason.as_deref()), ("failed", Some("source_missing")));
}

fn an_object_that_was_completed_and_not_written_down_is_found(provider: Provider) {
    let world = World::at(provider);
    world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::HoldAnswer);
    let (daemon, recording) = at_work(&world, S3_PART);
    wait_part(&daemon, recording.path(), 1);
    recording.go_on();
    let finished = recording.wait();
    wait_carried_out(world.proxy(), Op::CompleteMultipartUpload);
    lose(&world, &daemon, 0);
    world.proxy().heal();
    let (code, lines, stderr) = salvage(&world, &[]);
    assert_eq!((code, &lines[0]["size_bytes"]), (Some(0), &(4 * S3_PART).into()), "{stderr}");
    assert_eq!(world.sha256(KEY), Some(finished.sha256));
    assert!(world.sha256(&format!("{KEY}.metadata.json")).is_some());
    assert_eq!(world.state.streams().pop().unwrap().state, "completed");
}

fn what_is_not_lost_is_refused(provider: Provider) {
    let world = World::at(provider);
    let (daemon, recording) = at_work(&world, S3_PART + MIB);
    wait_part(&daemon, recording.path(), 2);
    let before = world.state.streams();
    let refused = world.mend(&["salvage", "--as", "saver", &before[0].id]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    let why = if let StateStore::Sqlite(_) = world.state { "is held by" } else { "say so with --yes" };
    assert!(stderr.contains(why), "{stderr}");
    daemon.kill();

    let (code, lines, stderr) = salvage(&world, &[]);
    assert_eq!((code, &lines[0]["outcome"]), (Some(1), &"refused".into()), "{stderr}");
    assert!(lines[0]["error"].as_str().unwrap().contains("is on this machine"), "{lines:?}");
    assert!(stderr.contains("hint: start `reeltime run` with --node test"), "{stderr}");
    assert_eq!(world.state.streams(), before, "nothing was changed");
    drop(recording);
}

#[test]
fn a_destination_that_is_a_directory_is_salvaged_as_a_bucket_is() {
    let world = World::local();
    let held_at = 2 * LOCAL_PART + 9;
    fs::create_dir(world.path("cam")).unwrap();
    let recording = record_until(world.path(KEY), Style::Append, 4 * LOCAL_PART, held_at);
    let daemon = world.daemon().args(["--tail-flush", "300ms"]).start();
    wait_part(&daemon, recording.path(), 3);
    let recorded = lose(&world, &daemon, held_at);
    let output = world.mend(&["salvage", "--as", "saver", "--node", "test"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains(&format!("{KEY}: {held_at} bytes; nothing is known to be missing\n")), "{said}");
    assert!(said.ends_with("\n1 of 1 streams completed\n"), "{said}");
    assert!(world.bytes(KEY).unwrap() == recorded);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_id_that_is_none_or_unknown_is_told() {
    let world = World::s3("salvage-ids");
    assert_eq!(world.once(), Some(0));
    for (args, code, message) in [
        (&["salvage"][..], 2, "ID"),
        (&["salvage", "x"], 2, "`reeltime salvage --help`"),
        (&["salvage", "01990000-0000-7000-8000-000000000000", "--node", "a"], 2, "--node"),
        (&["salvage", "01990000-0000-7000-8000-000000000000"], 1, "does not have stream 01990000"),
    ] {
        let output = world.mend(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}
