//! What becomes of the file afterwards.

use std::fs;

use testkit::digest::sha256_of;

use crate::world::{DEADLINE, World, noise, stop, told, wait_completed};

pub fn a_file_is_deleted_after_upload_and_its_name_used_again(world: &World) {
    let daemon = world.run(&["--after-upload", "delete"]);
    let size = world.part_bytes() * 3 / 2;
    let disposed = |times| {
        daemon.wait_events("source_disposed", times, DEADLINE, |line| line.event() == Some("source_disposed"));
    };
    for seed in [1, 2] {
        let aside = world.aside("a");
        fs::write(&aside, noise(seed, size)).unwrap();
        let sha256 = sha256_of(&aside);
        fs::create_dir_all(world.path("day")).unwrap();
        fs::rename(&aside, world.path("day/a.mp4")).unwrap();
        wait_completed(&daemon, &world.path("day/a.mp4"), seed as usize);
        disposed(seed as usize);
        assert!(!world.path("day/a.mp4").exists());
        world.assert_is("day/a.mp4", &sha256, size);
    }
}

pub fn a_file_is_moved_after_upload(world: &World) {
    let archive = world.aside("archive");
    let daemon = world.run(&["--after-upload", &format!("move={}", archive.display())]);
    let size = world.part_bytes() * 3 / 2;
    let path = world.drop_file("day/a.mp4", 1, size);
    daemon.wait_event_of("source_disposed", &path, DEADLINE);
    assert!(!path.exists());
    world.assert_is("day/a.mp4", &sha256_of(archive.join("day/a.mp4")), size);
    // A name that is taken in the archive is not overwritten: the file stays.
    world.drop_file("day/a.mp4", 2, size);
    wait_completed(&daemon, &path, 2);
    daemon.wait_event("a notice", DEADLINE, |line| {
        line.event() == Some("notice") && line.message().is_some_and(|message| message.contains("exists already"))
    });
    world.assert_identical("day/a.mp4");
    assert_eq!(fs::read(archive.join("day/a.mp4")).unwrap(), noise(1, size));
}

pub fn a_file_that_is_there_at_the_next_start_is_deleted(world: &World) {
    // As if reeltime had been killed between the completion and the deletion.
    let state = world.aside("state.db");
    let state = state.to_str().unwrap();
    let path = world.drop_file("a.mp4", 1, world.part_bytes() * 3 / 2);
    let sha256 = sha256_of(&path);
    let daemon = world.run(&["--state", state]);
    world.wait_identical(&daemon, "a.mp4");
    stop(&daemon);
    let daemon = world.run(&["--state", state, "--after-upload", "delete"]);
    daemon.wait_event_of("source_disposed", &path, DEADLINE);
    assert!(!path.exists());
    world.assert_is("a.mp4", &sha256, world.part_bytes() * 3 / 2);
    assert_eq!(told(&daemon, "completed", &path), 0, "it is not news");
}

pub fn the_only_copy_is_not_deleted_at_the_next_start(world: &World) {
    let state = world.aside("state.db");
    let state = state.to_str().unwrap();
    let path = world.drop_file("a.mp4", 1, world.part_bytes() * 3 / 2);
    let daemon = world.run(&["--state", state]);
    world.wait_identical(&daemon, "a.mp4");
    stop(&daemon);
    world.remove("a.mp4");
    let daemon = world.run(&["--state", state, "--after-upload", "delete"]);
    let witness = world.drop_file("w.mp4", 2, 100);
    daemon.wait_event_of("source_disposed", &witness, DEADLINE);
    daemon.wait_event("a notice", DEADLINE, |line| line.event() == Some("notice") && line.path() == Some(&path));
    assert!(path.exists());
}
