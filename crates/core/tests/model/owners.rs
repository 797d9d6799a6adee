//! Several owners of one stream: each takes it from the one before, which stands still, may have
//! requests on their way, and may wake up without knowing.

use reeltime_core::{State, StreamId, UploadState};

use super::ledger::Ledger;
use super::process::Process;
use super::requests::Request;
use super::world::World;

/// Former owners that may still do something.
const MOST_FORMER: usize = 2;

impl World {
    /// Something happens between owners. `false` if not.
    pub fn owners_change(&mut self) -> bool {
        if self.processes.len() > 1 && self.chance.one_in(4) {
            let who = self.chance.place(self.last());
            self.former_owner_acts(who);
            return true;
        }
        self.chance.one_in(50) && self.take_over()
    }

    /// Another process takes the stream over. The one that had it stands still.
    fn take_over(&mut self) -> bool {
        let Some(record) = self.checkpoint.record() else { return false };
        let is_unfinished = matches!(record.state, State::Active | State::PendingCompletion);
        if self.processes.len() > MOST_FORMER || !(is_unfinished || self.needs_look()) {
            return false;
        }
        let old = self.last();
        let before = self.processes[old].node;
        let node = if self.chance.one_in(2) { before } else { ["n", "m"][usize::from(before == "n")] };
        self.say(format!("{node} takes over from {before}"));
        self.seen.takeovers += 1;
        let had_it = self.processes[..old].iter().any(|former| former.node == node);
        self.seen.handed_back += u64::from(had_it && node != before);
        self.is_present = true;
        if self.processes[old].machine.is_some() {
            self.freeze(old);
        } else {
            self.processes.pop();
        }
        self.processes.push(Process::heir(node, self.policy));
        self.supervise(self.last());
        true
    }

    /// From now on only what is on its way already arrives.
    fn freeze(&mut self, who: usize) {
        self.leaves_in_the_dark(who);
        self.processes[who].is_frozen = true;
        let mut under_way = std::mem::take(&mut self.processes[who].under_way);
        for request in &mut under_way {
            if self.chance.one_in(2) {
                self.read_ahead(who, request);
            }
        }
        self.processes[who].under_way = under_way;
    }

    /// What only its memory has is lost to others.
    pub fn leaves_in_the_dark(&mut self, who: usize) {
        let process = &self.processes[who];
        self.has_lost_checkpoint |= process.ledger.as_ref().is_some_and(Ledger::owes_record);
        let upload = process.machine.as_ref().map(|machine| &machine.record().upload);
        let known = self.checkpoint.record().map(|record| &record.upload);
        self.has_lost_upload |= matches!(upload, Some(UploadState::Open { .. })) && upload != known;
    }

    fn former_owner_acts(&mut self, who: usize) {
        if self.chance.one_in(12) {
            return self.former_owner_ends(who);
        }
        if !self.processes[who].is_frozen {
            self.process_acts(who);
            if self.processes[who].machine.is_none() {
                self.processes.remove(who);
            }
        } else if self.chance.one_in(4) {
            self.wake_up(who);
        } else {
            self.request_arrives(who);
        }
    }

    /// A request arrives at the store, and its answer waits for the process to wake up.
    fn request_arrives(&mut self, who: usize) {
        let under_way = &mut self.processes[who].under_way;
        let Some(at) = under_way.iter().position(Request::is_on_its_way) else { return };
        let request = under_way.swap_remove(at);
        self.say(format!("what a former owner had sent arrives: {:?}", request.action));
        let answer = self.effect(who, &request);
        self.processes[who].hints.push(answer);
    }

    pub fn wake_up(&mut self, who: usize) {
        self.say(format!("a former owner wakes up on {}", self.processes[who].node));
        self.seen.woken += 1;
        self.processes[who].is_frozen = false;
        if self.chance.one_in(2) {
            self.pay(who);
        }
    }

    fn former_owner_ends(&mut self, who: usize) {
        self.say("a former owner ends");
        for request in std::mem::take(&mut self.processes[who].under_way) {
            if request.is_on_its_way() && self.chance.one_in(2) {
                let _ = self.effect(who, &request); // nobody hears of it
            }
        }
        self.processes.remove(who);
    }

    /// Those that know the recording as another stream have ended.
    pub fn only_of(&mut self, id: StreamId) {
        let last = self.processes.pop().expect("there is one");
        self.processes.retain(|process| process.machine.as_ref().is_some_and(|machine| machine.record().id == id));
        self.processes.push(last);
        self.owned_by = None;
    }

    /// A checkpoint that was lost, and got the stream again from a former owner, gives an epoch
    /// away twice; who had it first has ended. Answers the place of the last process.
    pub fn only_older_than(&mut self, epoch: u64) -> usize {
        let last = self.processes.pop().expect("there is one");
        self.processes.retain(|process| process.ledger.as_ref().is_some_and(|ledger| ledger.epoch < epoch));
        self.processes.push(last);
        self.last()
    }

    /// Where the checkpoint names another node than that of the last process, and nobody there
    /// is at work, that node is started again.
    pub fn a_node_takes_up_its_own(&mut self) {
        let Some(record) = self.checkpoint.record() else { return };
        let is_at_work = self.processes.iter().any(|process| process.machine.is_some());
        let is_elsewhere = record.node != self.processes[self.last()].node;
        if is_elsewhere && !is_at_work && !self.processes[self.last()].takes_over {
            let node = if record.node == "n" { "n" } else { "m" };
            self.say(format!("{node} is started again"));
            let last = self.last();
            self.processes[last] = Process::new(node, self.policy);
        }
    }
}
