//! The built binary before a store that is away, broken or busy, or whose uploads somebody else
//! drops: it waits, says so and goes on; no stream fails, and every object is its recording.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::thread;

use testkit::daemon::Running;
use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};

use world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_carried_out, wait_completed, wait_part};

#[track_caller]
fn wait_ready(daemon: &Running, status: u16) -> String {
    let address = daemon.address();
    let mut last = String::new();
    daemon.process().wait_until(&format!("/readyz to answer {status}"), DEADLINE, || {
        let Ok(response) = testkit::http::get(&address, "/readyz") else { return false };
        last = response.text();
        response.status == status
    });
    last
}

#[test]
fn a_store_that_is_away_at_the_start_is_waited_for() {
    let world = World::s3("outage-at-start");
    world.proxy().go_down();
    let daemon = world.start();
    let said = daemon.wait_event("the destination to be missed", DEADLINE, |line| {
        line.message().is_some_and(|message| message.contains("cannot be reached; waiting for it"))
    });
    assert_eq!(said.level(), Some("WARN"));
    assert!(said.text("error").unwrap().contains("s3://outage-at-start"), "{said}");
    assert!(!said.text("hint").unwrap().is_empty(), "{said}");
    assert!(wait_ready(&daemon, 503).contains("s3://outage-at-start"));
    assert!(daemon.answers("/healthz"), "waiting is no reason to restart it");

    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    daemon.wait_event_of("retrying", &finished.path, DEADLINE);
    let waiting = &daemon.api_streams()[0];
    assert_eq!((&waiting["state"], &waiting["reason"]), (&"active".into(), &"store_away".into()), "{waiting}");
    world.proxy().come_up();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    wait_ready(&daemon, 200);
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

#[test]
fn a_store_that_goes_away_while_recordings_are_made_is_waited_for() {
    let world = World::s3("outage-later");
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    world.proxy().go_down();
    recording.go_on();
    let finished = recording.wait();
    let said = daemon.wait_event_of("retrying", &path, DEADLINE);
    assert_eq!(said.level(), Some("WARN"));
    assert!(wait_ready(&daemon, 503).contains("s3://outage-later"));

    world.proxy().come_up();
    wait_completed(&daemon, &path);
    daemon.wait_event_of("recovered", &path, DEADLINE);
    wait_ready(&daemon, 200);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4")[0], 1, "what the store had is not sent again");
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Everything that can happen to a request, one after the other; each once. The last two, and
/// the reset of a request without a body, hide that it was done.
fn disturb(world: &World, when: impl Fn() -> When) -> Vec<testkit::proxy::Injected> {
    let cut = Fault::AnswerInstead(Answer::error(500, "InternalError", "it is done, but that is not said"));
    let faults = [
        Fault::internal_error(),
        Fault::slow_down(),
        Fault::too_many_requests(),
        Fault::Reset { after_body_bytes: 100 },
        Fault::CutAnswer,
        cut,
    ];
    faults.into_iter().map(|fault| world.proxy().inject(when(), fault).times(1)).collect()
}

/// A recording during which every kind of trouble meets each request of one operation.
fn survives_trouble_with(bucket: &str, op: Op, extra: Option<Fault>) {
    let world = World::s3(bucket);
    let key = if op == Op::PutObject { "a.mp4.metadata.json" } else { "a.mp4" };
    let when = || if op == Op::ListMultipartUploads { When::op(op) } else { When::op(op).key(key) };
    let mut faults = disturb(&world, when);
    faults.extend(extra.map(|fault| world.proxy().inject(when(), fault).times(1)));
    if op == Op::ListMultipartUploads {
        // It is asked for when an answer was lost.
        faults.push(world.proxy().inject(When::op(Op::CreateMultipartUpload), Fault::CutAnswer).times(1));
    }
    let recording = record_until(world.path("a.mp4"), Style::Append, S3_PART + MIB, S3_PART);
    let mut daemon = world.start();
    if op == Op::ListParts {
        wait_part(&daemon, &world.path("a.mp4"), 1);
        daemon.restart(); // only then the parts are listed
    }
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    let hits: Vec<_> = faults.iter().map(testkit::proxy::Injected::hits).collect();
    // An upload that was begun and found is not asked for again.
    let expected = if op == Op::CreateMultipartUpload { vec![1, 1, 1, 1, 0, 0] } else { vec![1; faults.len()] };
    assert_eq!(hits, expected, "{op:?}");
    assert_eq!(failures(&daemon), Vec::<String>::new(), "{op:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{op:?}");
}

#[test]
fn no_answer_to_any_request_makes_a_stream_fail() {
    let ops = [
        ("trouble-create", Op::CreateMultipartUpload, None),
        ("trouble-part", Op::UploadPart, None),
        ("trouble-complete", Op::CompleteMultipartUpload, Some(Fault::error_in_ok())),
        ("trouble-head", Op::HeadObject, None),
        ("trouble-document", Op::PutObject, None),
        ("trouble-list-parts", Op::ListParts, None),
        ("trouble-list-uploads", Op::ListMultipartUploads, None),
    ];
    thread::scope(|scope| {
        for (bucket, op, extra) in ops {
            scope.spawn(move || survives_trouble_with(bucket, op, extra));
        }
    });
}

#[test]
fn a_completion_that_says_it_failed_and_has_not_is_found_out() {
    let world = World::s3("outage-false-error");
    let lie = Fault::AnswerInstead(Answer::error(200, "InternalError", "We encountered an internal error."));
    let lie = world.proxy().inject(When::op(Op::CompleteMultipartUpload), lie).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((lie.hits(), world.sent("a.mp4")), (1, vec![1, 1]));
}

/// A store that forgets completed uploads (Garage, `MinIO`) answers the repeated completion with
/// `NoSuchUpload`: the object decides.
#[test]
fn no_such_upload_after_a_lost_answer_is_not_taken_for_a_failure() {
    let world = World::s3("outage-no-such-upload");
    let lost = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::CutAnswer).times(1);
    let gone = Fault::Answer(Answer::error(404, "NoSuchUpload", "The specified upload does not exist."));
    let gone = world.proxy().inject(When::op(Op::CompleteMultipartUpload), gone).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((lost.hits(), gone.hits(), world.sent("a.mp4")), (1, 1, vec![1, 1]));
}

#[test]
fn an_upload_that_somebody_else_aborts_is_begun_anew_from_the_file() {
    let world = World::s3("outage-aborted");
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 4 * S3_PART, 2 * S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    wait_part(&daemon, &path, 2);
    let upload = world.uploads_used("a.mp4").pop_first().unwrap();
    world.bucket().abort("outage-aborted", "a.mp4", &upload);

    recording.go_on_until(3 * S3_PART);
    // The third part meets the missing upload; all three go into another one while the
    // recording goes on.
    world.proxy().wait_for("three parts in another upload", DEADLINE, |log| {
        let others = log.iter().filter(|logged| {
            logged.request.op == Op::UploadPart
                && logged.request.upload_id.as_ref() != Some(&upload)
                && logged.server_status == Some(200)
        });
        others.count() >= 3
    });
    assert!(recording.written_bytes() < 4 * S3_PART);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(failures(&daemon), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_upload_that_somebody_else_aborts_before_its_completion_is_begun_anew() {
    let world = World::s3("outage-aborted-late");
    let held = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::Hold).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    held.wait_hits(1, DEADLINE);
    let upload = world.uploads_used("a.mp4").pop_first().unwrap();
    world.bucket().abort("outage-aborted-late", "a.mp4", &upload);
    held.lift();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(failures(&daemon), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// The name changes while the upload runs, and the abort of the old upload meets every trouble.
#[test]
fn an_abort_is_repeated_until_it_succeeds() {
    let world = World::s3("trouble-abort");
    let faults = disturb(&world, || When::op(Op::AbortMultipartUpload));
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    std::fs::rename(&path, world.path("b.mp4")).unwrap();
    world
        .proxy()
        .wait_for("an abort", DEADLINE, |log| log.iter().any(|logged| logged.request.op == Op::AbortMultipartUpload));
    recording.go_on();
    let mut finished = recording.wait();
    finished.path = world.path("b.mp4");
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(faults.iter().map(testkit::proxy::Injected::hits).sum::<usize>(), faults.len());
    assert_eq!(world.sha256("a.mp4"), None);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// A connection that dies without a word in the middle of a part: the bytes that were sent are
/// sent again, and nothing else.
#[test]
fn connections_that_are_reset_in_the_middle_of_parts_cost_these_parts_alone() {
    let world = World::s3("outage-resets");
    let path = world.path("a.mp4");
    let slow = world.proxy().inject(When::op(Op::UploadPart).part(2), Fault::Throttle { bytes_per_second: MIB });
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, 2 * S3_PART);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    world.proxy().wait_for("a piece of part 2", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.body_bytes > 100_000)
    });
    world.proxy().reset_connections();
    slow.lift();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 2, 1]);
}

#[test]
fn a_store_that_holds_its_answer_back_does_not_hold_up_other_recordings() {
    let world = World::s3("outage-one-hangs");
    world.proxy().inject(When::op(Op::CompleteMultipartUpload).key("a.mp4"), Fault::HoldAnswer);
    let daemon = world.start();
    let hanging = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + 1).start().wait();
    wait_carried_out(world.proxy(), Op::CompleteMultipartUpload);
    let other = Synthetic::into(world.path("b.mp4"), Style::Append, S3_PART + 1).seed(2).start().wait();
    wait_completed(&daemon, &other.path);
    world.assert_identical(&other);
    world.proxy().heal();
    wait_completed(&daemon, &hanging.path);
    world.assert_identical(&hanging);
}
