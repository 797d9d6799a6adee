//! How long to wait after a failure.

use crate::{Tick, Trouble};

/// Wait after the first failure.
const FIRST_WAIT_MS: u64 = 250;
/// The longest wait for a store that is away: recovery begins within seconds of its return.
const OUTAGE_CAP_MS: u64 = 8_000;
/// The longest wait where an operator must act.
const DENIED_CAP_MS: u64 = 30_000;

/// Capped exponential backoff with jitter, so that many streams that fail together do not
/// come back together.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    failures: u32,
    until: Tick,
    noise: u64,
}

impl Patience {
    /// `seed` differs from stream to stream.
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, until: Tick(0), noise: seed | 1 }
    }

    /// When the next request may be made; `None` if now.
    pub(super) fn wait(&self, now: Tick) -> Option<Tick> {
        (now < self.until).then_some(self.until)
    }

    /// Notes a failure. Those that come while already waiting belong to the same one.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Tick) {
        if now < self.until {
            return;
        }
        let cap = match trouble {
            Trouble::Denied | Trouble::SourceUnreadable => DENIED_CAP_MS,
            _ => OUTAGE_CAP_MS,
        };
        let full = FIRST_WAIT_MS.saturating_mul(1 << self.failures.min(16)).min(cap);
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let jitter = (self.noise >> 33) % (full / 2 + 1);
        self.until = now.plus(full / 2 + jitter);
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes a success.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_no_further() {
        let mut patience = Patience::new(7);
        let mut now = Tick(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..40 {
            patience.failed(Trouble::Outage, now);
            patience.failed(Trouble::Outage, now); // the same wave
            let until = patience.wait(now).unwrap();
            waits.push(until.since(now));
            now = until;
        }
        assert!(waits[0] <= FIRST_WAIT_MS, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= OUTAGE_CAP_MS), "{waits:?}");
        assert!(waits[20..].iter().all(|wait| *wait >= OUTAGE_CAP_MS / 2), "{waits:?}");
        patience.succeeded();
        patience.failed(Trouble::Outage, now);
        assert!(patience.wait(now).unwrap().since(now) <= FIRST_WAIT_MS);
    }
}
