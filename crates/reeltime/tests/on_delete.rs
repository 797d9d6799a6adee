//! `--on-delete`: what becomes of a recording whose file is deleted while it is uploaded.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs;

use testkit::recorders::synthetic::Style;
use testkit::servers::Provider;

use world::{DEADLINE, World, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    abort_drops_what_was_uploaded_of_a_deleted_recording
    finish_uploads_a_deleted_recording_to_its_end
}

/// Deleted with one part stored, and recorded on to its end.
fn deleted_under(world: &World) {
    let path = world.path("a.mp4");
    let part = world.part_bytes();
    let recording = record_until(path.clone(), Style::Append, 3 * part, part + 99);
    let mut daemon = world.daemon().args(["--on-delete", "abort"]).start();
    wait_part(&daemon, &path, 1);
    fs::remove_file(&path).unwrap();
    let failed = daemon.wait_event_of("failed", &path, DEADLINE);
    assert_eq!(failed.text("reason"), Some("source_missing"));
    recording.go_on();
    recording.wait();
    assert_eq!(world.leftovers(), Vec::<String>::new());
    daemon.restart();
    daemon.wait_answers("/readyz", DEADLINE);
    daemon.terminate(DEADLINE);
    assert_eq!(world.sha256("a.mp4"), None);
    let told = world.told_of(&path).unwrap();
    assert_eq!((told.state.as_str(), told.upload.as_str()), ("failed", "none"));
}

fn abort_drops_what_was_uploaded_of_a_deleted_recording(provider: Provider) {
    deleted_under(&World::at(provider));
}

#[test]
fn abort_does_the_same_in_a_directory() {
    deleted_under(&World::local());
}

fn finish_uploads_a_deleted_recording_to_its_end(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let part = world.part_bytes();
    let recording = record_until(path.clone(), Style::Append, 3 * part, part + 99);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    fs::remove_file(&path).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    assert_eq!(world.sha256("a.mp4"), Some(finished.sha256));
}

/// A name that is gone is no deletion, and what is complete stays.
#[test]
fn abort_lets_a_renamed_recording_and_a_completed_one_be() {
    let world = World::local();
    let daemon = world.daemon().env("REELTIME_ON_DELETE", "abort").start();
    daemon.wait_answers("/readyz", DEADLINE);
    fs::create_dir(world.path("cam")).unwrap();
    let part = world.part_bytes();
    let recording = record_until(world.path("a.mp4.part"), Style::Append, 3 * part, part + 99);
    wait_part(&daemon, recording.path(), 1);
    fs::rename(world.path("a.mp4.part"), world.path("cam/b.mp4")).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &world.path("cam/b.mp4"));
    fs::remove_file(world.path("cam/b.mp4")).unwrap();
    assert_eq!(world.sha256("cam/b.mp4"), Some(finished.sha256.clone()));
    daemon.terminate(DEADLINE);
    assert_eq!(world.once(), Some(0));
    assert_eq!(world.sha256("cam/b.mp4"), Some(finished.sha256));
}

#[test]
fn another_word_is_refused() {
    let world = World::local();
    let output = world.command(&["run", "rec", "--to", "out", "--on-delete", "keep"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("--on-delete: \"keep\" is not one of the choices") && stderr.contains("finish or abort"),
        "{stderr}"
    );
}
