//! Beginning recordings, and waiting for what the built binary makes of them.

use std::path::{Path, PathBuf};

use testkit::daemon::{LogLine, Running};
use testkit::proxy::{Op, Outcome, Proxy};
use testkit::recorders::synthetic::{Recording, Style, Synthetic};

use super::DEADLINE;

/// Begins a recording that is held after so many bytes.
pub(crate) fn record_until(path: PathBuf, style: Style, total: u64, held_at: u64) -> Recording {
    let recording = Synthetic::into(path, style, total).hold_at(held_at).start();
    recording.wait_held(DEADLINE);
    recording
}

/// Waits until a part is stored and the checkpoint knows.
#[track_caller]
pub(crate) fn wait_part(daemon: &Running, path: &Path, number: u64) {
    daemon.wait_event(&format!("part {number} of {}", path.display()), DEADLINE, |line| {
        line.event() == Some("part_stored") && line.path() == Some(path) && line.number("part") == Some(number)
    });
}

#[track_caller]
pub(crate) fn wait_completed(daemon: &Running, path: &Path) -> LogLine {
    daemon.wait_event_of("completed", path, DEADLINE)
}

/// Waits until the store has carried out a request of this operation whose answer is held back.
#[track_caller]
pub(crate) fn wait_carried_out(proxy: &Proxy, op: Op) {
    proxy.wait_for(&format!("{op:?} to be carried out"), DEADLINE, |log| {
        log.iter().any(|logged| {
            logged.request.op == op && logged.server_status == Some(200) && logged.outcome == Outcome::Underway
        })
    });
}

/// The events of the present run that say that a stream was given up.
pub(crate) fn failures(daemon: &Running) -> Vec<String> {
    let failed = daemon.events().into_iter().filter(|line| line.event() == Some("failed"));
    failed.map(|line| line.to_string()).collect()
}
