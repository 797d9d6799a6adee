//! What the store may have of a stream that the checkpoint does not know of.
//!
//! A checkpoint may be lost, or be an older copy, or owe what a crash has cut off. A recording
//! that was found and not seen to appear is therefore looked for in the store before anything
//! of it is sent:
//!
//! 1. An object of the size of the ended file is compared with it, byte by byte. If it is the
//!    recording, then it is taken for completed; whoever stored it, it is what would be stored.
//! 2. An unfinished upload of exactly this key, whose parts are divided as this stream's would
//!    be, is gone on with. Its parts are compared with the file before completion like all
//!    others. One that is divided otherwise, or has no full part, may be somebody else's, and is
//!    left alone.
//!
//! The same follows when an upload that the checkpoint names is gone.

use super::{Course, LastLook, MAX_LIST_DENIALS, ObjectState, Request, StreamMachine};
use crate::{
    Action, FileVersion, Now, ObjectFacts, Observation, Part, PartNumber, PartPlan, PendingUpload, RemotePart, Trouble,
    UploadState, Writers,
};

/// How far the search has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Survey {
    /// There is nothing to look for.
    Done,
    /// Is there an object?
    Object,
    /// Which unfinished uploads are there?
    Uploads,
    /// Are these divided as ours would be? The last one is asked first.
    Parts(Vec<PendingUpload>),
}

impl StreamMachine {
    /// The next question to the store. `true` while nothing may be sent because of it.
    pub(super) fn surveying(&mut self, out: &mut Vec<Action>) -> bool {
        if self.survey == Survey::Done || self.object != ObjectState::None {
            return false; // an object that stands is asked nothing; if it falls, the search goes on
        }
        if self.record.upload != UploadState::None {
            // Begun by this machine before an answer was there.
            self.survey = Survey::Done;
            return false;
        }
        let question = match &self.survey {
            Survey::Object => Action::Head,
            Survey::Uploads => Action::ListUploads,
            Survey::Parts(uploads) if let Some(upload) = uploads.last() => {
                Action::ListParts { upload_id: upload.upload_id.clone() }
            }
            Survey::Parts(_) | Survey::Done => {
                self.survey = Survey::Done;
                // The parts that the checkpoint has went with an upload that it does not have.
                let are_void = self.course == Course::Going && !self.table.is_empty();
                if are_void {
                    self.course = Course::Restarting;
                }
                return are_void;
            }
        };
        if self.request.is_none() && self.sending.is_empty() {
            self.ask(Request::Survey, question, out);
        }
        true
    }

    /// A question could not be answered.
    pub(super) fn survey_failed(&mut self, trouble: Trouble, now: crate::Tick) {
        match (&self.survey, trouble) {
            (Survey::Parts(_), Trouble::NoSuchUpload) => self.parts_found(None),
            // Listing may be forbidden for good.
            (Survey::Uploads | Survey::Parts(_), Trouble::Denied | Trouble::Refused) => {
                self.survey_denials += 1;
                if self.survey_denials >= MAX_LIST_DENIALS {
                    self.survey = Survey::Done;
                } else {
                    self.failed(Trouble::Denied, now);
                }
            }
            _ => self.failed(trouble, now),
        }
    }

    pub(super) fn object_found(&mut self, facts: Option<ObjectFacts>) {
        self.found = facts;
        self.survey = Survey::Uploads;
    }

    /// The newest of them comes first.
    pub(super) fn uploads_found(&mut self, uploads: Vec<PendingUpload>) {
        self.survey_denials = 0;
        let mut uploads: Vec<_> = uploads.into_iter().filter(|upload| upload.key == self.record.key).collect();
        uploads.sort_by_key(|upload| upload.initiated);
        self.survey = Survey::Parts(uploads);
    }

    /// The parts of the upload that was asked for; `None` if it is gone.
    pub(super) fn parts_found(&mut self, parts: Option<Vec<RemotePart>>) {
        let Survey::Parts(uploads) = &mut self.survey else { return };
        let (Some(upload), Some(parts)) = (uploads.pop(), parts) else { return };
        let Some(plan) = plan_of(&parts, self.record.plan) else { return };
        self.survey = Survey::Done;
        self.put_tried = false; // it was this upload that the checkpoint did not know of
        self.record.plan = plan;
        self.record.upload = UploadState::Open { id: upload.upload_id };
        self.unsaved = true;
        self.parts_listed(parts);
    }

    /// Whether an object that was found is this recording is found out first. `true` while
    /// nothing may be sent because of it.
    pub(super) fn weighing(&mut self, seen: &Observation, now: Now, out: &mut Vec<Action>) -> bool {
        let Some(facts) = &self.found else { return false };
        let is_written = self.sight.writers() == Some(Writers::Open);
        if self.object != ObjectState::None || facts.size_bytes != seen.version.size || is_written {
            self.found = None;
            return false;
        }
        // Of the same size: most probably the file has ended, and that shows in a moment.
        if self.ended.is_some() && self.request.is_none() && !self.unsaved && self.sending.is_empty() {
            let action = Action::CompareObject { facts: facts.clone(), settled: self.sight.settled(now.tick) };
            self.ask(Request::CompareObject, action, out);
        }
        true
    }

    pub(super) fn object_compared(&mut self, parts: Option<Vec<(PartNumber, Part)>>, read_at: FileVersion, now: Now) {
        if self.ended != Some(read_at) {
            return self.sight.touch();
        }
        let (Some(facts), Some(parts)) = (self.found.take(), parts) else { return };
        self.survey = Survey::Done;
        self.table = crate::PartTable::default();
        for (number, part) in &parts {
            self.table.insert(*number, part.clone());
        }
        self.unnoted = parts;
        // It is asked for once more: reading took its time, and the end of the file perhaps longer.
        self.object = ObjectState::Made;
        self.made_of = Some(read_at);
        self.last_look = LastLook::Needed;
        self.record.etag = Some(facts.etag);
        self.record.checksum = self.table.checksum();
        self.record.completed_at = Some(now.wall);
    }

    /// What the checkpoint names is gone from the store: whatever the store has instead is
    /// looked for, and if it has nothing, the object is built anew.
    pub(super) fn look_for_another(&mut self, object: Option<ObjectFacts>) {
        self.found = object;
        self.survey = Survey::Uploads;
        self.course = Course::Restarting;
    }
}

/// The plan by which an upload with these parts is divided, the usual one or an enlarged one;
/// `None` if it is not reeltime's.
///
/// Parts are full. Short is the last one, which may be a tail, and now and then one before it: a
/// tail that was to be sent again when the file had grown. An upload without any full part may be
/// anybody's, and is not worth much.
pub fn plan_of(parts: &[RemotePart], usual: PartPlan) -> Option<PartPlan> {
    let fits = |plan: &PartPlan| {
        let full = |part: &RemotePart| plan.range(part.number).map_or(0, |range| range.len);
        parts.iter().any(|part| part.size_bytes == full(part)) && parts.iter().all(|part| part.size_bytes <= full(part))
    };
    let larger = |plan: &PartPlan| plan.enlarged(plan.capacity() + 1);
    std::iter::successors(Some(usual), larger).find(fits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Limits, PlanKind, WallTime};

    const MIB: u64 = 1 << 20;

    fn parts(sizes: &[u64]) -> Vec<RemotePart> {
        let part = |(number, size): (u32, &u64)| RemotePart {
            number: PartNumber::new(number).unwrap(),
            size_bytes: size * MIB,
            etag: String::new(),
            crc: None,
            stored_at: WallTime(0),
        };
        (1..).zip(sizes).map(part).collect()
    }

    #[test]
    fn an_upload_is_known_by_how_it_is_divided() {
        let usual = PartPlan::new(PlanKind::Growing, 8 * MIB, Limits::S3).unwrap();
        let first_bytes = |sizes: &[u64]| plan_of(&parts(sizes), usual).map(|plan| plan.first_bytes() / MIB);
        for ours in [&[8][..], &[8, 8, 3], &[8, 3, 8, 2], &[3, 8]] {
            assert_eq!(first_bytes(ours), Some(8), "{ours:?}");
        }
        assert_eq!(first_bytes(&[16, 16, 4]), Some(16), "a plan that was enlarged");
        for others in [&[][..], &[3], &[5, 5, 5], &[5, 5], &[10, 10], &[8, 8, 9]] {
            assert_eq!(first_bytes(others), None, "{others:?}");
        }
    }
}
