//! A reeltime that runs until it is stopped, and what can be seen of it from outside.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use testkit::http;
use testkit::servers::{Launch, Port, Process};

use crate::clients::Reeltime;
use crate::meter::{Cost, Measured};
use crate::record::RecordArgs;
use crate::target::Target;
use crate::{Failure, Outcome};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(20);

/// A running reeltime.
pub(super) struct Daemon {
    pub(super) process: Measured,
    port: Port,
}

impl Daemon {
    /// Starts it; it is not ready yet.
    pub(super) fn start(
        reeltime: &Reeltime,
        dir: &Path,
        target: &Target,
        state: &str,
        args: &[&str],
        log: &Path,
    ) -> Outcome<Self> {
        let port = Port::reserve();
        let address = port.address();
        let args: Vec<_> = args.iter().copied().chain(["--listen", &address]).collect();
        Ok(Self { process: reeltime.start(dir, target, state, &args, log)?, port })
    }

    /// Waits until it says that it is ready; answers how long that took from its start.
    pub(super) fn wait_ready(&self) -> Outcome<Duration> {
        let address = self.port.address();
        self.wait_until("it is ready", || Ok(http::get(&address, "/readyz").is_ok_and(|answer| answer.status == 200)))?;
        Ok(self.process.elapsed())
    }

    /// A metric without labels; 0 before there is one.
    pub(super) fn metric(&self, name: &str) -> Outcome<f64> {
        let answer = http::get(&self.port.address(), "/metrics");
        let answer = answer.map_err(|error| Failure(format!("no metrics: {error}")))?.text();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    /// Waits until a counter has come so far.
    pub(super) fn wait_for(&self, name: &str, value: f64) -> Outcome<()> {
        self.wait_until(&format!("{name} is {value}"), || Ok(self.metric(name)? >= value))
    }

    /// Waits for a condition while it runs.
    pub(super) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds()? {
            if !self.process.is_running() || Instant::now() > deadline {
                return Err(Failure(format!("waited in vain until {what}:\n{}", self.process.log_tail())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Looks at its memory while something goes on: seconds since now, MiB.
    pub(super) fn watch_memory(&self, mut goes_on: impl FnMut() -> Outcome<bool>) -> Outcome<Vec<(f64, f64)>> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while goes_on()? {
            seen.push((began.elapsed().as_secs_f64(), self.process.resident_bytes() as f64 / f64::from(1 << 20)));
            std::thread::sleep(LOOK_EVERY * 5);
        }
        Ok(seen)
    }

    pub(super) fn stop(self) -> Outcome<Cost> {
        self.process.stop()
    }
}

/// Recorders in a process of their own.
pub(super) struct Recorders {
    process: Process,
    journal: PathBuf,
}

/// A part that has become full on disk.
pub(super) struct FullPart {
    pub(super) file: usize,
    pub(super) part: u64,
    pub(super) at: Timestamp,
}

impl Recorders {
    /// Starts them.
    pub(super) fn start(args: &RecordArgs) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|error| Failure(format!("who am I: {error}")))?;
        let mut launch = Launch::new(program).arg("record").arg(&args.dir).arg("--journal").arg(&args.journal);
        let growing = args.growing.unwrap_or(args.files);
        for (name, value) in [
            ("--files", args.files as u64),
            ("--growing", growing as u64),
            ("--begin-bytes", args.begin_bytes),
            ("--slowest", args.slowest),
            ("--fastest", args.fastest),
            ("--part-bytes", args.part_bytes),
        ] {
            launch = launch.arg(name).arg(value.to_string());
        }
        launch = launch.arg("--seconds").arg(args.seconds.to_string());
        Ok(Self { process: Process::start(launch), journal: args.journal.clone() })
    }

    /// Whether all files are there.
    pub(super) fn have_begun(&self) -> Outcome<bool> {
        self.alive()?;
        Ok(self.lines().iter().any(|line| line == "begun"))
    }

    /// How many bytes were recorded, once nothing grows any more.
    pub(super) fn recorded_bytes(&self) -> Outcome<Option<u64>> {
        self.alive()?;
        Ok(self.lines().iter().find_map(|line| line.strip_prefix("end ")?.parse().ok()))
    }

    /// Waits until nothing grows any more; answers how many bytes were recorded.
    pub(super) fn wait_end(&self) -> Outcome<u64> {
        loop {
            if let Some(bytes) = self.recorded_bytes()? {
                return Ok(bytes);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Closes all files, by ending the recorders.
    pub(super) fn close(&self) -> Instant {
        self.process.kill().at
    }

    /// The parts that have become full so far.
    pub(super) fn full_parts(&self) -> Vec<FullPart> {
        let parse = |line: &str| {
            let mut fields = line.strip_prefix("full ")?.split(' ');
            let (file, part) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(FullPart { file, part, at: Timestamp::from_microsecond(fields.next()?.parse().ok()?).ok()? })
        };
        self.lines().iter().filter_map(|line| parse(line)).collect()
    }

    fn alive(&self) -> Outcome<()> {
        match self.process.exited() {
            None => Ok(()),
            Some(_) => Err(Failure(format!("the recorders have ended: {}", self.process.log_tail()))),
        }
    }

    /// What the journal has in whole lines.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

/// A line of reeltime's log.
pub(super) struct Line(Value);

impl Line {
    /// The lines of a log; what is no JSON is left out.
    pub(super) fn all_of(log: &Path) -> Outcome<Vec<Self>> {
        let text = std::fs::read_to_string(log).map_err(|error| Failure::of("read", log, &error))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Self).collect())
    }

    pub(super) fn is(&self, event: &str) -> bool {
        self.0["event"] == event
    }

    pub(super) fn path(&self) -> &str {
        self.0["path"].as_str().unwrap_or_default()
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or(0)
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.0["timestamp"].as_str()?.parse().ok()
    }
}
