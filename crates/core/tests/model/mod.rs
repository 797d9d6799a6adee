//! A recording, a store, a checkpoint and the process between them, as models.

mod checkpoint;
mod store;

use std::path::PathBuf;

use checkpoint::Checkpoint;
use reeltime_core::{
    Action, ByteRange, Crc64Nvme, FileVersion, Input, Limits, Now, ObjectFacts, ObjectKey, Observation, OnDelete,
    Origin, Part, PartNumber, PartPlan, PlanKind, Policy, Reason, State, StreamId, StreamMachine, StreamRecord, Tick,
    Trouble, UploadState, WallTime, Writers,
};
use store::{Habits, Store};

/// What histories came across, so that a test can tell that they came far enough.
#[derive(Default, Debug)]
pub struct Seen {
    pub completed: u64,
    pub failed: u64,
    pub crashes: u64,
    pub resent_parts: u64,
    pub lost_answers: u64,
    pub vanished: u64,
    pub reopened: u64,
    pub put_whole: u64,
    pub head_decided: u64,
    pub tail_parts: u64,
    pub restarts: u64,
    pub replaced: u64,
    pub forgotten: u64,
    pub rolled_back: u64,
    pub recognised: u64,
    pub copied: u64,
    pub copies_refused: u64,
    pub objects_replaced: u64,
    pub not_replaced: u64,
    pub warned: u64,
    pub deleted: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.resent_parts += other.resent_parts;
        self.lost_answers += other.lost_answers;
        self.vanished += other.vanished;
        self.reopened += other.reopened;
        self.put_whole += other.put_whole;
        self.head_decided += other.head_decided;
        self.tail_parts += other.tail_parts;
        self.restarts += other.restarts;
        self.replaced += other.replaced;
        self.forgotten += other.forgotten;
        self.rolled_back += other.rolled_back;
        self.recognised += other.recognised;
        self.copied += other.copied;
        self.copies_refused += other.copies_refused;
        self.objects_replaced += other.objects_replaced;
        self.not_replaced += other.not_replaced;
        self.warned += other.warned;
        self.deleted += other.deleted;
    }

    pub fn counts(&self) -> [(&'static str, u64); 21] {
        [
            ("a completed object", self.completed),
            ("a failed stream", self.failed),
            ("a crash", self.crashes),
            ("a part sent again", self.resent_parts),
            ("a lost answer", self.lost_answers),
            ("a vanished upload", self.vanished),
            ("a completed recording that went on", self.reopened),
            ("an object in one request", self.put_whole),
            ("a completion decided by HEAD", self.head_decided),
            ("a flushed tail", self.tail_parts),
            ("an upload begun anew", self.restarts),
            ("a recording whose name another file took", self.replaced),
            ("a checkpoint that lost everything", self.forgotten),
            ("a checkpoint that is an older copy", self.rolled_back),
            ("an object that was recognised", self.recognised),
            ("a part that was copied", self.copied),
            ("a part that could not be copied", self.copies_refused),
            ("an object that somebody replaced", self.objects_replaced),
            ("a part that the store did not replace", self.not_replaced),
            ("a word ahead of an upload's end", self.warned),
            ("a deleted recording that was given up with its file still open", self.deleted),
        ]
    }
}

/// A small, reproducible source of chance.
pub struct Chance(u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (mixed ^ (mixed >> 33)) % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct File {
    bytes: Vec<u8>,
    mtime_ms: u64,
    ctime_ms: u64,
    inode: u64,
    born_ms: u64,
}

/// Everything there is.
pub struct World {
    chance: Chance,
    loud: bool,
    tick: u64,
    /// The file under its name.
    file: Option<File>,
    /// The file that the process holds open after its name is gone.
    unlinked: Option<File>,
    /// The generation whose object this process has asked for.
    asked_for: Option<u32>,
    /// The name was there at the last look.
    was_linked: bool,
    writer_open: bool,
    temp_name: bool,
    /// The name without the temp suffix belongs to another file.
    final_name_taken: bool,
    key: ObjectKey,
    /// Every content the file has had, with the tick it lasted until.
    past: Vec<(u64, Vec<u8>)>,
    store: Store,
    checkpoint: Checkpoint,
    /// The file was there when the process began.
    is_present: bool,
    /// What was lost with it nobody can know any more.
    has_lost_checkpoint: bool,
    has_truncated: bool,
    machine: Option<StreamMachine>,
    under_way: Vec<Action>,
    hints: Vec<Input>,
    wake_at: Option<u64>,
    faults: bool,
    is_calm: bool,
    policy: Policy,
    /// Tick of the last effect that made an object.
    made_at: u64,
    etag_is_md5: bool,
    writers_known: bool,
    /// Of so many events one is lost.
    one_event_lost_in: u64,
    /// The wall clock jumps: what it says of ages is anything.
    clock_jumps: bool,
    seen: Seen,
}

const LIMITS: Limits = Limits { max_parts: 80, min_part_bytes: 8, max_part_bytes: 32, max_object_bytes: 4_000 };

impl World {
    pub fn new(seed: u64, loud: bool) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        chance.below(2);
        let kind = if chance.one_in(2) { PlanKind::Growing } else { PlanKind::Uniform };
        let policy = Policy {
            close_grace_ms: [0, 100, 2_000][chance.below(3) as usize],
            idle_timeout_ms: 5_000,
            tail_flush_ms: [None, Some(500), Some(3_000)][chance.below(3) as usize],
            parallel_parts: 1 + chance.below(4) as usize,
            single_request_bytes: [0, 8][chance.below(2) as usize],
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
        let store = Store::new(LIMITS, habits);
        let etag_is_md5 = chance.one_in(2);
        let writers_known = !chance.one_in(4);
        let temp_name = chance.one_in(3);
        let final_name_taken = temp_name && chance.one_in(4);
        Self {
            loud,
            tick: 1 << 40,
            file: None,
            unlinked: None,
            asked_for: None,
            was_linked: true,
            writer_open: false,
            temp_name,
            final_name_taken,
            key: ObjectKey::from_bytes(b"a.mp4".to_vec()),
            past: Vec::new(),
            store,
            checkpoint: Checkpoint::default(),
            is_present: false,
            has_lost_checkpoint: false,
            has_truncated: false,
            machine: None,
            under_way: Vec::new(),
            hints: Vec::new(),
            wake_at: None,
            faults: true,
            is_calm: false,
            policy,
            made_at: 0,
            etag_is_md5,
            writers_known,
            one_event_lost_in: if seed.is_multiple_of(3) { 2 } else { 8 },
            clock_jumps: seed.is_multiple_of(5),
            chance,
            seen: Seen::default(),
        }
    }

    /// A world whose store does what it is asked, tells what it has, and loses nothing, and whose
    /// recorder only appends: only the process and its checkpoint come to grief.
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
            match self.chance.below(10) {
                0..3 => self.recorder_acts(),
                3 if self.chance.one_in(4) => self.crash(),
                3 if !self.is_calm && self.chance.one_in(3) => {
                    if self.store.vanish_one(&mut self.chance) {
                        self.seen.vanished += 1;
                        self.say("an upload vanishes");
                    }
                }
                3 | 4 => self.time_passes(),
                5 if self.chance.one_in(4) => self.checkpoint_changes(),
                5 if !self.is_calm && self.chance.one_in(8) => self.somebody_replaces_the_object(),
                _ => self.process_acts(),
            }
        }
        self.faults = false;
        self.writer_open = false;
        self.pay();
        self.say("quiet from here");
        self.supervise();
        let mut left = 5_000;
        while self.machine.is_some() || self.needs_look() {
            self.supervise();
            if self.under_way.is_empty() && self.hints.is_empty() {
                let wake = self.wake_at.take().expect("a machine that is not finished waits for something");
                self.tick = self.tick.max(wake);
                self.give(Input::Woken);
            } else {
                self.process_acts();
            }
            left -= 1;
            assert!(left > 0, "the stream is stuck: {:#?}", self.machine);
        }
        self.all_is_well();
        self.seen
    }

    fn say(&self, what: impl std::fmt::Display) {
        if self.loud {
            eprintln!("{:>9} {what}", self.tick - (1 << 40));
        }
    }

    // ---- the recorder

    fn recorder_acts(&mut self) {
        let stamp = self.tick / 4 * 4; // the kernel's clock is coarse
        if let Some(file) = &self.file {
            self.past.push((self.tick, file.bytes.clone()));
        }
        let live = self.is_live();
        let Some(file) = self.file.as_mut() else {
            if self.unlinked.is_none() && self.chance.one_in(2) {
                let inode = 1 + self.chance.below(3);
                self.file =
                    Some(File { bytes: Vec::new(), mtime_ms: stamp, ctime_ms: stamp, inode, born_ms: self.tick });
                self.is_present = false;
                self.writer_open = true;
                self.say("created");
            }
            return;
        };
        let mut hint = Input::Touched;
        let what;
        let act = self.chance.below(14);
        match if self.is_calm && act < 12 { 0 } else { act } {
            0..6 => {
                let most = if self.chance.one_in(5) { 60 } else { 9 };
                let many = 1 + self.chance.below(most);
                let bytes: Vec<u8> = (0..many).map(|_| 1 + self.chance.below(255) as u8).collect();
                // More than a plan holds is an upload begun anew.
                if file.bytes.len() + bytes.len() < if self.is_calm { 600 } else { 900 } {
                    file.bytes.extend(bytes);
                }
                what = "append";
            }
            6 | 7 => {
                if !file.bytes.is_empty() {
                    let at =
                        if self.chance.one_in(2) { 0 } else { self.chance.below(file.bytes.len() as u64) as usize };
                    file.bytes[at] = 1 + self.chance.below(255) as u8;
                }
                what = "rewrite";
            }
            8 => {
                file.bytes.splice(0..0, [7, 7, 7]);
                what = "shift";
            }
            9 => {
                let len = self.chance.below(file.bytes.len() as u64 + 1) as usize;
                file.bytes.truncate(if self.chance.one_in(2) { 0 } else { len });
                self.has_truncated = true;
                what = "truncate";
            }
            10 => {
                let len = file.bytes.len() + self.chance.below(30) as usize;
                file.bytes.resize(len, 0);
                what = "preallocate";
            }
            11 if self.chance.one_in(4) => {
                // What is held open already stays what is held open.
                if self.machine.is_some() && self.unlinked.is_none() {
                    self.unlinked = self.file.take();
                } else {
                    self.file = None;
                }
                self.say("delete");
                self.hints.push(Input::Touched);
                return;
            }
            11 if self.chance.one_in(4) => {
                // Not that of a file that is still there, or that is still held open.
                let mut inode = 10 + self.chance.below(3);
                let in_use = [Some(file.inode), self.unlinked.as_ref().map(|held| held.inode)];
                while in_use.contains(&Some(inode)) {
                    inode += 3;
                }
                let other = File { bytes: vec![3; 7], mtime_ms: stamp, ctime_ms: stamp, inode, born_ms: self.tick };
                let old = self.file.replace(other);
                self.writer_open = false;
                if self.machine.is_some() && self.unlinked.is_none() {
                    self.unlinked = old;
                    self.hints.push(Input::Replaced);
                }
                self.seen.replaced += 1;
                self.say("replaced by another file");
                return;
            }
            12 if self.temp_name => {
                self.temp_name = false;
                file.ctime_ms = stamp;
                self.say("renamed to its final name");
                let path = PathBuf::from("/r/a.mp4");
                self.hints.push(Input::Renamed { path, key: self.key.clone(), temp_name: false, final_name: true });
                return;
            }
            12 if !self.is_calm && self.chance.one_in(8) && live => {
                self.key = ObjectKey::from_bytes(b"b.mp4".to_vec());
                file.ctime_ms = stamp;
                self.say("renamed to another key");
                let path = PathBuf::from("/r/b.mp4");
                self.hints.push(Input::Renamed {
                    path,
                    key: self.key.clone(),
                    temp_name: self.temp_name,
                    final_name: false,
                });
                return;
            }
            _ => {
                self.writer_open = !self.writer_open;
                self.say(if self.writer_open { "opened" } else { "closed" });
                if !self.writer_open {
                    hint = Input::WriterClosed;
                }
                if self.chance.one_in(self.one_event_lost_in) {
                    return; // the event is lost
                }
                self.hints.push(hint);
                return;
            }
        }
        file.mtime_ms = stamp;
        file.ctime_ms = stamp;
        let was_closed = !std::mem::replace(&mut self.writer_open, true);
        if was_closed {
            self.writer_open = false; // opened, written and closed
        }
        let len = file.bytes.len();
        self.say(format!("{what}: {len} bytes"));
        if !self.chance.one_in(self.one_event_lost_in) {
            self.hints.push(hint);
            if was_closed {
                self.hints.push(Input::WriterClosed);
            }
        }
    }

    /// While a new one is built beside it.
    fn somebody_replaces_the_object(&mut self) {
        let Some(machine) = &self.machine else { return };
        let record = machine.record();
        let is_built = record.state == State::Active && matches!(record.upload, UploadState::Open { .. });
        let is_being_made =
            self.under_way.iter().any(|action| matches!(action, Action::Complete { .. } | Action::PutObject { .. }));
        if is_built && record.generation > 1 && !is_being_made && self.store.object(&record.key).is_some() {
            let key = record.key.clone();
            let bytes = vec![9; 1 + self.chance.below(60) as usize];
            self.store.put(&key, "somebody", bytes);
            self.seen.objects_replaced += 1;
            self.say("somebody replaces the object");
        }
    }

    fn is_live(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.record().state != State::Failed)
    }

    // ---- the process

    fn open_file(&self) -> Option<(&File, bool)> {
        self.unlinked.as_ref().map(|file| (file, false)).or_else(|| self.file.as_ref().map(|file| (file, true)))
    }

    fn version(&self) -> Option<FileVersion> {
        self.open_file().map(|(file, _)| FileVersion {
            size: file.bytes.len() as u64,
            mtime_ns: file.mtime_ms as i64 * 1_000_000 + 1,
            ctime_ns: file.ctime_ms as i64 * 1_000_000 + 1,
            inode: file.inode,
        })
    }

    /// What the supervisor does at a scan: is there a file that no machine cares for?
    fn needs_look(&self) -> bool {
        let Some(version) = self.version() else { return false };
        match self.checkpoint.record() {
            None => true,
            Some(record) => match record.state {
                State::Completed | State::Failed if record.key != self.key => true,
                State::Completed => !record.version.is_some_and(|known| known.same_content(&version)),
                State::Failed
                    if record.reason == Some(Reason::KeyTaken) && !(self.temp_name && self.final_name_taken) =>
                {
                    true
                }
                State::Failed => record.version != Some(version),
                _ => true,
            },
        }
    }

    fn supervise(&mut self) {
        if self.machine.is_some() {
            return;
        }
        self.asked_for = None;
        self.unlinked = None; // nobody holds it open
        let known = self.checkpoint.record().cloned();
        let live = known.as_ref().is_some_and(|r| matches!(r.state, State::Active | State::PendingCompletion));
        if !live && !self.needs_look() {
            return;
        }
        // A file that got a new name after its stream had ended is a new recording.
        let known = known.filter(|record| live || record.key == self.key);
        self.hints.clear();
        self.wake_at = None;
        let mut other_key = None;
        self.machine = Some(match known {
            None => {
                self.checkpoint.drop_stream();
                let origin = if self.is_present { Origin::Present } else { Origin::Appeared };
                self.say(format!("machine begins: {origin:?}"));
                StreamMachine::new(self.policy, self.new_record(), self.temp_name, origin)
            }
            Some(record) => {
                if record.state == State::Completed {
                    self.seen.reopened += 1;
                }
                other_key = (record.key != self.key).then(|| self.key.clone());
                let table = self.checkpoint.table();
                self.say(format!("machine starts: {} {:?} {} parts", record.state, record.upload, table.len()));
                StreamMachine::restored(self.policy, record, table, self.temp_name)
            }
        });
        if let Some(key) = other_key {
            self.give(Input::Renamed { path: "/r/b.mp4".into(), key, temp_name: self.temp_name, final_name: false });
        }
        self.give(Input::Start);
    }

    fn new_record(&mut self) -> StreamRecord {
        let plan = PartPlan::new(self.policy.plan_kind, 8, LIMITS).unwrap();
        StreamRecord {
            id: StreamId(uuid::Uuid::from_u128(u128::from(self.chance.below(u64::MAX)))),
            node: "n".into(),
            epoch: 1,
            source: "/r".into(),
            source_mark: "7.2.0".into(),
            destination: "s3://archive/studio".into(),
            path: "/r/a.mp4".into(),
            key: self.key.clone(),
            state: State::Active,
            reason: None,
            generation: 1,
            upload: UploadState::None,
            plan,
            version: None,
            size_bytes: 0,
            etag: None,
            checksum: None,
            started_at: WallTime(0),
            completed_at: None,
        }
    }

    fn crash(&mut self) {
        if self.machine.is_none() {
            return;
        }
        self.say("crash");
        self.seen.crashes += 1;
        for action in std::mem::take(&mut self.under_way) {
            if self.chance.one_in(2) {
                let _ = self.effect(&action); // it took effect, and nobody heard of it
            }
        }
        self.machine = None;
        self.policy.replaces_parts = true; // what the process has learned is lost
        if let Some(file) = self.unlinked.take() {
            self.past.push((self.tick, file.bytes)); // nobody holds it open any more
        }
        self.hints.clear();
        self.has_lost_checkpoint |= self.checkpoint.crash();
        self.is_present = true;
        if self.chance.one_in(8) {
            self.say("the checkpoint is lost");
            self.seen.forgotten += 1;
            self.checkpoint.lose_everything();
            self.has_lost_checkpoint = true;
        } else if self.chance.one_in(8) && self.checkpoint.roll_back(&mut self.chance) {
            self.say("the checkpoint is an older copy");
            self.seen.rolled_back += 1;
            self.has_lost_checkpoint = true;
        }
    }

    fn process_acts(&mut self) {
        self.supervise();
        if self.machine.is_none() {
            return;
        }
        if !self.hints.is_empty() && self.chance.one_in(2) {
            let hint = self.hints.remove(0);
            return self.give(hint);
        }
        if self.under_way.is_empty() {
            match self.wake_at {
                Some(at) if at <= self.tick => {
                    self.wake_at = None;
                    self.give(Input::Woken);
                }
                _ if !self.hints.is_empty() => {
                    let hint = self.hints.remove(0);
                    self.give(hint);
                }
                _ => {}
            }
            return;
        }
        let which = self.chance.below(self.under_way.len() as u64) as usize;
        let action = self.under_way.swap_remove(which);
        self.tick += self.chance.below(20);
        if matches!(action, Action::Observe { .. }) {
            self.give(Input::FinalNameTaken(self.temp_name && self.final_name_taken));
        }
        let input = self.carry_out(action);
        self.give(input);
    }

    /// It is back, or copied, or flushed under a running process.
    fn checkpoint_changes(&mut self) {
        match self.chance.below(8) {
            0 if self.machine.is_some() => {
                self.say("the checkpoint forgets");
                self.seen.forgotten += 1;
                self.has_lost_checkpoint = true;
                self.checkpoint.lose_everything();
            }
            1..4 => self.checkpoint.remember(),
            _ => self.pay(),
        }
    }

    fn time_passes(&mut self) {
        let most = [50, 1_000, 10_000][self.chance.below(3) as usize];
        self.tick += self.chance.below(most);
        if self.wake_at.is_some_and(|at| at <= self.tick) && self.machine.is_some() {
            self.wake_at = None;
            self.give(Input::Woken);
        }
    }

    fn give(&mut self, input: Input) {
        let now = Now { tick: Tick(self.tick), wall: WallTime(self.tick as i64) };
        let Some(machine) = self.machine.as_mut() else { return };
        let text = if self.loud { format!("→ {input:?}") } else { String::new() };
        if let Input::Observed(seen) = &input {
            self.was_linked = seen.linked;
        }
        let actions = machine.handle(input, now);
        let (generation, size_bytes) = (machine.record().generation, machine.size_bytes());
        if self.loud {
            self.say(text);
        }
        if self.checkpoint.record().is_some_and(|record| record.generation < generation) {
            self.seen.restarts += 1;
        }
        for action in actions {
            if self.loud {
                self.say(format!("    {action:?}"));
            }
            match action {
                Action::WakeAt(at) => self.wake_at = Some(at.0),
                Action::Done => {
                    self.seen.completed += 1;
                    self.object_is_the_file();
                    if let Some(record) = self.checkpoint.record() {
                        let noted = self.checkpoint.table().bytes();
                        assert!(noted >= record.size_bytes, "completed with {noted} of {} bytes", record.size_bytes);
                    }
                    self.machine = None;
                    self.under_way.clear();
                    self.unlinked = None;
                    return;
                }
                Action::GivenUp(reason) => {
                    self.seen.failed += 1;
                    let is_open = self.unlinked.is_some() && size_bytes > 0;
                    if reason == Reason::SourceMissing && is_open && self.policy.on_delete == OnDelete::Abort {
                        assert_ne!(self.asked_for, Some(generation), "an object may be there, and nobody knows of it");
                        self.seen.deleted += 1;
                    }
                    assert!(self.checkpoint.record().is_none_or(|record| record.state == State::Failed));
                    let left = self.store.uploads_of(&self.key);
                    assert!(left.is_empty() || self.has_lost_checkpoint, "a failed stream leaves no upload");
                    self.machine = None;
                    self.under_way.clear();
                    self.unlinked = None;
                    return;
                }
                Action::Retire => {
                    self.machine = None;
                    self.under_way.clear();
                    self.unlinked = None;
                    return;
                }
                Action::WarnOfExpiry { at } => {
                    let record = self.machine.as_ref().unwrap().record();
                    assert!(record.state == State::Active && at.0 >= 0, "a warning is for a recording");
                    assert!(self.tick as i64 >= at.0 - 1_000, "a warning comes in the last quarter");
                    self.seen.warned += 1;
                }
                Action::Note { .. } => {
                    self.effect(&action);
                }
                Action::SendPart { .. }
                | Action::CopyPart { .. }
                | Action::VerifyPart { .. }
                | Action::Observe { .. } => {
                    self.under_way.push(action);
                }
                exclusive => {
                    let makes = matches!(exclusive, Action::Complete { .. } | Action::PutObject { .. });
                    let was_asked = self.asked_for == Some(generation);
                    let is_meant = self.was_linked || was_asked || self.policy.on_delete == OnDelete::Finish;
                    assert!(!makes || is_meant, "an object of a recording that is known to be deleted");
                    if makes {
                        self.asked_for = Some(generation);
                    }
                    let others = self.under_way.iter().filter(|other| {
                        !matches!(
                            other,
                            Action::SendPart { .. }
                                | Action::CopyPart { .. }
                                | Action::VerifyPart { .. }
                                | Action::Observe { .. }
                        )
                    });
                    assert_eq!(others.count(), 0, "{exclusive:?} while another such request is under way");
                    self.under_way.push(exclusive);
                }
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Input {
        let store_call = !matches!(
            action,
            Action::Observe { .. }
                | Action::VerifyPart { .. }
                | Action::CompareObject { .. }
                | Action::Create { .. }
                | Action::Save(_)
                | Action::Note { .. }
        );
        let store_fails = self.faults && store_call && !self.is_calm;
        if store_fails && self.chance.one_in(6) {
            let trouble = if self.chance.one_in(5) { Trouble::Denied } else { Trouble::Outage };
            return failed(&action, trouble); // before any effect
        }
        let answer = self.effect(&action);
        if store_fails && self.chance.one_in(6) {
            self.seen.lost_answers += 1;
            return failed(&action, Trouble::Outage); // after the effect
        }
        answer
    }

    /// Lets an action take effect on the models.
    fn effect(&mut self, action: &Action) -> Input {
        match action {
            Action::Observe { .. } if self.faults && self.chance.one_in(20) => Input::LookFailed,
            Action::Observe { ask_writers } => self.look(*ask_writers),
            Action::Create { record, parts } => {
                let is_away = self.is_checkpoint_away();
                self.checkpoint.create(record, parts, is_away);
                Input::Saved
            }
            Action::Save(record) => {
                let is_away = self.is_checkpoint_away();
                if self.checkpoint.save(record, is_away) {
                    return Input::Saved;
                }
                self.forgotten();
                Input::Failed(Trouble::Outage)
            }
            Action::Note { generation, parts } => {
                let is_away = self.is_checkpoint_away();
                for (number, part) in parts {
                    self.checkpoint.note(*generation, *number, part, is_away);
                }
                Input::Touched
            }
            Action::CompareObject { facts, settled } => self.compare_object(facts, *settled),
            Action::CreateUpload { .. } => {
                let record = self.machine.as_ref().map(|m| m.record().clone()).unwrap();
                assert!(matches!(record.upload, UploadState::Creating { .. }), "the intent comes before the upload");
                let upload_id = self.store.create(&record.key, &record.token(), self.tick);
                let keeps = self.store.keeps_uploads_ms();
                Input::UploadCreated { upload_id, abort_at: keeps.map(|keeps| WallTime((self.tick + keeps) as i64)) }
            }
            Action::ListUploads => {
                let key = self.machine.as_ref().unwrap().record().key.clone();
                Input::UploadsListed(self.store.list_uploads(&key))
            }
            Action::ListParts { upload_id } => match self.store.list_parts(upload_id) {
                Some(parts) => Input::PartsListed(parts),
                None => Input::Failed(Trouble::NoSuchUpload),
            },
            Action::SendPart { upload_id, generation, number, range, uploads, settled, .. } => {
                self.send_part(upload_id, *generation, *number, *range, *uploads, *settled)
            }
            Action::CopyPart { .. } => self.copy_part(action),
            Action::VerifyPart { number, range, crc, etag } => {
                let read_at = self.version();
                let Some((bytes, read_at)) = self.read(*range).zip(read_at) else {
                    let generation = self.machine.as_ref().map_or(0, |machine| machine.record().generation);
                    return Input::PartFailed { number: *number, generation, trouble: Trouble::SourceChanged };
                };
                let actual = Crc64Nvme::of(&bytes);
                let matches = match crc {
                    Some(crc) => *crc == actual,
                    None => self.etag_is_md5 && store::etag_of(&bytes) == *etag,
                };
                Input::PartVerified { number: *number, etag: etag.clone(), crc: actual, matches, read_at }
            }
            Action::Complete { upload_id, parts, size_bytes, crc } => {
                let answer = self.store.complete(upload_id, parts, *crc, *size_bytes);
                match answer {
                    Ok(etag) => {
                        self.made_at = self.tick;
                        Input::ObjectCompleted { etag: Some(etag) }
                    }
                    Err(trouble) => Input::Failed(trouble),
                }
            }
            Action::PutObject { size_bytes, settled } => {
                let read_at = self.version();
                let range = ByteRange { offset: 0, len: *size_bytes };
                let Some((bytes, read_at)) = self.read(range).zip(read_at) else {
                    return Input::Failed(Trouble::SourceChanged);
                };
                self.seen.put_whole += 1;
                let record = self.machine.as_ref().unwrap().record();
                let (key, token, generation) = (record.key.clone(), record.token(), record.generation);
                let etag = self.store.put(&key, &token, bytes.clone());
                self.made_at = self.tick;
                let part = self.part(&bytes, etag, 1, settled.filter(|version| *version == read_at));
                if !bytes.is_empty() {
                    let is_away = self.is_checkpoint_away();
                    if !self.checkpoint.note(generation, PartNumber::FIRST, &part, is_away) {
                        self.forgotten();
                    }
                }
                Input::ObjectPut { part }
            }
            Action::Head => {
                let record = self.machine.as_ref().unwrap().record();
                let facts = self.store.head(&record.key.clone());
                if facts.as_ref().is_some_and(|facts| facts.token.as_deref() == Some(&record.token())) {
                    self.seen.head_decided += 1;
                }
                Input::HeadAnswered(facts)
            }
            Action::Abort { upload_id } => {
                self.store.abort(upload_id);
                Input::UploadAborted
            }
            Action::Describe(whole) => {
                let sum: u64 = whole.parts.iter().map(|(_, range, _)| range.len).sum();
                assert_eq!(sum, whole.record.size_bytes, "the chunks make up the object");
                Input::Described
            }
            Action::WakeAt(_) | Action::WarnOfExpiry { .. } | Action::Done | Action::GivenUp(_) | Action::Retire => {
                unreachable!("not carried out")
            }
        }
    }

    fn pay(&mut self) {
        if !self.checkpoint.pay() && self.machine.is_some() {
            self.forgotten();
        }
    }

    /// A write has shown that the checkpoint does not have the stream.
    fn forgotten(&mut self) {
        if self.checkpoint.is_news() {
            self.hints.push(Input::Forgotten);
        }
    }

    /// Whether a write to the checkpoint is owed.
    fn is_checkpoint_away(&mut self) -> bool {
        self.faults && self.chance.one_in(8)
    }

    fn compare_object(&mut self, facts: &ObjectFacts, settled: Option<FileVersion>) -> Input {
        let read_at = self.version();
        let range = ByteRange { offset: 0, len: facts.size_bytes };
        let Some((bytes, read_at)) = self.read(range).zip(read_at) else {
            return Input::Failed(Trouble::SourceChanged);
        };
        let same = match facts.crc {
            Some(crc) => crc == Crc64Nvme::of(&bytes),
            None => self.etag_is_md5 && store::etag_of(&bytes) == facts.etag,
        };
        let plan = self.machine.as_ref().unwrap().record().plan;
        let parts = same.then(|| {
            let count = plan.parts_for(facts.size_bytes).unwrap();
            let numbers = (1..=count).filter_map(PartNumber::new);
            let part = |number| {
                let range = plan.range_in(number, facts.size_bytes).unwrap();
                let bytes = &bytes[range.offset as usize..range.end() as usize];
                let proven = settled.filter(|version| *version == read_at);
                (number, self.part(bytes, facts.etag.clone(), 1, proven))
            };
            numbers.map(part).collect()
        });
        if same {
            self.seen.recognised += 1;
            self.made_at = self.tick;
        }
        Input::ObjectCompared { parts, read_at }
    }

    fn look(&mut self, ask_writers: bool) -> Input {
        let jump = if self.clock_jumps { self.chance.below(4) as usize } else { 9 };
        let Some(version) = self.version() else { return Input::SourceMissing };
        let (file, linked) = self.open_file().unwrap();
        let content_end = file.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        let mut age_ms = self.tick.saturating_sub(file.mtime_ms.max(file.ctime_ms));
        if self.clock_jumps && jump < 2 {
            age_ms = [0, age_ms + 3_600_000][jump];
        }
        let writers = match (ask_writers, self.writers_known, self.writer_open) {
            (false, ..) => Writers::NotAsked,
            (true, false, _) => Writers::Unknowable,
            (true, true, true) => Writers::Open,
            (true, true, false) => Writers::None,
        };
        Input::Observed(Observation { version, content_end, age_ms, writers, linked })
    }

    fn read(&self, range: ByteRange) -> Option<Vec<u8>> {
        let (file, _) = self.open_file()?;
        file.bytes.get(range.offset as usize..range.end() as usize).map(<[u8]>::to_vec)
    }

    fn part(&self, bytes: &[u8], etag: String, uploads: u32, proven: Option<FileVersion>) -> Part {
        Part {
            size_bytes: bytes.len() as u64,
            etag,
            crc: Some(Crc64Nvme::of(bytes)),
            stored_at: WallTime(self.tick as i64),
            uploads,
            proven,
            dirty: false,
        }
    }

    fn send_part(
        &mut self,
        upload_id: &str,
        generation: u32,
        number: PartNumber,
        range: ByteRange,
        uploads: u32,
        settled: Option<FileVersion>,
    ) -> Input {
        let refused = |trouble| Input::PartFailed { number, generation, trouble };
        let Some((bytes, read_at)) = self.read(range).zip(self.version()) else {
            return refused(Trouble::SourceChanged);
        };
        assert!(!bytes.is_empty() && bytes.len() as u64 <= LIMITS.max_part_bytes, "a part that no store takes");
        assert!(number.get() <= LIMITS.max_parts, "a part number that no store takes");
        if uploads > 1 {
            self.seen.resent_parts += 1;
        }
        if bytes.len() < 8 {
            self.seen.tail_parts += 1;
        }
        let etag = match self.store.put_part(upload_id, number, &bytes, self.tick) {
            Ok(etag) => etag,
            Err(trouble) => {
                if trouble == Trouble::NotReplaced {
                    self.seen.not_replaced += 1;
                    self.policy.replaces_parts = false; // for streams to come
                }
                return refused(trouble);
            }
        };
        let part = self.part(&bytes, etag, uploads, settled.filter(|version| *version == read_at));
        self.part_stored(generation, number, part)
    }

    fn copy_part(&mut self, action: &Action) -> Input {
        let Action::CopyPart { upload_id, generation, number, range, object_etag, crc, proven, .. } = action else {
            unreachable!("another action")
        };
        match self.store.copy_part(upload_id, *number, *range, object_etag, self.tick) {
            Ok(etag) => {
                self.seen.copied += 1;
                let size_bytes = range.len;
                let part = Part {
                    size_bytes,
                    etag,
                    crc: Some(*crc),
                    stored_at: WallTime(self.tick as i64),
                    uploads: 0,
                    proven: *proven,
                    dirty: false,
                };
                self.part_stored(*generation, *number, part)
            }
            Err(trouble) => {
                self.seen.copies_refused += 1;
                Input::PartFailed { number: *number, generation: *generation, trouble }
            }
        }
    }

    fn part_stored(&mut self, generation: u32, number: PartNumber, part: Part) -> Input {
        if self.machine.is_some() {
            // Stored in the checkpoint, or owed to it, before it is reported.
            let is_away = self.is_checkpoint_away();
            if !self.checkpoint.note(generation, number, &part, is_away) {
                self.forgotten();
            }
        }
        Input::PartStored { number, generation, part }
    }

    // ---- what must be so

    fn object_is_the_file(&self) {
        let object =
            self.store.object(&self.machine.as_ref().unwrap().record().key).expect("a done stream has an object");
        let now = self.open_file().map(|(file, _)| &file.bytes);
        let then =
            self.past.iter().filter(|(until, _)| *until >= self.made_at.saturating_sub(30)).map(|(_, bytes)| bytes);
        assert!(
            now.into_iter().chain(then).any(|bytes| bytes == object),
            "the object is no content that the file has had since it was made"
        );
    }

    fn all_is_well(&self) {
        if let Some(file) = &self.file {
            let record = self.checkpoint.record().expect("every file becomes a stream");
            if self.temp_name && self.final_name_taken {
                assert_eq!(record.reason, Some(Reason::KeyTaken));
                return self.nothing_is_left_behind();
            }
            assert_eq!(record.state, State::Completed, "{:?}", record.reason);
            assert_eq!(self.store.object(&self.key), Some(&file.bytes), "the object equals the file");
        }
        self.nothing_is_left_behind();
        if self.is_calm {
            let mut again = self.store.done_again();
            if self.seen.rolled_back > 0 {
                again[2] = 0; // it may name one that had been left, having no full part
            }
            assert_eq!(again, [0; 3], "parts sent again, objects made again, uploads begun for nothing");
        }
    }

    /// Of what a lost checkpoint alone knew, the upload of a file that is gone, or has another
    /// name by now, cannot be found. Where the object was recognised nobody looks for more, and
    /// parts of a file that was cut may not show whose they are; and an older copy may name an
    /// upload that was left, or tell of another file altogether.
    fn nothing_is_left_behind(&self) {
        let left = match (self.has_lost_checkpoint, &self.file) {
            (false, _) => self.store.all_uploads(),
            (true, Some(file)) if self.seen.recognised == 0 && self.seen.rolled_back == 0 && !self.has_truncated => {
                let uploads = self.store.uploads_of(&self.key).into_iter();
                uploads.filter(|upload| upload.initiated.0 > file.born_ms as i64).count()
            }
            (true, _) => 0,
        };
        assert_eq!(left, 0, "no upload is left behind");
    }
}

fn failed(action: &Action, trouble: Trouble) -> Input {
    match action {
        Action::SendPart { number, generation, .. } | Action::CopyPart { number, generation, .. } => {
            Input::PartFailed { number: *number, generation: *generation, trouble }
        }
        _ => Input::Failed(trouble),
    }
}
