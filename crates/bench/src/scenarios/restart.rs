//! How soon reeltime goes on after a crash, with very many streams in its checkpoint.

use std::time::Duration;

use testkit::servers::{Redis, RedisOptions};

use super::daemon::{Daemon, Recorders};
use super::{Bench, Room};
use crate::Outcome;
use crate::files::{Load, let_settle};
use crate::record::RecordArgs;
use crate::report::Section;
use crate::rounds::Samples;

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let (completed, active) = (bench.size(100_000, 40), bench.size(10_000, 10));
    section.say(&format!(
        "{completed} completed recordings of 1 KiB, and {active} open ones of 64 KiB; all files are still there. \
         reeltime is killed with SIGKILL and started again; time is from its start until `/readyz` says so. The \
         checkpoint was filled by reeltime itself."
    ));
    let mut rows = Vec::new();
    for state in ["SQLite", "Redis"] {
        let room = bench.room()?;
        let redis =
            (state == "Redis").then(|| Redis::start_with(&RedisOptions::default().with(["--appendfsync", "everysec"])));
        let url = redis.as_ref().map_or_else(|| room.state(), Redis::url);
        let seen = restarts(bench, &room, &url, completed, active)?;
        section.aim(&format!("ready ≤ 5 s, {state}"), &format!("{} s", seen.ready.shown(2)), seen.ready.max() <= 5.0);
        rows.push(vec![
            state.to_owned(),
            seen.ready.shown(2),
            seen.cpu.shown(2),
            format!("{:.0}", seen.peak.max()),
            format!("{:.0}", seen.filled_per_second),
        ]);
    }
    let head = ["state", "ready after s", "CPU s until then", "peak RSS MiB", "filled with, recordings/s"];
    section.table(&head, &rows);
    Ok(())
}

struct Seen {
    ready: Samples,
    cpu: Samples,
    peak: Samples,
    filled_per_second: f64,
}

fn restarts(bench: &Bench, room: &Room, state: &str, completed: usize, active: usize) -> Outcome<Seen> {
    let target = bench.target()?;
    let reeltime = bench.reeltime.without_ffprobe();
    let log = room.log("reeltime.log");
    let load = Load { files: completed, file_bytes: 1 << 10 };
    load.write(&room.recordings.join("done"))?;
    let_settle(&room.recordings)?;
    let filled = reeltime.start(&room.recordings, &target, state, &["--once"], &log)?.wait()?;
    let recorders = Recorders::start(&RecordArgs {
        dir: room.recordings.join("live"),
        files: active,
        begin_bytes: 64 << 10,
        slowest: 0,
        fastest: 0,
        growing: Some(0),
        seconds: 0.0,
        part_bytes: 8 << 20,
        journal: room.log("recorders.journal"),
    })?;
    recorders.wait_end()?;
    let args = bench.size::<&[&str]>(&[], &["--tail-flush", "1s"]);
    let daemon = Daemon::start(&reeltime, &room.recordings, &target, state, args, &log)?;
    daemon.wait_ready()?;
    daemon.wait_for("reeltime_parts_stored_total", active as f64)?;
    daemon.process.kill()?;
    let mut seen = Seen {
        ready: Samples::default(),
        cpu: Samples::default(),
        peak: Samples::default(),
        filled_per_second: completed as f64 / filled.wall_seconds,
    };
    for round in 0..bench.rounds().min(3) {
        let daemon = Daemon::start(&reeltime, &room.recordings, &target, state, &[], &log)?;
        let ready = daemon.wait_ready()?;
        seen.cpu.push(daemon.process.cpu_seconds());
        seen.peak.push(daemon.process.peak_bytes() as f64 / f64::from(1 << 20));
        seen.ready.push(ready.as_secs_f64());
        eprintln!("bench:   round {}: ready after {:.2} s", round + 1, ready.as_secs_f64());
        // It is killed while it still looks for what the store has.
        std::thread::sleep(Duration::from_secs(1));
        daemon.process.kill()?;
    }
    Ok(seen)
}
