//! Completions that tell something else than what happened, and uploads that are gone.

use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_completion_that_is_answered_as_an_error_is_repeated
    a_completion_whose_answer_is_lost_is_found_out
    an_upload_that_vanishes_while_recording_is_begun_anew_from_the_file
}

/// Twice: once nothing was done, once it was done nevertheless.
fn a_completion_that_is_answered_as_an_error_is_repeated(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let lie = Fault::AnswerInstead(Answer::error(200, "InternalError", "We encountered an internal error."));
    let truth = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::error_in_ok()).times(1);
    let lie = world.proxy().inject(When::op(Op::CompleteMultipartUpload), lie).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((truth.hits(), lie.hits(), world.sent("a.mp4")), (1, 1, vec![1, 1]));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Both servers forget an upload that was completed: the object decides.
fn a_completion_whose_answer_is_lost_is_found_out(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let lost = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::CutAnswer).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((lost.hits(), world.sent("a.mp4")), (1, vec![1, 1]), "nothing is uploaded twice");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn an_upload_that_vanishes_while_recording_is_begun_anew_from_the_file(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    let vanished = world.uploads_used("a.mp4").pop_first().unwrap();
    store.s3().abort(store.bucket(), "a.mp4", &vanished);
    recording.go_on_until(2 * S3_PART + MIB);
    world.proxy().wait_for("two parts in another upload", DEADLINE, |log| {
        let others = log.iter().filter(|logged| {
            logged.request.op == Op::UploadPart
                && logged.request.upload_id.as_ref() != Some(&vanished)
                && logged.server_status == Some(200)
        });
        others.count() >= 2
    });
    assert!(recording.written_bytes() < 3 * S3_PART, "it goes on while it is recorded");
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}
