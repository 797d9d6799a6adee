//! Which repetitions of a trouble are worth a line.
//!
//! An outage makes every stream repeat its requests for hours. The first time is said, then
//! the trouble is said again at distances that double, and its end is said once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reeltime_core::StreamId;

use crate::events::{Event, What};

/// From the first line to the next.
const FIRST_DISTANCE: Duration = Duration::from_secs(10);
/// The distances grow up to this.
const LONGEST_DISTANCE: Duration = Duration::from_mins(10);

/// The streams in trouble; `None` is the process. Grows with the streams that are in trouble
/// at the same time, and forgets those that end.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<Option<StreamId>, Trouble>);

#[derive(Debug)]
struct Trouble {
    said_at: Instant,
    distance: Duration,
    /// Repetitions since the last line.
    unsaid: u64,
    /// Whether its end was said.
    over: bool,
}

impl Troubles {
    /// Notes a trouble. If it is to be said, the number of times that it was not since the
    /// last line.
    pub(super) fn again(&mut self, stream: Option<StreamId>, now: Instant) -> Option<u64> {
        let Some(trouble) = self.0.get_mut(&stream) else {
            self.0.insert(stream, Trouble { said_at: now, distance: FIRST_DISTANCE, unsaid: 0, over: false });
            return Some(0);
        };
        let since_line = now.saturating_duration_since(trouble.said_at);
        if since_line < trouble.distance {
            trouble.unsaid += 1;
            return None;
        }
        let is_new = trouble.over && since_line >= 2 * LONGEST_DISTANCE;
        trouble.distance = if is_new { FIRST_DISTANCE } else { (trouble.distance * 2).min(LONGEST_DISTANCE) };
        trouble.said_at = now;
        trouble.over = false;
        Some(std::mem::take(&mut trouble.unsaid))
    }

    /// Whether an event shows that a trouble is over that was said and whose end was not: then
    /// the number of times that it was not said.
    pub(super) fn is_over(&mut self, event: &Event) -> Option<u64> {
        match event.what {
            What::PartStored { .. } | What::PartCopied { .. } | What::UploadCreated { .. } => {
                let trouble = self.0.get_mut(&event.stream).filter(|trouble| !trouble.over)?;
                trouble.over = true;
                Some(std::mem::take(&mut trouble.unsaid))
            }
            What::Completed { .. } => {
                self.0.remove(&event.stream).filter(|trouble| !trouble.over).map(|trouble| trouble.unsaid)
            }
            What::Failed { .. } => {
                self.0.remove(&event.stream);
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_every_second_for_a_day_is_said_at_growing_distances() {
        let (mut troubles, begin) = (Troubles::default(), Instant::now());
        let said: Vec<u64> = (0..86_400_u64)
            .filter(|second| troubles.again(None, begin + Duration::from_secs(*second)).is_some())
            .collect();
        assert_eq!(said[..8], [0, 10, 30, 70, 150, 310, 630, 1230]);
        assert_eq!(said.len(), 7 + (86_400 - 630) / 600, "then every ten minutes");
    }

    #[test]
    fn trouble_that_comes_and_goes_is_not_said_every_time() {
        let (mut troubles, begin) = (Troubles::default(), Instant::now());
        let stored = Event { stream: None, path: None, what: What::UploadCreated { upload_id: String::new() } };
        let mut lines = 0;
        for second in 0..600 {
            lines += usize::from(troubles.again(None, begin + Duration::from_secs(second)).is_some());
            lines += usize::from(troubles.is_over(&stored).is_some());
        }
        assert_eq!(lines, 12, "six beginnings and six ends in ten minutes");
    }

    #[test]
    fn streams_do_not_silence_each_other() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        assert_eq!(troubles.again(None, now), Some(0));
        assert_eq!(troubles.again(Some(StreamId(uuid::Uuid::nil())), now), Some(0));
        assert_eq!(troubles.again(None, now), None);
    }
}
