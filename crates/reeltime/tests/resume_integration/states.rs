//! What a start makes of streams in each state.

use std::fs;

use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_start_takes_up_every_stream_as_its_state_says
    a_state_that_is_away_at_the_start_is_waited_for
}

fn a_start_takes_up_every_stream_as_its_state_says(provider: Provider) {
    let world = World::at(provider);
    let [active, pending, missing, done] =
        ["active.mp4", "pending.mp4", "missing.mp4", "done.mp4"].map(|n| world.path(n));
    let held = world.proxy().inject(When::op(Op::CompleteMultipartUpload).key("pending.mp4"), Fault::Hold);
    let mut daemon = world.start();
    let done = Synthetic::into(done, Style::Append, S3_PART + 9).start().wait();
    wait_completed(&daemon, &done.path);
    let pending = Synthetic::into(pending, Style::Append, S3_PART + MIB).seed(2).start().wait();
    held.wait_hits(1, DEADLINE);
    let active = record_until(active, Style::Append, 2 * S3_PART, S3_PART + MIB);
    let lost = record_until(missing, Style::Append, 2 * S3_PART, S3_PART + MIB);
    wait_part(&daemon, active.path(), 1);
    wait_part(&daemon, lost.path(), 1);
    world.wait_told("part 1 to be remembered", active.path(), |told| told.parts.contains_key(&1));
    world.wait_state(&pending.path, "pending_completion");
    world.wait_state(&done.path, "completed");
    daemon.kill();
    world.proxy().heal();
    fs::remove_file(lost.path()).unwrap();

    daemon.restart();
    daemon.wait_event_of("failed", lost.path(), DEADLINE);
    let told = world.wait_state(lost.path(), "failed");
    assert_eq!((told.reason.as_deref(), told.upload.as_str()), (Some("source_missing"), "none"));
    wait_completed(&daemon, &pending.path);
    active.go_on();
    let active = active.wait();
    wait_completed(&daemon, &active.path);
    for finished in [&active, &pending, &done] {
        world.assert_identical(finished);
        assert_eq!(world.wait_state(&finished.path, "completed").reason, None);
    }
    assert_eq!(world.sent("active.mp4"), [1, 1]);
    assert_eq!(world.sent("pending.mp4"), [1, 1]);
    assert_eq!(world.sent("done.mp4"), [1, 1]);
    assert_eq!((world.sha256("missing.mp4"), world.leftovers()), (None, vec![]));
}

/// What to do is in it: nothing is begun anew because it cannot be read.
fn a_state_that_is_away_at_the_start_is_waited_for(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let mut daemon = world.start();
    wait_part(&daemon, &path, 1);
    let done = Synthetic::into(world.path("done.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();
    wait_completed(&daemon, &done.path);
    let before = world.wait_told("part 1", &path, |told| told.numbers() == [1]);
    daemon.kill();
    let away = redis.go_down();
    daemon.restart();
    let said = daemon.wait_event("the state to be missed", DEADLINE, |line| {
        line.event() == Some("notice") && line.text("hint").is_some_and(|hint| hint.contains("begins when it is there"))
    });
    assert!(said.message().is_some_and(|message| message.contains("in checkpoint redis://")), "{said}");
    let writes = world.writes();
    drop(away);
    daemon.wait_event_of("resumed", &path, DEADLINE);
    assert_eq!(world.writes(), writes, "nothing was begun meanwhile");
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    for finished in [&finished, &done] {
        world.assert_identical(finished);
    }
    assert_eq!(world.wait_state(&path, "completed").id, before.id);
    assert_eq!((world.sent("a.mp4"), world.sent("done.mp4")), (vec![1, 1, 1], vec![1, 1]));
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
