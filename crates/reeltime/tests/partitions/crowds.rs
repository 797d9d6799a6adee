//! Many recordings at once while the store is away: it is asked no more often than it can bear, and
//! what cannot be sent waits on the disk and not in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use testkit::daemon::LogLine;
use testkit::digest::sha256_of;
use testkit::proxy::{Fault, Logged, Op, When};
use testkit::recorders::synthetic::fill;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures};

const RECORDINGS: usize = 20;

/// Each of them is asked for again after 4 to 8 s at last, some sooner; two parts of a second
/// may fall into one.
const REQUESTS_A_SECOND: usize = RECORDINGS;

/// What recorders write while the store is away would be 100 MiB.
const MORE_MEMORY_BYTES: u64 = 32 * MIB;

/// From the beginning of the outage until every stream waits as long as streams wait.
const SETTLED: Duration = Duration::from_secs(4);

/// Then it is watched for so long.
const WATCHED: Duration = Duration::from_secs(4);

#[test]
fn a_store_that_is_away_is_not_stormed_by_many_recordings_nor_do_they_fill_the_memory() {
    let world = World::s3("crowd");
    let paths: Vec<_> = (0..RECORDINGS).map(|number| world.path(&format!("{number}.mp4"))).collect();
    let mut block = vec![0; MIB as usize];
    let mut recorders: Vec<_> = paths.iter().map(|path| File::create(path).unwrap()).collect();
    let mut write = |mebibytes: u64| {
        for _ in 0..mebibytes {
            for (number, recorder) in recorders.iter_mut().enumerate() {
                fill(number as u64, 0, &mut block[..64]);
                recorder.write_all(&block).unwrap();
            }
        }
    };
    write(S3_PART / MIB + 1);
    let daemon = world.start();
    let stored = |line: &LogLine| line.event() == Some("part_stored");
    daemon.wait_events("the first parts", RECORDINGS, DEADLINE, stored);
    let before = daemon.resident_bytes();

    let away = world
        .proxy()
        .inject(When::any(), Fault::Answer(testkit::proxy::Answer::error(503, "ServiceUnavailable", "away")));
    let began = Instant::now();
    write(S3_PART / MIB);
    std::thread::sleep((began + SETTLED + WATCHED).saturating_duration_since(Instant::now())); // the time that it is away
    let while_away = daemon.resident_bytes();
    let away_until = Instant::now();
    let refused: Vec<_> = world.proxy().log().into_iter().filter(|logged| logged.at >= began).collect();
    println!(
        "{RECORDINGS} recordings, the store away for {:.1?}: {} requests, at most {} in a second once settled; {} MiB \
         resident before and {} MiB while away",
        began.elapsed(),
        refused.len(),
        most_in_a_second(&refused, began + SETTLED),
        before / MIB,
        while_away / MIB
    );
    assert!(refused.len() > RECORDINGS, "it is asked again: {}", refused.len());
    assert!(most_in_a_second(&refused, began + SETTLED) <= REQUESTS_A_SECOND);
    assert!(while_away < before + MORE_MEMORY_BYTES, "{} MiB, and {} before", while_away / MIB, before / MIB);

    away.lift();
    write(1);
    drop(recorders);
    daemon.wait_events("completed", RECORDINGS, DEADLINE, |line| line.event() == Some("completed"));
    assert_eq!(daemon.events().iter().filter(|line| stored(line)).count(), 3 * RECORDINGS, "nothing is sent twice");
    let log = world.proxy().log();
    let served: Vec<_> = log.iter().filter(|logged| logged.at >= away_until).collect();
    let (at_once, until_first) = (most_at_once(&served), until_first_part(&served, away_until));
    println!("then {} requests, at most {at_once} at once, the first part after {until_first:.1?}", served.len());
    for path in &paths {
        let key = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(world.sha256(key), Some(sha256_of(path)), "{key} is identical");
        assert_eq!(fs::metadata(path).unwrap().len(), 2 * S3_PART + 2 * MIB);
    }
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

fn most_in_a_second(log: &[Logged], from: Instant) -> usize {
    let mut in_second: BTreeMap<u64, usize> = BTreeMap::new();
    for logged in log.iter().filter(|logged| logged.at >= from) {
        *in_second.entry(logged.at.duration_since(from).as_secs()).or_default() += 1;
    }
    in_second.into_values().max().unwrap_or(0)
}

/// How many requests were under way together.
fn most_at_once(log: &[&Logged]) -> usize {
    let ends = log.iter().map(|logged| (logged.at + logged.took.unwrap_or_default(), -1));
    let mut changes: Vec<_> = log.iter().map(|logged| (logged.at, 1)).chain(ends).collect();
    changes.sort_unstable();
    let mut under_way = 0_i64;
    let counts = changes.into_iter().map(|(_, change)| {
        under_way += change;
        under_way
    });
    usize::try_from(counts.max().unwrap_or(0)).unwrap()
}

fn until_first_part(log: &[&Logged], from: Instant) -> Duration {
    let stored = log.iter().filter(|logged| logged.request.op == Op::UploadPart && logged.server_status == Some(200));
    stored.map(|logged| logged.at.duration_since(from)).min().unwrap()
}
