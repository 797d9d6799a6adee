//! The command line: one file per command.

mod places;
pub mod run;
pub mod salvage;
pub mod status;
pub mod sweep;
pub mod verify;

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{BadValue, Problem};
use crate::printable::printable;

/// Puts recordings into S3-compatible storage while they are being recorded
#[derive(Debug, Parser)]
#[command(name = "reeltime", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Status(status::StatusArgs),
    Verify(Box<verify::VerifyArgs>),
    Sweep(Box<sweep::SweepArgs>),
    Salvage(Box<salvage::SalvageArgs>),
}

/// A command that did not do its work. Displayed as an `error:` line and a `hint:` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What failed, on what, and why.
    pub message: String,
    /// What to do; empty if the message says it.
    pub hint: String,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl Failure {
    /// Something failed: exit code 1.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), exit_code: 1 }
    }

    /// The usage or the configuration is wrong: exit code 2.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), exit_code: 2 }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::usage(problem.message, problem.hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable(&self.message))?;
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", printable(&self.hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl Cli {
    /// Reads the command line. Help and version are printed, and end the process with exit
    /// code 0; so does, with exit code 2, what clap has its own words for.
    pub fn read(args: &[OsString]) -> Result<Self, Failure> {
        let answer = Self::command().try_get_matches_from(args).and_then(|matches| {
            let mut cli = Self::from_arg_matches(&matches)?;
            match (&mut cli.command, matches.subcommand()) {
                (Command::Run(run), Some(("run", matches))) => run.settings.split_variables(matches),
                (Command::Verify(verify), Some(("verify", matches))) => verify.split_variables(matches),
                _ => {}
            }
            Ok(cli)
        });
        answer.map_err(|error| bad_value(&error, args).unwrap_or_else(|| error.exit()))
    }

    /// Does what was asked for.
    pub async fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::Run(args) => run::run(args.config()?).await,
            Command::Status(args) => status::status(args).await,
            Command::Verify(args) => verify::verify(*args).await,
            Command::Sweep(args) => sweep::sweep(*args).await,
            Command::Salvage(args) => salvage::salvage(*args).await,
        }
    }
}

/// The command that was given.
fn command(args: &[OsString]) -> String {
    args.get(1).map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A value that is none, in the words of its type, and where it was given.
fn bad_value(error: &clap::Error, args: &[OsString]) -> Option<Failure> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = arg.split_whitespace().next()?;
    let text = error.source()?.to_string();
    let (problem, hint) = BadValue::parts_of(&text);
    let is_on_command_line = args.iter().any(|arg| {
        let arg = arg.to_string_lossy();
        arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let place = match flag.strip_prefix("--") {
        Some(name) if !is_on_command_line => format!("REELTIME_{}", name.to_uppercase().replace('-', "_")),
        _ => flag.to_owned(),
    };
    let problem = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if !problem.contains(value.as_str()) => format!("{value:?}: {problem}"),
        _ => problem,
    };
    let hint = if hint.is_empty() { format!("`reeltime {} --help` says what it takes", command(args)) } else { hint };
    Some(Failure::usage(format!("{place}: {problem}"), hint))
}
