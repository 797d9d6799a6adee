//! Everything there is, and how a history goes.

use reeltime_core::{Input, Limits, ObjectKey, OnDelete, PlanKind, Policy};

use super::chance::Chance;
use super::checkpoint::Checkpoint;
use super::process::Process;
use super::recorder::File;
use super::seen::Seen;
use super::store::{Habits, Store};

pub const LIMITS: Limits = Limits { max_parts: 80, min_part_bytes: 8, max_part_bytes: 32, max_object_bytes: 4_000 };

/// Everything there is.
#[allow(clippy::struct_excessive_bools)]
pub struct World {
    pub chance: Chance,
    pub loud: bool,
    pub tick: u64,
    /// The file under its name.
    pub file: Option<File>,
    pub writer_open: bool,
    pub temp_name: bool,
    /// The name without the temp suffix belongs to another file.
    pub final_name_taken: bool,
    pub key: ObjectKey,
    /// Every content the file has had, with the tick it lasted until.
    pub past: Vec<(u64, Vec<u8>)>,
    /// What was deleted because it was uploaded, and not recorded anew.
    pub disposed: Option<(ObjectKey, Vec<u8>)>,
    pub store: Store,
    pub checkpoint: Checkpoint,
    /// Nothing arrives there.
    pub is_checkpoint_away: bool,
    /// Those that have worked on the recording and may still do so. The last one is to do it.
    pub processes: Vec<Process>,
    /// Node and epoch of the last one that took the stream up, or came to its end.
    pub owned_by: Option<(String, u64)>,
    /// The file was there when the process began.
    pub is_present: bool,
    /// What was lost with it nobody can know any more.
    pub has_lost_checkpoint: bool,
    /// An upload had been begun, and the checkpoint did not know which one.
    pub has_lost_upload: bool,
    pub has_truncated: bool,
    pub faults: bool,
    pub is_calm: bool,
    /// Several processes take the stream from each other.
    pub has_owners: bool,
    /// So much the process does at a time: the more, the farther it gets before the next fault.
    pub pace: u64,
    /// Files are deleted after their upload.
    pub disposes: bool,
    pub policy: Policy,
    /// Tick of the last effect that made an object.
    pub made_at: u64,
    /// So many objects had been made when the completed one was looked at.
    pub verified_at: u64,
    pub etag_is_md5: bool,
    pub writers_known: bool,
    /// Of so many events one is lost.
    pub one_event_lost_in: u64,
    /// The wall clock jumps: what it says of ages is anything.
    pub clock_jumps: bool,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64, loud: bool) -> Self {
        let mut chance = Chance::of_seed(seed);
        let kind = if chance.one_in(2) { PlanKind::Growing } else { PlanKind::Uniform };
        let policy = Policy {
            close_grace_ms: [0, 100, 2_000][chance.place(3)],
            idle_timeout_ms: 5_000,
            tail_flush_ms: [None, Some(500), Some(3_000)][chance.place(3)],
            parallel_parts: 1 + chance.place(4),
            single_request_bytes: [0, 8][chance.place(2)],
            plan_kind: kind,
            replaces_parts: true,
            on_delete: if seed % 4 == 3 { OnDelete::Abort } else { OnDelete::Finish },
        };
        let habits = Habits {
            idempotent_completion: chance.one_in(2),
            tells_checksums: chance.one_in(2),
            copies: !seed.is_multiple_of(7),
            replaces_parts: seed % 6 != 1,
            keeps_uploads_ms: seed.is_multiple_of(4).then_some(4_000),
        };
        let etag_is_md5 = chance.one_in(2);
        let writers_known = !chance.one_in(4);
        let temp_name = chance.one_in(3);
        let final_name_taken = temp_name && chance.one_in(4);
        Self {
            loud,
            tick: 1 << 40,
            file: None,
            writer_open: false,
            temp_name,
            final_name_taken,
            key: ObjectKey::from_bytes(b"a.mp4".to_vec()),
            past: Vec::new(),
            disposed: None,
            store: Store::new(LIMITS, habits),
            checkpoint: Checkpoint::default(),
            is_checkpoint_away: false,
            processes: vec![Process::new("n", policy)],
            owned_by: None,
            is_present: false,
            has_lost_checkpoint: false,
            has_lost_upload: false,
            has_truncated: false,
            faults: true,
            is_calm: false,
            has_owners: chance.one_in(2),
            pace: [1, 1, 8][chance.place(3)],
            disposes: seed % 8 == 6,
            policy,
            made_at: 0,
            verified_at: 0,
            etag_is_md5,
            writers_known,
            one_event_lost_in: if seed.is_multiple_of(3) { 2 } else { 8 },
            clock_jumps: seed.is_multiple_of(5),
            chance,
            seen: Seen::default(),
        }
    }

    /// A world whose store does what it is asked, tells what it has, and loses nothing, and whose
    /// recorder only appends: only the processes and their checkpoint come to grief.
    pub fn calm(seed: u64, loud: bool) -> Self {
        let mut world = Self::new(seed, loud);
        world.is_calm = true;
        world.store.replaces_parts();
        world.etag_is_md5 |= !world.store.tells_checksums();
        world.clock_jumps = false;
        world.temp_name = false;
        world.final_name_taken = false;
        world
    }

    /// One history: a while of everything, then quiet; at the end all must be well.
    pub fn live(mut self) -> Seen {
        let steps = 20 + self.chance.below(250);
        for _ in 0..steps {
            if self.has_owners && self.owners_change() {
                continue;
            }
            match self.chance.below(10) {
                0..3 => self.recorder_acts(),
                3 if self.chance.one_in(4) => self.crash(),
                3 if !self.is_calm && self.chance.one_in(3) => self.an_upload_vanishes(),
                3 | 4 => self.time_passes(),
                5 if self.chance.one_in(4) => self.checkpoint_changes(),
                5 if !self.is_calm && self.chance.one_in(8) => self.stranger_acts(),
                _ => (0..self.pace).for_each(|_| self.process_acts(self.last())),
            }
        }
        self.quiet();
        self.all_is_well();
        self.seen
    }

    /// No faults any more: everybody comes to an end.
    fn quiet(&mut self) {
        self.say("quiet from here");
        self.faults = false;
        self.writer_open = false;
        self.is_checkpoint_away = false;
        self.supervise(self.last());
        let mut left = 10_000;
        loop {
            self.a_node_takes_up_its_own();
            let at_work: Vec<_> = (0..=self.last()).filter(|who| self.processes[*who].machine.is_some()).collect();
            if at_work.is_empty() && !self.needs_look() {
                return;
            }
            let who = if at_work.is_empty() { self.last() } else { at_work[self.chance.place(at_work.len())] };
            if self.processes[who].is_frozen {
                self.wake_up(who);
            }
            self.pay(who);
            let process = &mut self.processes[who];
            if process.machine.is_some() && process.under_way.is_empty() && process.hints.is_empty() {
                let wake = process.wake_at.take().expect("a machine that is not finished waits for something");
                self.tick = self.tick.max(wake);
                self.give(who, Input::Woken);
            } else {
                self.process_acts(who);
            }
            left -= 1;
            assert!(left > 0, "the stream is stuck: {:#?}", self.processes[who].machine);
        }
    }

    /// The place of the process that is to work on the recording.
    pub fn last(&self) -> usize {
        self.processes.len() - 1
    }

    pub fn say(&self, what: impl std::fmt::Display) {
        if self.loud {
            eprintln!("{:>9} {what}", self.tick - (1 << 40));
        }
    }

    fn time_passes(&mut self) {
        let most = [50, 1_000, 10_000][self.chance.place(3)];
        self.tick += self.chance.below(most);
        for who in 0..=self.last() {
            self.wake_if_due(who);
        }
    }
}
