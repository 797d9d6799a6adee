//! What the checkpoint is told: the stream if it does not have it, its record, and parts that were
//! found.

use super::{Course, Request, StreamMachine, Wake};
use crate::{Action, State, Tick};

/// From a save that failed to the next.
const SAVE_AGAIN_MS: u64 = 1_000;

impl StreamMachine {
    pub(super) fn save_if_due(&mut self, now: Tick, wake: &mut Wake, out: &mut Vec<Action>) {
        if !self.unsaved || self.request.is_some() || self.course == Course::Yielding {
            return;
        }
        if now < self.save_again_at {
            wake.at(self.save_again_at);
        } else {
            self.save(out);
        }
    }

    pub(super) fn save(&mut self, out: &mut Vec<Action>) {
        self.unsaved = false;
        if self.record.state != State::Completed {
            self.record.size_bytes = self.size_bytes();
        }
        let record = Box::new(self.record.clone());
        if std::mem::take(&mut self.unknown) {
            self.unnoted.clear();
            let parts = self.table.iter().map(|(number, part)| (number, part.clone())).collect();
            self.ask(Request::Create, Action::Create { record, parts }, out);
        } else {
            self.ask(Request::Save, Action::Save(record), out);
        }
    }

    /// Has the checkpoint told of parts that were found. One that does not have the stream gets
    /// them with it.
    pub(super) fn note(&mut self, out: &mut Vec<Action>) {
        if !self.unnoted.is_empty() && !self.unknown && self.course != Course::Yielding {
            let parts = std::mem::take(&mut self.unnoted);
            out.push(Action::Note { generation: self.record.generation, parts });
        }
    }

    /// A record could not be written. That is no reason to leave the store alone.
    pub(super) fn save_failed(&mut self, request: Request, now: Tick) {
        self.unknown |= request == Request::Create;
        self.unsaved = true;
        self.save_again_at = now.plus(SAVE_AGAIN_MS);
    }

    /// The checkpoint does not have the stream. One that is being created is about to be there.
    pub(super) fn forgotten(&mut self) {
        if self.request != Some(Request::Create) {
            self.unknown = true;
            self.unsaved = true;
            self.noted_upload = None;
        }
    }
}
