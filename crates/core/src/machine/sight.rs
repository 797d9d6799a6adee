//! What the machine has seen of the file, and whether the recording has ended.

use std::collections::VecDeque;

use super::messages::{Need, Policy};
use crate::{FileVersion, Observation, Tick, Writers};

/// Two looks that hints ask for are at least this far apart.
const LOOK_INTERVAL_MS: u64 = 250;
/// Somebody who keeps the file open is asked for again after between these times.
const ASK_AGAIN_MS: (u64, u64) = (250, 5_000);
/// From a look that failed to the next.
const LOOK_AGAIN_MS: u64 = 2_000;
/// A file that was changed within this time is not a backlog, even if nobody has it open.
pub const FRESH_MS: u64 = 60_000;
/// Marks of growth that are kept while nothing can be sent.
const MAX_MARKS: usize = 32;

/// Whether a recording has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Nobody is writing any more.
    Ended,
    /// Not yet: ask for the writers then.
    AskAt(Tick),
    /// Nobody is writing any more, but under this name it cannot be completed: the final one
    /// belongs to another file.
    Blocked,
}

/// The file as it was seen, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    latest: Option<(Observation, Tick)>,
    /// No change since then, and nobody closed it since then.
    quiet_since: Tick,
    /// The last answer about writers.
    asked: Option<(Writers, Tick)>,
    /// When somebody who could write closed the file, if nothing was written since.
    closed_at: Option<Tick>,
    /// When the name lost its temp suffix, if nothing was written since.
    final_name_at: Option<Tick>,
    /// The name has a temp suffix.
    temp_name: bool,
    /// The name without the temp suffix belongs to another file.
    final_name_taken: bool,
    /// A look is under way; `true` if it asks for the writers.
    looking: Option<bool>,
    /// A hint came that no look has followed yet.
    touched: bool,
    /// A look failed: the next one is not before then.
    blind_until: Tick,
    /// How far the content reached, and when that was first seen.
    growth: VecDeque<(Tick, u64)>,
}

impl Sight {
    pub(super) fn new(temp_name: bool) -> Self {
        Self { temp_name, ..Self::default() }
    }

    pub(super) fn latest(&self) -> Option<&Observation> {
        self.latest.as_ref().map(|(observation, _)| observation)
    }

    /// The last answer about writers.
    pub(super) fn writers(&self) -> Option<Writers> {
        self.asked.map(|(writers, _)| writers)
    }

    /// Notes that a look did not succeed; the next one follows after a while.
    pub(super) fn look_failed(&mut self, now: Tick) {
        self.looking = None;
        self.touched = true;
        self.blind_until = now.plus(LOOK_AGAIN_MS);
    }

    /// Until when there will be no look, after one that failed; `None` if it may be now.
    pub(super) fn blind(&self, now: Tick) -> Option<Tick> {
        (now < self.blind_until).then_some(self.blind_until)
    }

    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    pub(super) fn closed(&mut self, now: Tick) {
        self.closed_at = Some(now);
        self.touched = true;
        self.quiet_since = self.quiet_since.max(now);
        self.asked = None;
    }

    pub(super) fn renamed(&mut self, temp_name: bool, final_name: bool, now: Tick) {
        self.temp_name = temp_name;
        self.final_name_at = final_name.then_some(now);
        self.final_name_taken = false;
        self.touched = true;
        self.asked = None;
    }

    pub(super) fn final_name_taken(&mut self, taken: bool) {
        self.final_name_taken = taken;
    }

    /// Notes that a look was asked for.
    pub(super) fn look(&mut self, ask_writers: bool) {
        self.looking = Some(ask_writers);
        self.touched = false;
    }

    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Takes in an observation, and tells whether the file is another than before.
    pub(super) fn observe(&mut self, seen: Observation, now: Tick) -> bool {
        self.looking = None;
        let changed_at = now.minus(seen.age_ms);
        let before = self.latest.replace((seen, now));
        let changed = match before {
            None => {
                self.quiet_since = changed_at;
                true
            }
            Some((old, at)) if old.version != seen.version => {
                // Not before the last look, whatever the clock on the wall says.
                self.quiet_since = self.quiet_since.max(changed_at.max(at));
                let written = old.version.size != seen.version.size || old.version.mtime_ns != seen.version.mtime_ns;
                if written {
                    // A hint that came after the last write still holds.
                    self.closed_at = self.closed_at.filter(|hint| *hint >= changed_at);
                    self.final_name_at = self.final_name_at.filter(|hint| *hint >= changed_at);
                }
                true
            }
            Some(_) => false,
        };
        if seen.writers != Writers::NotAsked {
            self.asked = Some((seen.writers, now));
        }
        self.mark_growth(before.map_or(changed_at, |(_, at)| at), seen.content_end);
        changed
    }

    /// Notes how far the content reaches, and that what is new of it came `since`.
    fn mark_growth(&mut self, mut since: Tick, end: u64) {
        while let Some((at, _)) = self.growth.pop_back_if(|(_, mark)| *mark > end) {
            since = at; // the file has shrunk, or a hole was made in it
        }
        if self.growth.back().is_some_and(|(_, mark)| *mark == end) {
            return;
        }
        if self.growth.len() == MAX_MARKS {
            self.merge_marks();
        }
        self.growth.push_back((since, end));
    }

    /// Makes one mark of the two neighbours that have the fewest bytes. They become rather too old
    /// than too new.
    fn merge_marks(&mut self) {
        let end_of = |at: usize| self.growth[at].1;
        let bytes = |at: usize| end_of(at + 1) - at.checked_sub(1).map_or(0, end_of);
        if let Some(first) = (0..self.growth.len() - 1).min_by_key(|at| bytes(*at))
            && let Some((_, end)) = self.growth.remove(first + 1)
        {
            self.growth[first].1 = end;
        }
    }

    /// Forgets when the bytes before `covered` came.
    pub(super) fn forget_growth(&mut self, covered: u64) {
        while self.growth.front().is_some_and(|(_, mark)| *mark <= covered) {
            self.growth.pop_front();
        }
    }

    /// How much the bytes from `offset` on are needed in the store. What was there before, and was
    /// written again, is as old as the oldest bytes that never were, or as the last change.
    pub(super) fn need(&self, offset: u64, now: Tick) -> Need {
        let is_open = self.writers() == Some(Writers::Open);
        let behind = self.growth.partition_point(|(_, mark)| *mark <= offset);
        Need {
            backlog: !is_open && now.since(self.quiet_since) >= FRESH_MS,
            since: self.growth.get(behind).map_or(self.quiet_since, |(at, _)| *at),
        }
    }

    /// When the oldest bytes behind `covered` were first seen. Those before are
    /// [forgotten](Self::forget_growth).
    pub(super) fn unsent_since(&mut self, covered: u64) -> Option<Tick> {
        let end = self.latest()?.content_end;
        self.forget_growth(covered);
        if end <= covered { None } else { self.growth.front().map(|(at, _)| *at) }
    }

    /// The version that the file surely keeps until somebody writes and moves its timestamps:
    /// nobody had it open for writing, and the timestamps had settled.
    pub(super) fn settled(&self, now: Tick) -> Option<FileVersion> {
        let (seen, _) = self.latest?;
        let (writers, asked_at) = self.asked?;
        let quiet_ms = now.since(self.quiet_since);
        let enough = match writers {
            Writers::None => seen.version.settle_ms(),
            Writers::Unknowable => seen.version.settle_ms().max(2_100),
            Writers::Open | Writers::NotAsked => return None,
        };
        (asked_at >= self.quiet_since && quiet_ms >= enough).then_some(seen.version)
    }

    /// Whether the recording has ended, by what was seen so far.
    ///
    /// Nobody has it open, and it has been quiet for the grace (or has got its final name, or,
    /// under a temp name, has been quiet for the idle timeout). Where writers cannot be known:
    /// it was closed and has been quiet for the grace, or has been quiet for the idle timeout.
    pub(super) fn ending(&self, policy: &Policy, now: Tick) -> Ending {
        let Some((seen, _)) = self.latest else { return Ending::AskAt(now) };
        let settle = seen.version.settle_ms();
        let grace = match (self.final_name_at.is_some(), self.temp_name) {
            (true, _) => 0,
            (false, true) => policy.idle_timeout_ms,
            (false, false) => policy.close_grace_ms,
        };
        let due = self.quiet_since.plus(grace.max(settle));
        if now < due {
            return Ending::AskAt(due);
        }
        let ended = if self.temp_name && self.final_name_taken { Ending::Blocked } else { Ending::Ended };
        match self.asked {
            Some((writers, at)) if at >= due => match writers {
                Writers::None => ended,
                Writers::Open | Writers::NotAsked => {
                    Ending::AskAt(at.plus(policy.close_grace_ms.clamp(ASK_AGAIN_MS.0, ASK_AGAIN_MS.1)))
                }
                Writers::Unknowable => {
                    let idle = self.quiet_since.plus(policy.idle_timeout_ms.max(grace).max(settle));
                    let told = self.closed_at.is_some() || self.final_name_at.is_some();
                    if told || at >= idle { ended } else { Ending::AskAt(idle) }
                }
            },
            _ => Ending::AskAt(now),
        }
    }

    /// When a look is due because of a hint; `None` if no hint is open.
    pub(super) fn look_due(&self) -> Option<Tick> {
        if !self.touched || self.is_looking() {
            return None;
        }
        Some(self.latest.map_or(Tick(0), |(_, at)| at.plus(LOOK_INTERVAL_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(10_000_000);

    /// A look at a file of this size that changed so long ago.
    fn look(size: u64, age_ms: u64, writers: Writers) -> Observation {
        let version = FileVersion { size, mtime_ns: size as i64, ctime_ns: size as i64, inode: 1 };
        Observation { version, content_end: size, age_ms, writers, linked: true }
    }

    #[test]
    fn what_nobody_has_written_to_for_a_minute_is_a_backlog() {
        let is_backlog = |age_ms, writers| {
            let mut sight = Sight::new(false);
            sight.observe(look(100, age_ms, writers), NOW);
            sight.need(0, NOW).backlog
        };
        assert!(is_backlog(FRESH_MS, Writers::None));
        assert!(is_backlog(FRESH_MS, Writers::NotAsked));
        assert!(!is_backlog(FRESH_MS - 1, Writers::None));
        assert!(!is_backlog(FRESH_MS, Writers::Open), "a recorder that pauses goes on");
    }

    #[test]
    fn bytes_are_as_old_as_the_look_before_they_were_seen() {
        let mut sight = Sight::new(false);
        sight.observe(look(100, 7_000, Writers::Open), NOW);
        sight.observe(look(200, 0, Writers::Open), NOW.plus(1_000));
        let since = |sight: &Sight, offset| sight.need(offset, NOW.plus(1_000)).since;
        assert_eq!(since(&sight, 0), NOW.minus(7_000));
        assert_eq!(since(&sight, 100), NOW);
        sight.forget_growth(100);
        assert_eq!(since(&sight, 100), NOW);
        assert_eq!(since(&sight, 0), NOW, "written again: as old as what was never sent");
        sight.forget_growth(200);
        assert_eq!(since(&sight, 0), NOW.plus(1_000), "as old as the last change");
    }

    #[test]
    fn what_waits_for_long_does_not_get_younger() {
        let mut sight = Sight::new(false);
        for look in 0..10_000 {
            sight.observe(self::look(100 + look, 0, Writers::Open), NOW.plus(look));
            assert!(sight.growth.len() <= MAX_MARKS);
        }
        let since: Vec<_> = (0..10_100).map(|offset| sight.need(offset, NOW.plus(10_000)).since).collect();
        assert!(since.is_sorted());
        for (offset, since) in since.iter().enumerate() {
            let came = NOW.plus(offset.saturating_sub(100) as u64);
            assert!(*since <= came, "{offset}: {since:?} is after {came:?}");
        }
        assert!(since[9_000] > NOW, "not all of it is as old as the first");
    }

    #[test]
    fn a_file_that_begins_anew_is_not_as_old_as_what_it_was() {
        let mut sight = Sight::new(false);
        sight.observe(look(10_000, 0, Writers::Open), NOW);
        sight.observe(look(10_000, 0, Writers::Open), NOW.plus(4_000));
        sight.observe(look(10, 0, Writers::Open), NOW.plus(5_000));
        assert_eq!(sight.need(0, NOW.plus(5_000)).since, NOW, "what is left of it is");
        sight.forget_growth(10);
        sight.observe(look(500, 0, Writers::Open), NOW.plus(6_000));
        assert_eq!(sight.need(10, NOW.plus(6_000)).since, NOW.plus(5_000));
        sight.forget_growth(500);
        assert!(sight.growth.is_empty(), "{:?}", sight.growth);
    }

    #[test]
    fn recordings_go_before_a_backlog_and_older_bytes_before_newer() {
        let need = |backlog, since| Need { backlog, since: Tick(since) };
        let mut needs = [need(true, 1), need(false, 9), need(true, 0), need(false, 8)];
        needs.sort_unstable();
        assert_eq!(needs, [need(false, 8), need(false, 9), need(true, 0), need(true, 1)]);
    }
}
