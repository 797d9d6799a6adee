//! The two clocks: one that never runs backwards, and the one on the wall.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reeltime_core::{Now, Tick, WallTime};

/// Tick 0 lies this long before the start of the process (some 35 years), so that the age of
/// an old file can be subtracted.
const ORIGIN_MS: u64 = 1 << 40;

fn begin() -> Instant {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    *BEGIN.get_or_init(Instant::now)
}

/// This moment by both clocks.
pub fn now() -> Now {
    Now { tick: Tick(ORIGIN_MS + begin().elapsed().as_millis() as u64), wall: wall() }
}

/// This moment by the clock on the wall.
pub fn wall() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(
        since_epoch.map_or_else(|before| -(before.duration().as_millis() as i64), |since| since.as_millis() as i64),
    )
}

/// The instant of a tick, rounded up.
pub fn instant_of(tick: Tick) -> tokio::time::Instant {
    let since_begin = tick.0.saturating_sub(ORIGIN_MS);
    (begin() + Duration::from_millis(since_begin + 1)).into()
}
