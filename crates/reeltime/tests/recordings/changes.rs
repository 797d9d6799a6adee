//! Files that become something else on the way, or after it.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use testkit::digest::sha256_of;
use testkit::recorders::synthetic::{Style, Synthetic};

use crate::world::{DEADLINE, World, noise, stop, told, wait_completed, wait_parts, with_suffix};

pub fn the_name_of_a_completed_recording_is_recorded_again(world: &World) {
    let daemon = world.run(&[]);
    let path = world.path("a.mp4");
    let size = world.part_bytes() * 5 / 2;
    for seed in [1, 2] {
        let finished = Synthetic::into(&path, Style::Append, size).seed(seed).start().wait();
        wait_completed(&daemon, &path, seed as usize);
        world.assert_is("a.mp4", &finished.sha256, size);
    }
    stop(&daemon);
    assert_eq!(told(&daemon, "completed", &path), 2);
}

pub fn a_recording_under_way_is_begun_again(world: &World) {
    let daemon = world.run(&[]);
    let size = world.part_bytes() * 5 / 2;
    let style = Style::TruncateAndAgain { rounds: 2 };
    let recording = Synthetic::into(world.path("a.mp4"), style, size).hold_at(size).start();
    wait_parts(&daemon, recording.path(), 2);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, size);
}

pub fn a_recording_under_way_becomes_shorter_than_a_part(world: &World) {
    is_cut_to(world, 1000);
}

pub fn a_recording_under_way_is_emptied(world: &World) {
    is_cut_to(world, 0);
}

fn is_cut_to(world: &World, size_bytes: u64) {
    let daemon = world.run(&[]);
    let path = world.path("a.mp4");
    let mut file = File::create(&path).unwrap();
    file.write_all(&noise(1, world.part_bytes() * 5 / 2)).unwrap();
    wait_parts(&daemon, &path, 2);
    file.set_len(0).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&noise(2, size_bytes)).unwrap();
    drop(file);
    world.wait_identical(&daemon, "a.mp4");
    assert_eq!(world.document("a.mp4")["total_size_bytes"], size_bytes);
}

pub fn another_file_takes_the_name_after_completion(world: &World) {
    let daemon = world.run(&[]);
    let size = world.part_bytes() * 3 / 2;
    let path = world.drop_file("a.mp4", 1, size);
    world.wait_identical(&daemon, "a.mp4");
    let other = world.aside("edited");
    fs::write(&other, noise(2, size)).unwrap();
    fs::rename(&other, &path).unwrap();
    wait_completed(&daemon, &path, 2);
    world.assert_identical("a.mp4");
}

pub fn a_temp_name_takes_the_name_of_a_completed_recording(world: &World) {
    let daemon = world.run(&["--idle-timeout", "1s"]);
    let size = world.part_bytes() * 3 / 2;
    let path = world.drop_file("a.mp4", 1, size);
    world.wait_identical(&daemon, "a.mp4");
    let first = sha256_of(&path);
    let temp = with_suffix(&path, ".part");
    fs::write(&temp, noise(2, size)).unwrap();
    wait_parts(&daemon, &temp, 1);
    // Until the rename the object is the old one; the idle timeout does not end it either.
    for name in ["w1.mp4.part", "w2.mp4.part"] {
        let witness = world.drop_file(name, 3, 100);
        wait_completed(&daemon, &witness, 1);
    }
    world.assert_is("a.mp4", &first, size);
    fs::rename(&temp, &path).unwrap();
    wait_completed(&daemon, &path, 2);
    world.assert_identical("a.mp4");
}

pub fn a_file_that_is_deleted_while_it_is_recorded_is_finished(world: &World) {
    let daemon = world.run(&[]);
    let size = world.part_bytes() * 5 / 2;
    let recording =
        Synthetic::into(world.path("a.mp4"), Style::Append, size).hold_at(world.part_bytes() * 3 / 2).start();
    recording.wait_held(DEADLINE);
    wait_parts(&daemon, recording.path(), 1);
    fs::remove_file(recording.path()).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, size);
}

pub fn a_file_that_is_deleted_behind_a_slow_line_is_finished(world: &World) {
    let part = world.part_bytes();
    let daemon = world.run(&["--bandwidth", &format!("{}KiB/s", part >> 10)]);
    let path = world.drop_file("a.mp4", 1, part * 5 / 2);
    let sha256 = sha256_of(&path);
    wait_parts(&daemon, &path, 1);
    fs::remove_file(&path).unwrap();
    wait_completed(&daemon, &path, 1);
    world.assert_is("a.mp4", &sha256, part * 5 / 2);
}

pub fn a_file_that_gets_another_name_while_it_is_recorded(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let recording = Synthetic::into(world.path("a.mp4"), Style::Append, part * 7 / 2).hold_at(part * 5 / 2).start();
    wait_parts(&daemon, recording.path(), 2);
    let renamed = world.path("b.mp4");
    fs::rename(recording.path(), &renamed).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &renamed, 1);
    world.assert_is("b.mp4", &finished.sha256, finished.size_bytes);
    assert_eq!(world.keys(), ["b.mp4"]);
}

pub fn a_head_that_is_rewritten_again_and_again(world: &World) {
    let daemon = world.run(&["--tail-flush", "200ms"]);
    let part = world.part_bytes();
    let style = Style::RewriteHead { head_bytes: 4096, every_bytes: part / 4 };
    let recording = Synthetic::into(world.path("a.mp4"), style, part * 5 / 2).rate(part * 2).start();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, finished.size_bytes);
}

pub fn the_old_name_is_taken_at_once_by_the_next_recording(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let path = world.path("a.mp4");
    let first = Synthetic::into(&path, Style::Append, part * 5 / 2).hold_at(part * 3 / 2).start();
    first.wait_held(DEADLINE);
    wait_parts(&daemon, &path, 1);
    fs::rename(&path, world.path("a-1.mp4")).unwrap();
    let second = Synthetic::into(&path, Style::Append, part * 3 / 2).seed(2).start().wait();
    first.go_on();
    let first = first.wait();
    wait_completed(&daemon, &path, 1);
    wait_completed(&daemon, &world.path("a-1.mp4"), 1);
    world.assert_is("a.mp4", &second.sha256, second.size_bytes);
    world.assert_is("a-1.mp4", &first.sha256, first.size_bytes);
    assert_eq!(world.keys(), ["a-1.mp4", "a.mp4"]);
}

pub fn recordings_under_way_change_their_names_in_a_ring(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let begin = |name, seed| {
        let recording =
            Synthetic::into(world.path(name), Style::Append, part * 3 / 2).seed(seed).hold_at(part * 5 / 4).start();
        wait_parts(&daemon, recording.path(), 1);
        recording
    };
    let (a, b) = (begin("a.mp4", 1), begin("b.mp4", 2));
    for (from, to) in [("a.mp4", "c.mp4"), ("b.mp4", "a.mp4"), ("c.mp4", "b.mp4")] {
        fs::rename(world.path(from), world.path(to)).unwrap();
    }
    a.go_on();
    b.go_on();
    let (a, b) = (a.wait(), b.wait());
    wait_completed(&daemon, &world.path("a.mp4"), 1);
    wait_completed(&daemon, &world.path("b.mp4"), 1);
    world.assert_is("a.mp4", &b.sha256, b.size_bytes);
    world.assert_is("b.mp4", &a.sha256, a.size_bytes);
    assert_eq!(world.keys(), ["a.mp4", "b.mp4"]);
}

pub fn another_file_takes_the_name_of_a_recording_under_way(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let path = world.path("a.mp4");
    let mut file = File::create(&path).unwrap();
    file.write_all(&noise(1, part * 3 / 2)).unwrap();
    wait_parts(&daemon, &path, 1);
    fs::write(world.aside("other"), noise(2, part * 5 / 2)).unwrap();
    fs::rename(world.aside("other"), &path).unwrap();
    world.wait_identical(&daemon, "a.mp4");
    file.write_all(&noise(3, part)).unwrap();
    drop(file);
    let witness = world.drop_file("w.mp4", 4, 100);
    wait_completed(&daemon, &witness, 1);
    world.assert_identical("a.mp4");
    stop(&daemon);
    assert_eq!(told(&daemon, "completed", &path), 1);
}

pub fn a_file_that_leaves_while_it_is_recorded_is_finished(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let recording = Synthetic::into(world.path("a.mp4"), Style::Append, part * 5 / 2).hold_at(part * 3 / 2).start();
    wait_parts(&daemon, recording.path(), 1);
    fs::rename(recording.path(), world.aside("a.mp4")).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path, 1);
    world.assert_is("a.mp4", &finished.sha256, finished.size_bytes);
}

pub fn a_directory_gets_another_name_while_it_is_recorded_into(world: &World) {
    let daemon = world.run(&["--scan-interval", "1h"]);
    let part = world.part_bytes();
    fs::create_dir_all(world.path("today/cam")).unwrap();
    let path = world.path("today/cam/a.mp4");
    let recording = Synthetic::into(&path, Style::Append, part * 5 / 2).hold_at(part * 3 / 2).start();
    wait_parts(&daemon, recording.path(), 1);
    fs::rename(world.path("today"), world.path("monday")).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &world.path("monday/cam/a.mp4"), 1);
    world.assert_is("monday/cam/a.mp4", &finished.sha256, finished.size_bytes);
    assert_eq!(world.keys(), ["monday/cam/a.mp4"]);
}

pub fn a_completed_recording_is_edited_in_place(world: &World) {
    let daemon = world.run(&[]);
    let part = world.part_bytes();
    let path = world.drop_file("a.mp4", 1, part * 5 / 2);
    world.wait_identical(&daemon, "a.mp4");
    File::options().write(true).open(&path).unwrap().write_all_at(b"edited", part + 7).unwrap();
    wait_completed(&daemon, &path, 2);
    world.assert_identical("a.mp4");
}

pub fn a_completed_recording_that_is_only_touched_is_not_sent_or_told_again(world: &World) {
    let daemon = world.run(&[]);
    let path = world.drop_file("a.mp4", 1, world.part_bytes() * 3 / 2);
    world.wait_identical(&daemon, "a.mp4");
    let sent = world.bytes_sent(&daemon);
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
    daemon.wait_event_of("verified", &path, DEADLINE);
    let witness = world.drop_file("w.mp4", 2, 100);
    wait_completed(&daemon, &witness, 1);
    stop(&daemon);
    assert_eq!(told(&daemon, "completed", &path), 1);
    assert_eq!(world.bytes_sent(&daemon), sent + 100);
}
