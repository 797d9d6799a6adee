//! What concerns the process as a whole: its limits and its signals.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Raises the number of files that may be open to what the system allows: every live recording
/// is held open.
///
/// Answers how many that are, [`u64::MAX`] for no limit.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Cancels `stop` at the first SIGINT or SIGTERM; ends the process at the second.
///
/// Nothing depends on the orderly stop: it only saves sending the parts in flight again.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !first {
                std::process::exit(SECOND_SIGNAL_EXIT_CODE);
            }
            tracing::info!("stopping: parts in flight may end; a second signal ends at once");
            stop.cancel();
        }
    });
    Ok(())
}

/// By convention 128 + SIGINT.
const SECOND_SIGNAL_EXIT_CODE: i32 = 130;
