//! Memory: one huge file, and very many at once.

use super::Bench;
use super::daemon::Daemon;
use super::live::{Crowd, Rates};
use crate::Outcome;
use crate::files::{Load, let_settle};
use crate::report::{Curve, Lines, Section};

const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    huge_file(bench, section)?;
    let crowd = Crowd {
        streams: bench.size(1000, 20),
        rates: Rates { slowest: 125_000 / 4, fastest: 1_000_000 / 4 },
        seconds: bench.size(60.0, 3.0),
    };
    let room = bench.room()?;
    let target = bench.target()?;
    let seen = crowd.run(bench, &room, &target, &room.state())?;
    let peak = seen.peak_bytes as f64 / MIB;
    section.aim("≤ 64 MiB with 1,000 recordings growing at once", &format!("{peak:.0} MiB"), peak <= 64.0);
    section.say(&format!(
        "{} recordings that grow together for {:.0} s at 0.25 to 2 Mbit/s each, state in SQLite.",
        crowd.streams, crowd.seconds
    ));
    let curves = vec![Curve { name: "RSS", points: &seen.memory }];
    let plot = Lines { title: "1,000 recordings growing at once", x: "s", y: "MiB", curves };
    section.plot("crowd", "memory with 1,000 recordings", plot.svg());
    Ok(())
}

fn huge_file(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let load = Load { files: 1, file_bytes: bench.size(10 << 30, 40 << 20) };
    let room = bench.room()?;
    load.write(&room.recordings)?;
    let_settle(&room.recordings)?;
    let target = bench.target()?;
    target.forget()?;
    let daemon =
        Daemon::start(&bench.reeltime, &room.recordings, &target, &room.state(), &[], &room.log("reeltime.log"))?;
    let memory = daemon.watch_memory(|| Ok(daemon.metric("reeltime_streams_completed_total").unwrap_or(0.0) < 1.0))?;
    let peak = daemon.process.peak_bytes() as f64 / MIB;
    daemon.stop()?;
    section.aim("≤ 32 MiB for one file of 10 GiB", &format!("{peak:.0} MiB"), peak <= 32.0);
    let at = |share: f64| memory.get((memory.len() as f64 * share) as usize).map_or(0.0, |point| point.1);
    let (early, late) = (at(0.1), at(0.95));
    let measured = format!("{early:.0} MiB after a tenth, {late:.0} MiB at its end");
    section.aim("flat over an hour's worth of parts", &measured, late <= early * 1.1 + 1.0);
    section.say(&format!(
        "One file of {} GiB in {} parts: 8 Mbit/s write as much in three hours.",
        load.file_bytes >> 30,
        load.file_bytes.div_ceil(8 << 20)
    ));
    let curves = vec![Curve { name: "RSS", points: &memory }];
    let plot = Lines { title: "one file of 10 GiB", x: "s", y: "MiB", curves };
    section.plot("huge", "memory while 10 GiB are sent", plot.svg());
    Ok(())
}
