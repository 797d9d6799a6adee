//! When a recording has ended, and when it only looks so.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use testkit::daemon::Running;
use testkit::recorders::ffmpeg::Container;
use testkit::recorders::synthetic::{Style, Synthetic};

use crate::containers::ffmpeg;
use crate::world::{
    DEADLINE, World, noise, stop, stream_of, told, wait_completed, wait_parts, wait_stream, with_suffix,
};

pub fn many_short_opens_are_one_recording(world: &World) {
    // Closed for some 30 ms each time; the grace is long enough for a busy machine, too.
    let daemon = world.run(&["--close-grace", "2s"]);
    let part = world.part_bytes();
    let recording = Synthetic::into(world.path("a.mp4"), Style::ShortOpens, part * 5 / 2)
        .block(part as usize / 16)
        .rate(part * 2)
        .start();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, finished.size_bytes);
    stop(&daemon);
    assert_eq!(told(&daemon, "completed", &finished.path), 1);
    let pending = |line: &&testkit::daemon::LogLine| line.text("to") == Some("pending_completion");
    assert_eq!(daemon.events().iter().filter(pending).count(), 1, "it never seemed to have ended before");
}

pub fn a_file_that_was_allocated_is_sent_as_it_is_filled(world: &World) {
    is_sent_as_it_is_filled(world, true);
}

pub fn a_sparse_file_is_sent_as_it_is_filled(world: &World) {
    is_sent_as_it_is_filled(world, false);
}

fn is_sent_as_it_is_filled(world: &World, allocate: bool) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let style = Style::Preallocate { allocate, slack_bytes: part };
    let recording = Synthetic::into(world.path("a.mp4"), style, part * 3).hold_at(part * 3 / 2).start();
    recording.wait_held(DEADLINE);
    wait_parts(&daemon, recording.path(), 1);
    let stream = wait_stream(&daemon, recording.path(), "its size", |stream| stream["size_bytes"] == part * 4);
    assert_eq!(stream["state"], "active", "{stream}");
    witness(world, &daemon, "w1.mp4");
    let of_witness = part / 4;
    assert!(world.bytes_sent(&daemon) <= part * 2 + of_witness, "zeros were sent: {}", world.bytes_sent(&daemon));
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, finished.size_bytes);
    let (sent, most) = (world.bytes_sent(&daemon), finished.size_bytes + 2 * part + of_witness);
    assert!(sent <= most, "{sent} bytes were sent, at most {most} are worth it");
}

pub fn a_recorder_that_stands_still_is_not_cut_off(world: &World) {
    let daemon = world.run(&["--idle-timeout", "1s"]);
    let recording = ffmpeg(world, "a.mp4", Container::Mp4);
    wait_parts(&daemon, recording.path(), 1);
    recording.freeze();
    // Under a temp name that nobody renames, both end by the idle timeout, one after the other.
    witness(world, &daemon, "w1.mp4.part");
    witness(world, &daemon, "w2.mp4.part");
    assert_eq!(told(&daemon, "completed", recording.path()), 0);
    assert_eq!(stream_of(&daemon, recording.path()).unwrap()["state"], "active");
    let frozen_at = recording.size_bytes();
    recording.thaw();
    recording.wait_size(frozen_at + world.part_bytes(), DEADLINE);
    recording.stop();
    world.wait_identical(&daemon, "a.mp4");
    stop(&daemon);
    assert_eq!(told(&daemon, "completed", recording.path()), 1);
}

pub fn what_a_killed_recorder_leaves_is_completed(world: &World) {
    let daemon = world.run(&[]);
    let recording = ffmpeg(world, "a.mp4", Container::Mp4);
    wait_parts(&daemon, recording.path(), 1);
    recording.kill();
    world.wait_identical(&daemon, "a.mp4");
}

pub fn the_final_name_ends_a_recording_at_once(world: &World) {
    let daemon = world.run(&["--idle-timeout", "1h"]);
    let (part, path) = (world.part_bytes(), world.path("a.mp4"));
    let temp = with_suffix(&path, ".part");
    fs::write(&temp, noise(1, part * 5 / 2)).unwrap();
    wait_parts(&daemon, &temp, 2);
    // Two graces are over, one after the other.
    witness(world, &daemon, "w1.mp4");
    witness(world, &daemon, "w2.mp4");
    assert_eq!(told(&daemon, "completed", &temp), 0);
    fs::rename(&temp, &path).unwrap();
    let renamed = Instant::now();
    world.wait_identical(&daemon, "a.mp4");
    assert!(renamed.elapsed() < Duration::from_secs(10), "{:?} after the rename", renamed.elapsed());
    assert_eq!(world.keys(), ["a.mp4", "w1.mp4", "w2.mp4"]);
}

pub fn a_temp_name_that_nobody_renames_ends_by_the_idle_timeout(world: &World) {
    let daemon = world.run(&["--idle-timeout", "1s"]);
    witness(world, &daemon, "a.mp4.tmp");
    world.assert_is("a.mp4", &testkit::digest::sha256_of(world.path("a.mp4.tmp")), world.part_bytes() / 4);
}

pub fn the_tail_goes_up_while_the_recorder_waits(world: &World) {
    let daemon = world.run(&["--tail-flush", "300ms"]);
    let (part, path) = (world.part_bytes(), world.path("a.mp4"));
    let mut file = File::create(&path).unwrap();
    file.write_all(&noise(1, part * 3 / 2)).unwrap();
    wait_stream(&daemon, &path, "the tail to be stored", |stream| stream["uploaded_bytes"] == part * 3 / 2);
    file.write_all(&noise(2, part)).unwrap();
    wait_stream(&daemon, &path, "the longer tail to be stored", |stream| stream["uploaded_bytes"] == part * 5 / 2);
    assert_eq!(told(&daemon, "completed", &path), 0);
    drop(file);
    world.wait_identical(&daemon, "a.mp4");
}

/// A small recording that is begun now; answers when it is completed.
fn witness(world: &World, daemon: &Running, name: &str) {
    let path = world.drop_file(name, 99, world.part_bytes() / 4);
    wait_completed(daemon, &path, 1);
}
