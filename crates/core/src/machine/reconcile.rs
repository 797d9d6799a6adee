//! Evidence after a restart, or after an answer that was lost.

use super::{Course, LastLook, ObjectState, Request, StreamMachine, Survey, plan_of};
use crate::{Action, Now, ObjectFacts, Part, PendingUpload, RemotePart, State, UploadState};

/// How far the store's clock may be behind ours: S3 refuses more.
const CLOCK_SKEW_MS: i64 = 15 * 60 * 1000;

impl StreamMachine {
    /// Asks the store for what the checkpoint cannot know.
    pub(super) fn reconcile(&mut self, out: &mut Vec<Action>) {
        if self.request.is_some() || !self.sending.is_empty() {
            return;
        }
        match &self.record.upload {
            UploadState::Creating { .. } => self.look_for_begun(out),
            UploadState::Open { id } => {
                let action = Action::ListParts { upload_id: id.clone() };
                self.ask(Request::ListParts, action, out);
            }
            // It may have been stored in one request.
            UploadState::None => self.ask(Request::Head, Action::Head, out),
        }
    }

    /// The next question for the upload that was asked for before the answer was lost: which ones
    /// are there, and what parts has the newest of them?
    pub(super) fn look_for_begun(&mut self, out: &mut Vec<Action>) {
        let question = match self.begun.last() {
            Some(upload) => Action::ListParts { upload_id: upload.upload_id.clone() },
            None => Action::ListUploads,
        };
        self.ask(Request::FindBegun, question, out);
    }

    /// It can only be one that was begun since then, of exactly this key.
    pub(super) fn uploads_listed(&mut self, mut uploads: Vec<PendingUpload>) {
        let UploadState::Creating { since } = self.record.upload else { return };
        self.refusals = 0;
        uploads.retain(|upload| upload.key == self.record.key && upload.initiated.0 >= since.0 - CLOCK_SKEW_MS);
        uploads.sort_by_key(|upload| upload.initiated);
        self.begun = uploads;
        if self.begun.is_empty() {
            self.no_upload_found();
        }
    }

    /// The parts of the one that was asked for last; `None` if it is gone.
    pub(super) fn begun_listed(&mut self, parts: Option<Vec<RemotePart>>) {
        let Some(upload) = self.begun.pop() else { return };
        match parts {
            Some(parts) if self.may_be_begun(&parts) => {
                self.begun.clear();
                self.record.upload = UploadState::Open { id: upload.upload_id };
                self.unsaved = true;
                self.parts_listed(parts);
            }
            _ if self.begun.is_empty() => self.no_upload_found(),
            _ => {}
        }
    }

    /// Ours has no parts yet, or one that was noted, or is divided as it should be. Another one may
    /// be somebody else's, and is left alone.
    fn may_be_begun(&self, parts: &[RemotePart]) -> bool {
        let is_noted = |part: &RemotePart| self.table.get(part.number).is_some_and(|noted| noted.etag == part.etag);
        parts.is_empty() || parts.iter().any(is_noted) || plan_of(parts, self.record.plan) == Some(self.record.plan)
    }

    /// There is no upload of this generation, or none that can be found. Parts that were noted
    /// of it went with it.
    pub(super) fn no_upload_found(&mut self) {
        self.begun.clear();
        self.record.upload = UploadState::None;
        self.unsaved = true;
        self.unreconciled = false;
        if !self.table.is_empty() && self.course == Course::Going {
            self.course = Course::Restarting;
        }
    }

    /// Makes the table say what the store holds: it holds the parts, the checkpoint only
    /// remembers them.
    pub(super) fn parts_listed(&mut self, remote: Vec<RemotePart>) {
        self.unreconciled = false;
        let mut known = std::mem::take(&mut self.table);
        for found in remote {
            let number = found.number;
            let before = known.remove(number);
            let is_known = before.as_ref().is_some_and(|part| part.etag == found.etag);
            let part = found.known_after(before);
            if !is_known {
                self.unnoted.push((number, part.clone()));
            }
            self.table.insert(number, part);
        }
        // It has the part: a file that was cut may have made the table forget it.
        self.not_replaced = self.not_replaced.filter(|refused| self.table.get(*refused).is_none());
        if self.refusals >= MAX_REFUSALS_WITH_SAME_PARTS {
            self.refusals = 0;
            self.course = Course::Restarting;
        }
    }

    /// The upload is gone: was it completed?
    pub(super) fn settle_doubt(&mut self, out: &mut Vec<Action>) {
        if self.sending.is_empty() && self.request.is_none() {
            self.ask(Request::Head, Action::Head, out);
        }
    }

    pub(super) fn head_answered(&mut self, facts: Option<ObjectFacts>, now: Now) {
        if self.object == ObjectState::Made {
            return self.check_object(facts, now);
        }
        self.unreconciled = false;
        let doubted = std::mem::take(&mut self.upload_doubted);
        match facts {
            // What the mark says the checksum proves; without one the file has to be read.
            Some(facts)
                if self.bears_our_mark(&facts)
                    && (facts.crc.is_some() && self.table_makes(&facts) || self.take_as_one_part(&facts)) =>
            {
                self.record.etag = Some(facts.etag);
                self.record.checksum = facts.crc;
                self.record.completed_at.get_or_insert(now.wall);
                self.object = ObjectState::Checked;
                self.object_bytes = facts.size_bytes;
                self.last_look = LastLook::Needed;
                // If the file has become another since, so may the upload.
                self.survey = Survey::Uploads;
            }
            // Stored, but what was stored cannot be told; or aborted, or expired.
            facts if doubted => {
                self.upload_doubted = true;
                self.look_for_another(facts);
                // A store that loses every upload at once is not asked for one after the other.
                self.patience.failed(crate::Trouble::Outage, now.tick);
            }
            facts => {
                self.put_tried &= facts.as_ref().is_some_and(|facts| self.bears_our_mark(facts));
                self.found = facts;
            }
        }
    }

    fn bears_our_mark(&self, facts: &ObjectFacts) -> bool {
        facts.token.as_deref() == Some(&self.record.token())
    }

    /// Whether the known parts make up this object, by its checksum.
    fn table_makes(&self, facts: &ObjectFacts) -> bool {
        let plan = &self.record.plan;
        let size = facts.size_bytes;
        if facts.crc != self.table.checksum() {
            return false;
        }
        self.record.upload != UploadState::None
            && plan.parts_for(size).is_some_and(|count| {
                self.table.len() == count as usize
                    && self.table.iter().all(|(number, part)| {
                        plan.range_in(number, size).is_some_and(|range| range.len == part.size_bytes)
                    })
            })
    }

    /// An object of one part, or of none, is its own evidence.
    fn take_as_one_part(&mut self, facts: &ObjectFacts) -> bool {
        let small = matches!(self.record.plan.parts_for(facts.size_bytes), Some(0 | 1));
        if !small || self.record.upload != UploadState::None {
            return false;
        }
        self.table = crate::PartTable::default();
        if facts.size_bytes == 0 {
            return true;
        }
        let part = Part {
            size_bytes: facts.size_bytes,
            etag: facts.etag.clone(),
            crc: facts.crc,
            stored_at: self.record.started_at,
            uploads: 1,
            proven: None,
            dirty: false,
        };
        self.table.insert(crate::PartNumber::FIRST, part.clone());
        self.unnoted.push((crate::PartNumber::FIRST, part));
        true
    }

    /// The object has been made: is it what was sent?
    ///
    /// Its checksum says so. Where the store does not tell it, the mark does, or the `ETag` that
    /// the completion was answered with: an upload that was found has the mark of a stream that
    /// nobody remembers.
    fn check_object(&mut self, facts: Option<ObjectFacts>, now: Now) {
        let expected = self.table.checksum();
        let fits = |facts: &ObjectFacts| {
            facts.size_bytes == self.table.bytes()
                && (facts.crc.is_none() || expected.is_none() || facts.crc == expected)
        };
        match facts {
            Some(facts) if fits(&facts) => {
                let is_ours = facts.token.is_none() || self.bears_our_mark(&facts);
                if is_ours || facts.crc.is_some() && expected.is_some() || self.record.etag == Some(facts.etag.clone())
                {
                    self.object = ObjectState::Checked;
                    self.object_bytes = facts.size_bytes;
                    self.record.checksum = expected;
                    self.record.etag = Some(facts.etag);
                } else {
                    // Only the file can tell.
                    self.object = ObjectState::None;
                    self.found = Some(facts);
                }
            }
            facts => {
                self.refusals += 1;
                if facts.is_none() && self.refusals < super::MAX_REFUSALS {
                    // Not yet visible? Ask again before building it anew.
                    return self.patience.failed(crate::Trouble::Outage, now.tick);
                }
                self.patience.failed(crate::Trouble::Denied, now.tick);
                self.restart_without_upload();
            }
        }
    }

    /// Begins anew after the upload has become an object.
    pub(super) fn restart_without_upload(&mut self) {
        self.record.upload = UploadState::None;
        self.found = None;
        self.course = Course::Restarting;
        if self.record.state == State::PendingCompletion {
            self.unsaved = true;
        }
    }
}

/// The store refuses to complete with the parts that it lists itself.
const MAX_REFUSALS_WITH_SAME_PARTS: u32 = super::MAX_REFUSALS;
