//! Whether the process is alive, and whether it is ready.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A supervisor that has not come round for so long hangs.
const LONGEST_ROUND: Duration = Duration::from_mins(1);

/// What the supervisor says of itself, and the health checks ask.
///
/// Ready is who has looked through the sources once and has reached the store. An outage later
/// on takes readiness away until the store answers again; it is no reason to restart.
#[derive(Debug)]
pub struct Readiness(Mutex<Known>);

#[derive(Debug)]
struct Known {
    scanned: bool,
    store: Result<(), String>,
    round_at: Option<Instant>,
}

impl Default for Readiness {
    fn default() -> Self {
        let store = Err("the store has not been reached yet".to_owned());
        Self(Mutex::new(Known { scanned: false, store, round_at: None }))
    }
}

impl Readiness {
    /// The sources were looked through for the first time.
    pub fn scanned(&self) {
        self.with(|known| known.scanned = true);
    }

    /// The store answered, or did not, and why.
    pub fn store(&self, answer: Result<(), String>) {
        self.with(|known| known.store = answer);
    }

    /// Whether the store was reached when it was last asked.
    pub fn is_store_reached(&self) -> bool {
        self.with(|known| known.store.is_ok())
    }

    /// The supervisor's loop has come round. Once it has, it must do so at least every minute.
    pub fn round(&self) {
        self.with(|known| known.round_at = Some(Instant::now()));
    }

    /// What is missing; nothing when ready.
    pub fn missing(&self) -> Vec<String> {
        self.with(|known| {
            let scan = (!known.scanned).then(|| "the sources have not been looked through yet".to_owned());
            scan.into_iter().chain(known.store.as_ref().err().cloned()).collect()
        })
    }

    /// For how long the supervisor has hung, if it does.
    pub fn stuck_for(&self) -> Option<Duration> {
        self.with(|known| stuck(known.round_at, Instant::now()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn stuck(round_at: Option<Instant>, now: Instant) -> Option<Duration> {
    round_at.map(|at| now.saturating_duration_since(at)).filter(|since| *since > LONGEST_ROUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hangs_when_it_has_come_round_before_and_no_more() {
        let then = Instant::now();
        assert_eq!(stuck(None, then), None);
        assert_eq!(stuck(Some(then), then + LONGEST_ROUND), None);
        let late = LONGEST_ROUND + Duration::from_secs(1);
        assert_eq!(stuck(Some(then), then + late), Some(late));
    }
}
