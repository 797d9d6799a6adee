//! A limited rate: whether it is kept, and who gets it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Bench;
use super::daemon::{Daemon, Line, Recorders};
use crate::Outcome;
use crate::files::{Load, let_settle};
use crate::record::{RecordArgs, path_of};
use crate::report::{Curve, Lines, Section};
use crate::rounds::Samples;

const PART_BYTES: u64 = 8 << 20;
/// 100 Mbit/s.
const RATE: f64 = 12_500_000.0;
/// A part alone on the link takes 0.7 s, and the recorders leave more than half of it free.
const LIVE_SECONDS: f64 = 3.0;
/// What was changed within this time is no backlog yet.
const FRESH_SECONDS: f64 = 60.0;
const WINDOW_SECONDS: f64 = 10.0;
/// What the connections hold at the beginning is no rate yet.
const BEGINNING_SECONDS: f64 = 2.0;

/// Bytes that had come at a time.
struct Look {
    at: f64,
    live: u64,
    backlog: u64,
}

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let (seconds, streams) = (bench.size(60.0, 13.0), 10);
    section.say(&format!(
        "`--bandwidth 100Mbit/s`, a backlog of files of 100 MiB each, and {streams} recorders at 3 to 5 Mbit/s, 40 Mbit/s together, for \
         {seconds:.0} s."
    ));
    let room = bench.room()?;
    let target = bench.target()?;
    let load = Load { files: bench.size(12, 3), file_bytes: 100 << 20 };
    load.write(&room.recordings.join("backlog"))?;
    let_settle(&room.recordings)?;
    std::thread::sleep(Duration::from_secs_f64(bench.size(FRESH_SECONDS, 0.0)));
    let dir = room.recordings.join("live");
    let recorders = Recorders::start(&RecordArgs {
        dir: dir.clone(),
        files: streams,
        begin_bytes: 0,
        // Not all of their parts are full at the same moment.
        slowest: 375_000,
        fastest: 625_000,
        growing: None,
        seconds,
        part_bytes: PART_BYTES,
        journal: room.log("recorders.journal"),
    })?;
    let log = room.log("reeltime.log");
    let reeltime = bench.reeltime.clone().talking();
    let args = ["--bandwidth", "100Mbit/s"];
    let daemon = Daemon::start(&reeltime, &room.recordings, &target, &room.state(), &args, &log)?;
    let began = Instant::now();
    let mut looks = Vec::new();
    while recorders.recorded_bytes()?.is_none() {
        let received = target.received()?;
        let (live, backlog) = (received.bytes_below("live"), received.bytes_below("backlog"));
        looks.push(Look { at: began.elapsed().as_secs_f64(), live, backlog });
        std::thread::sleep(Duration::from_millis(100));
    }
    let (full, end) = (recorders.full_parts(), Timestamp::now());
    daemon.process.kill()?;

    let windows = windows(&looks);
    let worst = windows.iter().map(|(_, all, _)| (all / RATE - 1.0).abs()).fold(0.0, f64::max);
    section.aim("the rate holds within 5 % over 10 s", &format!("{:.1} % off at most", worst * 100.0), worst <= 0.05);
    let least = windows.iter().map(|(_, _, backlog)| *backlog).fold(f64::INFINITY, f64::min);
    let lines = Line::all_of(&log)?;
    let (mut lags, mut never) = (Samples::default(), 0);
    for part in &full {
        let path = path_of(&dir, part.file);
        let is_it = |line: &&Line| {
            line.is("part_stored")
                && line.number("size_bytes") == PART_BYTES
                && line.number("part") == part.part
                && line.path() == path.to_string_lossy()
        };
        let stored = lines.iter().find(is_it).and_then(Line::at);
        never += usize::from(stored.is_none());
        // What was not stored has waited at least until the end.
        lags.push(stored.unwrap_or(end).duration_since(part.at).as_secs_f64());
    }
    section.aim(
        &format!("live before backlog: a full part is stored within {LIVE_SECONDS} s (p90)"),
        &format!(
            "{:.1} s (median), {:.1} s (p90); {never} of {} were not stored yet at the end",
            lags.median(),
            lags.quantile(0.9),
            full.len()
        ),
        lags.quantile(0.9) <= LIVE_SECONDS,
    );
    let starved = format!("at least {:.1} Mbit/s over 10 s", least * 8.0 / 1e6);
    section.aim("the backlog does not starve", &starved, least > 0.0);
    let rates: [Vec<_>; 2] = [
        windows.iter().map(|(at, all, _)| (*at, all * 8.0 / 1e6)).collect(),
        windows.iter().map(|(at, _, backlog)| (*at, backlog * 8.0 / 1e6)).collect(),
    ];
    let curves = vec![Curve { name: "all", points: &rates[0] }, Curve { name: "of it backlog", points: &rates[1] }];
    let plot = Lines { title: "a limit of 100 Mbit/s, over 10 s", x: "s", y: "Mbit/s", curves };
    section.plot("bandwidth", "rates over 10 s", plot.svg());
    Ok(())
}

/// For each look, bytes per second of the 10 s before: all, and the backlog's. As long as there is
/// a backlog.
fn windows(looks: &[Look]) -> Vec<(f64, f64, f64)> {
    let mut found = Vec::new();
    for look in looks {
        let begin = look.at - WINDOW_SECONDS;
        let Some(first) = looks.iter().find(|first| first.at >= begin.max(BEGINNING_SECONDS)) else { continue };
        let seconds = look.at - first.at;
        if begin < BEGINNING_SECONDS || seconds < WINDOW_SECONDS * 0.95 {
            continue;
        }
        let backlog = (look.backlog - first.backlog) as f64 / seconds;
        found.push((look.at, backlog + (look.live - first.live) as f64 / seconds, backlog));
    }
    found
}
