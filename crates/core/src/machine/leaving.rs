//! The ways away from an upload: to another one, or to the end.

use super::{Course, LastLook, ObjectState, Request, StreamMachine, Survey, Wake};
use crate::{Action, Now, PartTable, Reason, State, UploadState};

impl StreamMachine {
    /// Leads away from the upload. `true` when there is none left.
    ///
    /// Parts under way are awaited first: a store may keep a part that arrives after an abort.
    pub(super) fn wind_down(&mut self, out: &mut Vec<Action>) -> bool {
        if !self.sending.is_empty() || self.request.is_some() {
            return false;
        }
        if self.upload_doubted {
            // The store has said that it is gone: after a crash there may be a later one.
            self.upload_doubted = false;
            self.survey = Survey::Uploads;
            self.record.upload = UploadState::None;
            self.unsaved = true;
        }
        match &self.record.upload {
            UploadState::None => true,
            UploadState::Creating { .. } => {
                self.look_for_begun(out);
                false
            }
            UploadState::Open { id } => {
                let action = Action::Abort { upload_id: id.clone() };
                self.ask(Request::Abort, action, out);
                false
            }
        }
    }

    pub(super) fn give_up_next(&mut self, reason: Reason, now: Now, out: &mut Vec<Action>) {
        if !self.wind_down(out) {
            return;
        }
        if self.record.state == State::Failed && self.record.reason == Some(reason) {
            if !self.unsaved {
                self.course = Course::Finished;
                out.push(Action::GivenUp(reason));
            }
            return;
        }
        self.record.reason = Some(reason);
        self.record.version = self.sight.latest().map(|seen| seen.version);
        self.record.completed_at = Some(now.wall);
        self.set_state(State::Failed);
    }

    /// The checkpoint refuses the stream, as another node's is to become this object. It may
    /// have refused late: what was sent by then goes again, and nothing is written down any more.
    pub(super) fn yield_object(&mut self, theirs: &UploadState) {
        self.course = Course::Yielding;
        // One that was found in the store and gone on with may be theirs, and theirs may be the one
        // that was begun here. One that was asked for without an answer cannot be told from theirs.
        let upload = self.record.upload.id();
        let is_own = upload.is_some() && upload == self.own_upload.as_deref();
        if !is_own || self.record.upload == *theirs {
            self.record.upload = UploadState::None;
        }
        if matches!(self.request, Some(Request::Create | Request::Save)) {
            self.request = None;
        }
    }

    pub(super) fn yield_next(&mut self, out: &mut Vec<Action>) {
        if self.wind_down(out) {
            self.course = Course::Finished;
            out.push(Action::Retire);
        }
    }

    pub(super) fn restart_next(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.wind_down(out) {
            return;
        }
        self.keep_original();
        if let Some(key) = self.wanted_key.take() {
            self.record.key = key;
            // Under that name it may have been a stream before.
            self.found = None;
            self.survey = Survey::Object;
        }
        // The plan changes with the generation, never under parts that were divided by it.
        self.record.plan = self.record.plan.enlarged(self.size_bytes()).unwrap_or(self.record.plan);
        self.record.generation += 1;
        self.record.completed_at = None;
        self.record.etag = None;
        self.record.checksum = None;
        if self.record.state != State::Active {
            self.set_state(State::Active);
        }
        self.unsaved = true;
        self.table = PartTable::default();
        self.unnoted.clear();
        self.verifying.clear();
        self.copying.clear();
        self.not_replaced = None;
        self.expiry = None;
        self.object = ObjectState::None;
        self.made_of = None;
        self.put_tried = false;
        self.unreconciled = false;
        self.ended = None;
        self.last_look = LastLook::Needed;
        self.course = Course::Going;
        self.save(out);
        self.go(now, &mut Wake::default(), out);
        self.sight.touch();
    }
}
