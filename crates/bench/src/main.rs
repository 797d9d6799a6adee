//! Measures reeltime and its neighbours: the same files, the same server, in turns, several
//! rounds; and in the same rounds the floor, a plain loop of `read` and `send`.
//!
//! What is measured is the release binary's `reeltime run`. A figure says little by itself on a
//! machine that does other work too: what counts are ratios within one run.

mod clients;
mod files;
mod floor;
mod meter;
mod neighbours;
mod record;
mod report;
mod rounds;
mod scenarios;
mod sink;
mod sys;
mod target;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

impl Failure {
    fn of(what: &str, path: &Path, error: &dyn std::error::Error) -> Self {
        Self(format!("cannot {what} {}: {error}", path.display()))
    }
}

type Outcome<T> = Result<T, Failure>;

/// Measures reeltime and its neighbours, and writes docs/BENCHMARKS.md
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, version)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    plan: Plan,
}

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Only these scenarios, by number [default: all]
    ///
    /// Repeatable. The sections of the others stay in the report as they are.
    #[arg(long, value_name = "N")]
    scenario: Vec<u32>,
    /// How often each client has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tiny sizes and one round: whether it works. Nothing is written to the report
    #[arg(long)]
    smoke: bool,
    /// Another store than the sink: http://… or https://…
    ///
    /// With credentials and region in AWS's variables. Scenarios that need to look into the sink are
    /// left out.
    #[arg(long, value_name = "URL", requires = "bucket")]
    against: Option<String>,
    /// The bucket there; what is uploaded stays in it
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Another binary than the one of this checkout
    #[arg(long, value_name = "PATH")]
    reeltime: Option<PathBuf>,
    /// Where recordings are written: up to 12 GiB [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// The processes that the benchmark is made of.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// A server that accepts and forgets uploads
    Sink(sink::SinkArgs),
    /// A plain loop of read and send
    Floor(floor::FloorArgs),
    /// Recorders that write at a rate
    Record(record::RecordArgs),
}

fn main() -> ExitCode {
    sys::raise_open_file_limit();
    let args = Args::parse();
    let ended = match &args.part {
        Some(Part::Sink(args)) => sink::serve(args),
        Some(Part::Floor(args)) => floor::send(args),
        Some(Part::Record(args)) => record::record(args),
        None => scenarios::run(&args.plan),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
