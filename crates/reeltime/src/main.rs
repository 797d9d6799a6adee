//! Parses, dispatches, prints errors; nothing else.

use std::process::ExitCode;

use reeltime::cli::{Cli, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    match work().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}

async fn work() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args_os().collect();
    Cli::read(&args)?.execute().await
}
