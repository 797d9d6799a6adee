//! Recordings that nobody touches any more and nobody renames, between a real store and a real Redis:
//! the stream becomes `pending_completion`, is finalized and `completed`, whatever is missing by then.
//!
//! A file's last change cannot be moved into the past (its inode says when it was). So the
//! first run waits for an hour, and the second one, which finds the file, for a second.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod inside;
#[path = "../world/mod.rs"]
mod world;

use std::fs::{self, File};
use std::path::Path;

use testkit::daemon::Running;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Finished, Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, MIB, S3_PART, Told, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_stale_stream_becomes_pending_and_is_finalized
    a_stale_empty_file_is_completed_as_an_empty_object
    an_upload_without_parts_and_without_a_file_is_aborted
    a_file_that_is_missing_at_its_finalization_is_a_failure_with_that_reason
    a_missing_upload_id_is_found_in_the_store
    what_a_writer_has_open_is_not_stale
    a_stream_that_becomes_stale_while_the_store_is_away_is_finalized_afterwards
    a_stream_that_becomes_stale_while_the_state_is_away_is_finalized_and_then_remembered
}

const KEY: &str = "a.mp4";
const TEMP_NAME: &str = "a.mp4.part";

/// A reeltime for which a recording is stale after a second.
fn impatient(world: &World) -> Running {
    world.daemon().args(["--idle-timeout", "1s"]).start()
}

/// A recording whose recorder has gone without renaming it, as a run left it that was killed
/// when two of its three parts were stored and remembered.
fn abandoned(world: &World) -> (Finished, Told) {
    let patient = world.daemon().args(["--idle-timeout", "1h"]).start();
    let finished = Synthetic::into(world.path(TEMP_NAME), Style::Append, 2 * S3_PART + MIB).start().wait();
    let told = world.wait_told("two parts", &finished.path, |told| told.parts.len() == 2 && told.upload == "open");
    assert_eq!((told.state.as_str(), told.key.as_str()), ("active", KEY));
    assert_eq!(world.proxy().count(Op::CompleteMultipartUpload), 0);
    patient.kill();
    (finished, told)
}

/// It is the object, described, and remembered; every part was sent once, into one upload.
#[track_caller]
fn assert_finalized(world: &World, daemon: &Running, finished: &Finished) {
    wait_completed(daemon, &finished.path);
    let told = world.wait_state(&finished.path, "completed");
    assert_eq!((&told.reason, told.size_bytes), (&None, finished.size_bytes));
    assert_eq!(told.numbers(), [1, 2, 3], "what is completed is remembered in full");
    assert_eq!(world.sha256(KEY).as_ref(), Some(&finished.sha256));
    assert!(world.bytes("a.mp4.metadata.json").is_some());
    assert_eq!((world.sent(KEY), world.uploads_used(KEY).len()), (vec![1, 1, 1], 1));
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(daemon), world.leftovers()), (vec![], vec![]));
}

/// It was given up because its file is gone, and nothing of it is left in the store.
#[track_caller]
fn assert_given_up(world: &World, daemon: &Running, path: &Path) {
    daemon.wait_event_of("failed", path, DEADLINE);
    let told = world.wait_state(path, "failed");
    assert_eq!((told.reason.as_deref(), told.upload.as_str()), (Some("source_missing"), "none"));
    assert_eq!((world.sha256(KEY), world.leftovers()), (None, vec![]));
}

/// Takes the file away, and leaves another one: an empty source is taken for one that is not
/// mounted.
fn remove_alone(world: &World, path: &Path) {
    fs::write(world.path("other.txt"), "").unwrap();
    fs::remove_file(path).unwrap();
}

fn a_stale_stream_becomes_pending_and_is_finalized(provider: Provider) {
    let world = World::at(provider);
    let (finished, before) = abandoned(&world);
    let held = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::Hold);
    let daemon = impatient(&world);
    held.wait_hits(1, DEADLINE);
    let pending = world.wait_state(&finished.path, "pending_completion");
    assert_eq!((pending.upload_id, pending.parts.len()), (before.upload_id, 3), "its tail was sent");
    assert_eq!(world.bytes("a.mp4.metadata.json"), None, "what is not complete is not described");
    held.lift();
    assert_finalized(&world, &daemon, &finished);
    assert_eq!(world.told_of(&finished.path).unwrap().parts, pending.parts);
}

fn a_stale_empty_file_is_completed_as_an_empty_object(provider: Provider) {
    let world = World::at(provider);
    let path = world.path(TEMP_NAME);
    drop(File::create(&path).unwrap());
    let daemon = impatient(&world);
    wait_completed(&daemon, &path);
    let told = world.wait_state(&path, "completed");
    assert_eq!((told.size_bytes, told.parts.len()), (0, 0));
    assert_eq!(world.bytes(KEY), Some(vec![]));
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 0);
}

fn an_upload_without_parts_and_without_a_file_is_aborted(provider: Provider) {
    let world = World::at(provider);
    let held = world.proxy().inject(When::op(Op::UploadPart), Fault::Hold);
    let patient = world.daemon().args(["--idle-timeout", "1h"]).start();
    let path = world.path(TEMP_NAME);
    Synthetic::into(&path, Style::Append, S3_PART).start().wait();
    held.wait_hits(1, DEADLINE);
    let told = world.wait_told("its upload", &path, |told| told.upload == "open");
    assert!(told.parts.is_empty(), "{told:?}");
    patient.kill();
    world.proxy().heal();
    assert_eq!(world.leftovers().len(), 1);
    remove_alone(&world, &path);
    assert_given_up(&world, &impatient(&world), &path);
}

fn a_file_that_is_missing_at_its_finalization_is_a_failure_with_that_reason(provider: Provider) {
    let world = World::at(provider);
    let (finished, _) = abandoned(&world);
    assert_eq!(world.leftovers().len(), 1);
    remove_alone(&world, &finished.path);
    assert_given_up(&world, &impatient(&world), &finished.path);
}

fn a_missing_upload_id_is_found_in_the_store(provider: Provider) {
    let world = World::at(provider);
    let (finished, told) = abandoned(&world);
    world.state.forget_upload_id(&told.id);
    assert_eq!(world.told_of(&finished.path).unwrap().upload_id, None);
    assert_finalized(&world, &impatient(&world), &finished);
}

/// Two others become stale one after the other meanwhile: it is not for lack of time.
fn what_a_writer_has_open_is_not_stale(provider: Provider) {
    let world = World::at(provider);
    let path = world.path(TEMP_NAME);
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = impatient(&world);
    wait_part(&daemon, &path, 1);
    for name in ["first.mp4.part", "second.mp4.part"] {
        let other = Synthetic::into(world.path(name), Style::Append, 99).start().wait();
        wait_completed(&daemon, &other.path);
    }
    assert_eq!(world.told_of(&path).unwrap().state, "active");
    assert_eq!(world.proxy().count(Op::CompleteMultipartUpload), 0);
    recording.go_on();
    let finished = recording.wait();
    assert_finalized(&world, &daemon, &finished);
}

fn a_stream_that_becomes_stale_while_the_store_is_away_is_finalized_afterwards(provider: Provider) {
    let world = World::at(provider);
    let (finished, before) = abandoned(&world);
    world.proxy().go_down();
    let daemon = impatient(&world);
    daemon.wait_event_of("retrying", &finished.path, DEADLINE);
    let told = world.told_of(&finished.path).unwrap();
    assert_ne!(told.state, "failed");
    assert_eq!((told.upload_id, told.parts), (before.upload_id, before.parts), "what is stored is kept");
    world.proxy().come_up();
    assert_finalized(&world, &daemon, &finished);
}

fn a_stream_that_becomes_stale_while_the_state_is_away_is_finalized_and_then_remembered(provider: Provider) {
    let world = World::at(provider);
    let path = world.path(TEMP_NAME);
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, 2 * S3_PART);
    let daemon = impatient(&world);
    world.wait_told("two parts", &path, |told| told.parts.len() == 2);
    let away = world.state.take_away();
    recording.go_on();
    let finished = recording.wait();
    daemon.wait_event_of("retrying", &path, DEADLINE);
    daemon.process().wait_until("the document", DEADLINE, || world.bytes("a.mp4.metadata.json").is_some());
    assert_eq!(world.told_of(&path).unwrap().state, "active", "nothing could be written");
    let announced = daemon.events().iter().filter(|line| line.event() == Some("completed")).count();
    assert_eq!(announced, 0, "what is not remembered is not announced");
    drop(away);
    assert_finalized(&world, &daemon, &finished);
}
