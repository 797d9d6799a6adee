//! Recorders in a process of their own: many files that grow at their rates, all of them open
//! until the process is killed, which is how they end.
//!
//! Bytes are not made, which would cost more than writing them: they are pieces of one block of
//! noise. When a part is full, that is written into the journal: file, part, time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::recorders::synthetic::fill;

use crate::{Failure, Outcome};

/// Between two writes of the same recorder.
const TICK: Duration = Duration::from_millis(100);

/// Recorders to be run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Where the files are
    pub(crate) dir: PathBuf,
    /// How many
    #[arg(long, default_value_t = 1)]
    pub(crate) files: usize,
    /// What every file has at once
    #[arg(long, default_value_t = 0)]
    pub(crate) begin_bytes: u64,
    /// Bytes per second of the slowest that grows
    #[arg(long, default_value_t = 0)]
    pub(crate) slowest: u64,
    /// Bytes per second of the fastest
    #[arg(long, default_value_t = 0)]
    pub(crate) fastest: u64,
    /// How many grow; the others stay as they begin [default: all]
    #[arg(long)]
    pub(crate) growing: Option<usize>,
    /// For so many seconds they grow
    #[arg(long, default_value_t = 0.0)]
    pub(crate) seconds: f64,
    /// Size of parts, for the journal
    #[arg(long, default_value_t = 8 << 20)]
    pub(crate) part_bytes: u64,
    /// Told of full parts, and with a line `end` when nothing grows any more
    #[arg(long)]
    pub(crate) journal: PathBuf,
}

struct Recorder {
    file: File,
    written: u64,
    bytes_per_second: f64,
}

/// Records, and then waits to be killed.
pub(crate) fn record(args: &RecordArgs) -> Outcome<()> {
    let mut noise = vec![0; 4 << 20];
    fill(7, 0, &mut noise);
    let failed = |error: io::Error| Failure::of("record into", &args.dir, &error);
    let mut journal = File::create(&args.journal).map_err(failed)?;
    let mut recorders = begin(args, &noise).map_err(failed)?;
    writeln!(journal, "begun").map_err(failed)?;
    let began = Instant::now();
    let mut due = began;
    loop {
        let passed = began.elapsed().as_secs_f64().min(args.seconds);
        for (at, recorder) in recorders.iter_mut().enumerate() {
            let wanted = args.begin_bytes + (recorder.bytes_per_second * passed) as u64;
            let full_before = recorder.written / args.part_bytes;
            recorder.write(&noise, wanted).map_err(failed)?;
            for part in full_before + 1..=recorder.written / args.part_bytes {
                writeln!(journal, "full {at} {part} {}", micros()).map_err(failed)?;
            }
        }
        if passed >= args.seconds {
            break;
        }
        due += TICK;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    writeln!(journal, "end {}", recorders.iter().map(|recorder| recorder.written).sum::<u64>()).map_err(failed)?;
    loop {
        std::thread::park();
    }
}

fn begin(args: &RecordArgs, noise: &[u8]) -> io::Result<Vec<Recorder>> {
    let growing = args.growing.unwrap_or(args.files).min(args.files);
    (0..args.files)
        .map(|at| {
            let path = path_of(&args.dir, at);
            fs::create_dir_all(path.parent().unwrap_or(&args.dir))?;
            // Evenly from the slowest to the fastest.
            let share = at as f64 / growing.saturating_sub(1).max(1) as f64;
            let rate = args.slowest as f64 + share * (args.fastest as f64 - args.slowest as f64);
            let bytes_per_second = if at < growing { rate } else { 0.0 };
            let mut recorder = Recorder { file: File::create(path)?, written: 0, bytes_per_second };
            recorder.write(noise, args.begin_bytes)?;
            Ok(recorder)
        })
        .collect()
}

impl Recorder {
    fn write(&mut self, noise: &[u8], until: u64) -> io::Result<()> {
        while self.written < until {
            let from = (self.written % noise.len() as u64) as usize;
            let take = (until - self.written).min((noise.len() - from) as u64) as usize;
            self.file.write_all(&noise[from..from + take])?;
            self.written += take as u64;
        }
        Ok(())
    }
}

/// The file of a recorder: a hundred to a directory.
pub(crate) fn path_of(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("r{:03}/{at:06}.mp4", at / 100))
}

/// Since the Unix epoch.
fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}
