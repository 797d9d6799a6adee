//! How long after the end of a recording its object can be read, where the link is thin.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Bench, Room};
use crate::clients::Client;
use crate::meter;
use crate::report::Section;
use crate::rounds::Samples;
use crate::scenarios::daemon::Daemon;
use crate::target::{SinkOptions, Target};
use crate::{Failure, Outcome};

/// 100 Mbit/s.
const LINK_BYTES_PER_SECOND: u64 = 12_500_000;
/// 92 Mbit/s: what is recorded goes through, and little is left.
const RECORDER_BYTES_PER_SECOND: f64 = 11_500_000.0;
const PART_BYTES: u64 = 8 << 20;

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    let file_bytes = bench.size(1 << 30, 40 << 20);
    section.say(&format!(
        "ffmpeg records a plain MP4 of {} MiB (its head is rewritten at the end) at 92 Mbit/s through a link of \
         100 Mbit/s: the sink takes bytes no faster. Time is from ffmpeg's exit until the object is there, the close \
         grace of 2 s included.",
        file_bytes >> 20
    ));
    let target = Target::sink(SinkOptions { rate: Some(LINK_BYTES_PER_SECOND), ..SinkOptions::default() })?;
    let (mut seconds, mut extra) = (Samples::default(), Samples::default());
    let mut room = bench.room()?;
    for round in 0..bench.rounds().min(2) {
        if round > 0 {
            room = bench.room()?;
        }
        let seen = record_and_upload(bench, &room, &target, file_bytes)?;
        eprintln!("bench:   round {}: {:.2} s, {} bytes more than the file", round + 1, seen.0, seen.1);
        seconds.push(seen.0);
        extra.push(seen.1 as f64 / PART_BYTES as f64);
    }
    let mut rows = vec![vec!["reeltime".to_owned(), seconds.shown(2)]];
    for neighbour in bench.neighbours.iter().take(1) {
        let client = Client::Neighbour(neighbour.clone());
        let cost = client.send(&room.recordings, &target, &room.scratch)?;
        rows.push(vec![format!("{} after the end", client.name()), format!("{:.1}", cost.wall_seconds)]);
    }
    section.table(&["", "end of the recording → object, s"], &rows);
    section.aim("readable ≤ 3 s after the recorder's exit", &format!("{} s", seconds.shown(2)), seconds.max() <= 3.0);
    let measured = format!("the file and {} parts", extra.shown(2));
    section.aim("bytes sent ≤ the file and 2 parts", &measured, extra.max() <= 2.0);
    Ok(())
}

/// Seconds from the end to the object, and how many bytes were sent beyond those of the file.
fn record_and_upload(bench: &Bench, room: &Room, target: &Target, file_bytes: u64) -> Outcome<(f64, i64)> {
    target.forget()?;
    let clip = clip(room)?;
    let daemon =
        Daemon::start(&bench.reeltime, &room.recordings, target, &room.state(), &[], &room.log("reeltime.log"))?;
    daemon.wait_ready()?;
    let path = room.recordings.join("a.mp4");
    let size = file_bytes.to_string();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-readrate", &clip.rate, "-stream_loop", "-1", "-i"]);
    ffmpeg.arg(&clip.path).args(["-c", "copy", "-fs", &size, "-f", "mp4"]).arg(&path);
    let recorder = meter::start(&mut ffmpeg, &room.log("ffmpeg.log"))?;
    recorder.wait()?;
    let ended = Instant::now();
    while !target.has("a.mp4")? {
        if ended.elapsed() > super::daemon::PATIENCE || !daemon.process.is_running() {
            return Err(Failure(format!("there is no object:\n{}", daemon.process.log_tail())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = ended.elapsed().as_secs_f64();
    let sent = target.received()?.body_bytes();
    daemon.stop()?;
    let recorded = std::fs::metadata(&path).map_err(|error| Failure::of("read", &path, &error))?.len();
    Ok((seconds, sent as i64 - recorded as i64))
}

/// A few seconds of noise that are recorded again and again, and how fast to read them.
struct Clip {
    path: PathBuf,
    rate: String,
}

fn clip(room: &Room) -> Outcome<Clip> {
    const SECONDS: f64 = 4.0;
    let path = room.scratch.join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25"])
        .args(["-vf", "noise=alls=60:allf=t", "-c:v", "mjpeg", "-q:v", "5", "-t", &SECONDS.to_string(), "-y"])
        .arg(&path)
        .status()
        .map_err(|error| Failure(format!("cannot run ffmpeg: {error}")))?;
    if !made.success() {
        return Err(Failure("ffmpeg does not make a clip".to_owned()));
    }
    let bytes = size_of(&path)? as f64;
    Ok(Clip { rate: format!("{:.4}", RECORDER_BYTES_PER_SECOND / (bytes / SECONDS)), path })
}

fn size_of(path: &Path) -> Outcome<u64> {
    std::fs::metadata(path).map(|data| data.len()).map_err(|error| Failure::of("read", path, &error))
}
