//! An owner that is replaced while a request of it is under way.

use std::time::Duration;

use reeltime::checkpoint::Presence;
use reeltime_core::UploadState;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::Style;
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, record_until};

testkit::on_every_store! {
    an_upload_that_was_begun_too_late_is_aborted_by_who_began_it
}

fn an_upload_that_was_begun_too_late_is_aborted_by_who_began_it(provider: Provider) {
    let world = World::at(provider);
    if world.state.redis().is_none() {
        return;
    }
    let held = world.proxy().inject(When::op(Op::CreateMultipartUpload), Fault::HoldAnswer);
    let daemon = world.start();
    let recording = record_until(world.path("a.mp4"), Style::Append, 2 * S3_PART, S3_PART + MIB);
    held.wait_hits(1, DEADLINE);
    world.wait_told("the intent to be noted", recording.path(), |told| told.upload.starts_with("creating"));

    // Another node takes the stream over, and has not looked for an upload yet; then it has begun
    // one of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = world.state.url().parse().unwrap();
    let other = runtime.block_on(reeltime::checkpoint::url::open(&url, "other")).unwrap();
    let mut record = runtime.block_on(other.load()).unwrap().remove(0);
    let alive = Presence {
        node: "other".to_owned(),
        incarnation: record.id.0,
        pid: 1,
        host: "elsewhere".to_owned(),
        machine: String::new(),
        since: record.started_at,
        sources: vec![record.source_mark.clone()],
    };
    runtime.block_on(other.heartbeat(&alive, None, Duration::from_hours(1))).unwrap();
    record.epoch = runtime.block_on(other.claim(record.id, record.epoch, "other")).unwrap();
    "other".clone_into(&mut record.node);
    world.proxy().heal();
    daemon.wait_event("it to notice", DEADLINE, |line| {
        line.message().is_some_and(|message| message.contains("has been changed by another owner"))
    });
    assert_eq!(world.leftovers().len(), 1, "the other one may find it");
    record.upload = UploadState::Open { id: "theirs".to_owned() };
    runtime.block_on(other.transition(record.state, &record)).unwrap();
    daemon.process().wait_until("its upload to be aborted", DEADLINE, || world.leftovers().is_empty());
    drop(recording);
}
