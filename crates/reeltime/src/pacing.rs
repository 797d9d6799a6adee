//! The bandwidth limit, shared by everything that is sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hands out the time at which bytes may be sent, so that all who share it keep one rate.
///
/// A clone shares the rate. The rate is kept over any stretch longer than [`BURST`]; unused
/// bandwidth is not saved up beyond that.
#[derive(Clone, Debug)]
pub struct Pacer {
    shared: Option<Arc<Shared>>,
}

/// How much unused time may be caught up.
const BURST: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Shared {
    bytes_per_second: u64,
    /// When the bytes handed out so far will have been sent at this rate.
    booked_until: Mutex<Instant>,
}

impl Pacer {
    /// As fast as it goes.
    pub fn unlimited() -> Self {
        Self { shared: None }
    }

    /// At most `bytes_per_second`.
    pub fn limited(bytes_per_second: u64) -> Self {
        let shared = Shared { bytes_per_second: bytes_per_second.max(1), booked_until: Mutex::new(Instant::now()) };
        Self { shared: Some(Arc::new(shared)) }
    }

    /// Blocks the calling thread until `bytes` more may be sent.
    pub fn pace(&self, bytes: u64) {
        let Some(shared) = &self.shared else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / shared.bytes_per_second as f64);
        let wait = {
            let mut booked_until = shared.booked_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *booked_until = (*booked_until).max(earliest) + cost;
            booked_until.saturating_duration_since(now)
        };
        std::thread::sleep(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_share_a_rate_are_booked_one_after_the_other() {
        let pacer = Pacer::limited(1_000_000);
        let began = Instant::now();
        let other = pacer.clone();
        let thread = std::thread::spawn(move || other.pace(150_000));
        pacer.pace(150_000);
        thread.join().expect("the thread does not panic");
        assert!(began.elapsed() >= Duration::from_millis(190), "300 kB at 1 MB/s, less the burst");
    }
}
