//! The lease by which this process has the name of its node, in a checkpoint that is shared.
//!
//! It is taken before anything else is, renewed as long as the process lives, and given back in
//! an orderly stop. A name that another reeltime has is waited for as long as a lease lasts: that
//! one may have died. Died it surely has if it ran on this machine and its process is gone; then
//! nothing is waited for.
//!
//! The lease keeps people from starting two of one name. That two which run nevertheless do no
//! harm is not up to it but to the epoch in every stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoint::{CheckpointError, CheckpointStore, Presence};
use crate::clock;
use crate::events::{Event, EventBus, Side, What};
use crate::view::rfc3339;

/// Who has said nothing for so long is dead.
pub(crate) const LEASE: Duration = Duration::from_secs(8);

/// From one renewal to the next.
const RENEWAL: Duration = Duration::from_secs(2);

/// From one attempt to the next where the first one did not succeed.
const PAUSE: Duration = Duration::from_millis(500);

const TAKE_HINT: &str = "reeltime begins when it is there; recordings are safe on the disk meanwhile";

const KEEP_HINT: &str = "the lease is renewed when it is there; recordings go on being uploaded";

/// The right to the name of a node.
pub struct Lease {
    checkpoint: Arc<dyn CheckpointStore>,
    presence: Presence,
    events: EventBus,
}

impl Lease {
    /// Takes the name `node` for directories with these marks. Waits for a checkpoint that is
    /// away until `stop`, and for another reeltime that has the name as long as it may be dead:
    /// [`CheckpointError::Held`] if it is not.
    pub async fn take(
        checkpoint: Arc<dyn CheckpointStore>,
        node: &str,
        sources: Vec<String>,
        events: EventBus,
        stop: &CancellationToken,
    ) -> Result<Self, CheckpointError> {
        let lease = Self { checkpoint, presence: present(node, sources), events };
        let mut replaced = None;
        let mut held_until = None;
        let mut has_told = false;
        while !stop.is_cancelled() {
            match lease.checkpoint.heartbeat(&lease.presence, replaced, LEASE).await {
                Ok(None) => break,
                Ok(Some(other)) if is_gone(&other) => {
                    replaced = Some(other.incarnation);
                    continue;
                }
                Ok(Some(other)) => {
                    let until = *held_until.get_or_insert_with(|| Instant::now() + LEASE + RENEWAL);
                    if Instant::now() > until {
                        return Err(lease.held_by(&other));
                    }
                }
                Err(error @ CheckpointError::Outage { .. }) => {
                    if !std::mem::replace(&mut has_told, true) {
                        let what = What::Notice { message: error.to_string(), hint: TAKE_HINT.to_owned() };
                        lease.events.tell(Event { stream: None, path: None, what });
                    }
                }
                Err(error) => return Err(error),
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await; // the loop asks
        }
        Ok(lease)
    }

    /// Renews the lease until `stop`; returns before that only with the reason why this process
    /// must not go on: another one has its name.
    pub async fn keep(&self, stop: &CancellationToken) -> Option<CheckpointError> {
        loop {
            stop.run_until_cancelled(tokio::time::sleep(RENEWAL)).await?;
            match self.checkpoint.heartbeat(&self.presence, None, LEASE).await {
                Ok(None) => {}
                Ok(Some(other)) => return Some(self.held_by(&other)),
                Err(error) => self.tell_away(&error, KEEP_HINT),
            }
        }
    }

    /// Gives the name back. If that does not work, the lease ends by itself.
    pub async fn give_back(&self) {
        let given = tokio::time::timeout(RENEWAL, self.checkpoint.leave(&self.presence)).await;
        if let Ok(Err(error)) = given {
            self.tell_away(&error, "the lease ends by itself");
        }
    }

    fn held_by(&self, other: &Presence) -> CheckpointError {
        let Presence { node, pid, host, since, .. } = other;
        CheckpointError::Held {
            what: format!("node {node} in {}", self.checkpoint.location()),
            holder: format!("process {pid} on {host} (since {})", rfc3339(*since)),
        }
    }

    fn tell_away(&self, error: &CheckpointError, hint: &str) {
        let what = What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: hint.to_owned() };
        self.events.tell(Event { stream: None, path: None, what });
    }
}

fn present(node: &str, sources: Vec<String>) -> Presence {
    Presence {
        node: node.to_owned(),
        incarnation: Uuid::now_v7(),
        pid: std::process::id(),
        host: crate::host::name().unwrap_or_else(|| "unknown".to_owned()),
        machine: crate::host::machine(),
        since: clock::wall(),
        sources,
    }
}

/// Whether the process of another run of this node surely exists no more.
fn is_gone(other: &Presence) -> bool {
    let is_here = !other.machine.is_empty() && other.machine == crate::host::machine();
    is_here && other.pid != std::process::id() && !std::path::Path::new("/proc").join(other.pid.to_string()).exists()
}
