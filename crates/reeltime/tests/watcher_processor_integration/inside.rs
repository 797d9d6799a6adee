//! The pipeline within the test's own process, where what it tells is heard in full.

use std::fs::{self, File};

use reeltime::events::What;
use reeltime_core::{Reason, State};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, record_until};

testkit::on_every_store! {
    a_recording_goes_through_the_pipeline_step_by_step
    a_stream_without_content_leaves_the_pipeline_with_its_reason
    a_stopped_pipeline_goes_on_where_it_stood
}

fn a_recording_goes_through_the_pipeline_step_by_step(provider: Provider) {
    let world = World::at(provider);
    let reeltime = world.start_inside(&[]);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    reeltime.heard.wait_part(&path, 1, DEADLINE);
    assert_eq!(world.told_of(&path).unwrap().numbers(), [1], "a part is told of when it is in the checkpoint");
    let told = world.wait_told("its upload", &path, |told| told.upload == "open");
    assert_eq!(told.state, "active");
    let created = reeltime.heard.wait_of("upload_created", &path, DEADLINE);
    assert!(matches!(&created.what, What::UploadCreated { upload_id } if Some(upload_id) == told.upload_id.as_ref()));
    assert_eq!(created.stream.unwrap().to_string(), told.id);
    reeltime.wait_shown("part 1", |shown| {
        matches!(shown, [stream] if (&stream.id, stream.parts_sent, stream.uploaded_bytes) == (&told.id, 1, S3_PART))
    });

    recording.go_on();
    let finished = recording.wait();
    let completed = reeltime.heard.wait_of("completed", &path, DEADLINE);
    let What::Completed { size_bytes, after_last_change } = completed.what else { panic!("{completed:?}") };
    assert_eq!(size_bytes, finished.size_bytes);
    assert!(after_last_change < DEADLINE, "{after_last_change:?}");
    let story = reeltime.heard.story_of(&path);
    let steps: Vec<_> = story.into_iter().filter(|name| *name != "verified").collect();
    let expected = ["discovered", "upload_created", "part_stored", "state_changed", "completed"];
    let without_repetitions = steps.iter().fold(Vec::new(), |mut seen, name| {
        if !seen.contains(name) {
            seen.push(*name);
        }
        seen
    });
    assert_eq!(without_repetitions, expected, "{steps:?}");
    let changes: Vec<_> = reeltime
        .heard
        .all()
        .into_iter()
        .filter_map(|event| match event.what {
            What::StateChanged { from, to } => Some((from, to)),
            _ => None,
        })
        .collect();
    let pending = State::PendingCompletion;
    assert_eq!(changes, [(State::Active, pending), (pending, State::Completed)]);
    world.assert_identical(&finished);
    reeltime.wait_shown("nobody to work on it any more", <[_]>::is_empty);
    let ended = reeltime.stop();
    assert_eq!(ended.failures, 0);
}

fn a_stream_without_content_leaves_the_pipeline_with_its_reason(provider: Provider) {
    let world = World::at(provider);
    let reeltime = world.start_inside(&[]);
    let path = world.path("a.mp4");
    let open = File::create(&path).unwrap();
    reeltime.heard.wait_of("discovered", &path, DEADLINE);
    fs::remove_file(&path).unwrap();
    drop(open);
    let failed = reeltime.heard.wait_of("failed", &path, DEADLINE);
    assert!(matches!(failed.what, What::Failed { reason: Reason::SourceMissing }), "{failed:?}");
    let told = world.wait_state(&path, "failed");
    assert_eq!(told.reason.as_deref(), Some("source_missing"));
    assert_eq!((world.sha256("a.mp4"), world.leftovers()), (None, vec![]));
    let other = Synthetic::into(world.path("b.mp4"), Style::Append, 99).start().wait();
    reeltime.heard.wait_of("completed", &other.path, DEADLINE);
    world.assert_identical(&other);
    assert_eq!(reeltime.stop().failures, 1);
}

fn a_stopped_pipeline_goes_on_where_it_stood(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let first = world.start_inside(&[]);
    first.heard.wait_part(&path, 1, DEADLINE);
    assert!(!first.stop().is_done);
    let told = world.told_of(&path).unwrap();
    assert_eq!((told.state.as_str(), told.numbers()), ("active", vec![1]));

    let second = world.start_inside(&[]);
    let resumed = second.heard.wait_of("resumed", &path, DEADLINE);
    assert!(matches!(resumed.what, What::Resumed { uploaded_bytes: S3_PART }), "{resumed:?}");
    recording.go_on();
    let finished = recording.wait();
    second.heard.wait_of("completed", &path, DEADLINE);
    world.assert_identical(&finished);
    assert_eq!((world.sent("a.mp4"), world.uploads_used("a.mp4").len()), (vec![1, 1, 1], 1));
    assert_eq!(second.heard.count_of("discovered", &path), 0);
}
