//! How each client is told to send a directory, and how reeltime is run.
//!
//! Everybody sends parts of 8 MiB, 8 at a time, as reeltime does by itself. How many files go at a
//! time is each one's own default, or 8 where that is less.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::meter::{self, Cost, Measured};
use crate::neighbours::{Kind, Neighbour};
use crate::target::Target;
use crate::{Failure, Outcome};

/// Whoever sends files.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// A plain loop.
    Floor,
    /// `reeltime run --once`.
    Reeltime(Reeltime),
    Neighbour(Neighbour),
}

impl Client {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Floor => "floor",
            Self::Reeltime(reeltime) => reeltime.name,
            Self::Neighbour(neighbour) => neighbour.kind.name(),
        }
    }

    /// Sends everything below a directory, and tells what that has cost.
    pub(crate) fn send(&self, dir: &Path, target: &Target, scratch: &Path) -> Outcome<Cost> {
        target.forget()?;
        let log = scratch.join("output.log");
        match self {
            Self::Reeltime(reeltime) => {
                let state = scratch.join("state");
                drop(std::fs::remove_dir_all(&state)); // it need not be there
                let state = state.join("state.db").display().to_string();
                reeltime.start(dir, target, &state, &["--once"], &log)?.wait()
            }
            Self::Floor => {
                let program = std::env::current_exe().map_err(|error| Failure(format!("who am I: {error}")))?;
                let to = format!("{}/{}", target.endpoint, target.bucket);
                run(Command::new(program).arg("floor").arg(dir).arg(to), target, &log)
            }
            Self::Neighbour(neighbour) => run(&mut copy(neighbour, dir, target), target, &log),
        }
    }
}

fn run(command: &mut Command, target: &Target, log: &Path) -> Outcome<Cost> {
    target.tell(command);
    meter::run(command, log)
}

/// The command that copies a directory.
fn copy(neighbour: &Neighbour, dir: &Path, target: &Target) -> Command {
    let Target { endpoint, bucket, .. } = target;
    let mut command = Command::new(&neighbour.program);
    match neighbour.kind {
        Kind::S5cmd => command
            .args(["--endpoint-url", endpoint, "--log", "error", "cp", "--part-size", "8", "--concurrency", "8"])
            .arg(format!("{}/", dir.display()))
            .arg(format!("s3://{bucket}/")),
        Kind::Rclone => command
            .args(["copy", "--config", "/dev/null", "--transfers", "8", "--s3-chunk-size", "8Mi"])
            .args(["--s3-upload-cutoff", "8Mi", "--s3-upload-concurrency", "8", "--s3-no-check-bucket"])
            .arg(dir)
            .arg(format!("sink:{bucket}"))
            .envs([
                ("RCLONE_CONFIG_SINK_TYPE", "s3"),
                ("RCLONE_CONFIG_SINK_PROVIDER", "Other"),
                ("RCLONE_CONFIG_SINK_ENV_AUTH", "true"),
                ("RCLONE_CONFIG_SINK_LIST_VERSION", "2"),
                ("RCLONE_CONFIG_SINK_ENDPOINT", endpoint),
            ]),
        // Its defaults are parts of 8 MiB, and 10 requests at a time.
        Kind::AwsCli => command
            .args(["--endpoint-url", endpoint, "s3", "cp", "--recursive", "--only-show-errors"])
            .arg(dir)
            .arg(format!("s3://{bucket}/")),
    };
    command
}

/// The binary, and what it is told besides its defaults.
#[derive(Clone, Debug)]
pub(crate) struct Reeltime {
    pub(crate) program: PathBuf,
    pub(crate) name: &'static str,
    pub(crate) extra: &'static [&'static str],
    /// How much it logs.
    level: &'static str,
}

/// No ffprobe: recordings are described by what reeltime reads itself.
const WITHOUT_FFPROBE: &[&str] = &["--ffprobe", "/nonexistent/ffprobe"];

impl Reeltime {
    /// Builds this checkout's binary in the profile of the benchmark, or takes the one that is
    /// named.
    pub(crate) fn find(named: Option<&Path>) -> Outcome<Self> {
        let program = match named {
            Some(named) => named.to_path_buf(),
            None => build()?,
        };
        Ok(Self { program, name: "reeltime", extra: &[], level: "info" })
    }

    /// The same, without the probing of every recording that neighbours do not do.
    pub(crate) fn without_ffprobe(&self) -> Self {
        Self { name: "reeltime, no ffprobe", extra: WITHOUT_FFPROBE, ..self.clone() }
    }

    /// The same, with a log line for every part.
    pub(crate) fn talking(self) -> Self {
        Self { level: "debug", ..self }
    }

    /// Starts `reeltime run` over a directory, with its state at this URL; HTTP is off unless the
    /// arguments say where.
    pub(crate) fn start(
        &self,
        dir: &Path,
        target: &Target,
        state: &str,
        args: &[&str],
        log: &Path,
    ) -> Outcome<Measured> {
        let mut command = Command::new(&self.program);
        command.arg("run").arg(dir).arg("--to").arg(format!("s3://{}", target.bucket));
        command.args(["--s3-endpoint", &target.endpoint, "--state", state, "--node", "bench"]);
        command.args(["--log-format", "json"]).args(self.extra).args(args).env("REELTIME_LOG", self.level);
        if !args.contains(&"--listen") {
            command.args(["--listen", "off"]);
        }
        target.tell(&mut command);
        meter::start(&mut command, log)
    }
}

/// Builds `reeltime` beside this program.
fn build() -> Outcome<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "-p", "reeltime"]).current_dir(testkit::workspace_root());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    eprintln!("bench: building reeltime");
    let status = cargo.status().map_err(|error| Failure(format!("cannot run cargo: {error}")))?;
    if !status.success() {
        return Err(Failure("reeltime does not build".to_owned()));
    }
    let own = std::env::current_exe().map_err(|error| Failure(format!("who am I: {error}")))?;
    let program = own.with_file_name("reeltime");
    if program.exists() { Ok(program) } else { Err(Failure(format!("{} was not built", program.display()))) }
}
