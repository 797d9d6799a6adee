//! What a process costs: wall time, processor time, memory.
//!
//! Processor time is that of the kernel's accounting when the process is reaped (`wait4`), less
//! that of the children it had waited for (`ffprobe`), which is told apart. The peak of memory is
//! `VmHWM`, sampled while it runs: `ru_maxrss` would be the largest of all its children.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::sys;
use crate::{Failure, Outcome};

/// Between two looks at the memory of a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a process has cost from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall_seconds: f64,
    /// Of the process itself, user and system.
    pub(crate) cpu_seconds: f64,
    /// Of its children.
    pub(crate) children_cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
}

/// A process that is measured. Dropping it kills it.
pub(crate) struct Measured {
    name: String,
    pid: u32,
    began: Instant,
    log: PathBuf,
    peak: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
    is_reaped: bool,
}

/// Runs a program to its end, with its output in `log`; one that fails is an error.
pub(crate) fn run(command: &mut Command, log: &Path) -> Outcome<Cost> {
    start(command, log)?.wait()
}

/// Starts a program with its output in `log`.
pub(crate) fn start(command: &mut Command, log: &Path) -> Outcome<Measured> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = File::create(log).map_err(|error| Failure::of("create", log, &error))?;
    let errors = output.try_clone().map_err(|error| Failure::of("open", log, &error))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    sys::bind_to_parent(command);
    let began = Instant::now();
    // Reaped here with wait4, never by the standard library.
    let pid = command.spawn().map_err(|error| Failure(format!("cannot run {name}: {error}")))?.id();
    let (peak, ended) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let looking = {
        let (peak, ended) = (Arc::clone(&peak), Arc::clone(&ended));
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(bytes) = status_field(pid, "VmHWM:") {
                    peak.fetch_max(bytes, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })
    };
    Ok(Measured { name, pid, began, log: log.to_path_buf(), peak, ended, looking: Some(looking), is_reaped: false })
}

impl Measured {
    /// Its memory at this moment.
    pub(crate) fn resident_bytes(&self) -> u64 {
        status_field(self.pid, "VmRSS:").unwrap_or(0)
    }

    /// Its peak of memory so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        status_field(self.pid, "VmHWM:").unwrap_or(0).max(self.peak.load(Ordering::Relaxed))
    }

    /// Its own processor time so far, to a hundredth of a second.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        times_of(self.pid).map_or(0.0, |(own, _)| own)
    }

    /// Since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| {
            !matches!(stat.rsplit(')').next().map(|rest| rest.trim_start().as_bytes()[0]), Some(b'Z'))
        })
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn wait(mut self) -> Outcome<Cost> {
        let (cost, status) = self.end()?;
        if status != 0 {
            return Err(Failure(format!("{} ended with status {status:#x}:\n{}", self.name, self.log_tail())));
        }
        Ok(cost)
    }

    /// Ends it with SIGTERM, and waits until it has, however it ends.
    pub(crate) fn stop(mut self) -> Outcome<Cost> {
        sys::signal(self.pid, libc::SIGTERM);
        self.end().map(|(cost, _)| cost)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) -> Outcome<Cost> {
        sys::signal(self.pid, libc::SIGKILL);
        self.end().map(|(cost, _)| cost)
    }

    /// The last lines of its output.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn end(&mut self) -> Outcome<(Cost, i32)> {
        let failed = |error: std::io::Error| Failure(format!("cannot wait for a child: {error}"));
        sys::wait_until_ended(self.pid).map_err(failed)?;
        let wall = self.began.elapsed();
        let children = times_of(self.pid).map_or(0.0, |(_, children)| children);
        let used = sys::reap(self.pid).map_err(failed)?;
        self.is_reaped = true;
        self.ended.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            looking.join().map_err(|_| Failure("the look at the memory has ended badly".to_owned()))?;
        }
        let cost = Cost {
            wall_seconds: wall.as_secs_f64(),
            cpu_seconds: (used.user + used.system).as_secs_f64() - children,
            children_cpu_seconds: children,
            peak_bytes: self.peak.load(Ordering::Relaxed),
        };
        Ok((cost, used.status))
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if !self.is_reaped {
            sys::signal(self.pid, libc::SIGKILL);
            let _ = sys::reap(self.pid); // nobody left to tell
        }
    }
}

/// A size in `/proc/PID/status`.
fn status_field(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Seconds of processor time of a process, and of the children it has waited for (proc(5)).
fn times_of(pid: u32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state is the first field behind it.
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let seconds = |first| Some((ticks(first)? + ticks(first + 1)?) / sys::ticks_per_second());
    Some((seconds(11)?, seconds(13)?))
}
