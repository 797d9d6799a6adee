//! From the end of the recording to the described object.

use super::{Course, LastLook, ObjectState, Request, StreamMachine};
use crate::{Action, FileVersion, Now, Observation, PartNumber, State, UploadState, WholeObject};

impl StreamMachine {
    /// Verify, then complete; complete, then describe; describe, then save.
    pub(super) fn finish(&mut self, seen: &Observation, now: Now, out: &mut Vec<Action>) {
        let Some(ended) = self.ended else {
            // An object is made, and somebody writes again. Merely opened, or touched, the file
            // may still be the same: that shows at its next end.
            let written = match self.made_of {
                Some(version) => !version.same_content(&seen.version),
                // Made before a crash.
                None => self.object_bytes != seen.version.size,
            };
            if written && self.request.is_none() {
                self.restart_without_upload();
                self.restart_next(now, out);
            }
            return;
        };
        debug_assert_eq!(ended, seen.version);
        match self.object {
            ObjectState::None => self.make_object(ended, now, out),
            ObjectState::Made => {
                if self.request.is_none() {
                    self.ask(Request::Head, Action::Head, out);
                }
            }
            ObjectState::Checked => {
                if self.is_proven(ended, now, out) && self.looked_again(now, out) && self.request.is_none() {
                    let whole = self.whole_object(ended);
                    self.ask(Request::Describe, Action::Describe(Box::new(whole)), out);
                }
            }
            ObjectState::Described => {
                // While it was described, the file may have gone on and ended once more.
                if self.is_proven(ended, now, out) && self.record.state != State::Completed {
                    self.record = self.whole_object(ended).record;
                    self.record.upload = UploadState::None;
                    self.set_state(State::Completed);
                }
            }
        }
    }

    fn make_object(&mut self, ended: FileVersion, now: Now, out: &mut Vec<Action>) {
        let small = ended.size <= self.policy.single_request_bytes.min(self.record.plan.first_bytes());
        if self.record.upload == UploadState::None && small {
            if self.request.is_none() && !self.unsaved && self.looked_again(now, out) {
                self.last_look = LastLook::Needed;
                self.made_of = Some(ended);
                self.put_tried = true;
                let action = Action::PutObject {
                    size_bytes: ended.size,
                    settled: self.sight.settled(now.tick),
                    need: self.sight.need(0, now.tick),
                };
                self.ask(Request::PutObject, action, out);
            }
            return;
        }
        if ended.size == 0 {
            // An upload cannot become an empty object.
            self.course = Course::Restarting;
            return self.restart_next(now, out);
        }
        if !self.prove_parts(ended, now, out) || !self.looked_again(now, out) {
            return;
        }
        let UploadState::Open { id } = &self.record.upload else { return };
        if self.request.is_none() && !self.unsaved {
            let action = Action::Complete {
                upload_id: id.clone(),
                parts: self.table.iter().map(|(number, part)| (number, part.clone())).collect(),
                crc: self.table.checksum(),
                size_bytes: ended.size,
            };
            self.last_look = LastLook::Needed;
            self.made_of = Some(ended);
            self.ask(Request::Complete, action, out);
        }
    }

    /// Whether the object is the file in this version; begins anew if it is not.
    fn is_proven(&mut self, ended: FileVersion, now: Now, out: &mut Vec<Action>) -> bool {
        if self.object_bytes != ended.size || self.table.bytes() != ended.size {
            self.course = Course::Restarting;
        }
        let proven = self.course == Course::Going && self.prove_parts(ended, now, out);
        if self.course == Course::Restarting {
            self.restart_without_upload();
            self.restart_next(now, out);
            return false;
        }
        proven
    }

    /// Whether a look at the file, since everything was proven, has found it unchanged.
    fn looked_again(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let may_look = !self.sight.is_looking() && self.sight.blind(now.tick).is_none();
        if self.last_look == LastLook::Needed && may_look {
            self.last_look = LastLook::Asked;
            self.observe(true, out);
        }
        self.last_look == LastLook::Good
    }

    pub(super) fn object_made(&mut self, etag: Option<String>, now: Now) {
        self.object = ObjectState::Made;
        self.record.etag = etag;
        self.record.completed_at = Some(now.wall);
        self.last_look = LastLook::Needed;
    }

    fn whole_object(&self, ended: FileVersion) -> WholeObject {
        let mut record = self.record.clone();
        record.version = Some(ended);
        record.size_bytes = ended.size;
        record.checksum = self.table.checksum();
        let plan = record.plan;
        let parts = self
            .table
            .iter()
            .filter_map(|(number, part)| Some((number, plan.range_in(number, ended.size)?, part.clone())))
            .collect();
        debug_assert!(ended.size == 0 || self.table.get(PartNumber::FIRST).is_some());
        WholeObject { record, parts }
    }
}
