//! Killed while a recording is finalized: every crash point from its last part to `completed`.

use testkit::proxy::{Fault, Moment, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::assert_at_rest;
use crate::world::{DEADLINE, MIB, S3_PART, World, record_until, wait_carried_out, wait_completed, wait_part};

testkit::on_every_store! {
    killed_before_the_completion_takes_effect
    killed_after_the_completion_took_effect_and_before_its_answer
    killed_between_completion_and_its_verification
    killed_after_completion_and_before_the_document
    killed_after_the_document_and_before_completed_is_remembered
    killed_before_completed_is_in_redis
    killed_after_completed_is_in_redis_and_before_its_answer
}

/// Kills where `op` (for `key`) is held, before or after it takes effect, while the recording is
/// finalized; starts again, and expects the object without any part being sent again.
fn killed_in_finalization(provider: Provider, op: Op, key: &str, took_effect: bool) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let mut daemon = world.start();
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    wait_part(&daemon, &path, 1); // the object may be asked for before that, too
    let held = if took_effect { Fault::HoldAnswer } else { Fault::Hold };
    let held = world.proxy().inject(When::op(op).key(key), held);
    recording.go_on();
    let finished = recording.wait();
    held.wait_hits(1, DEADLINE);
    if took_effect {
        wait_carried_out(world.proxy(), op);
    }
    daemon.kill();
    world.proxy().heal();

    daemon.restart();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1]);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_at_rest(&world, &daemon);
}

fn killed_before_the_completion_takes_effect(provider: Provider) {
    killed_in_finalization(provider, Op::CompleteMultipartUpload, "a.mp4", false);
}

fn killed_after_the_completion_took_effect_and_before_its_answer(provider: Provider) {
    killed_in_finalization(provider, Op::CompleteMultipartUpload, "a.mp4", true);
}

fn killed_between_completion_and_its_verification(provider: Provider) {
    killed_in_finalization(provider, Op::HeadObject, "a.mp4", false);
}

fn killed_after_completion_and_before_the_document(provider: Provider) {
    killed_in_finalization(provider, Op::PutObject, "a.mp4.metadata.json", false);
}

fn killed_after_the_document_and_before_completed_is_remembered(provider: Provider) {
    killed_in_finalization(provider, Op::PutObject, "a.mp4.metadata.json", true);
}

/// Kills where `completed` is on its way to Redis, before or after it is carried out.
fn killed_with_completed(provider: Provider, took_effect: bool) {
    const COMPLETED: &str = "state\r\n$9\r\ncompleted\r\n";
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let path = world.path("a.mp4");
    let mut daemon = world.start();
    // So that Redis knows the scripts, and each step is one request.
    let first = Synthetic::into(world.path("0.mp4"), Style::Append, S3_PART + 9).start().wait();
    wait_completed(&daemon, &first.path);
    let proxy = &redis.proxy;
    let cut = if took_effect { proxy.cut_at(COMPLETED, Moment::After) } else { proxy.cut_each(COMPLETED) };
    let finished = Synthetic::into(&path, Style::Append, S3_PART + MIB).seed(2).start().wait();
    cut.wait(DEADLINE);
    world.wait_state(&path, if took_effect { "completed" } else { "pending_completion" });
    daemon.kill();
    let said = daemon.events().into_iter().filter(|line| line.event() == Some("completed")).count();
    assert_eq!(said, 1, "what is not known to be remembered is not announced");
    cut.lift();

    daemon.restart();
    let told = world.wait_state(&path, "completed");
    assert_eq!(redis.sets_with(&told.id), ["streams:completed"]);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1]);
    daemon.wait_answers("/readyz", DEADLINE);
    assert_at_rest(&world, &daemon);
}

fn killed_before_completed_is_in_redis(provider: Provider) {
    killed_with_completed(provider, false);
}

fn killed_after_completed_is_in_redis_and_before_its_answer(provider: Provider) {
    killed_with_completed(provider, true);
}
