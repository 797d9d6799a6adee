//! The pipeline watcher → supervisor → processor between a real store and a real Redis: what becomes
//! of a file that is created, written and deleted, and of errors of both at each step.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs::{self, File};
use std::thread;

use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_created_file_gets_a_processor_an_upload_and_a_state
    what_is_written_is_uploaded_by_full_parts_and_remembered
    a_deleted_recording_is_finished_from_the_open_file_and_leaves_the_active_ones
    a_file_that_is_deleted_before_it_has_content_is_given_up_with_a_reason
    a_store_that_fails_when_an_upload_is_created_hurts_nobody_else
    a_store_that_fails_when_a_part_is_sent_hurts_nobody_else
    a_store_that_fails_when_an_upload_is_completed_hurts_nobody_else
    a_store_that_fails_when_an_object_is_checked_hurts_nobody_else
    a_store_that_fails_when_a_document_is_stored_hurts_nobody_else
    a_state_that_is_away_at_each_step_is_made_up_for
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

/// One recording meets a fault at each request of `op` until that is lifted; another one is
/// recorded meanwhile.
fn survives(provider: Provider, op: Op, moment: &str, fault: Fault) {
    let world = World::at(provider);
    let key = if op == Op::PutObject { "a.mp4.metadata.json" } else { "a.mp4" };
    // A request without a body is over when it is cut.
    let takes_effect = fault == Fault::CutAnswer || op == Op::CreateMultipartUpload && fault != Fault::internal_error();
    let fault = world.proxy().inject(When::op(op).key(key), fault);
    // What takes effect has its effect once.
    let fault = if takes_effect { fault.times(1) } else { fault };
    let daemon = world.start();
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let is_at_the_end = !matches!(op, Op::CreateMultipartUpload | Op::UploadPart);
    if is_at_the_end {
        recording.go_on();
    }
    fault.wait_hits(1, DEADLINE);
    daemon.wait_event_of("retrying", &path, DEADLINE);

    let other = Synthetic::into(world.path("b.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();
    wait_completed(&daemon, &other.path);
    world.assert_identical(&other);
    assert_eq!(world.sent("b.mp4"), [1, 1], "{moment}: the other recording has no trouble");
    let told = world.told_of(&path).unwrap();
    if !takes_effect {
        let state = if is_at_the_end { "pending_completion" } else { "active" };
        assert_eq!(told.state, state, "{moment}: {told:?}");
        // The upload is no upload any more once it is completed, but that is remembered last.
        let stored = if is_at_the_end { 2 } else { 0 };
        assert_eq!(told.parts.len(), stored, "{moment}: {told:?}");
    }
    assert_eq!(told.reason, None, "{moment}: {told:?}");

    fault.lift();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let told = world.wait_state(&path, "completed");
    assert_eq!((told.reason, told.parts.len()), (None, 2), "{moment}");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]), "{moment}");
}

/// Before the store sees the request, in the middle of it, and after it took effect.
fn survives_at_each_moment(provider: Provider, op: Op) {
    let moments = [
        ("before", Fault::internal_error()),
        ("during", Fault::Reset { after_body_bytes: 100 }),
        ("after", Fault::CutAnswer),
    ];
    thread::scope(|scope| {
        for (moment, fault) in moments {
            scope.spawn(move || survives(provider, op, moment, fault));
        }
    });
}

fn a_store_that_fails_when_an_upload_is_created_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Op::CreateMultipartUpload);
}

fn a_store_that_fails_when_a_part_is_sent_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Op::UploadPart);
}

fn a_store_that_fails_when_an_upload_is_completed_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Op::CompleteMultipartUpload);
}

fn a_store_that_fails_when_an_object_is_checked_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Op::HeadObject);
}

fn a_store_that_fails_when_a_document_is_stored_hurts_nobody_else(provider: Provider) {
    survives_at_each_moment(provider, Op::PutObject);
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
    assert_eq!((told.reason, told.size_bytes), (None, finished.size_bytes));
    assert_eq!(world.sent("a.mp4"), [1, 1, 1]);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
