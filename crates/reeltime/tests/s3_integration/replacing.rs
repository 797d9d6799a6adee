//! A store that does not replace a part that is sent again, as rclone's: every recording is right
//! nevertheless.

use std::collections::HashSet;
use std::sync::Mutex;

use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::Style;
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    recordings_whose_heads_are_rewritten_are_right_where_parts_are_not_replaced
}

/// Refuses a part whose number the upload has had.
fn refusing(world: &World) -> testkit::proxy::Injected {
    let sent = Mutex::new(HashSet::new());
    let was_sent = When::op(Op::UploadPart).and("its number was sent before", move |request| {
        !sent.lock().unwrap().insert((request.upload_id.clone(), request.part_number))
    });
    let refusal = Answer::error(501, "NotImplemented", "a header you provided implies functionality that is not");
    world.proxy().inject(was_sent, Fault::Answer(refusal))
}

fn recordings_whose_heads_are_rewritten_are_right_where_parts_are_not_replaced(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let refused = refusing(&world);
    let daemon = world.daemon().args(["--tail-flush", "1s"]).start();

    // The first one finds it out: what it has sent is sent once more, after its end.
    let style = Style::RewriteHead { head_bytes: 48, every_bytes: u64::MAX };
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), style.clone(), 2 * S3_PART + 2 * MIB, 2 * S3_PART + MIB);
    for part in 1..=3 {
        wait_part(&daemon, &path, part);
    }
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert!(refused.hits() > 0);
    assert_eq!(world.uploads_used("a.mp4").len(), 2);
    assert_eq!(stored(&world, "a.mp4").len(), 6, "each part once in each upload");

    // The next ones send nothing that may be rewritten.
    let hits = refused.hits();
    let path = world.path("b.mp4");
    let recording = record_until(path.clone(), style, 2 * S3_PART + 2 * MIB, 2 * S3_PART + MIB);
    daemon.wait_event_of("discovered", &path, DEADLINE);
    std::thread::sleep(std::time::Duration::from_secs(2)); // twice the time after which a tail is sent
    assert_eq!(stored(&world, "b.mp4"), Vec::<u32>::new());
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!((refused.hits(), world.uploads_used("b.mp4").len()), (hits, 1));
    assert_eq!(world.sent("b.mp4"), [1, 1, 1]);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// The parts of a key that the store has taken.
fn stored(world: &World, key: &str) -> Vec<u32> {
    let sent = world.requests(Op::UploadPart, key).into_iter();
    sent.filter(|logged| logged.server_status == Some(200)).filter_map(|logged| logged.request.part_number).collect()
}
