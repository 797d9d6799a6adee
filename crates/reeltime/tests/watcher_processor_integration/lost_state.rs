//! A state that is away when a recording begins, or loses everything while it is made: the upload
//! does not wait for it, and everything is written down when it can be.

use testkit::proxy::{Fault, Logged, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_recording_that_begins_while_the_state_is_away_is_uploaded_at_once
    a_recording_that_is_made_while_the_state_is_away_is_remembered_in_full
    a_redis_that_loses_everything_while_recording_is_told_everything_again
    a_redis_that_loses_everything_before_the_completion_is_told_everything_again
}

/// So many parts are in the store.
fn are_stored(parts: usize) -> impl Fn(&[Logged]) -> bool {
    move |log| {
        let stored = |logged: &&Logged| logged.request.op == Op::UploadPart && logged.server_status == Some(200);
        log.iter().filter(stored).count() >= parts
    }
}

fn a_recording_that_begins_while_the_state_is_away_is_uploaded_at_once(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let away = world.state.take_away();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, 2 * S3_PART + MIB);
    world.proxy().wait_for("two parts to be stored", DEADLINE, are_stored(2));
    daemon.wait_event_of("retrying", &path, DEADLINE);
    assert_eq!(world.told_of(&path), None, "nothing can be written");
    drop(away);

    let told = world.wait_told("everything so far", &path, |told| told.numbers() == [1, 2] && told.upload == "open");
    assert_eq!((told.state.as_str(), told.reason.as_deref()), ("active", None));
    assert_eq!(world.uploads_used("a.mp4"), [told.upload_id.unwrap()].into());
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let last = world.wait_state(&path, "completed");
    assert_eq!((last.id, last.parts.len()), (told.id, 4), "it is the same stream");
    assert_eq!(world.sent("a.mp4"), [1, 1, 1, 1]);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// From its beginning to its end: only the last word waits.
fn a_recording_that_is_made_while_the_state_is_away_is_remembered_in_full(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let away = world.state.take_away();
    let path = world.path("a.mp4");
    let finished = Synthetic::into(&path, Style::Append, 2 * S3_PART + MIB).start().wait();
    daemon.process().wait_until("the document", DEADLINE, || world.bytes("a.mp4.metadata.json").is_some());
    assert_eq!(world.told_of(&path), None, "nothing can be written");
    assert_eq!(daemon.events().iter().filter(|line| line.event() == Some("completed")).count(), 0);
    drop(away);
    wait_completed(&daemon, &path);
    let told = world.wait_state(&path, "completed");
    assert_eq!((told.numbers(), told.size_bytes), (vec![1, 2, 3], finished.size_bytes));
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

fn a_redis_that_loses_everything_while_recording_is_told_everything_again(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let daemon = world.start();
    let done = Synthetic::into(world.path("done.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();
    wait_completed(&daemon, &done.path);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART, S3_PART + MIB);
    wait_part(&daemon, &path, 1);
    let before = world.wait_told("part 1", &path, |told| told.numbers() == [1] && told.upload == "open");

    redis.lose_everything();
    assert!(world.state.streams().is_empty());
    recording.go_on_until(2 * S3_PART + MIB);
    let told = world.wait_told("everything so far", &path, |told| told.numbers() == [1, 2]);
    assert_eq!((&told.id, &told.state, &told.upload_id), (&before.id, &before.state, &before.upload_id));
    assert_eq!(redis.sets_with(&told.id), ["streams:active"]);
    assert_eq!(told.parts[&1], before.parts[&1]);

    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.wait_state(&path, "completed").numbers(), [1, 2, 3]);
    assert_eq!((world.sent("a.mp4"), world.uploads_used("a.mp4").len()), (vec![1, 1, 1], 1));
    assert_eq!(world.sent("done.mp4"), [1, 1], "what was completed is known by the process");
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 2, "one for each recording");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// Its parts are not listed by the store any more when the loss is noticed.
fn a_redis_that_loses_everything_before_the_completion_is_told_everything_again(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let held = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::Hold);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 2 * S3_PART + MIB).start().wait();
    held.wait_hits(1, DEADLINE);
    let before = world.wait_state(&finished.path, "pending_completion");
    redis.lose_everything();
    held.lift();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    let told = world.wait_state(&finished.path, "completed");
    assert_eq!((&told.id, told.numbers()), (&before.id, vec![1, 2, 3]));
    assert_eq!(redis.sets_with(&told.id), ["streams:completed"]);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
