//! What the checkpoint costs: round trips to Redis, commits of `SQLite`.

use std::fs;
use std::path::Path;

use testkit::servers::{Redis, RedisClient};

use super::Bench;
use super::daemon::Daemon;
use crate::files::{Load, let_settle};
use crate::report::Section;
use crate::{Failure, Outcome};

const PART_BYTES: u64 = 8 << 20;

/// What one run has asked of the checkpoint.
#[derive(Clone, Copy)]
struct Asked {
    parts: u64,
    times: u64,
}

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let size = bench.size(64, 2);
    let loads = [1, 2].map(|times| Load { files: 1, file_bytes: times * size * PART_BYTES });
    let small = Load { files: bench.size(2000, 10), file_bytes: 64 << 10 };
    let mut redis = Vec::new();
    let mut sqlite = Vec::new();
    for load in [loads[0], loads[1], small] {
        redis.push(with_redis(bench, load)?);
        sqlite.push(with_sqlite(bench, load)?);
    }
    // What a stream costs besides its parts is in both.
    let per_part = |asked: &[Asked]| {
        let (less, more) = (asked[0], asked[1]);
        (more.times as f64 - less.times as f64) / (more.parts as f64 - less.parts as f64)
    };
    let per_file = |asked: &[Asked]| asked[2].times as f64 / small.files as f64;
    section.say(&format!(
        "One file of {} and one of {} parts: their difference is what a part costs, without what a stream costs. And \
         {} files of 64 KiB. For Redis, how often the server has read from its connections (a pipeline is one); for \
         SQLite, commits, as the file's own counter says. Every commit is durable before it is answered \
         (`synchronous=FULL`), and one may have what several streams have written.",
        loads[0].file_bytes / PART_BYTES,
        loads[1].file_bytes / PART_BYTES,
        small.files
    ));
    section.table(
        &["", "per part", "per small file"],
        &[
            vec![
                "Redis: round trips".to_owned(),
                format!("{:.2}", per_part(&redis)),
                format!("{:.2}", per_file(&redis)),
            ],
            vec![
                "SQLite: commits".to_owned(),
                format!("{:.2}", per_part(&sqlite)),
                format!("{:.2}", per_file(&sqlite)),
            ],
        ],
    );
    let trips = per_part(&redis);
    section.aim("at most one Redis round trip per part", &format!("{trips:.2}"), trips <= 1.05);
    let commits = per_part(&sqlite);
    section.aim("SQLite commits are grouped", &format!("{commits:.2} per part"), commits <= 1.0);
    Ok(())
}

fn with_redis(bench: &Bench, load: Load) -> Outcome<Asked> {
    let redis = Redis::start();
    let client = redis.client();
    let before = reads(&client)?;
    upload(bench, load, Some(&redis.url()), |_| Ok(0)).and_then(|(parts, _)| {
        let times = reads(&client)?.saturating_sub(before);
        Ok(Asked { parts, times })
    })
}

fn reads(client: &RedisClient) -> Outcome<u64> {
    let field = client.info("total_reads_processed").and_then(|value| value.parse().ok());
    field.ok_or_else(|| Failure("this redis-server does not count what it reads; 6.0 and later do".to_owned()))
}

fn with_sqlite(bench: &Bench, load: Load) -> Outcome<Asked> {
    upload(bench, load, None, commits).map(|(parts, times)| Asked { parts, times })
}

/// Sends a load; answers how many parts that were, and what is counted before reeltime ends.
fn upload(bench: &Bench, load: Load, state: Option<&str>, count: fn(&Path) -> Outcome<u64>) -> Outcome<(u64, u64)> {
    let room = bench.room()?;
    let target = bench.target()?;
    load.write(&room.recordings)?;
    let_settle(&room.recordings)?;
    let file = room.state();
    let reeltime = bench.reeltime.without_ffprobe();
    let log = room.log("reeltime.log");
    let daemon = Daemon::start(&reeltime, &room.recordings, &target, state.unwrap_or(&file), &[], &log)?;
    daemon.wait_ready()?;
    daemon.wait_for("reeltime_streams_completed_total", load.files as f64)?;
    let counted = count(Path::new(&file))?;
    let parts = daemon.metric("reeltime_parts_stored_total")? as u64;
    daemon.stop()?;
    Ok((parts, counted))
}

/// The commits since the file was opened: `iChange` in the header of the index of its write-ahead
/// log, <https://www.sqlite.org/walformat.html>, in the byte order of the machine.
fn commits(state: &Path) -> Outcome<u64> {
    let mut index = state.as_os_str().to_owned();
    index.push("-shm");
    let bytes = fs::read(&index).map_err(|error| Failure::of("read", Path::new(&index), &error))?;
    let word = bytes.get(8..12).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    word.map(u64::from).ok_or_else(|| Failure("the index of the write-ahead log is too short".to_owned()))
}
