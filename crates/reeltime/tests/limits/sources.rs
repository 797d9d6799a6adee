//! The file system of the recordings: full, read-only, and taken away for a while.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::time::Instant;

use testkit::digest::sha256_of;
use testkit::disk::Disk;
use testkit::recorders::synthetic::{Finished, Style, Synthetic, fill};

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

/// What fits is uploaded; where recordings are deleted afterwards, there is room for the next one.
#[test]
fn a_full_disk_of_recordings_is_uploaded_as_far_as_it_was_written_and_can_be_emptied() {
    let world = World::s3("source-full");
    let Some(_disk) = Disk::in_memory(&world.recordings(), 2 * S3_PART + MIB) else { return };
    let daemon = world.daemon().args(["--after-upload", "delete"]).start();
    let path = world.path("a.mp4");
    let mut recorder = File::create(&path).unwrap();
    let mut block = vec![0; 64 * 1024];
    for number in 0.. {
        fill(number, 0, &mut block);
        match recorder.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => panic!("{error}"),
        }
    }
    let (size_bytes, sha256) = (recorder.metadata().unwrap().len(), sha256_of(&path));
    assert!(size_bytes > 2 * S3_PART, "{size_bytes}");
    drop(recorder);
    wait_completed(&daemon, &path);
    assert_eq!(world.sha256("a.mp4"), Some(sha256));
    daemon.wait_event_of("source_disposed", &path, DEADLINE);

    let next = Synthetic::into(world.path("b.mp4"), Style::Append, S3_PART + MIB).seed(2).start().wait();
    daemon.wait_event_of("source_disposed", &next.path, DEADLINE);
    assert_eq!(world.sha256("b.mp4"), Some(next.sha256));
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// As after an error of the disk. What was to be deleted stays, and that is said.
#[test]
fn a_source_that_becomes_read_only_is_uploaded_to_its_end() {
    let world = World::s3("source-read-only");
    let written = world.beside("written");
    std::fs::create_dir(&written).unwrap();
    let Some(disk) = Disk::showing(&written, &world.recordings()) else { return };
    let path = world.path("a.mp4");
    let recording = record_until(written.join("a.mp4"), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.daemon().args(["--after-upload", "delete"]).start();
    wait_part(&daemon, &path, 1);
    disk.make_read_only();
    recording.go_on();
    let finished = Finished { path: path.clone(), ..recording.wait() };
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let said = daemon.wait_event("the file to stay", DEADLINE, |line| {
        line.event() == Some("notice") && line.message().is_some_and(|message| message.contains("could not be deleted"))
    });
    assert!(said.message().unwrap().contains("Read-only file system"), "{said}");
    assert!(said.text("hint").unwrap().contains("nothing is lost"), "{said}");
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Its recordings go on from the files that are held open; those that nobody has seen yet are found
/// when it is back.
#[test]
fn a_source_that_is_unmounted_for_a_while_loses_nothing() {
    let world = World::s3("source-away");
    let disk_of = world.beside("disk");
    std::fs::create_dir(&disk_of).unwrap();
    let Some(disk) = Disk::showing(&disk_of, &world.recordings()) else { return };
    let path = world.path("a.mp4");
    let recording = record_until(disk_of.join("a.mp4"), Style::Append, 3 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);

    drop(disk);
    assert!(!path.exists());
    recording.go_on_until(2 * S3_PART + MIB);
    wait_part(&daemon, &path, 2);
    let unseen = Synthetic::into(disk_of.join("b.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();

    let Some(_disk) = Disk::showing(&disk_of, &world.recordings()) else { panic!("it could be mounted before") };
    let unseen = Finished { path: world.path("b.mp4"), ..unseen };
    wait_completed(&daemon, &unseen.path);
    world.assert_identical(&unseen);
    assert!(!daemon.events().iter().any(|line| line.event() == Some("completed") && line.path() == Some(&path)));
    recording.go_on();
    let finished = Finished { path: path.clone(), closed_at: Instant::now(), ..recording.wait() };
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1; 4], "it is the same recording");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
