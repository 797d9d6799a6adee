//! Which recordings are found, and how.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use testkit::recorders::synthetic::{Style, Synthetic};

use crate::world::{DEADLINE, World, noise, told, wait_completed, wait_parts, wait_stream};

pub fn a_tree_that_was_there_before(world: &World) {
    let part = world.part_bytes();
    let names = ["a.mp4", "day 1/a.mp4", "day 1/cam/b.mp4", "day 2/x/y/z/c.mp4"];
    for (name, seed) in names.iter().zip(1..) {
        world.drop_file(name, seed, part / 2 * seed);
    }
    let open = world.path("day 1/open.mp4");
    let mut file = File::create(&open).unwrap();
    file.write_all(&noise(9, part / 2)).unwrap();

    let daemon = world.run(&["--idle-timeout", "1h"]);
    for name in names {
        world.wait_identical(&daemon, name);
    }
    assert_eq!(told(&daemon, "completed", &open), 0, "somebody has it open");
    wait_stream(&daemon, &open, "to be active", |stream| stream["state"] == "active");
    drop(file);
    world.wait_identical(&daemon, "day 1/open.mp4");
    assert_eq!(world.keys().len(), 5);
}

pub fn once_ends_when_the_last_recorder_has_ended(world: &World) {
    let part = world.part_bytes();
    world.drop_file("there/a.mp4", 1, part * 3 / 2);
    let recording = Synthetic::into(world.path("b.mp4"), Style::Append, part * 3 / 2).hold_at(part).start();
    let daemon = world.reeltime().arg("--once").start();
    wait_parts(&daemon, recording.path(), 1);
    wait_completed(&daemon, &world.path("there/a.mp4"), 1);
    assert!(daemon.process().exited().is_none(), "somebody is recording still");
    recording.go_on();
    recording.wait();
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(0));
    world.assert_identical("there/a.mp4");
    world.assert_identical("b.mp4");
}

pub fn a_directory_that_is_moved_in(world: &World) {
    let daemon = world.run(&["--scan-interval", "1h"]);
    let size = world.part_bytes() / 2;
    fs::create_dir_all(world.aside("card/inner")).unwrap();
    fs::write(world.aside("card/a.mp4"), noise(1, size)).unwrap();
    fs::write(world.aside("card/inner/b.mp4"), noise(2, size)).unwrap();
    fs::rename(world.aside("card"), world.path("card")).unwrap();
    world.wait_identical(&daemon, "card/a.mp4");
    world.wait_identical(&daemon, "card/inner/b.mp4");
    // It is watched from now on.
    world.drop_file("card/inner/c.mp4", 3, size);
    world.wait_identical(&daemon, "card/inner/c.mp4");
}

pub fn a_directory_that_is_made_and_filled(world: &World) {
    let daemon = world.run(&["--scan-interval", "1h"]);
    let names: Vec<_> = (0..8).map(|number| format!("day {number}/cam/inner/a.mp4")).collect();
    for name in &names {
        world.drop_file(name, 1, 5000);
    }
    for name in &names {
        world.wait_identical(&daemon, name);
    }
}

pub fn scans_alone_find_everything(world: &World) {
    let daemon = world.run(&["--watch", "poll", "--scan-interval", "200ms"]);
    let part = world.part_bytes();
    let style = Style::TempThenRename { suffix: ".part".into() };
    let recording = Synthetic::into(world.path("day/a.mp4"), style, part * 5 / 2).hold_at(part * 3 / 2);
    fs::create_dir(world.path("day")).unwrap();
    let recording = recording.start();
    wait_parts(&daemon, &world.path("day/a.mp4.part"), 1);
    recording.go_on();
    recording.wait();
    world.wait_identical(&daemon, "day/a.mp4");
    // The same name again, of the same size.
    Synthetic::into(world.path("day/a.mp4"), Style::Append, part * 5 / 2).seed(2).start().wait();
    wait_completed(&daemon, &world.path("day/a.mp4"), 2);
    world.assert_identical("day/a.mp4");
    assert_eq!(world.keys(), ["day/a.mp4"]);
}

pub fn a_rename_between_two_scans_is_no_second_recording(world: &World) {
    let path = world.path("a.mp4");
    let temp = world.drop_file("a.mp4.part", 1, world.part_bytes() * 5 / 2);
    let daemon = world.run(&["--watch", "poll", "--scan-interval", "3s"]);
    wait_parts(&daemon, &temp, 2); // found by the first scan
    fs::rename(&temp, &path).unwrap();
    world.wait_identical(&daemon, "a.mp4");
    assert_eq!(told(&daemon, "discovered", &path), 0, "it is the recording that is known already");
    assert_eq!(world.bytes_sent(&daemon), world.part_bytes() * 5 / 2);
    assert_eq!(world.keys(), ["a.mp4"]);
}

pub fn what_is_excluded_stays_here(world: &World) {
    let out = ["a.mp4", "cam 1/a.mkv", "trash/a.mov", "cam 2/trash/deep/a.mov", "cam 1/low-a.mp4", ".reeltime-x.mov"];
    for name in out {
        world.drop_file(name, 1, 1000);
    }
    let globs = ["--include", "cam*/*.mp4", "--include", "*.mov", "--exclude", "**/trash", "--exclude", "low-*"];
    let daemon = world.run(&globs);
    for name in out {
        world.drop_file(name, 2, 2000);
    }
    let included = ["cam 1/a.mp4", "deep/er/a.mov"];
    for name in included {
        world.drop_file(name, 3, 3000);
        world.wait_identical(&daemon, name);
    }
    assert_eq!(world.keys(), included);
}

pub fn links_and_pipes_are_left_alone(world: &World) {
    let outside = world.aside("outside.mp4");
    fs::write(&outside, noise(1, 1000)).unwrap();
    symlink(&outside, world.path("link.mp4")).unwrap();
    fs::create_dir(world.aside("dir")).unwrap();
    fs::write(world.aside("dir/a.mp4"), noise(1, 1000)).unwrap();
    symlink(world.aside("dir"), world.path("linked-dir")).unwrap();
    assert!(Command::new("mkfifo").arg(world.path("pipe.mp4")).status().unwrap().success());
    let _socket = UnixListener::bind(world.path("socket.mp4")).unwrap();
    let daemon = world.run(&[]);
    symlink(&outside, world.path("later.mp4")).unwrap();
    assert!(Command::new("mkfifo").arg(world.path("later-pipe.mp4")).status().unwrap().success());
    world.drop_file("dir.mp4/a.mp4", 2, 1000);
    world.wait_identical(&daemon, "dir.mp4/a.mp4");
    for name in ["link.mp4", "pipe.mp4", "socket.mp4", "later.mp4", "later-pipe.mp4", "dir.mp4"] {
        let path = world.path(name);
        daemon.wait_event(name, DEADLINE, |line| line.event() == Some("notice") && line.path() == Some(&path));
    }
    assert_eq!(world.keys(), ["dir.mp4/a.mp4"]);
}
