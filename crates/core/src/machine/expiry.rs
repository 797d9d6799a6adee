//! Uploads that the store aborts by itself: by a lifecycle rule, or because it keeps none for long.
//!
//! A recording that goes on for longer is sent from its beginning once more, which an operator
//! can prevent. So there is a word ahead, in the last quarter of the upload's time, if the recording
//! is still going on. It is known from the answer to the upload's creation only: not after a
//! restart, and not of stores that do not tell.

use super::{StreamMachine, Wake};
use crate::{Action, Now, Tick, WallTime};

/// When the store will abort the upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    at: WallTime,
    warn_at: Tick,
}

impl StreamMachine {
    /// The store has said when it will abort the upload that it has just begun, or has not.
    pub(super) fn upload_will_end(&mut self, at: Option<WallTime>, now: Now) {
        self.expiry = at.map(|at| {
            let left_ms = u64::try_from(at.0.saturating_sub(now.wall.0)).unwrap_or(0);
            Expiry { at, warn_at: now.tick.plus(left_ms - left_ms / 4) }
        });
    }

    /// While the recording is going on: says once per stream that its upload will be aborted.
    pub(super) fn warn_of_expiry(&mut self, now: Now, wake: &mut Wake, out: &mut Vec<Action>) {
        let Some(expiry) = self.expiry.filter(|_| !self.expiry_told) else { return };
        if now.tick < expiry.warn_at {
            wake.at(expiry.warn_at);
        } else {
            self.expiry_told = true;
            out.push(Action::WarnOfExpiry { at: expiry.at });
        }
    }
}
