//! Very many recordings that grow at once, and many that hardly do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use testkit::servers::{Redis, RedisOptions};

use super::daemon::{Daemon, Line, Recorders};
use super::{Bench, Room};
use crate::Outcome;
use crate::record::{RecordArgs, path_of};
use crate::report::{Curve, Lines, Section};
use crate::rounds::Samples;
use crate::target::Target;

const PART_BYTES: u64 = 8 << 20;

/// Bytes per second of the slowest and the fastest recorder; the others lie evenly between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) slowest: u64,
    pub(super) fastest: u64,
}

/// Recordings that grow at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    pub(super) streams: usize,
    pub(super) rates: Rates,
    pub(super) seconds: f64,
}

/// What was seen of them.
pub(super) struct Seen {
    /// From "a part is full on disk" to "stored and in the checkpoint", in seconds.
    pub(super) lags: Samples,
    /// Full parts of which nothing was heard: the log was too slow.
    unheard: usize,
    pub(super) peak_bytes: u64,
    /// Seconds, MiB.
    pub(super) memory: Vec<(f64, f64)>,
    cpu_seconds: f64,
    grown_seconds: f64,
    recorded_bytes: u64,
}

impl Crowd {
    /// Records, and ends all recordings at once.
    pub(super) fn run(&self, bench: &Bench, room: &Room, target: &Target, state: &str) -> Outcome<Seen> {
        target.forget()?;
        let (log, dir) = (room.log("reeltime.log"), room.recordings.join("live"));
        std::fs::create_dir_all(&dir).map_err(|error| crate::Failure::of("make", &dir, &error))?;
        let reeltime = bench.reeltime.clone().talking();
        let daemon = Daemon::start(&reeltime, &room.recordings, target, state, &[], &log)?;
        daemon.wait_ready()?;
        let recorders = Recorders::start(&self.recorders(room))?;
        let (began, cpu_before) = (Instant::now(), daemon.process.cpu_seconds());
        let memory = daemon.watch_memory(|| Ok(recorders.recorded_bytes()?.is_none()))?;
        let recorded_bytes = recorders.wait_end()?;
        let (grown, cpu_seconds) = (began.elapsed(), daemon.process.cpu_seconds() - cpu_before);
        let full = recorders.full_parts();
        recorders.close();
        daemon.wait_for("reeltime_streams_completed_total", self.streams as f64)?;
        let peak_bytes = daemon.process.peak_bytes();
        daemon.stop()?;

        let lines = Line::all_of(&log)?;
        let mut stored: HashMap<(&str, u64), _> = HashMap::new();
        for line in lines.iter().filter(|line| line.is("part_stored") && line.number("size_bytes") == PART_BYTES) {
            if let Some(at) = line.at() {
                stored.entry((line.path(), line.number("part"))).or_insert(at);
            }
        }
        let mut lags = Samples::default();
        let mut unheard = 0;
        for part in full {
            let path = path_of(&dir, part.file);
            match stored.get(&(path.to_string_lossy().as_ref(), part.part)) {
                Some(at) => lags.push(at.duration_since(part.at).as_secs_f64().max(0.0)),
                None => unheard += 1,
            }
        }
        let grown_seconds = grown.as_secs_f64();
        Ok(Seen { lags, unheard, peak_bytes, memory, cpu_seconds, grown_seconds, recorded_bytes })
    }

    fn recorders(&self, room: &Room) -> RecordArgs {
        RecordArgs {
            dir: room.recordings.join("live"),
            files: self.streams,
            begin_bytes: 0,
            slowest: self.rates.slowest,
            fastest: self.rates.fastest,
            growing: None,
            seconds: self.seconds,
            part_bytes: PART_BYTES,
            journal: room.log("recorders.journal"),
        }
    }
}

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let crowd = Crowd {
        streams: bench.size(1000, 10),
        rates: bench.size(Rates { slowest: 125_000, fastest: 1_000_000 }, Rates { slowest: 4 << 20, fastest: 8 << 20 }),
        seconds: bench.size(20.0, 4.0),
    };
    section.say(&format!(
        "{} recorders at 1 to 8 Mbit/s each, {:.1} Gbit/s together, for {:.0} s; then all end at once. The lag is from \
         the write that fills a part to the log line that it is stored and in the checkpoint.",
        crowd.streams,
        (crowd.rates.slowest + crowd.rates.fastest) as f64 / 2.0 * crowd.streams as f64 * 8.0 / 1e9,
        crowd.seconds
    ));
    let mut rows = Vec::new();
    let mut curves = Vec::new();
    for state in ["SQLite", "Redis"] {
        let seen = one(bench, crowd, state)?;
        let p99 = seen.lags.quantile(0.99);
        section.aim(&format!("p99 of the lag ≤ 1 s, {state}"), &format!("{p99:.2} s"), p99 <= 1.0);
        rows.push(vec![
            state.to_owned(),
            format!("{:.0}", seen.recorded_bytes as f64 / seen.grown_seconds / f64::from(1 << 20)),
            format!("{:.2}", seen.lags.median()),
            format!("{p99:.2}"),
            format!("{:.2}", seen.lags.max()),
            seen.unheard.to_string(),
            format!("{:.2}", seen.cpu_seconds / seen.grown_seconds * 1000.0 / crowd.streams as f64),
            format!("{:.0}", seen.peak_bytes as f64 / f64::from(1 << 20)),
        ]);
        let points: Vec<_> =
            (0..=100).map(|percent| (seen.lags.quantile(f64::from(percent) / 100.0), f64::from(percent))).collect();
        curves.push((state, points));
    }
    let head = [
        "state",
        "recorded MiB/s",
        "lag s: median",
        "p99",
        "largest",
        "not heard of",
        "CPU per stream, ms/s",
        "peak RSS MiB",
    ];
    section.table(&head, &rows);
    let curves = curves.iter().map(|(name, points)| Curve { name, points }).collect();
    let plot = Lines { title: "lag of full parts", x: "s", y: "% of parts are stored within", curves };
    section.plot("lag", "lag of full parts", plot.svg());
    idle(bench, section)
}

fn one(bench: &Bench, crowd: Crowd, state: &str) -> Outcome<Seen> {
    let room = bench.room()?;
    let target = bench.target()?;
    if state == "Redis" {
        // As most are: written to the disk once a second.
        let redis = Redis::start_with(&RedisOptions::default().with(["--appendfsync", "everysec"]));
        return crowd.run(bench, &room, &target, &redis.url());
    }
    crowd.run(bench, &room, &target, &room.state())
}

/// Recordings that are open, and hardly any of them grows.
fn idle(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let room = bench.room()?;
    let target = bench.target()?;
    let (files, window) = (bench.size(10_000, 50), Duration::from_secs(bench.size(30, 2)));
    let recorders = Recorders::start(&RecordArgs {
        dir: room.recordings.clone(),
        files,
        begin_bytes: 64 << 10,
        slowest: 125_000,
        fastest: 125_000,
        growing: Some(files / 100),
        seconds: 3600.0,
        part_bytes: PART_BYTES,
        journal: room.log("recorders.journal"),
    })?;
    while !recorders.have_begun()? {
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = room.log("reeltime.log");
    let args = bench.size::<&[&str]>(&[], &["--tail-flush", "1s"]);
    let daemon = Daemon::start(&bench.reeltime, &room.recordings, &target, &room.state(), args, &log)?;
    let ready = daemon.wait_ready()?;
    // Each has sent what it had: the tail, as far as it was written.
    daemon.wait_for("reeltime_parts_stored_total", files as f64)?;
    let settled = daemon.process.elapsed();
    let cpu_before = daemon.process.cpu_seconds();
    std::thread::sleep(window);
    let cpu = (daemon.process.cpu_seconds() - cpu_before) / window.as_secs_f64();
    let peak = daemon.process.peak_bytes() as f64 / f64::from(1 << 20);
    let resident = daemon.process.resident_bytes() as f64 / f64::from(1 << 20);
    daemon.process.kill()?;
    section.say(&format!(
        "{files} open recordings of 64 KiB, of which one in a hundred grows (1 Mbit/s): ready after {:.1} s, all of \
         them known to the store after {:.0} s; from then on CPU {:.0} ms/s ({:.3} ms/s per stream), RSS {resident:.0} \
         MiB (peak {peak:.0} MiB). State in SQLite.",
        ready.as_secs_f64(),
        settled.as_secs_f64(),
        cpu * 1000.0,
        cpu * 1000.0 / files as f64
    ));
    Ok(())
}
