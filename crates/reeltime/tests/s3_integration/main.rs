//! The built binary, and its store alone, before real S3 servers that verify signatures and keep
//! their data: every test runs on `MinIO` and on Garage, with a bucket of its own, and with a server
//! of its own where that is killed or changed. What the store holds is looked at with a client that is not reeltime's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod completion;
mod copying;
mod credentials;
mod replacing;
#[path = "../world/mod.rs"]
mod world;

use std::fs;

use testkit::daemon::Daemon;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_recording_of_several_parts_becomes_its_object
    an_aborted_upload_leaves_neither_object_nor_parts
    twenty_four_recordings_at_once_are_all_right
    a_store_that_is_killed_in_the_middle_gets_the_rest_into_the_same_upload
    no_part_of_a_wrong_size_reaches_the_store
}

fn a_recording_of_several_parts_becomes_its_object(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let style = Style::RewriteHead { head_bytes: 48, every_bytes: u64::MAX };
    let recording = record_until(path.clone(), style, 3 * S3_PART + MIB, 2 * S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 2);
    assert_eq!(world.sha256("a.mp4"), None, "there is no object while it is recorded");
    assert_eq!(world.leftovers().len(), 1);
    recording.go_on();
    let finished = recording.wait();
    let completed = wait_completed(&daemon, &path);
    world.assert_identical(&finished);

    let head = store.s3().head(store.bucket(), "a.mp4").unwrap();
    assert_eq!(head.size_bytes, 3 * S3_PART + MIB);
    assert_eq!(completed.number("size_bytes"), Some(head.size_bytes));
    assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
    assert!(head.metadata.contains_key("reeltime-token"), "{head:?}");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// A file that is renamed while it is recorded: the upload of the old name is aborted.
fn an_aborted_upload_leaves_neither_object_nor_parts(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    let upload = world.uploads_used("a.mp4").pop_first().unwrap();
    assert_eq!(store.s3().parts(store.bucket(), "a.mp4", &upload).unwrap().len(), 1);
    fs::rename(&path, world.path("b.mp4")).unwrap();
    world.proxy().wait_for("the abort", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.op == Op::AbortMultipartUpload && logged.server_status == Some(204))
    });
    assert_eq!(store.s3().parts(store.bucket(), "a.mp4", &upload), None, "nothing is left of the upload");
    recording.go_on();
    let mut finished = recording.wait();
    finished.path = world.path("b.mp4");
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(world.sha256("a.mp4"), None);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn twenty_four_recordings_at_once_are_all_right(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let daemon = world.start();
    let recordings: Vec<_> = (0..24)
        .map(|number| {
            let path = world.path(&format!("cam-{number}.mp4"));
            let total = S3_PART + 1000 * (number + 1);
            Synthetic::into(path, Style::Append, total).seed(number + 1).hold_at(S3_PART).start()
        })
        .collect();
    // None ends before all are under way.
    for (number, recording) in recordings.iter().enumerate() {
        recording.wait_held(DEADLINE);
        wait_part(&daemon, &world.path(&format!("cam-{number}.mp4")), 1);
    }
    assert_eq!(world.leftovers().len(), 24);
    recordings.iter().for_each(testkit::recorders::synthetic::Recording::go_on);
    for recording in recordings {
        let finished = recording.wait();
        wait_completed(&daemon, &finished.path);
        world.assert_identical(&finished);
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn a_store_that_is_killed_in_the_middle_gets_the_rest_into_the_same_upload(provider: Provider) {
    let store = provider.own_store();
    let Some(process) = store.process() else { return };
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 4 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    // While it takes a part in.
    let slow = world.proxy().inject(When::op(Op::UploadPart).part(2), Fault::Throttle { bytes_per_second: MIB });
    recording.go_on_until(2 * S3_PART + MIB);
    world.proxy().wait_for("a piece of part 2", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.body_bytes > 100_000)
    });
    process.kill();
    slow.lift();
    daemon.wait_event_of("retrying", &path, DEADLINE);
    store.restart();
    wait_part(&daemon, &path, 2);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4")[0], 1, "what the store had is not sent again");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// The store alone, as another process would have it after a restart.
/// Garage would take a middle part that is too small, and `MinIO` would only say so at the end.
fn no_part_of_a_wrong_size_reaches_the_store(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let refused = Daemon::run(env!("CARGO_BIN_EXE_reeltime"))
        .arg(world.recordings())
        .args(["--to", &world.to(), "--part-size", "5242879"])
        .envs(world.proxy().env_of(store.env()))
        .start();
    assert_ne!(refused.wait_exit(DEADLINE).code(), Some(0));
    let said = fs::read_to_string(refused.log()).unwrap();
    assert!(said.contains("--part-size") && said.contains("5MiB"), "{said}");
    assert_eq!(world.writes(), 0);

    // A recorder that stops and goes on in the middle of parts: tails are sent and replaced.
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + 1, 700_000);
    let daemon = world.daemon().args(["--tail-flush", "1s"]).start();
    wait_part(&daemon, &path, 1);
    for end in [S3_PART - 1, S3_PART + 1, 2 * S3_PART + 300_000] {
        recording.go_on_until(end);
        recording.wait_held(DEADLINE);
    }
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let completed = world.uploads_used("a.mp4");
    assert_eq!(completed.len(), 1);
    // The last that was sent as each part is what the object consists of.
    let mut sizes = std::collections::BTreeMap::new();
    for sent in world.requests(Op::UploadPart, "a.mp4") {
        let length: u64 = sent.request.header("content-length").unwrap().parse().unwrap();
        assert!(length <= S3_PART, "{sent}");
        sizes.insert(sent.request.part_number.unwrap(), length);
    }
    let last = *sizes.keys().last().unwrap();
    assert!(sizes.iter().all(|(part, size)| *part == last || *size == S3_PART), "{sizes:?}");
    assert_eq!(sizes.values().sum::<u64>(), 3 * S3_PART + 1);
}
