//! The bandwidth limit, and whose bytes go first under it.
//!
//! All who send share one rate, block by block. Three turns of four go by [`Need`]: recordings
//! before a backlog, the oldest bytes first. The fourth goes to whoever has waited longest, so
//! that nobody starves and no connection stands still for long.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reeltime_core::Need;

use crate::storage::body::BLOCK_BYTES;

/// After so many turns by need one goes to whoever has waited longest.
const BY_NEED_IN_A_ROW: u32 = 3;

/// How much unused time may be caught up.
const BURST: Duration = Duration::from_millis(100);

/// How long one block may keep the others waiting: with a few dozen parts in flight, a store that
/// gives up connections which are silent for 20 s does not see one.
const BLOCK: Duration = Duration::from_millis(150);

/// Smaller blocks are not worth their turns.
const LEAST_BLOCK_BYTES: usize = 4 * 1024;

/// Hands out the time at which bytes may be sent, so that all who share it keep one rate.
///
/// A clone shares the rate. The rate is kept over any stretch longer than 100 ms; unused
/// bandwidth is not saved up beyond that.
#[derive(Clone, Debug)]
pub struct Pacer {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    bytes_per_second: u64,
    line: Mutex<Line>,
    /// Somebody went, so that another one is next.
    moved: Condvar,
}

/// Those who wait, and until when the link is taken.
#[derive(Debug)]
struct Line {
    /// When the bytes handed out so far will have been sent at this rate.
    booked_until: Instant,
    turns: Turns,
}

/// Who waits, by when they came.
#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeMap<u64, Need>,
    came: u64,
    by_need_in_a_row: u32,
}

impl Turns {
    /// Waits from now on.
    fn come(&mut self, need: Need) -> u64 {
        self.came += 1;
        self.waiting.insert(self.came, need);
        self.came
    }

    /// Whose turn it is.
    fn next(&self) -> Option<u64> {
        if self.by_need_in_a_row >= BY_NEED_IN_A_ROW {
            return self.waiting.keys().next().copied();
        }
        self.waiting.iter().min_by_key(|(came, need)| (**need, **came)).map(|(came, _)| *came)
    }

    /// Whoever's turn it is takes it.
    fn take(&mut self, turn: u64) {
        self.by_need_in_a_row = (self.by_need_in_a_row + 1) % (BY_NEED_IN_A_ROW + 1);
        self.waiting.remove(&turn);
    }
}

impl Pacer {
    /// As fast as it goes.
    pub fn unlimited() -> Self {
        Self { shared: None }
    }

    /// At most `bytes_per_second`.
    pub fn limited(bytes_per_second: u64) -> Self {
        let line = Line { booked_until: Instant::now(), turns: Turns::default() };
        let shared =
            Shared { bytes_per_second: bytes_per_second.max(1), line: Mutex::new(line), moved: Condvar::new() };
        Self { shared: Some(Arc::new(shared)) }
    }

    /// How many bytes to send at a time: less than a whole block where the rate is so low that
    /// others would wait long for it.
    pub fn block_bytes(&self) -> usize {
        self.shared.as_ref().map_or(BLOCK_BYTES, |shared| {
            let bytes = shared.bytes_per_second as f64 * BLOCK.as_secs_f64();
            (bytes as usize).clamp(LEAST_BLOCK_BYTES, BLOCK_BYTES)
        })
    }

    /// Blocks the calling thread until `bytes` more may be sent, and it is their turn.
    pub fn pace(&self, bytes: u64, need: Need) {
        let Some(shared) = &self.shared else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / shared.bytes_per_second as f64);
        let mut line = shared.line();
        let turn = line.turns.come(need);
        loop {
            let now = Instant::now();
            let wait = line.booked_until.saturating_duration_since(now);
            if line.turns.next() != Some(turn) {
                line = shared.moved.wait(line).unwrap_or_else(PoisonError::into_inner);
            } else if !wait.is_zero() {
                // Someone with more need may come meanwhile.
                line = shared.moved.wait_timeout(line, wait).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                line.turns.take(turn);
                let earliest = now.checked_sub(BURST).unwrap_or(now);
                line.booked_until = line.booked_until.max(earliest) + cost;
                shared.moved.notify_all();
                return;
            }
        }
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use reeltime_core::Tick;

    use super::*;

    fn live(since: u64) -> Need {
        Need { backlog: false, since: Tick(since) }
    }

    fn backlog(since: u64) -> Need {
        Need { backlog: true, since: Tick(since) }
    }

    /// The order in which these go, who come at once.
    fn order<const N: usize>(needs: [Need; N]) -> Vec<Need> {
        let mut turns = Turns::default();
        for need in needs {
            turns.come(need);
        }
        let mut order = Vec::new();
        while let Some(turn) = turns.next() {
            order.push(turns.waiting[&turn]);
            turns.take(turn);
        }
        order
    }

    #[test]
    fn recordings_go_before_a_backlog_and_the_oldest_bytes_first() {
        let [old, new] = [backlog(1), backlog(2)];
        assert_eq!(order([new, live(7), old]), [live(7), old, new]);
        assert_eq!(order([live(9), live(7), live(8)]), [live(7), live(8), live(9)]);
    }

    #[test]
    fn every_fourth_turn_is_that_of_whoever_has_waited_longest() {
        let mut turns = Turns::default();
        let starving = turns.come(backlog(1));
        let mut went = Vec::new();
        for since in 0..8 {
            turns.come(live(since));
            let next = turns.next().expect("somebody waits");
            went.push(next == starving);
            turns.take(next);
        }
        assert_eq!(went, [false, false, false, true, false, false, false, false]);
    }

    #[test]
    fn those_who_share_a_rate_go_one_after_the_other() {
        let pacer = Pacer::limited(1_000_000);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..3).for_each(|_| pacer.pace(50_000, live(0))));
            }
        });
        // The first has the burst, and the last may go when the one before is through.
        assert!(began.elapsed() >= Duration::from_millis(145), "300 kB at 1 MB/s, less burst and last block");
    }

    #[test]
    fn at_a_low_rate_blocks_are_small() {
        assert_eq!(Pacer::unlimited().block_bytes(), BLOCK_BYTES);
        assert_eq!(Pacer::limited(12_500_000).block_bytes(), BLOCK_BYTES);
        assert_eq!(Pacer::limited(125_000).block_bytes(), 18_750);
        assert_eq!(Pacer::limited(1).block_bytes(), LEAST_BLOCK_BYTES);
    }
}
