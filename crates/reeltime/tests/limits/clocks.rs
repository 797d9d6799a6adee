//! The clock on the wall is set while a recording is made, and files bear times that are not
//! true. A recording ends when nobody writes any more, neither earlier nor never.

use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::daemon::{LogLine, Running};
use testkit::recorders::synthetic::Style;
use testkit::wall_clock::WallClock;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// How far a line's time is ahead of the true one.
fn ahead_seconds(line: &LogLine) -> i64 {
    let said: jiff::Timestamp = line.text("timestamp").unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    said.as_second() - i64::try_from(now).unwrap()
}

fn assert_goes_by(line: &LogLine, set: i64) {
    let ahead = ahead_seconds(line);
    assert!((ahead - set).abs() < HOUR / 2, "it goes by the clock that was set to {set:+} s: {ahead:+} s: {line}");
}

fn is_completed(daemon: &Running, name: &str) -> bool {
    let is_this = |line: &LogLine| line.path().is_some_and(|path| path.ends_with(name));
    daemon.events().iter().any(|line| line.event() == Some("completed") && is_this(line))
}

fn survives(set: i64) {
    let world = World::s3(if set < 0 { "clock-behind" } else { "clock-ahead" });
    let clock = WallClock::right();
    let start = || world.daemon().args(["--idle-timeout", "1s"]).envs(clock.env()).start();
    let mut daemon = start();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, S3_PART + MIB);
    wait_part(&daemon, &path, 1);

    clock.set(set);
    recording.go_on_until(2 * S3_PART + MIB);
    let part_2 = daemon
        .wait_event("part 2", DEADLINE, |line| line.event() == Some("part_stored") && line.number("part") == Some(2));
    assert_goes_by(&part_2, set);
    // By their own account they were written another day, or just now.
    for (name, ahead) in [("past.mp4", -DAY), ("future.mp4", DAY), ("now.mp4", 0_i64)] {
        let mut file = File::create(world.path(name)).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        let (now, by) = (SystemTime::now(), Duration::from_secs(ahead.unsigned_abs()));
        file.set_modified(if ahead < 0 { now - by } else { now + by }).unwrap();
    }
    for name in ["past.mp4", "future.mp4", "now.mp4"] {
        wait_completed(&daemon, &world.path(name));
        assert_eq!(world.bytes(name), Some(name.as_bytes().to_vec()));
    }
    // Longer than the idle timeout, and nobody has closed it.
    assert!(!is_completed(&daemon, "a.mp4"), "its recorder has it open");

    // A start that finds everything at a time that is yet to come, or long past.
    daemon.kill();
    daemon = start();
    let resumed = daemon.wait_event_of("resumed", &path, DEADLINE);
    assert_goes_by(&resumed, set);
    recording.go_on_until(3 * S3_PART + MIB / 2);
    wait_part(&daemon, &path, 3);
    clock.set(0);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1; 4]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

#[test]
fn a_clock_that_is_set_by_an_hour_or_a_day_ends_no_recording_early_and_keeps_none_from_ending() {
    thread::scope(|scope| {
        for set in [-HOUR, DAY] {
            scope.spawn(move || survives(set));
        }
    });
}
