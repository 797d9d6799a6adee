//! A thin link: bytes take their time, over all connections together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much unused time may be caught up.
const BURST: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Link {
    bytes_per_second: f64,
    busy_until: Mutex<Instant>,
}

impl Link {
    pub(super) fn of(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, busy_until: Mutex::new(Instant::now()) }
    }

    /// Blocks until these bytes have come through.
    pub(super) fn pass(&self, bytes: u64) {
        let until = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begin = (*busy_until).max(now.checked_sub(BURST).unwrap_or(now));
            *busy_until = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            *busy_until
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
