//! The bandwidth limit, and whose bytes go first under it.
//!
//! All who send share one rate, block by block. Three turns of four go by [`Need`]: recordings
//! before a backlog, the oldest bytes first, of equal ones the body that was begun first. The
//! fourth goes to whoever has waited longest, so that nobody starves and no connection stands
//! still for long.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reeltime_core::Need;

use crate::storage::body::BLOCK_BYTES;

/// After so many turns by need one goes to whoever has waited longest.
const BY_NEED_IN_A_ROW: u32 = 3;

/// How much unused time may be caught up.
const BURST: Duration = Duration::from_millis(100);

/// Whoever is never needed most has a turn once in this time, or a little later. Stores give up
/// connections that are silent for some 20 s.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

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
    block_bytes: usize,
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
    bodies: u64,
}

/// What a body is needed for, and its number: those that were begun earlier have lower ones.
type Claim = (Need, u64);

/// Who waits, by when they came.
#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeMap<u64, Claim>,
    came: u64,
    by_need_in_a_row: u32,
}

impl Turns {
    /// Waits from now on.
    fn come(&mut self, claim: Claim) -> u64 {
        self.came += 1;
        self.waiting.insert(self.came, claim);
        self.came
    }

    /// Whose turn it is.
    fn next(&self) -> Option<u64> {
        if self.by_need_in_a_row >= BY_NEED_IN_A_ROW {
            return self.waiting.keys().next().copied();
        }
        self.waiting.iter().min_by_key(|(_, claim)| **claim).map(|(came, _)| *came)
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

    /// At most `bytes_per_second`, for this many bodies at a time.
    pub fn limited(bytes_per_second: u64, bodies: usize) -> Self {
        let turns = (bodies.max(1) as f64) * f64::from(BY_NEED_IN_A_ROW + 1);
        let block = bytes_per_second as f64 * LONGEST_WAIT.as_secs_f64() / turns;
        let shared = Shared {
            bytes_per_second: bytes_per_second.max(1),
            block_bytes: (block as usize).clamp(LEAST_BLOCK_BYTES, BLOCK_BYTES),
            line: Mutex::new(Line { booked_until: Instant::now(), turns: Turns::default(), bodies: 0 }),
            moved: Condvar::new(),
        };
        Self { shared: Some(Arc::new(shared)) }
    }

    /// How many bytes to send at a time: less than a whole block where the rate is so low that
    /// others would wait long for it.
    pub fn block_bytes(&self) -> usize {
        self.shared.as_ref().map_or(BLOCK_BYTES, |shared| shared.block_bytes)
    }

    /// Begins a body, whose bytes are needed so much.
    pub fn begin(&self, need: Need) -> Pace {
        let shared = self.shared.clone();
        let number = shared.as_ref().map_or(0, |shared| {
            let mut line = shared.line();
            line.bodies += 1;
            line.bodies
        });
        Pace { shared, claim: (need, number) }
    }
}

/// The pace of one body.
#[derive(Debug)]
pub struct Pace {
    shared: Option<Arc<Shared>>,
    claim: Claim,
}

impl Pace {
    /// Blocks the calling thread until `bytes` more may be sent, and it is their turn.
    pub fn wait(&self, bytes: u64) {
        let Some(shared) = &self.shared else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / shared.bytes_per_second as f64);
        let mut line = shared.line();
        let turn = line.turns.come(self.claim);
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

    fn live(since: u64) -> Claim {
        (Need { backlog: false, since: Tick(since) }, 0)
    }

    fn backlog(since: u64) -> Claim {
        (Need { backlog: true, since: Tick(since) }, 0)
    }

    /// The order in which these go, who come at once.
    fn order<const N: usize>(claims: [Claim; N]) -> Vec<Claim> {
        let mut turns = Turns::default();
        for claim in claims {
            turns.come(claim);
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
        let [first, second] = [1, 2].map(|number| (backlog(1).0, number));
        assert_eq!(order([second, first]), [first, second], "of one file, what was begun first");
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
        let pacer = Pacer::limited(1_000_000, 2);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let pace = pacer.begin(live(0).0);
                scope.spawn(move || (0..3).for_each(|_| pace.wait(50_000)));
            }
        });
        // The first has the burst, and the last may go when the one before is through.
        assert!(began.elapsed() >= Duration::from_millis(145), "300 kB at 1 MB/s, less burst and last block");
    }

    #[test]
    fn at_a_low_rate_blocks_are_small() {
        assert_eq!(Pacer::unlimited().block_bytes(), BLOCK_BYTES);
        assert_eq!(Pacer::limited(12_500_000, 8).block_bytes(), BLOCK_BYTES);
        assert_eq!(Pacer::limited(128_000, 8).block_bytes(), 40_000, "8 bodies, every fourth turn: 10 s");
        assert_eq!(Pacer::limited(128_000, 64).block_bytes(), 5_000);
        assert_eq!(Pacer::limited(1, 0).block_bytes(), LEAST_BLOCK_BYTES);
    }
}
