//! How work on the recording begins: a new stream, or one that the checkpoint has.

use reeltime_core::{
    Input, Origin, PartPlan, Reason, State, StreamId, StreamMachine, StreamRecord, UploadState, WallTime,
};

use super::ledger::Ledger;
use super::world::{LIMITS, World};

impl World {
    /// What the supervisor does at a scan: is there a file that no machine cares for?
    pub fn needs_look(&self) -> bool {
        let Some(version) = self.version(self.last()) else { return false };
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

    pub fn supervise(&mut self, who: usize) {
        if self.processes[who].machine.is_some() || who != self.last() {
            return;
        }
        self.processes[who].unlinked = None; // nobody holds it open
        let known = self.checkpoint.record().cloned();
        let live = known.as_ref().is_some_and(|r| matches!(r.state, State::Active | State::PendingCompletion));
        if !live && !self.needs_look() {
            return;
        }
        // A file that got a new name after its stream had ended is a new recording.
        let known = known.filter(|record| live || record.key == self.key);
        match known {
            None => self.begin(who),
            Some(record) => self.go_on(who, record),
        }
    }

    fn begin(&mut self, who: usize) {
        self.checkpoint.drop_stream();
        let record = self.new_record(who);
        self.only_of(record.id);
        let who = self.last();
        let origin = if self.is_present { Origin::Present } else { Origin::Appeared };
        self.say(format!("machine begins: {origin:?}"));
        let process = &mut self.processes[who];
        process.end();
        process.ledger = Some(Ledger::new(&record, None));
        process.machine = Some(StreamMachine::new(process.policy, record, self.temp_name, origin));
        self.give(who, Input::Start);
    }

    fn go_on(&mut self, who: usize, mut record: StreamRecord) {
        let node = self.processes[who].node;
        if record.node != node && !self.processes[who].takes_over {
            return; // another node's
        }
        let (is_claimed, record) = {
            let mut link = self.link(who);
            (link.claim(&mut record, node), record)
        };
        if !is_claimed {
            self.owned_by = None; // or it was, and the answer got lost
            return;
        }
        self.owned_by = Some((record.node.clone(), record.epoch));
        let was_lost = self.seen.forgotten + self.seen.rolled_back > 0;
        let who = if was_lost { self.only_older_than(record.epoch) } else { who };
        if record.state == State::Completed {
            self.seen.reopened += 1;
        }
        let other_key = (record.key != self.key).then(|| self.key.clone());
        let table = self.checkpoint.table();
        self.say(format!(
            "machine starts on {node} in epoch {}: {} {:?} {} parts",
            record.epoch,
            record.state,
            record.upload,
            table.len()
        ));
        let process = &mut self.processes[who];
        process.end();
        process.ledger = Some(Ledger::new(&record, Some(record.state)));
        process.machine = Some(StreamMachine::restored(process.policy, record, table, self.temp_name));
        if let Some(key) = other_key {
            let temp_name = self.temp_name;
            self.give(who, Input::Renamed { path: "/r/b.mp4".into(), key, temp_name, final_name: false });
        }
        self.give(who, Input::Start);
    }

    fn new_record(&mut self, who: usize) -> StreamRecord {
        let plan = PartPlan::new(self.policy.plan_kind, 8, LIMITS).unwrap();
        StreamRecord {
            id: StreamId(uuid::Uuid::from_u128(u128::from(self.chance.below(u64::MAX)))),
            node: self.processes[who].node.into(),
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
}
