//! Small, even, no and many recordings.

use std::path::PathBuf;

use crate::world::{DEADLINE, World, stop};

pub fn smaller_than_a_part(world: &World) {
    becomes_one_object(world, world.part_bytes() / 3);
}

pub fn exactly_two_parts(world: &World) {
    becomes_one_object(world, world.part_bytes() * 2);
}

pub fn empty(world: &World) {
    becomes_one_object(world, 0);
}

fn becomes_one_object(world: &World, size_bytes: u64) {
    let daemon = world.run(&[]);
    world.drop_file("a.mp4", 1, size_bytes);
    let line = world.wait_identical(&daemon, "a.mp4");
    assert_eq!(line.number("size_bytes"), Some(size_bytes));
    assert_eq!(world.bytes_sent(&daemon), size_bytes, "what is complete is sent once");
}

pub fn three_hundred_at_once(world: &World) {
    // Without ffprobe, which would take most of the time.
    let daemon = world.run(&["--ffprobe", "/nonexistent/ffprobe"]);
    let name = |number: u64| PathBuf::from(format!("batch/{number}.mp4"));
    for number in 0..300 {
        world.drop_file(name(number), number, number * 17);
    }
    daemon.wait_events("completed", 300, DEADLINE * 3, |line| line.event() == Some("completed"));
    (0..300).for_each(|number| world.assert_identical(name(number)));
    assert_eq!(world.keys().len(), 300);
    stop(&daemon);
    let completed = daemon.events().iter().filter(|line| line.event() == Some("completed")).count();
    assert_eq!(completed, 300);
}
