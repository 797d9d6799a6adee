//! The disk of the state file is full. Uploads go on, what the checkpoint misses is owed, and it
//! is written when there is space again.

use testkit::daemon::Running;
use testkit::disk::{Disk, Filling};
use testkit::proxy::Op;
use testkit::recorders::synthetic::{Recording, Style, Synthetic};

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

/// A recording whose second part is stored while the disk of the state is full.
struct Full {
    world: World,
    daemon: Running,
    recording: Recording,
    /// Dropped, there is space again.
    filling: Filling,
    _disk: Disk,
}

fn full(bucket: &str) -> Option<Full> {
    let mut world = World::s3(bucket);
    let disk = Disk::in_memory(&world.beside("small"), 4 * MIB)?;
    world.keep_state_in(&world.beside("small/state.db"));
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    world.wait_told("its upload and part 1", &path, |told| told.upload == "open" && told.numbers() == [1]);

    let filling = disk.fill();
    recording.go_on_until(2 * S3_PART + MIB);
    world.proxy().wait_for("part 2 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.server_status == Some(200))
    });
    let said = daemon.wait_event_of("retrying", &path, DEADLINE);
    assert_eq!((said.level(), said.text("of")), (Some("WARN"), Some("checkpoint")), "{said}");
    let error = said.text("error").unwrap();
    assert!(error.contains("disk is full") && error.contains("free some space"), "{said}");
    assert!(error.contains("small/state.db"), "{said}");
    assert!(said.text("hint").unwrap().contains("recordings go on being uploaded"), "{said}");
    Some(Full { world, daemon, recording, filling, _disk: disk })
}

#[test]
fn a_full_disk_under_the_state_holds_up_no_upload_and_is_made_up_for() {
    let Some(Full { world, daemon, recording, filling, _disk }) = full("full-disk") else { return };
    recording.go_on();
    let finished = recording.wait();
    // One that begins and ends while the checkpoint can be told nothing.
    let other = Synthetic::into(world.path("b.mp4"), Style::Append, S3_PART + 9).seed(2).start().wait();
    for (key, expected) in [("a.mp4", &finished), ("b.mp4", &other)] {
        daemon
            .process()
            .wait_until("the document", DEADLINE, || world.bytes(&format!("{key}.metadata.json")).is_some());
        world.assert_identical(expected);
    }
    assert_eq!(world.told_of(&finished.path).unwrap().numbers(), [1], "it could not be written");
    assert_eq!(world.told_of(&other.path), None, "it could not be written");
    let announced = |daemon: &Running| daemon.events().iter().filter(|line| line.event() == Some("completed")).count();
    assert_eq!(announced(&daemon), 0, "not before it is durable");
    assert!(daemon.answers("/readyz"), "the store is there");

    drop(filling);
    for (finished, numbers) in [(&finished, vec![1, 2, 3, 4]), (&other, vec![1, 2])] {
        wait_completed(&daemon, &finished.path);
        assert_eq!(world.wait_state(&finished.path, "completed").numbers(), numbers);
    }
    assert_eq!((world.sent("a.mp4"), world.sent("b.mp4")), (vec![1; 4], vec![1; 2]), "nothing was sent twice");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

/// The checkpoint has not heard of part 2, nor can it hear of anything at the start.
#[test]
fn a_kill_while_the_disk_of_the_state_is_full_costs_nothing_that_is_stored() {
    let Some(Full { world, mut daemon, recording, filling, _disk }) = full("full-disk-kill") else { return };
    daemon.restart();
    recording.go_on_until(3 * S3_PART + MIB / 2);
    world.proxy().wait_for("part 3 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(3) && logged.server_status == Some(200))
    });
    assert_eq!(world.told_of(recording.path()).unwrap().numbers(), [1], "it could not be written");
    drop(filling);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(world.wait_state(&finished.path, "completed").numbers(), [1, 2, 3, 4]);
    assert_eq!(world.sent("a.mp4"), [1; 4], "what the store has is not sent again");
    assert_eq!(world.requests(Op::CreateMultipartUpload, "a.mp4").len(), 1);
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}
