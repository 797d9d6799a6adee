//! Errors of the store at each step of a recording: before the store sees the request, in the middle
//! of it, and after it took effect.

use std::thread;

use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_store_that_fails_when_an_upload_is_created_hurts_nobody_else
    a_store_that_fails_when_a_part_is_sent_hurts_nobody_else
    a_store_that_fails_when_an_upload_is_completed_hurts_nobody_else
    a_store_that_fails_when_an_object_is_checked_hurts_nobody_else
    a_store_that_fails_when_a_document_is_stored_hurts_nobody_else
}

/// One recording meets a fault at each request of `op` until that is lifted; another one is
/// recorded meanwhile.
fn survives(provider: Provider, op: Op, moment: &str, fault: Fault) {
    let world = World::at(provider);
    let key = if op == Op::PutObject { "a.mp4.metadata.json" } else { "a.mp4" };
    // A request without a body is over when it is cut.
    let takes_effect = fault == Fault::CutAnswer || op == Op::CreateMultipartUpload && fault != Fault::internal_error();
    let is_at_the_end = !matches!(op, Op::CreateMultipartUpload | Op::UploadPart);
    let inject = || {
        let fault = world.proxy().inject(When::op(op).key(key), fault);
        // What takes effect has its effect once.
        if takes_effect { fault.times(1) } else { fault }
    };
    let daemon = world.start();
    let path = world.path("a.mp4");
    let begin = || record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let (recording, fault) = if is_at_the_end {
        let recording = begin();
        wait_part(&daemon, &path, 1); // the object may be asked for before that, too
        let fault = inject();
        recording.go_on();
        (recording, fault)
    } else {
        let fault = inject();
        (begin(), fault)
    };
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
