//! Errors of the state at each step of a recording. They hold up no upload, and what could not be
//! written is made up for.

use std::fs::OpenOptions;
use std::io::Write;
use std::thread;

use testkit::digest::sha256_of;
use testkit::proxy::{Moment, TcpMode};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{
    DEADLINE, MIB, RedisState, S3_PART, Told, World, failures, record_until, wait_completed, wait_part,
};

testkit::on_every_store! {
    a_redis_that_fails_when_a_stream_is_created_hurts_nobody_else
    a_redis_that_fails_when_an_upload_is_noted_hurts_nobody_else
    a_redis_that_fails_when_a_part_is_noted_hurts_nobody_else
    a_redis_that_fails_when_the_end_is_noted_hurts_nobody_else
    a_redis_that_fails_when_completed_is_noted_hurts_nobody_else
    a_redis_that_does_not_answer_holds_up_no_upload
    a_completed_recording_that_changes_while_redis_is_away_is_uploaded_again_afterwards
    a_state_that_is_away_at_each_step_is_made_up_for
}

/// What reeltime writes, in the order of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Create,
    Upload,
    Part,
    Pending,
    Completed,
}

impl Step {
    /// Bytes that only this request has: the keys, or values in the order in which they are given
    /// to the scripts.
    fn needle(self, redis: &RedisState) -> String {
        match self {
            // The only one with the parts and the sets.
            Self::Create => {
                let set = redis.key("streams:active");
                format!(":parts\r\n${}\r\n{set}", set.len())
            }
            Self::Upload => "upload\r\n$4\r\nopen\r\n".to_owned(),
            // The only one with the parts and then the epoch.
            Self::Part => ":parts\r\n$1\r\n1\r\n".to_owned(),
            Self::Pending => "state\r\n$18\r\npending_completion\r\n".to_owned(),
            Self::Completed => "state\r\n$9\r\ncompleted\r\n".to_owned(),
        }
    }

    /// Whether it is written.
    fn is_done(self, told: &Told) -> bool {
        match self {
            Self::Create => true,
            Self::Upload => told.upload == "open",
            Self::Part => told.parts.len() == 1,
            Self::Pending => told.state == "pending_completion",
            Self::Completed => told.state == "completed",
        }
    }
}

/// The connection to Redis ends at one request for one recording; another one is recorded
/// meanwhile.
fn survives(provider: Provider, step: Step, moment: Moment) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let daemon = world.start();
    // A server that has seen the scripts, so that each step is one request.
    let first = Synthetic::into(world.path("0.mp4"), Style::Append, S3_PART + 9).start().wait();
    wait_completed(&daemon, &first.path);

    let cut = redis.proxy.cut_at(step.needle(redis), moment);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let is_at_the_end = matches!(step, Step::Pending | Step::Completed);
    if is_at_the_end {
        recording.go_on();
    }
    cut.wait(DEADLINE);
    if moment == Moment::After {
        let told = world.wait_told(&format!("{step:?} in Redis"), &path, |told| step.is_done(told));
        assert_eq!(daemon.events().iter().filter(|line| line.event() == Some("retrying")).count(), 0, "{told:?}");
        cut.cut();
    }
    daemon.wait_event_of("retrying", &path, DEADLINE);

    let other = Synthetic::into(world.path("b.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();
    wait_completed(&daemon, &other.path);
    world.assert_identical(&other);
    assert_eq!(world.sent("b.mp4"), [1, 1], "{step:?} {moment:?}: the other recording has no trouble");

    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let told = world.wait_state(&path, "completed");
    assert_eq!((&told.reason, told.numbers()), (&None, vec![1, 2]), "{step:?} {moment:?}");
    assert_eq!(redis.sets_with(&told.id), ["streams:completed"]);
    assert_eq!(world.sent("a.mp4"), [1, 1], "{step:?} {moment:?}: the upload does not hear of it");
    let announced = daemon.events().into_iter().filter(|line| line.event() == Some("completed"));
    assert_eq!(announced.count(), 3, "{step:?} {moment:?}: each is announced once");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]), "{step:?} {moment:?}");
}

fn survives_at_each_moment(provider: Provider, step: Step) {
    thread::scope(|scope| {
        for moment in [Moment::Before, Moment::During, Moment::After] {
            scope.spawn(move || survives(provider, step, moment));
        }
    });
}

fn a_redis_that_fails_when_a_stream_is_created_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Step::Create);
}

fn a_redis_that_fails_when_an_upload_is_noted_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Step::Upload);
}

fn a_redis_that_fails_when_a_part_is_noted_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Step::Part);
}

fn a_redis_that_fails_when_the_end_is_noted_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Step::Pending);
}

fn a_redis_that_fails_when_completed_is_noted_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Step::Completed);
}

/// Worse than one that refuses: nothing tells that it is away.
fn a_redis_that_does_not_answer_holds_up_no_upload(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let daemon = world.start();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    wait_part(&daemon, &path, 1);
    world.wait_told("part 1", &path, |told| told.numbers() == [1]);
    redis.proxy.set(TcpMode::BlackHole);
    recording.go_on_until(2 * S3_PART);
    recording.wait_held(DEADLINE);
    world.proxy().wait_for("part 2 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.server_status == Some(200))
    });
    let waiting = daemon.wait_event_of("retrying", &path, DEADLINE);
    assert!(waiting.text("error").is_some_and(|error| error.contains("in checkpoint redis://")), "{waiting}");
    assert_eq!(world.told_of(&path).unwrap().numbers(), [1]);
    redis.proxy.set(TcpMode::Pass);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.wait_state(&path, "completed").numbers(), [1, 2, 3]);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// Its record is in Redis alone. It is tried again with each scan.
fn a_completed_recording_that_changes_while_redis_is_away_is_uploaded_again_afterwards(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let daemon = world.start();
    let mut finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + 9).start().wait();
    wait_completed(&daemon, &finished.path);
    let before = world.wait_state(&finished.path, "completed");
    let away = redis.go_down();
    let mut file = OpenOptions::new().append(true).open(&finished.path).unwrap();
    file.write_all(b"another take").unwrap();
    drop(file);
    finished.sha256 = sha256_of(&finished.path);
    let said = daemon.wait_event_of("notice", &finished.path, DEADLINE);
    assert!(said.text("hint").is_some_and(|hint| hint.contains("tried again at the next scan")), "{said}");
    assert_eq!(world.told_of(&finished.path).as_ref(), Some(&before));
    drop(away);
    daemon.wait_events("completed", 2, DEADLINE, |line| line.event() == Some("completed"));
    world.assert_identical(&finished);
    let told = world.wait_state(&finished.path, "completed");
    assert_eq!((told.id, told.size_bytes), (before.id, S3_PART + 21));
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// Away when the stream begins, while it is uploaded, and when it is completed.
fn a_state_that_is_away_at_each_step_is_made_up_for(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let path = world.path("a.mp4");
    let retries = |count: usize| {
        daemon.wait_events("retrying", count, DEADLINE, |line| {
            line.event() == Some("retrying") && line.path() == Some(path.as_path())
        });
    };
    let so_far = || daemon.events().iter().filter(|line| line.event() == Some("retrying")).count();

    let away = world.state.take_away();
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART, S3_PART + MIB);
    retries(1);
    assert_eq!(world.told_of(&path), None);
    drop(away);
    world.wait_told("part 1", &path, |told| told.state == "active" && told.parts.len() == 1);

    let away = world.state.take_away();
    let before = so_far();
    recording.go_on_until(2 * S3_PART + MIB);
    recording.wait_held(DEADLINE);
    world.proxy().wait_for("part 2 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.server_status == Some(200))
    });
    retries(before + 1);
    assert_eq!(world.told_of(&path).unwrap().parts.len(), 1, "it could not be written");

    let before = so_far();
    recording.go_on();
    let finished = recording.wait();
    daemon.process().wait_until("the document", DEADLINE, || world.bytes("a.mp4.metadata.json").is_some());
    retries(before + 1);
    assert_eq!(world.told_of(&path).unwrap().state, "active", "it could not be written");
    drop(away);
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let told = world.wait_state(&path, "completed");
    assert_eq!((&told.reason, told.size_bytes), (&None, finished.size_bytes));
    assert_eq!(told.numbers(), [1, 2, 3], "what is completed is remembered in full");
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
