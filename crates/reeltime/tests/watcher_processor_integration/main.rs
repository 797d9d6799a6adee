//! The pipeline watcher → supervisor → processor between a real store and a real Redis: what becomes
//! of a file that is created, written and deleted, and of errors of both at each step.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod inside;
mod lost_state;
mod odd_state;
mod state_errors;
mod store_errors;
#[path = "../world/mod.rs"]
mod world;

use std::fs::{self, File};

use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, MIB, S3_PART, World, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_created_file_gets_a_processor_an_upload_and_a_state
    what_is_written_is_uploaded_by_full_parts_and_remembered
    a_deleted_recording_is_finished_from_the_open_file_and_leaves_the_active_ones
    a_file_that_is_deleted_before_it_has_content_is_given_up_with_a_reason
}

fn a_created_file_gets_a_processor_an_upload_and_a_state(provider: Provider) {
    let world = World::at(provider);
    fs::create_dir(world.path("cam")).unwrap();
    let daemon = world.start();
    daemon.wait_answers("/readyz", DEADLINE);
    let path = world.path("cam/a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART, S3_PART + MIB);
    daemon.wait_event_of("discovered", &path, DEADLINE);
    let created = daemon.wait_event_of("upload_created", &path, DEADLINE);
    wait_part(&daemon, &path, 1);

    let told = world.wait_told("its upload", &path, |told| told.upload == "open");
    assert_eq!((told.state.as_str(), told.reason.as_deref()), ("active", None));
    assert_eq!((told.key.as_str(), told.node.as_str(), told.first_part_bytes), ("cam/a.mp4", "test", S3_PART));
    let uploads = world.bucket().uploads_of(world.bucket_name(), "cam/a.mp4");
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    assert_eq!((uploads[0].key.as_str(), Some(&uploads[0].upload_id)), ("cam/a.mp4", told.upload_id.as_ref()));
    assert_eq!(created.text("upload_id"), told.upload_id.as_deref());

    let streams = daemon.api_streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert_eq!(streams[0]["id"], told.id);
    assert_eq!((&streams[0]["key"], &streams[0]["state"]), (&"cam/a.mp4".into(), &"active".into()));
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
}

fn what_is_written_is_uploaded_by_full_parts_and_remembered(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 4 * S3_PART, S3_PART - 1);
    world.wait_told("the stream", &path, |told| told.state == "active");
    for parts in 1..=3 {
        recording.go_on_until(parts * S3_PART + MIB);
        recording.wait_held(DEADLINE);
        let told = world.wait_told("its parts", &path, |told| told.parts.len() as u64 == parts);
        let stored = world.stored_parts("a.mp4", &told.upload_id.unwrap()).unwrap();
        let stored: Vec<_> = stored.into_iter().map(|part| (part.number, (part.size_bytes, part.etag))).collect();
        let told: Vec<_> =
            told.parts.into_iter().map(|(number, part)| (number, (part.size_bytes, part.etag))).collect();
        assert_eq!(told, stored);
        assert!(stored.iter().all(|(_, (size, _))| *size == S3_PART), "only full parts: {stored:?}");
    }
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1, 1, 1]);
}

fn a_deleted_recording_is_finished_from_the_open_file_and_leaves_the_active_ones(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART, S3_PART + MIB);
    wait_part(&daemon, &path, 1);
    fs::remove_file(&path).unwrap();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    let told = world.wait_state(&path, "completed");
    assert_eq!((told.reason, told.upload.as_str()), (None, "none"));
    assert_eq!(world.sha256("a.mp4"), Some(finished.sha256));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert!(daemon.api_streams().iter().all(|stream| stream["state"] != "active"));
}

fn a_file_that_is_deleted_before_it_has_content_is_given_up_with_a_reason(provider: Provider) {
    let world = World::at(provider);
    let daemon = world.start();
    let path = world.path("a.mp4");
    let open = File::create(&path).unwrap();
    world.wait_state(&path, "active");
    fs::remove_file(&path).unwrap();
    drop(open);
    daemon.wait_event_of("failed", &path, DEADLINE);
    let told = world.wait_state(&path, "failed");
    assert_eq!((told.reason.as_deref(), told.upload.as_str()), (Some("source_missing"), "none"));
    assert_eq!((world.sha256("a.mp4"), world.leftovers()), (None, vec![]));
    // The pipeline goes on.
    let other = Synthetic::into(world.path("b.mp4"), Style::Append, 99).start().wait();
    wait_completed(&daemon, &other.path);
    world.assert_identical(&other);
}
