//! The state lost everything: the files and the store are enough.

use std::os::unix::fs::FileExt;
use std::path::Path;

use testkit::digest::sha256_of;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Finished, Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{
    DEADLINE, MIB, S3_PART, World, failures, record_until, wait_carried_out, wait_completed, wait_part,
};

testkit::on_every_store! {
    a_lost_checkpoint_costs_time_and_no_recording
    parts_that_the_store_has_are_not_sent_again_after_the_loss
    a_recording_of_which_the_state_never_heard_goes_on_in_its_upload
    what_was_rewritten_since_is_sent_again_after_the_loss
    what_was_completed_before_the_loss_is_not_uploaded_again
    what_was_completed_as_the_state_was_lost_is_not_uploaded_again
    a_completed_recording_that_was_changed_since_is_uploaded_again_after_the_loss
}

fn a_lost_checkpoint_costs_time_and_no_recording(provider: Provider) {
    for world in [World::at(provider), World::local()] {
        let (live, done, small) = (world.path("live.mp4"), world.path("done.mp4"), world.path("small.mp4"));
        let part = world.part_bytes();
        let mut daemon = world.start();
        let done = Synthetic::into(done, Style::Append, part + 9).seed(2).start().wait();
        let small = Synthetic::into(small, Style::Append, 99).seed(3).start().wait();
        wait_completed(&daemon, &done.path);
        wait_completed(&daemon, &small.path);
        let recording = record_until(live.clone(), Style::Append, 3 * part, 2 * part);
        wait_part(&daemon, &live, 2);
        daemon.kill();
        world.state.lose_everything();

        daemon.restart();
        recording.go_on();
        let live = recording.wait();
        for finished in [&live, &done, &small] {
            wait_completed(&daemon, &finished.path);
            world.assert_identical(finished);
        }
        assert_eq!(failures(&daemon), Vec::<String>::new());
    }
}

/// A byte of a file, changed in place.
fn change_byte(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

/// Requests that bring content of this key to the store.
fn uploads_of(world: &World, key: &str) -> usize {
    let ops = [Op::CreateMultipartUpload, Op::UploadPart, Op::CompleteMultipartUpload, Op::PutObject];
    ops.iter().map(|op| world.requests(*op, key).len()).sum()
}

fn parts_that_the_store_has_are_not_sent_again_after_the_loss(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, 2 * S3_PART + MIB);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait_part(&daemon, &path, 2);
    daemon.kill();
    world.state.lose_everything();
    daemon.restart();
    let told = world.wait_told("its upload", &path, |told| told.upload == "open");
    assert_eq!(world.uploads_used("a.mp4"), [told.upload_id.unwrap()].into());
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!((world.sent("a.mp4"), world.uploads_used("a.mp4").len()), (vec![1, 1, 1, 1], 1));
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!(world.wait_state(&path, "completed").numbers(), [1, 2, 3, 4]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// It was away from the beginning of the recording until the kill.
fn a_recording_of_which_the_state_never_heard_goes_on_in_its_upload(provider: Provider) {
    let world = World::at(provider);
    let mut daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let away = world.state.take_away();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    world.proxy().wait_for("part 1 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(1) && logged.server_status == Some(200))
    });
    daemon.kill();
    drop(away);
    assert_eq!(world.told_of(&path), None);
    daemon.restart();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!((world.sent("a.mp4"), world.uploads_used("a.mp4").len()), (vec![1, 1, 1], 1));
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// The store's parts are evidence of what was sent, not of what the file is now.
fn what_was_rewritten_since_is_sent_again_after_the_loss(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let style = Style::RewriteHead { head_bytes: 48, every_bytes: u64::MAX };
    let recording = record_until(path.clone(), style, 2 * S3_PART + MIB, 2 * S3_PART);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait_part(&daemon, &path, 2);
    daemon.kill();
    world.state.lose_everything();
    recording.go_on();
    let finished = recording.wait();
    daemon.restart();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!((world.sent("a.mp4"), world.uploads_used("a.mp4").len()), (vec![2, 1, 1], 1));
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

fn what_was_completed_before_the_loss_is_not_uploaded_again(provider: Provider) {
    let world = World::at(provider);
    std::fs::create_dir(world.path("cam")).unwrap();
    let sizes = [("empty.mp4", 0), ("small.mp4", 99), ("cam/part.mp4", S3_PART), ("cam/parts.mp4", 2 * S3_PART + MIB)];
    let finished: Vec<Finished> = sizes
        .iter()
        .map(|(name, bytes)| Synthetic::into(world.path(name), Style::Append, *bytes).seed(*bytes).start().wait())
        .collect();
    let mut daemon = world.start();
    for finished in &finished {
        wait_completed(&daemon, &finished.path);
    }
    daemon.kill();
    let before: Vec<_> = sizes.iter().map(|(key, _)| uploads_of(&world, key)).collect();
    world.state.lose_everything();

    daemon.restart();
    for finished in &finished {
        let told = world.wait_state(&finished.path, "completed");
        assert_eq!((told.size_bytes, told.reason.as_deref()), (finished.size_bytes, None));
        world.assert_identical(finished);
    }
    let after: Vec<_> = sizes.iter().map(|(key, _)| uploads_of(&world, key)).collect();
    assert_eq!(after, before, "of each {sizes:?}");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// Killed when the object was there, and nobody had heard of it.
fn what_was_completed_as_the_state_was_lost_is_not_uploaded_again(provider: Provider) {
    let world = World::at(provider);
    world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::HoldAnswer);
    let mut daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 2 * S3_PART + MIB).start().wait();
    wait_carried_out(world.proxy(), Op::CompleteMultipartUpload);
    daemon.kill();
    world.state.lose_everything();
    world.proxy().heal();
    daemon.restart();
    assert_eq!(world.wait_state(&finished.path, "completed").size_bytes, finished.size_bytes);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// Of the same size and name, and still another one.
fn a_completed_recording_that_was_changed_since_is_uploaded_again_after_the_loss(provider: Provider) {
    let world = World::at(provider);
    let mut daemon = world.start();
    let mut several = Synthetic::into(world.path("several.mp4"), Style::Append, S3_PART + 9).start().wait();
    let mut small = Synthetic::into(world.path("small.mp4"), Style::Append, 99).seed(2).start().wait();
    wait_completed(&daemon, &several.path);
    wait_completed(&daemon, &small.path);
    daemon.kill();
    world.state.lose_everything();
    for finished in [&mut several, &mut small] {
        change_byte(&finished.path, finished.size_bytes - 1);
        finished.sha256 = sha256_of(&finished.path);
    }
    daemon.restart();
    for finished in [&several, &small] {
        wait_completed(&daemon, &finished.path);
        world.assert_identical(finished);
        world.wait_state(&finished.path, "completed");
    }
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
