//! What follows from the answer to a request, or from its failure.

use super::{Course, LastLook, MAX_LIST_DENIALS, ObjectState, Request, StreamMachine};
use crate::{Input, Now, PartNumber, Reason, Tick, Trouble, UploadState};

impl StreamMachine {
    /// Answers to the one request under way. An answer that was not asked for is ignored.
    pub(super) fn answered(&mut self, answer: Input, now: Now) {
        let Some(request) = self.request.take() else { return };
        match (request, answer) {
            (Request::Create | Request::Save, Input::Saved) => {
                let is_noted = !self.unknown; // or has been forgotten meanwhile
                self.noted_upload = self.record.upload.id().filter(|_| is_noted).map(str::to_owned);
            }
            (Request::CreateUpload, Input::UploadCreated { upload_id, abort_at }) => {
                self.upload_will_end(abort_at, now);
                self.own_upload = Some(upload_id.clone());
                self.record.upload = UploadState::Open { id: upload_id };
                self.unsaved = true;
            }
            (Request::Survey, Input::HeadAnswered(facts)) => self.object_found(facts),
            (Request::Survey, Input::UploadsListed(uploads)) => self.uploads_found(uploads),
            (Request::Survey, Input::PartsListed(parts)) => self.parts_found(Some(parts)),
            (Request::FindBegun, Input::UploadsListed(uploads)) => self.uploads_listed(uploads),
            (Request::FindBegun, Input::PartsListed(parts)) => self.begun_listed(Some(parts)),
            (Request::ListParts, Input::PartsListed(parts)) => self.parts_listed(parts),
            (Request::Abort, Input::UploadAborted) => {
                self.record.upload = UploadState::None;
                self.unsaved = true;
            }
            (Request::Complete, Input::ObjectCompleted { etag }) => self.object_made(etag, now),
            (Request::PutObject, Input::ObjectPut { part }) => {
                let etag = part.etag.clone();
                if part.size_bytes > 0 {
                    self.table.insert(PartNumber::FIRST, part);
                }
                self.object_made(Some(etag), now);
            }
            (Request::Head, Input::HeadAnswered(facts)) => self.head_answered(facts, now),
            (Request::CompareObject, Input::ObjectCompared { parts, read_at }) => {
                self.object_compared(parts, read_at, now);
            }
            (Request::Describe, Input::Described) => self.object = ObjectState::Described,
            (request, _) => self.request = Some(request),
        }
    }

    /// The one request under way failed.
    pub(super) fn request_failed(&mut self, trouble: Trouble, now: Tick) {
        let Some(request) = self.request.take() else { return };
        match (request, trouble) {
            (Request::Create | Request::Save, _) => return self.save_failed(request, now),
            (Request::Survey, _) => return self.survey_failed(trouble, now),
            (Request::CreateUpload, Trouble::Denied | Trouble::Refused) => {}
            // The upload may have been begun: it is looked for before another one is asked for.
            (Request::CreateUpload, _) => self.unreconciled = true,
            (Request::FindBegun, Trouble::NoSuchUpload) => return self.begun_listed(None),
            // Where listing is never allowed, an upload whose id was lost cannot be found.
            (Request::FindBegun, Trouble::Denied | Trouble::Refused) if self.refusals >= MAX_LIST_DENIALS => {
                self.refusals = 0;
                self.no_upload_found();
                return;
            }
            (Request::FindBegun, Trouble::Denied | Trouble::Refused) => {
                self.refusals += 1;
                self.patience.failed(Trouble::Denied, now);
                return;
            }
            (Request::Complete, Trouble::InvalidPart) => {
                self.refusals += 1;
                self.unreconciled = true;
                self.last_look = LastLook::Needed;
            }
            (Request::Complete, _) => self.last_look = LastLook::Needed,
            _ => {}
        }
        self.failed(trouble, now);
    }

    /// What follows from a failure, whatever failed.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Tick) {
        match trouble {
            Trouble::NoSuchUpload => self.upload_doubted = true,
            Trouble::Refused if matches!(self.course, Course::GivingUp(_)) => {
                self.patience.failed(Trouble::Denied, now); // not even giving up is allowed
            }
            Trouble::Refused => self.give_up(Reason::Refused),
            Trouble::SourceChanged => {
                self.sight.touch();
                self.patience.failed(trouble, now);
            }
            _ => self.patience.failed(trouble, now),
        }
    }
}
