//! What happens to the process, the checkpoint and the store.

use reeltime_core::{Action, State, UploadState};

use super::process::Process;
use super::requests::Request;
use super::store::By;
use super::world::World;

impl World {
    /// The process that is to do the work is killed.
    pub fn crash(&mut self) {
        let who = self.last();
        if self.processes[who].machine.is_none() {
            return;
        }
        self.say("crash");
        self.seen.crashes += 1;
        self.seen.heirs_crashed += u64::from(who > 0);
        for request in std::mem::take(&mut self.processes[who].under_way) {
            let is_save = matches!(request.action, Action::Save(_) | Action::Create { .. });
            if self.chance.one_in(2) {
                // It took effect, and nobody heard of it.
                if is_save {
                    let _ = self.carry_out(who, request);
                } else {
                    let _ = self.effect(who, &request);
                }
            }
        }
        self.leaves_in_the_dark(who);
        let again = Process::new(self.processes[who].node, self.policy);
        let dead = std::mem::replace(&mut self.processes[who], again);
        if let Some(file) = dead.unlinked {
            self.past.push((self.tick, file.bytes)); // it does not hold it open any more
        }
        self.is_present = true;
        if self.chance.one_in(8) {
            self.say("the checkpoint is lost");
            self.checkpoint_forgets();
        } else if self.chance.one_in(8) && self.checkpoint.roll_back(&mut self.chance) {
            self.say("the checkpoint is an older copy");
            self.seen.rolled_back += 1;
            self.has_lost_checkpoint = true;
            // Whoever puts back a copy has seen to it that nobody sleeps who knows more.
            self.processes.drain(..who);
            self.owned_by = None;
            let last = self.last();
            self.processes[last].takes_over = true;
        }
    }

    /// It is away, or there, or copied, or flushed under running processes.
    pub fn checkpoint_changes(&mut self) {
        match self.chance.below(10) {
            0 if self.processes[self.last()].machine.is_some() => {
                self.say("the checkpoint forgets");
                self.checkpoint_forgets();
            }
            1..4 => self.checkpoint.remember(),
            4 => {
                self.is_checkpoint_away = true;
                self.say("the checkpoint is away");
            }
            _ => {
                self.is_checkpoint_away = false;
                for who in 0..=self.last() {
                    self.pay(who);
                }
            }
        }
    }

    fn checkpoint_forgets(&mut self) {
        self.seen.forgotten += 1;
        self.has_lost_checkpoint = true;
        self.checkpoint.lose_everything();
        self.owned_by = None;
    }

    pub fn an_upload_vanishes(&mut self) {
        if self.store.vanish_one(&mut self.chance) {
            self.seen.vanished += 1;
            self.say("an upload vanishes");
        }
    }

    /// Another program that uses the same bucket.
    pub fn stranger_acts(&mut self) {
        match self.chance.below(4) {
            0 => {
                let sizes: &[usize] = [&[3][..], &[7], &[5, 5], &[10, 10, 4], &[9, 9]][self.chance.place(5)];
                self.store.create_strangers(&self.key, sizes, self.tick);
                self.seen.strangers_uploads += 1;
                self.say(format!("somebody begins an upload of parts of {sizes:?} bytes"));
            }
            1 => self.somebody_makes_an_object(),
            _ => self.somebody_replaces_the_object(),
        }
    }

    fn somebody_makes_an_object(&mut self) {
        let bytes = vec![9; self.chance.place(60)];
        self.store.put(&self.key, None, bytes, By::Stranger);
        self.seen.objects_replaced += 1;
        self.say("somebody makes an object");
    }

    /// While a new one is built beside it.
    fn somebody_replaces_the_object(&mut self) {
        let process = &self.processes[self.last()];
        let Some(machine) = &process.machine else { return };
        let record = machine.record();
        let is_built = record.state == State::Active && matches!(record.upload, UploadState::Open { .. });
        let is_being_made = process.under_way.iter().any(Request::makes_object);
        if is_built && record.generation > 1 && !is_being_made && self.store.object(&record.key).is_some() {
            let key = record.key.clone();
            let bytes = vec![9; 1 + self.chance.place(60)];
            self.store.put(&key, Some("somebody".to_owned()), bytes, By::Stranger);
            self.seen.objects_replaced += 1;
            self.say("somebody replaces the object");
        }
    }
}
