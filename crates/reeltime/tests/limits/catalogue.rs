//! A start with very many recordings that were completed long ago.
//!
//! `REELTIME_CATALOGUE` sets how many; 5,000 unless told. The figures in `docs/OPERATIONS.md` are those of
//! `REELTIME_CATALOGUE=100000 cargo test --release -p reeltime --test limits catalogue -- --nocapture --test-threads 1`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reeltime::checkpoint::{self, CheckpointStore};
use reeltime::recording::version_of;
use reeltime::watch::mark_of;
use reeltime_core::{
    Crc64Nvme, Limits, ObjectKey, Part, PartNumber, PartPlan, PlanKind, State, StreamId, StreamRecord, UploadState,
    WallTime,
};
use testkit::daemon::LogLine;
use testkit::proxy::Op;
use testkit::recorders::synthetic::{Style, Synthetic};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, wait_completed};

/// Recordings in one directory of the source.
const IN_A_DIRECTORY: usize = 1000;

/// Writes of the checkpoint that are under way together.
const AT_ONCE: usize = 512;

/// What may be kept in memory of each recording that is known, besides [`BASE_BYTES`].
const BYTES_EACH: u64 = 3 * 1024;
const BASE_BYTES: u64 = 128 * MIB;

#[test]
fn a_catalogue_in_a_state_file_is_known_at_the_start_and_nothing_of_it_is_asked_for() {
    is_known_at_the_start(&World::s3("catalogue-sqlite"));
}

#[test]
fn a_catalogue_in_redis_is_known_at_the_start_and_nothing_of_it_is_asked_for() {
    is_known_at_the_start(&World::s3("catalogue-redis").with_state_in_redis());
}

fn recordings() -> usize {
    std::env::var("REELTIME_CATALOGUE").map_or(5_000, |number| number.parse().expect("REELTIME_CATALOGUE is a number"))
}

fn is_known_at_the_start(world: &World) {
    let count = recordings();
    for number in 0..count {
        let path = world.path(&name(number));
        if number % IN_A_DIRECTORY == 0 {
            fs::create_dir(path.parent().unwrap()).unwrap();
        }
        fs::write(path, format!("recording {number}")).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(remember(world, count));

    let began = Instant::now();
    let daemon = world.daemon().args(["--watch", "poll"]).start();
    daemon.wait_answers("/readyz", DEADLINE);
    let (took, resident) = (began.elapsed(), daemon.resident_bytes());
    println!("{count} recordings in {}: ready after {took:.2?}, {} MiB resident", world.state.url(), resident / MIB);
    // Found by the next scan, for which everything else is known still.
    let finished = Synthetic::into(world.path("new.mp4"), Style::Append, S3_PART + 1).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    let asked: Vec<_> =
        world.proxy().log().into_iter().filter(|logged| logged.request.op != Op::ListObjectsV2).collect();
    let others: Vec<_> = asked.iter().filter(|logged| !logged.request.key.starts_with("new.mp4")).collect();
    assert!(others.is_empty(), "nothing is asked of what is known: {others:?}");
    let is_known = |line: &LogLine| line.path().is_some_and(|path| path != finished.path);
    let taken_up: Vec<_> = daemon.events().into_iter().filter(is_known).collect();
    assert!(taken_up.is_empty(), "nothing of it is taken up: {taken_up:?}");
    let allowed = BASE_BYTES + BYTES_EACH * count as u64;
    let most = daemon.peak_resident_bytes();
    println!("{count} recordings: at most {} MiB resident", most / MIB);
    assert!(most < allowed, "{} MiB resident of {} MiB", most / MIB, allowed / MIB);
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn name(number: usize) -> String {
    format!("{}/{number}.mp4", number / IN_A_DIRECTORY)
}

/// Writes into the checkpoint what a reeltime would have written that has completed everything.
async fn remember(world: &World, count: usize) {
    let store = checkpoint::url::open(&world.state.url().parse().unwrap(), "test").await.unwrap();
    let (source, mark) = (world.recordings(), mark_of(&world.recordings()));
    let mut writing = JoinSet::new();
    for number in 0..count {
        if writing.len() == AT_ONCE {
            writing.join_next().await.unwrap().unwrap();
        }
        let (record, part) = completed(&source, &mark, &world.to(), &name(number));
        writing.spawn(write(Arc::clone(&store), record, part));
    }
    writing.join_all().await;
}

async fn write(store: Arc<dyn CheckpointStore>, record: StreamRecord, part: Part) {
    // A store that is only just being connected to is asked again.
    while store.create(&record).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.record_part(record.id, record.epoch, record.generation, PartNumber::FIRST, &part).await.unwrap();
}

fn completed(source: &Path, mark: &str, to: &str, name: &str) -> (StreamRecord, Part) {
    let path = source.join(name);
    let version = version_of(&path.metadata().unwrap());
    let now = WallTime(version.mtime_ns / 1_000_000);
    let etag = format!("\"{:x}\"", version.inode);
    let record = StreamRecord {
        id: StreamId(Uuid::now_v7()),
        node: "test".to_owned(),
        epoch: 1,
        source: source.to_owned(),
        source_mark: mark.to_owned(),
        path,
        destination: to.to_owned(),
        key: ObjectKey::from_bytes(name.as_bytes().to_vec()),
        state: State::Completed,
        reason: None,
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Growing, S3_PART, Limits::S3).unwrap(),
        version: Some(version),
        size_bytes: version.size,
        etag: Some(etag.clone()),
        checksum: Some(Crc64Nvme(version.inode)),
        started_at: now,
        completed_at: Some(now),
    };
    let part = Part {
        size_bytes: version.size,
        etag,
        crc: Some(Crc64Nvme(version.inode)),
        stored_at: now,
        uploads: 1,
        proven: Some(version),
        dirty: false,
    };
    (record, part)
}
