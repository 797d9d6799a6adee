//! Reeltime in a network of its own, with one cable to the store and one to Redis. What is on its
//! way when a cable is cut vanishes, and neither side is told.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use testkit::daemon::Running;
use testkit::island::{Cable, Island};
use testkit::proxy::{Op, TcpProxy};
use testkit::recorders::synthetic::Style;

use crate::world::{MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

/// How long a cable stays cut.
const CUT: Duration = Duration::from_secs(3);

/// A world whose reeltime lives on an island.
struct Apart {
    // In the order in which they end.
    daemon: Running,
    world: World,
    to_store: Cable,
    to_redis: Cable,
    _doors: [Arc<TcpProxy>; 2],
    _island: Island,
}

fn apart(bucket: &str) -> Option<Apart> {
    let island = Island::with_cables(2)?;
    let [to_store, to_redis] = island.cables() else { panic!("there are two") };
    let mut world = World::s3(bucket);
    let store = Arc::new(TcpProxy::before_at(&world.proxy().address(), to_store.host()));
    let redis = world.keep_state_in_redis_at(to_redis.host());
    let program = island.inhabited_by(env!("CARGO_BIN_EXE_reeltime").as_ref(), &world.beside(""));
    let daemon =
        world.daemon_of(&program, "test").env("AWS_ENDPOINT_URL", format!("http://{}", store.address())).start();
    let (to_store, to_redis) = (to_store.clone(), to_redis.clone());
    Some(Apart { daemon, world, to_store, to_redis, _doors: [store, redis], _island: island })
}

/// A recording during which cables are cut, and that goes on meanwhile.
fn survives(bucket: &str, cables: impl Fn(&Apart) -> Vec<&Cable>) {
    let Some(apart) = apart(bucket) else { return };
    let (world, daemon) = (&apart.world, &apart.daemon);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + MIB, S3_PART + MIB);
    wait_part(daemon, &path, 1);
    world.wait_told("part 1", &path, |told| told.numbers() == [1]);

    let cut = cables(&apart);
    for cable in &cut {
        cable.cut();
    }
    recording.go_on_until(2 * S3_PART + MIB);
    thread::sleep(CUT); // the time that it is apart
    let is_stored = world.proxy().requests(Op::UploadPart).iter().any(|logged| logged.request.part_number == Some(2));
    assert_eq!(is_stored, !cut.iter().any(|cable| cable.host() == apart.to_store.host()), "the cable is cut");
    assert_eq!(world.told_of(&path).unwrap().numbers(), [1], "the checkpoint cannot be told");

    let mended = Instant::now();
    for cable in &cut {
        cable.mend();
    }
    wait_part(daemon, &path, 2);
    world.wait_told("part 2", &path, |told| told.numbers() == [1, 2]);
    println!("{bucket}: part 2 is stored and noted {:.1?} after the cable was mended", mended.elapsed());
    recording.go_on();
    let finished = recording.wait();
    wait_completed(daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.wait_state(&path, "completed").numbers(), [1, 2, 3, 4]);
    let sent = world.sent("a.mp4");
    assert!(sent[0] == 1 && sent.iter().all(|times| *times <= 2), "what was under way may be sent again: {sent:?}");
    assert_eq!((failures(daemon), world.leftovers()), (vec![], vec![]));
}

#[test]
fn a_partition_from_the_store_alone_loses_nothing() {
    survives("apart-from-store", |apart| vec![&apart.to_store]);
}

#[test]
fn a_partition_from_redis_alone_loses_nothing() {
    survives("apart-from-redis", |apart| vec![&apart.to_redis]);
}

#[test]
fn a_partition_from_both_loses_nothing() {
    survives("apart-from-both", |apart| vec![&apart.to_store, &apart.to_redis]);
}
