//! The way to the object: which parts are sent when.

use super::{Course, Ending, LastLook, ObjectState, PARALLEL_VERIFICATIONS, Request, StreamMachine, Survey, Wake};
use crate::{
    Action, ByteRange, Crc64Nvme, FileVersion, Now, Observation, Part, PartNumber, Reason, State, UploadState,
};

impl StreamMachine {
    pub(super) fn go(&mut self, now: Now, wake: &mut Wake, out: &mut Vec<Action>) {
        if self.record.state == State::Completed && self.wanted_key.is_none() {
            return self.compare_completed(now, out);
        }
        if self.upload_doubted {
            return self.settle_doubt(out);
        }
        if self.unreconciled {
            return self.reconcile(out);
        }
        if self.survey == Survey::Object && self.surveying(out) {
            return;
        }
        let Some(seen) = self.sight.latest().copied() else { return };
        if self.wanted_key.is_some() {
            return self.change_key(now, out);
        }
        if !self.plan_suffices(seen.version.size, now, out) {
            return;
        }
        self.follow_ending(now);
        if self.course != Course::Going || self.weighing(&seen, now, out) || self.surveying(out) {
            return;
        }
        if self.record.state == State::PendingCompletion {
            return self.finish(&seen, now, out);
        }
        self.warn_of_expiry(now, wake, out);
        if self.policy.replaces_parts {
            self.send_full_parts(&seen, now, out);
            self.flush_tail(&seen, now, wake, out);
        }
    }

    /// Moves between `active` and `pending_completion`.
    fn follow_ending(&mut self, now: Now) {
        if self.ended.is_none() {
            match self.sight.ending(&self.policy, now.tick) {
                Ending::Ended => {
                    self.ended = self.sight.latest().map(|seen| seen.version);
                    self.last_look = LastLook::Needed;
                }
                Ending::Blocked => return self.give_up(Reason::KeyTaken),
                Ending::AskAt(_) => {}
            }
        }
        match (self.ended, self.record.state) {
            (Some(_), State::Active) => self.set_state(State::PendingCompletion),
            // An object that is made stands for an ended recording, until a last look or the
            // next end says otherwise.
            (None, State::PendingCompletion) if self.object == ObjectState::None && !self.is_making_object() => {
                if self.put_tried {
                    // Or was it an upload? That is still being asked.
                    if self.survey == Survey::Done {
                        self.course = Course::Restarting;
                    }
                } else {
                    self.set_state(State::Active);
                }
            }
            _ => {}
        }
    }

    fn is_making_object(&self) -> bool {
        matches!(self.request, Some(Request::Complete | Request::PutObject))
    }

    /// The name, and so the key, is another: the object must be built there.
    fn change_key(&mut self, now: Now, out: &mut Vec<Action>) {
        self.course = Course::Restarting;
        self.restart_next(now, out);
    }

    /// Whether the plan can divide a file of this size; begins anew with a larger one if not.
    fn plan_suffices(&mut self, size: u64, now: Now, out: &mut Vec<Action>) -> bool {
        if size <= self.record.plan.capacity() {
            return true;
        }
        if self.record.plan.enlarged(size).is_some() {
            self.course = Course::Restarting;
            self.restart_next(now, out);
        } else {
            self.give_up(Reason::TooLarge);
        }
        false
    }

    /// Bytes from the beginning that the store holds without a gap.
    pub(super) fn covered_bytes(&mut self) -> u64 {
        let plan = self.record.plan;
        let gap = self.table.first_gap(&plan);
        let tail = self.table.get(gap).filter(|part| !part.dirty).map_or(0, |part| part.size_bytes);
        plan.range(gap).map_or_else(|| plan.capacity(), |range| range.offset + tail.min(range.len))
    }

    fn send_full_parts(&mut self, seen: &Observation, now: Now, out: &mut Vec<Action>) {
        let plan = self.record.plan;
        let mut number = self.table.first_gap(&plan);
        let covered = plan.range(number).map_or_else(|| plan.capacity(), |range| range.offset);
        self.sight.forget_growth(covered);
        while self.sending.len() < self.policy.parallel_parts {
            let Some(range) = plan.range(number) else { return };
            if range.end() > seen.content_end {
                return;
            }
            if !self.sending.contains_key(&number)
                && !self.table.holds(number, range)
                && !self.send(number, range, now, out)
            {
                return;
            }
            number = number.next();
        }
    }

    /// Sends the bytes behind the last full part when the oldest of them get too old. They are
    /// sent again under the same number as they become more.
    fn flush_tail(&mut self, seen: &Observation, now: Now, wake: &mut Wake, out: &mut Vec<Action>) {
        let Some(flush_ms) = self.policy.tail_flush_ms else { return };
        let covered = self.covered_bytes();
        let Some(since) = self.sight.unsent_since(covered) else { return };
        let plan = self.record.plan;
        let Some(number) = plan.part_at(covered) else { return };
        let Some(range) = plan.range_in(number, seen.content_end) else { return };
        if self.sending.contains_key(&number) || self.table.holds(number, range) {
            return;
        }
        let due = since.plus(flush_ms);
        if now.tick < due {
            wake.at(due);
        } else if self.sending.len() < self.policy.parallel_parts {
            self.send(number, range, now, out);
        }
    }

    /// Asks for a part to be sent or copied, or for the upload that it needs. `false` if nothing
    /// can be sent yet.
    pub(super) fn send(&mut self, number: PartNumber, range: ByteRange, now: Now, out: &mut Vec<Action>) -> bool {
        let UploadState::Open { id } = &self.record.upload else {
            self.begin_upload(now, out);
            return false;
        };
        let id = id.clone();
        if self.noted_upload.as_ref() != Some(&id) || self.must_stay(number) {
            return false;
        }
        if let Some(asked) = self.copy(number, range, now.tick, out) {
            return asked;
        }
        let uploads = self.table.get(number).map_or(0, |part| part.uploads) + 1;
        self.sending.insert(number, range);
        out.push(Action::SendPart {
            upload_id: id,
            generation: self.record.generation,
            number,
            range,
            uploads,
            settled: self.sight.settled(now.tick),
            need: self.sight.need(range.offset, now.tick),
        });
        true
    }

    /// First the intent is saved, then the upload is asked for: so that after a crash in
    /// between it is looked for.
    fn begin_upload(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.record.upload == UploadState::None {
            self.record.upload = UploadState::Creating { since: now.wall };
            self.unsaved = true;
        } else if !self.unsaved && self.request.is_none() {
            let for_copies = self.original.is_some();
            self.ask(Request::CreateUpload, Action::CreateUpload { for_copies }, out);
        }
    }

    pub(super) fn part_stored(&mut self, number: PartNumber, generation: u32, part: Part) {
        if generation != self.record.generation || self.sending.remove(&number).is_none() {
            return;
        }
        self.copying.remove(&number);
        self.not_replaced = None;
        self.table.insert(number, part);
        // The file may have shrunk meanwhile.
        let size = self.size_bytes();
        self.table.truncate(&self.record.plan, size);
    }

    /// Takes in that a part was compared with the file: `same` is the checksum of both, `None`
    /// if they differ.
    pub(super) fn part_verified(
        &mut self,
        number: PartNumber,
        etag: &str,
        same: Option<Crc64Nvme>,
        read_at: FileVersion,
    ) {
        let ended = self.ended;
        if self.verifying.get(&number).is_some_and(|asked| asked == etag) {
            self.verifying.remove(&number);
            if self.original_compared(number, same.is_some(), read_at) {
                return;
            }
        }
        if self.table.get(number).is_none_or(|part| part.etag != etag) {
            return;
        }
        if ended != Some(read_at) {
            self.sight.touch();
        }
        match same {
            Some(crc) => {
                let proven = Some(read_at).filter(|version| ended == Some(*version));
                self.table.mark_same(number, crc, proven);
            }
            None => self.table.mark_dirty(number),
        }
    }

    /// Whether nothing more can be asked for at the moment.
    fn is_busy(&self) -> bool {
        self.verifying.len() >= PARALLEL_VERIFICATIONS && self.sending.len() >= self.policy.parallel_parts
    }

    /// Parts that are not proven to be what the file holds in version `ended`: sends what is
    /// missing and compares the rest. `true` when all are proven.
    pub(super) fn prove_parts(&mut self, ended: FileVersion, now: Now, out: &mut Vec<Action>) -> bool {
        let plan = self.record.plan;
        let Some(count) = plan.parts_for(ended.size) else { return false };
        let first = self.table.first_unproven(&plan, ended).get();
        let mut all = true;
        for number in (first..=count).filter_map(PartNumber::new) {
            if !all && self.is_busy() {
                return false;
            }
            if self.sending.contains_key(&number) || self.verifying.contains_key(&number) {
                all = false;
                continue;
            }
            let Some(range) = plan.range_in(number, ended.size) else { return false };
            match self.table.get(number) {
                Some(part) if self.table.holds(number, range) => {
                    if part.proven == Some(ended) {
                        continue;
                    }
                    all = false;
                    if self.verifying.len() < PARALLEL_VERIFICATIONS {
                        self.verifying.insert(number, part.etag.clone());
                        out.push(Action::VerifyPart { number, range, crc: part.crc, etag: part.etag.clone() });
                    }
                }
                _ if self.object != ObjectState::None || self.record.state == State::Completed => {
                    // There is an object already, and it is not this file.
                    self.course = Course::Restarting;
                    return false;
                }
                _ => {
                    all = false;
                    if self.sending.len() < self.policy.parallel_parts && !self.send(number, range, now, out) {
                        return false;
                    }
                }
            }
        }
        all
    }

    /// A completed stream whose file was touched: is it still the recording that was
    /// completed?
    fn compare_completed(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(seen) = self.sight.latest().copied() else { return };
        if self.record.version.is_some_and(|version| version.same_content(&seen.version)) {
            if self.request.is_none() && !self.unsaved {
                self.course = Course::Finished;
                out.push(Action::Done);
            }
            return;
        }
        if seen.version.size != self.record.size_bytes {
            self.course = Course::Restarting;
            return self.restart_next(now, out);
        }
        if self.ended.is_none() {
            match self.sight.ending(&self.policy, now.tick) {
                Ending::Ended => self.ended = Some(seen.version),
                Ending::Blocked => {
                    self.course = Course::Finished;
                    return out.push(Action::Retire);
                }
                Ending::AskAt(_) => {}
            }
        }
        let Some(ended) = self.ended else { return };
        if self.prove_parts(ended, now, out) {
            self.record.version = Some(ended);
            self.unsaved = true;
        } else if self.course == Course::Restarting {
            self.restart_next(now, out);
        }
    }
}
