//! Runs the real `ffprobe` on an open file.
//!
//! Invariants:
//!
//! - The recording is given as the child's standard input and opened again through
//!   `/proc/self/fd/0`. So ffprobe can seek, it reads the very file that was uploaded even when
//!   that has been renamed or deleted meanwhile, and no name can be taken for an option or a
//!   protocol. Where there is no `/proc`, the path is given behind `file:`.
//! - Only the `file` protocol is allowed: a recording that is a playlist in truth does not make
//!   ffprobe call anybody.
//! - Time and output are bounded. Whatever ends the wait (time, output, the caller's giving up),
//!   the child and what it started are killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpriority_process, kill_process_group, setpriority_pgrp};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::probe::{ProbeReport, Prober};

/// Output that is accepted; that of an ordinary recording has some 5 KB.
const MAX_STDOUT_BYTES: u64 = 4 << 20;

/// Error messages that are looked at; what follows is read and dropped.
const MAX_STDERR_BYTES: u64 = 64 << 10;

/// How long a killed child is waited for. Longer takes only one that the kernel itself cannot
/// end (a hung network mount); it is reaped in the background.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// As for work that can wait: the object is stored already.
const NICENESS: i32 = 10;

/// Why ffprobe said nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no such program.
    #[error("ffprobe is not installed (looked for {executable:?}); install the ffmpeg package for full metadata")]
    NotInstalled {
        /// The name or path that was tried.
        executable: OsString,
    },
    /// It is there, and could not be started, or its output could not be read.
    #[error("ffprobe: cannot run {executable:?}: {cause}")]
    NotRun {
        /// The name or path that was tried.
        executable: OsString,
        /// Why.
        cause: io::Error,
    },
    /// It could not make sense of the recording, or broke.
    #[error("ffprobe: {message}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The first lines that it wrote about it, or its exit status if there are none.
        message: String,
    },
    /// It took too long, and was killed.
    #[error("ffprobe: gave no answer within {} s and was ended", after.as_secs_f64())]
    TimedOut {
        /// For how long it was waited for.
        after: Duration,
    },
    /// It wrote more than is reasonable, and was killed.
    #[error("ffprobe: wrote more than {limit_bytes} bytes and was ended")]
    TooLarge {
        /// What is accepted.
        limit_bytes: u64,
    },
    /// It ended well, and its output is not what was asked for.
    #[error("ffprobe: its output is not the JSON that was asked for: {cause}")]
    NotJson {
        /// What is wrong with it.
        cause: serde_json::Error,
    },
}

/// The part of ffprobe's output that is asked for.
#[derive(Deserialize)]
struct Answer {
    format: Map<String, Value>,
    #[serde(default)]
    streams: Vec<Value>,
}

/// Asks `executable` about `file`, and waits for at most `timeout`. `path` is where the file was
/// found; it is used only where an open file cannot be handed over. Has no effect on the file.
pub async fn read(executable: &OsStr, timeout: Duration, file: &File, path: &Path) -> Result<ProbeReport, ProbeError> {
    let not_run = |cause: io::Error| ProbeError::NotRun { executable: executable.to_owned(), cause };
    let (input, stdin) = input_of(file, path).map_err(not_run)?;
    let spawned = Command::new(executable)
        .args(["-v", "error", "-protocol_whitelist", "file", "-print_format", "json"])
        .args(["-show_format", "-show_streams", "-i"])
        .arg(&input)
        .env("AV_LOG_FORCE_NOCOLOR", "1")
        .env_remove("FFREPORT") // would write a log file
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut running = match spawned {
        Ok(child) => Running(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProbeError::NotInstalled { executable: executable.to_owned() });
        }
        Err(error) => return Err(not_run(error)),
    };
    running.yield_to_others();
    let output = match tokio::time::timeout(timeout, running.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            running.end().await;
            return Err(match error.kind() {
                io::ErrorKind::FileTooLarge => ProbeError::TooLarge { limit_bytes: MAX_STDOUT_BYTES },
                _ => not_run(error),
            });
        }
        Err(_) => {
            running.end().await;
            return Err(ProbeError::TimedOut { after: timeout });
        }
    };
    output.understand(&input)
}

/// How the child finds the file, and what it gets as standard input.
fn input_of(file: &File, path: &Path) -> io::Result<(OsString, Stdio)> {
    let mut input = OsString::from("file:");
    if cfg!(target_os = "linux") {
        // The own /proc entry: another process's needs the right to trace it, which a hardened
        // service does not have.
        input.push("/proc/self/fd/0");
        return Ok((input, Stdio::from(file.try_clone()?)));
    }
    input.push(path);
    Ok((input, Stdio::null()))
}

/// A child that does not outlive this value, and neither does what it started.
struct Running(Child);

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    /// Reads all output and waits for the end. [`io::ErrorKind::FileTooLarge`] if it is too
    /// much; the child is alive then.
    async fn output(&mut self) -> io::Result<Output> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        // The child is waited for last: until then its id cannot be given to another process.
        let (stdout, stderr) = tokio::try_join!(all_of(stdout), beginning_of(stderr))?;
        let status = self.0.wait().await?;
        Ok(Output { status, stdout, stderr })
    }

    /// Kills and reaps the child.
    async fn end(&mut self) {
        self.kill();
        // Where the wait is too long or fails, the runtime reaps it when it ends.
        let _ = tokio::time::timeout(REAP_TIMEOUT, self.0.wait()).await;
    }

    /// Kills the child with all that it started, in case ffprobe is a wrapper script.
    fn kill(&mut self) {
        if let Some(group) = self.pid() {
            let _ = kill_process_group(group, Signal::KILL); // it has ended
        }
    }

    /// Lets recorders have the processor first, as far as the system weighs processes against
    /// each other and not their sessions or units. Without it ffprobe runs as well.
    fn yield_to_others(&self) {
        let own = getpriority_process(None).unwrap_or_default();
        if let Some(group) = self.pid() {
            let _ = setpriority_pgrp(Some(group), own.max(NICENESS));
        }
    }

    /// Its own, and that of its group. `None` if it has been waited for; until then no other
    /// process can get it.
    fn pid(&self) -> Option<Pid> {
        self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything that comes, up to the limit.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_STDOUT_BYTES + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_STDOUT_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads everything that comes, so that the child never waits, and keeps the beginning.
async fn beginning_of(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(MAX_STDERR_BYTES).read_to_end(&mut bytes).await?;
        if tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await? > 0 {
            // The last line is only half there.
            bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(bytes.len()));
        }
    }
    Ok(bytes)
}

impl Output {
    fn understand(self, input: &OsStr) -> Result<ProbeReport, ProbeError> {
        if !self.status.success() {
            let message = match summary(&self.stderr, &input.to_string_lossy()) {
                words if words.is_empty() => format!("ended with {}", self.status),
                words => words,
            };
            return Err(ProbeError::Failed { status: self.status, message });
        }
        let mut answer: Answer = serde_json::from_slice(&self.stdout).map_err(|cause| ProbeError::NotJson { cause })?;
        answer.format.remove("filename");
        Ok(ProbeReport { prober: Prober::Ffprobe, format: answer.format, streams: answer.streams })
    }
}

/// The first lines of `stderr`, without what differs from run to run or means nothing to a
/// reader: the demuxer's address and the name of the input.
fn summary(stderr: &[u8], input: &str) -> String {
    const LINES: usize = 3;
    const LINE_CHARS: usize = 200;
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let line = match line.split_once("] ") {
            Some((head, rest)) if head.starts_with('[') && head.contains(" @ 0x") => rest,
            _ => line,
        };
        let line = line.strip_prefix(input).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line);
        let line: String = line.chars().take(LINE_CHARS).collect();
        if !line.is_empty() && !lines.contains(&line) {
            lines.push(line);
        }
        if lines.len() == LINES {
            break;
        }
    }
    lines.join("; ")
}
