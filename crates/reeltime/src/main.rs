//! Parses, dispatches, prints errors; nothing else.

use std::process::ExitCode;
use std::time::Duration;

use reeltime::cli::{Cli, Failure};

/// Threads that are blocked (by a dead network mount, or by the bandwidth limit) get this long
/// at the end. Nothing depends on them any more.
const BLOCKED_THREADS_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}"), "raise the limit on processes"))
        .and_then(|runtime| {
            let outcome = runtime.block_on(work());
            runtime.shutdown_timeout(BLOCKED_THREADS_GRACE);
            outcome
        });
    match outcome {
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
