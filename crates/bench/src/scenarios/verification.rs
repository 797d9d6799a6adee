//! What it costs to prove, at the end of a recording, that what was sent is what is on disk.

use std::path::PathBuf;

use super::daemon::{Daemon, Line, Recorders};
use super::{Bench, Room};
use crate::Outcome;
use crate::files::{Load, let_settle};
use crate::record::RecordArgs;
use crate::report::Section;
use crate::rounds::Samples;

const PART_BYTES: u64 = 8 << 20;
const GB: f64 = 1e9;

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    section.say(
        "A recording of 4 GiB, held open until all full parts are stored, and then closed: any of its bytes may have \
         changed since they were sent, so all of them are read again, from the page cache, and compared. CPU is that \
         of the whole process from the close to the completion, the tail and the document included; ffprobe is not.",
    );
    let (mut per_cpu, mut per_wall) = (Samples::default(), Samples::default());
    let mut read_share = Samples::default();
    for round in 0..bench.rounds().min(3) {
        let room = bench.room()?;
        let seen = grown(bench, &room)?;
        eprintln!(
            "bench:   round {}: {:.2} GB verified, CPU {:.2} s, in {:.2} s",
            round + 1,
            seen.verified_bytes / GB,
            seen.cpu_seconds,
            seen.wall_seconds
        );
        per_cpu.push(seen.verified_bytes / GB / seen.cpu_seconds);
        per_wall.push(seen.verified_bytes / GB / seen.wall_seconds);
        read_share.push(seen.verified_bytes / seen.recorded_bytes);
    }
    let finished = finished_before(bench)?;
    section.table(
        &["", ""],
        &[
            vec!["GB verified per second of CPU".to_owned(), per_cpu.shown(2)],
            vec!["GB verified per second, from the first part to the last".to_owned(), per_wall.shown(2)],
            vec!["read again of a recording that was open all the time".to_owned(), read_share.shown(3)],
            vec!["read again of a recording that had ended before".to_owned(), format!("{finished:.3}")],
        ],
    );
    section.aim(
        "≥ 3 GB/s per core from the page cache",
        &format!("{} GB per CPU second", per_cpu.shown(2)),
        per_cpu.median() >= 3.0,
    );
    section.aim(
        "only what may have changed is read",
        &format!("{finished:.3} of a recording that had ended before it was sent"),
        finished == 0.0,
    );
    Ok(())
}

struct Seen {
    verified_bytes: f64,
    recorded_bytes: f64,
    cpu_seconds: f64,
    wall_seconds: f64,
}

fn grown(bench: &Bench, room: &Room) -> Outcome<Seen> {
    let target = bench.target()?;
    let log: PathBuf = room.log("reeltime.log");
    let reeltime = bench.reeltime.clone().talking();
    let daemon = Daemon::start(&reeltime, &room.recordings, &target, &room.state(), &[], &log)?;
    daemon.wait_ready()?;
    let rate = 400 << 20;
    let recorders = Recorders::start(&RecordArgs {
        dir: room.recordings.clone(),
        files: 1,
        begin_bytes: 0,
        slowest: rate,
        fastest: rate,
        growing: None,
        seconds: bench.size(4.0 * 1024.0 / 400.0, 0.1),
        part_bytes: PART_BYTES,
        journal: room.log("recorders.journal"),
    })?;
    let recorded = recorders.wait_end()?;
    daemon.wait_for("reeltime_part_bytes_sent_total", (recorded / PART_BYTES * PART_BYTES) as f64)?;
    let cpu_before = daemon.process.cpu_seconds();
    recorders.close();
    daemon.wait_for("reeltime_streams_completed_total", 1.0)?;
    let cpu_seconds = daemon.process.cpu_seconds() - cpu_before;
    let verified_bytes = daemon.metric("reeltime_verified_bytes_total")?;
    daemon.stop()?;
    let times: Vec<_> = Line::all_of(&log)?.iter().filter(|line| line.is("verified")).filter_map(Line::at).collect();
    let wall = match (times.first(), times.last()) {
        (Some(first), Some(last)) => last.duration_since(*first).as_secs_f64(),
        _ => f64::NAN,
    };
    // Between the first answer and the last all parts but one were read.
    let parts = times.len().max(2) as f64;
    Ok(Seen {
        verified_bytes,
        recorded_bytes: recorded as f64,
        cpu_seconds,
        wall_seconds: wall * parts / (parts - 1.0),
    })
}

/// Which share of a recording is read again that nobody had open when it was sent.
fn finished_before(bench: &Bench) -> Outcome<f64> {
    let room = bench.room()?;
    let target = bench.target()?;
    let load = Load { files: 1, file_bytes: bench.size(1 << 30, 24 << 20) };
    load.write(&room.recordings)?;
    let_settle(&room.recordings)?;
    let log = room.log("reeltime.log");
    let daemon = Daemon::start(&bench.reeltime, &room.recordings, &target, &room.state(), &[], &log)?;
    daemon.wait_ready()?;
    daemon.wait_for("reeltime_streams_completed_total", 1.0)?;
    let verified = daemon.metric("reeltime_verified_bytes_total")?;
    daemon.stop()?;
    Ok(verified / load.total_bytes() as f64)
}
