//! The built binary between a real store and a real Redis, killed at every moment that matters, and
//! started again: the object is the recording, nothing that the store has is sent twice, and nothing
//! is left over.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod finalization;
mod lost_state;
mod replaced;
mod states;
#[path = "../world/mod.rs"]
mod world;

use std::fs;

use testkit::daemon::Running;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, KIB, MIB, S3_PART, World, record_until, wait_carried_out, wait_completed, wait_part};

testkit::on_every_store! {
    after_kills_while_recording_only_missing_parts_are_sent
    a_recording_that_ended_while_reeltime_was_down_is_finished_by_its_tail_and_its_head
    a_part_that_was_under_way_at_the_kill_is_sent_again
    a_part_that_the_store_has_and_the_checkpoint_does_not_is_found_in_the_store
    an_upload_whose_answer_was_lost_with_the_process_is_found_and_used
    what_is_completed_stays_so_however_often_reeltime_starts
    a_part_that_was_found_in_the_store_is_remembered_before_the_completion
    killed_after_the_upload_was_created_and_before_any_part
}

/// However often it is started again, nothing is written to the store.
#[track_caller]
fn assert_at_rest(world: &World, daemon: &Running) {
    assert_eq!(daemon.terminate(DEADLINE).code(), Some(0));
    let writes = world.writes();
    for _ in 0..3 {
        assert_eq!(world.once(), Some(0));
    }
    assert_eq!(world.writes(), writes, "what is completed is not uploaded again");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn after_kills_while_recording_only_missing_parts_are_sent(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("cam/a.mp4");
    fs::create_dir(world.path("cam")).unwrap();
    let recording = record_until(path.clone(), Style::Append, 4 * S3_PART + MIB, 2 * S3_PART + MIB);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait_part(&daemon, &path, 2);
    daemon.kill();

    // Recorded while nobody watched.
    recording.go_on_until(3 * S3_PART + MIB);
    recording.wait_held(DEADLINE);
    daemon.restart();
    wait_part(&daemon, &path, 3);
    daemon.restart(); // between two parts

    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("cam/a.mp4"), [1, 1, 1, 1, 1]);
    assert_eq!(world.uploads_used("cam/a.mp4").len(), 1);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_at_rest(&world, &daemon);
}

fn a_recording_that_ended_while_reeltime_was_down_is_finished_by_its_tail_and_its_head(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let style = Style::RewriteHead { head_bytes: 48, every_bytes: u64::MAX };
    let recording = record_until(path.clone(), style, 2 * S3_PART + MIB, 2 * S3_PART);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 2);
    wait_part(&daemon, &path, 1);
    daemon.kill();

    recording.go_on();
    let finished = recording.wait();
    daemon.restart();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [2, 1, 1], "the head was rewritten, the tail was missing");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_at_rest(&world, &daemon);
}

/// Kills while a part is under way, and tells how often each part was sent in the end.
fn killed_with_part_two(world: &World, fault: Fault, wait: impl FnOnce()) -> Vec<usize> {
    let path = world.path("a.mp4");
    world.proxy().inject(When::op(Op::UploadPart).part(2), fault);
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, 2 * S3_PART);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait();
    daemon.kill();
    world.proxy().heal();
    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    world.sent("a.mp4")
}

fn a_part_that_was_under_way_at_the_kill_is_sent_again(provider: Provider) {
    let world = World::at(provider);
    let half = Fault::Throttle { bytes_per_second: 64 * KIB };
    let under_way = |log: &[testkit::proxy::Logged]| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.body_bytes > 0)
    };
    let wait = || world.proxy().wait_for("half of part 2", DEADLINE, under_way);
    assert_eq!(killed_with_part_two(&world, half, wait), [1, 2, 1]);
}

fn a_part_that_the_store_has_and_the_checkpoint_does_not_is_found_in_the_store(provider: Provider) {
    let world = World::at(provider);
    let wait = || wait_carried_out(world.proxy(), Op::UploadPart);
    assert_eq!(killed_with_part_two(&world, Fault::HoldAnswer, wait), [1, 1, 1]);
}

fn an_upload_whose_answer_was_lost_with_the_process_is_found_and_used(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    world.proxy().inject(When::op(Op::CreateMultipartUpload), Fault::HoldAnswer);
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let mut daemon = world.start();
    wait_carried_out(world.proxy(), Op::CreateMultipartUpload);
    daemon.kill();
    assert_eq!(world.leftovers().len(), 1);
    world.proxy().heal();

    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_at_rest(&world, &daemon);
}

fn what_is_completed_stays_so_however_often_reeltime_starts(provider: Provider) {
    let world = World::at(provider);
    fs::create_dir_all(world.path("cam/1")).unwrap();
    let sizes = [("empty.mp4", 0), ("small.mp4", 99), ("cam/part.mp4", S3_PART), ("cam/1/parts.mp4", S3_PART + 1)];
    let finished: Vec<_> = sizes
        .iter()
        .map(|(name, bytes)| Synthetic::into(world.path(name), Style::Append, *bytes).seed(*bytes).start().wait())
        .collect();
    let daemon = world.start();
    for finished in &finished {
        wait_completed(&daemon, &finished.path);
        world.assert_identical(finished);
    }
    assert_at_rest(&world, &daemon);
}

/// Once an upload is completed, the store does not list its parts any more: what the checkpoint
/// did not know of them by then would be lost, and the whole recording be sent again.
fn a_part_that_was_found_in_the_store_is_remembered_before_the_completion(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    world.proxy().inject(When::op(Op::UploadPart).part(2), Fault::HoldAnswer);
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, 2 * S3_PART);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait_carried_out(world.proxy(), Op::UploadPart);
    daemon.kill();
    world.proxy().heal();

    world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::HoldAnswer);
    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_carried_out(world.proxy(), Op::CompleteMultipartUpload);
    daemon.kill();
    world.proxy().heal();

    daemon.restart();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
}

fn killed_after_the_upload_was_created_and_before_any_part(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let held = world.proxy().inject(When::op(Op::UploadPart), Fault::Hold);
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let mut daemon = world.start();
    held.wait_hits(1, DEADLINE);
    let told = world.wait_told("its upload to be remembered", &path, |told| told.upload == "open");
    assert!(told.parts.is_empty(), "{told:?}");
    daemon.kill();
    world.proxy().heal();

    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!(world.uploads_used("a.mp4"), [told.upload_id.unwrap()].into());
    assert_at_rest(&world, &daemon);
}
