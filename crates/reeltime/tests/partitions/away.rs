//! The store and Redis away together, at each phase of a recording, in quick succession, and behind
//! connections that nobody ends.

use std::thread;
use std::time::{Duration, Instant};

use reeltime::events::{Side, What};
use reeltime::storage::s3::Patience;
use testkit::daemon::Running;
use testkit::proxy::{Fault, TcpMode, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, RedisState, S3_PART, World, failures, record_until, wait_completed, wait_part};

fn world(bucket: &str) -> World {
    World::s3(bucket).with_state_in_redis()
}

fn redis(world: &World) -> &RedisState {
    world.state.redis().expect("the state is in Redis")
}

/// What a recording is doing when both go away.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// Nobody has begun yet.
    Before,
    /// A part is stored, the next one is recorded.
    Middle,
    /// Only the end is missing.
    End,
}

/// Which is back first.
#[derive(Clone, Copy, PartialEq, Debug)]
enum First {
    Store,
    State,
}

fn retries(daemon: &Running, of: &str) -> usize {
    let is_retry = |line: &&testkit::daemon::LogLine| line.event() == Some("retrying") && line.text("of") == Some(of);
    daemon.events().iter().filter(is_retry).count()
}

/// Waits until this side was asked in vain so many times more.
fn wait_asked_in_vain(daemon: &Running, of: &str, times: usize) {
    let before = retries(daemon, of);
    daemon.process().wait_until(&format!("the {of} to be missed"), DEADLINE, || retries(daemon, of) >= before + times);
}

fn survives(phase: Phase, first: First) {
    let world = world(&format!("away-{phase:?}-{first:?}").to_lowercase());
    let daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let path = world.path("a.mp4");
    let begin = |held_at| record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, held_at);
    let go_down = || {
        world.proxy().go_down();
        redis(&world).go_down()
    };
    let (recording, down) = if phase == Phase::Before {
        let down = go_down();
        (begin(S3_PART + MIB), down)
    } else {
        let recording = begin(if phase == Phase::Middle { S3_PART + MIB } else { 2 * S3_PART + MIB });
        for part in 1..=(if phase == Phase::Middle { 1 } else { 2 }) {
            wait_part(&daemon, &path, part); // in whatever order they are stored
        }
        (recording, go_down())
    };
    recording.go_on();
    let finished = recording.wait();
    wait_asked_in_vain(&daemon, "store", 3);
    let back = Instant::now();
    match first {
        First::Store => {
            world.proxy().come_up();
            daemon.process().wait_until("the object", DEADLINE, || world.sha256("a.mp4").is_some());
            wait_asked_in_vain(&daemon, "checkpoint", 1);
            assert_ne!(world.told_of(&path).map(|told| told.state).as_deref(), Some("completed"));
            drop(down);
        }
        First::State => {
            drop(down);
            world.wait_told("the end", &path, |told| told.state == "pending_completion");
            wait_asked_in_vain(&daemon, "store", 1);
            world.proxy().come_up();
        }
    }
    wait_completed(&daemon, &path);
    println!("{phase:?}, the {first:?} first: completed {:.1?} after the first was back", back.elapsed());
    world.assert_identical(&finished);
    assert_eq!(world.wait_state(&path, "completed").numbers(), [1, 2, 3], "{phase:?} {first:?}");
    assert_eq!(world.sent("a.mp4"), [1; 3], "{phase:?} {first:?}: nothing is sent twice");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]), "{phase:?} {first:?}");
}

#[test]
fn a_store_and_a_state_that_are_away_together_lose_nothing_at_any_phase() {
    thread::scope(|scope| {
        for phase in [Phase::Before, Phase::Middle, Phase::End] {
            for first in [First::Store, First::State] {
                scope.spawn(move || survives(phase, first));
            }
        }
    });
}

/// Hardly is something begun when it is broken off again.
#[test]
fn a_store_and_a_state_that_come_and_go_every_second_lose_nothing() {
    const FLAPS: u32 = 3;
    let world = world("away-flapping");
    let daemon = world.start();
    let recorders: Vec<_> = (0..4)
        .map(|seed| {
            let path = world.path(&format!("{seed}.mp4"));
            Synthetic::into(path, Style::Append, 2 * S3_PART + MIB).seed(seed).rate(2 * MIB).start()
        })
        .collect();
    daemon.wait_event("a recording", DEADLINE, |line| line.event() == Some("discovered"));
    for _ in 0..FLAPS {
        world.proxy().go_down();
        let down = redis(&world).go_down();
        thread::sleep(Duration::from_secs(1)); // the time that they are away
        world.proxy().come_up();
        drop(down);
        thread::sleep(Duration::from_secs(1)); // and the time that they are there
    }
    let finished: Vec<_> = recorders.into_iter().map(testkit::recorders::Recording::wait).collect();
    for finished in &finished {
        wait_completed(&daemon, &finished.path);
        world.assert_identical(finished);
        assert_eq!(world.wait_state(&finished.path, "completed").numbers(), [1, 2, 3]);
    }
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

testkit::on_every_store! {
    connections_to_both_that_are_half_open_are_left_after_a_while
}

/// As behind a firewall that has forgotten them: they stay open, and nothing comes through.
/// Requests are given up and asked for on other connections.
fn connections_to_both_that_are_half_open_are_left_after_a_while(provider: Provider) {
    let world = World::at(provider).with_state_in_redis();
    let second = Duration::from_secs(1);
    let patience = Patience { connect: second, stall: second, answer: second };
    let reeltime = world.start_inside_patient(&[], patience);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    reeltime.heard.wait_part(&path, 1, DEADLINE);

    let lost = world.proxy().inject(When::any(), Fault::BlackHole);
    redis(&world).proxy.set(TcpMode::BlackHole);
    // A small one: for the bytes of a part that may be on their way somewhere, the patience is longer.
    let small = Synthetic::into(world.path("b.mp4"), Style::Append, 1000).seed(2).start().wait();
    lost.wait_hits(3, DEADLINE);
    let told = |of: Side| {
        reeltime.heard.wait(
            "trouble",
            DEADLINE,
            |event| matches!(event.what, What::Retrying { side, .. } if side == of),
        );
    };
    told(Side::Store);
    told(Side::Checkpoint);
    // What is lost stays lost; only what is asked for from now on is answered.
    lost.lift();
    redis(&world).proxy.reset_connections();
    redis(&world).proxy.set(TcpMode::Pass);
    recording.go_on();
    for finished in [recording.wait(), small] {
        reeltime.heard.wait_of("completed", &finished.path, DEADLINE);
        world.assert_identical(&finished);
        world.wait_state(&finished.path, "completed");
        assert_eq!(reeltime.heard.count_of("failed", &finished.path), 0);
    }
    assert_eq!((world.sent("a.mp4"), world.leftovers()), (vec![1, 1], vec![]));
}
