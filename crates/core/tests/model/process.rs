//! A process: a machine, what it has asked for, and what it has not been told yet.

use reeltime_core::{
    Action, Input, Now, OnDelete, Policy, Reason, State, StreamMachine, StreamRecord, Tick, UploadState, WallTime,
};

use super::ledger::Ledger;
use super::recorder::File;
use super::requests::Request;
use super::store::By;
use super::world::World;

/// One that works on the recording, has done so, or will.
pub struct Process {
    pub node: &'static str,
    pub machine: Option<StreamMachine>,
    /// That of the machine.
    pub ledger: Option<Ledger>,
    pub under_way: Vec<Request>,
    pub hints: Vec<Input>,
    pub wake_at: Option<u64>,
    /// What it decides by, with what it has learned of the store.
    pub policy: Policy,
    /// The file that it holds open after its name is gone.
    pub unlinked: Option<File>,
    /// The generation whose object it has asked for.
    asked_for: Option<u32>,
    /// The name was there at its last look.
    was_linked: bool,
    /// So many objects had been made when it made its own.
    pub made_at: u64,
    /// So many had been made when it looked at its own.
    pub headed_at: Option<u64>,
    /// It stands still; what it has sent is on its way.
    pub is_frozen: bool,
    /// It is to take the stream from another node.
    pub takes_over: bool,
}

impl Process {
    pub fn new(node: &'static str, policy: Policy) -> Self {
        Self {
            node,
            machine: None,
            ledger: None,
            under_way: Vec::new(),
            hints: Vec::new(),
            wake_at: None,
            policy,
            unlinked: None,
            asked_for: None,
            was_linked: true,
            made_at: 0,
            headed_at: None,
            is_frozen: false,
            takes_over: false,
        }
    }

    /// One that is to take the stream from whoever has it.
    pub fn heir(node: &'static str, policy: Policy) -> Self {
        Self { takes_over: true, ..Self::new(node, policy) }
    }

    /// Nothing of the stream is left in it.
    pub fn end(&mut self) {
        let (node, policy, is_frozen) = (self.node, self.policy, self.is_frozen);
        *self = Self { is_frozen, ..Self::new(node, policy) };
    }

    pub fn record(&self) -> &StreamRecord {
        self.machine.as_ref().expect("it is at work").record()
    }
}

impl World {
    pub fn is_live(&self) -> bool {
        self.processes[self.last()].machine.as_ref().is_some_and(|machine| machine.record().state != State::Failed)
    }

    pub fn by(&self, who: usize) -> By {
        if who == self.last() { By::Owner } else { By::FormerOwner }
    }

    /// A process does one of the things that it has to do.
    pub fn process_acts(&mut self, who: usize) {
        self.supervise(who);
        let who = who.min(self.last());
        let process = &mut self.processes[who];
        if process.machine.is_none() || process.is_frozen {
            return;
        }
        if !process.hints.is_empty() && (process.under_way.is_empty() || self.chance.one_in(2)) {
            let hint = process.hints.remove(0);
            return self.give(who, hint);
        }
        if process.under_way.is_empty() {
            return self.wake_if_due(who);
        }
        let which = self.chance.place(process.under_way.len());
        let request = process.under_way.swap_remove(which);
        self.tick += self.chance.below(20);
        if matches!(request.action, Action::Observe { .. }) {
            self.give(who, Input::FinalNameTaken(self.temp_name && self.final_name_taken));
        }
        if let Some(answer) = self.carry_out(who, request) {
            self.give(who, answer);
        }
    }

    pub fn wake_if_due(&mut self, who: usize) {
        let process = &mut self.processes[who];
        if process.machine.is_some() && !process.is_frozen && process.wake_at.is_some_and(|at| at <= self.tick) {
            process.wake_at = None;
            self.give(who, Input::Woken);
        }
    }

    pub fn give(&mut self, who: usize, input: Input) {
        let now = Now { tick: Tick(self.tick), wall: WallTime(self.tick as i64) };
        let process = &mut self.processes[who];
        let Some(machine) = process.machine.as_mut() else { return };
        let text = if self.loud { format!("{}→ {input:?}", process.node) } else { String::new() };
        if let Input::Observed(seen) = &input {
            process.was_linked = seen.linked;
        }
        let is_refused = input == Input::LeaseLost;
        let actions = machine.handle(input, now);
        let generation = machine.record().generation;
        if self.loud {
            self.say(text);
        }
        if is_refused {
            self.seen.leases_lost += 1;
            assert_eq!(actions, [Action::Retire], "a former owner goes on");
        }
        if self.checkpoint.record().is_some_and(|record| record.generation < generation) {
            self.seen.restarts += 1;
        }
        for action in actions {
            if self.loud {
                self.say(format!("    {action:?}"));
            }
            self.begin_action(who, action);
        }
    }

    fn begin_action(&mut self, who: usize, action: Action) {
        match action {
            Action::WakeAt(at) => self.processes[who].wake_at = Some(at.0),
            Action::Done => {
                self.seen.completed += 1;
                self.is_done_rightly(who);
                self.dispose(who);
                self.has_ended(who);
            }
            Action::GivenUp(reason) => {
                self.seen.failed += 1;
                self.is_given_up_rightly(who, reason);
                self.has_ended(who);
            }
            Action::Retire => self.has_ended(who),
            Action::WarnOfExpiry { at } => {
                let is_active = self.processes[who].record().state == State::Active;
                assert!(is_active && at.0 >= 0, "a warning is for a recording");
                assert!(self.tick as i64 >= at.0 - 1_000, "a warning comes in the last quarter");
                self.seen.warned += 1;
            }
            Action::Note { generation, parts } => {
                for (number, part) in parts {
                    self.note(who, generation, number, &part);
                }
            }
            Action::SendPart { ref upload_id, .. } | Action::CopyPart { ref upload_id, .. } => {
                let noted = self.processes[who].ledger.as_ref().map(|ledger| &ledger.noted);
                let is_noted = noted.and_then(UploadState::id) == Some(upload_id);
                assert!(is_noted, "a part for an upload that the checkpoint does not know of: {noted:?}");
                self.processes[who].under_way.push(Request::of(action, None));
            }
            Action::VerifyPart { .. } | Action::Observe { .. } => {
                self.processes[who].under_way.push(Request::of(action, None));
            }
            exclusive => self.begin_exclusive(who, exclusive),
        }
    }

    fn begin_exclusive(&mut self, who: usize, action: Action) {
        let process = &mut self.processes[who];
        let record = process.record().clone();
        let makes = matches!(action, Action::Complete { .. } | Action::PutObject { .. });
        let was_asked = process.asked_for == Some(record.generation);
        let is_meant = process.was_linked || was_asked || self.policy.on_delete == OnDelete::Finish;
        assert!(!makes || is_meant, "an object of a recording that is known to be deleted");
        if makes {
            process.asked_for = Some(record.generation);
        }
        let others = process.under_way.iter().filter(|other| other.is_exclusive());
        assert_eq!(others.count(), 0, "{action:?} while another such request is under way");
        let mut request = Request::of(action, Some(record));
        self.owe(who, &mut request);
        self.processes[who].under_way.push(request);
    }

    /// It leaves the stream.
    fn has_ended(&mut self, who: usize) {
        let process = &mut self.processes[who];
        let ledger = process.ledger.as_ref().expect("a machine has a ledger");
        let is_later = self.owned_by.as_ref().is_none_or(|(_, epoch)| *epoch <= ledger.epoch);
        if !ledger.is_lost && is_later {
            self.owned_by = Some((process.node.to_owned(), ledger.epoch));
        }
        process.end();
    }

    fn is_given_up_rightly(&mut self, who: usize, reason: Reason) {
        let process = &self.processes[who];
        let machine = process.machine.as_ref().unwrap();
        let is_open = process.unlinked.is_some() && machine.size_bytes() > 0;
        let generation = machine.record().generation;
        if reason == Reason::SourceMissing && is_open && self.policy.on_delete == OnDelete::Abort {
            assert_ne!(process.asked_for, Some(generation), "an object may be there, and nobody knows of it");
            self.seen.deleted += 1;
        }
        let epoch = process.ledger.as_ref().unwrap().epoch;
        let Some(record) = self.checkpoint.record().filter(|record| record.epoch == epoch) else { return };
        assert_eq!(record.state, State::Failed);
        let left = self.store.uploads_of(&self.key).len() as u64;
        assert!(left <= self.store.late()[2] || self.has_lost_checkpoint, "a failed stream leaves no upload");
    }
}
