//! A completed recording that grows again: what is still in the object is copied inside the
//! store instead of being sent.
//!
//! The object stays where it is until the new one is completed. A full part of it is copied if
//! the file has been read once more and still has the bytes that the object has there; what
//! differs, or fails to be copied once, is sent. Nothing of this survives a crash: a machine that
//! is built again sends what the new upload lacks, which is slower and as right.

use std::collections::{BTreeMap, BTreeSet};

use super::{ObjectState, PARALLEL_VERIFICATIONS, StreamMachine};
use crate::{
    Action, ByteRange, Crc64Nvme, FileVersion, PartNumber, PartPlan, PartTable, State, Tick, Trouble, UploadState,
};

/// The object that a new one is built beside.
#[derive(Clone, Debug)]
pub(super) struct Original {
    /// Only what bears this `ETag` is that object.
    etag: String,
    plan: PartPlan,
    table: PartTable,
    /// Parts that the file still has, and the version that surely has them.
    same: BTreeMap<PartNumber, Option<FileVersion>>,
    /// Parts that are sent: they differ, or copying them was tried.
    done_with: BTreeSet<PartNumber>,
}

impl Original {
    /// The part, if it is worth asking the store for.
    fn candidate(&self, number: PartNumber, range: ByteRange, plan: &PartPlan) -> Option<(String, Crc64Nvme)> {
        let part = self.table.get(number)?;
        let fits = self.plan.range(number) == Some(range) && plan.range(number) == Some(range);
        let usable = fits && part.size_bytes == range.len && !part.dirty && !self.done_with.contains(&number);
        part.crc.filter(|_| usable).map(|crc| (part.etag.clone(), crc))
    }
}

impl StreamMachine {
    /// Before an upload is begun anew: the object that stands at the key, if what it consists of
    /// is known and a store copies ranges of it. S3 does from an object that is larger than the
    /// smallest part.
    pub(super) fn keep_original(&mut self) {
        let stands = self.record.state == State::Completed
            || matches!(self.object, ObjectState::Checked | ObjectState::Described);
        let large = self.table.bytes() > self.record.plan.limits().min_part_bytes;
        self.original = match &self.record.etag {
            Some(etag) if stands && large && self.wanted_key.is_none() && !etag.is_empty() => Some(Original {
                etag: etag.clone(),
                plan: self.record.plan,
                table: std::mem::take(&mut self.table),
                same: BTreeMap::new(),
                done_with: BTreeSet::new(),
            }),
            _ => None,
        };
    }

    /// Copies a part instead of sending it, or compares it for that. `None` if it must be sent;
    /// `Some(false)` if nothing more can be asked for at the moment.
    pub(super) fn copy(
        &mut self,
        number: PartNumber,
        range: ByteRange,
        now: Tick,
        out: &mut Vec<Action>,
    ) -> Option<bool> {
        let (original, UploadState::Open { id }) = (self.original.as_mut()?, &self.record.upload) else { return None };
        if self.table.get(number).is_some() {
            return None; // the file has changed since
        }
        let (etag, crc) = original.candidate(number, range, &self.record.plan)?;
        if self.verifying.contains_key(&number) {
            return Some(true);
        }
        let Some(proven) = original.same.remove(&number) else {
            if self.verifying.len() >= PARALLEL_VERIFICATIONS {
                return Some(false);
            }
            self.verifying.insert(number, etag.clone());
            out.push(Action::VerifyPart { number, range, crc: Some(crc), etag });
            return Some(true);
        };
        original.done_with.insert(number);
        self.sending.insert(number, range);
        self.copying.insert(number);
        out.push(Action::CopyPart {
            upload_id: id.clone(),
            generation: self.record.generation,
            number,
            range,
            object_etag: original.etag.clone(),
            part_etag: etag,
            crc,
            proven,
            need: self.sight.need(range.offset, now),
        });
        Some(true)
    }

    /// Takes in the comparison of a part of the original with the file. `false` if it was not
    /// about such a part.
    pub(super) fn original_compared(&mut self, number: PartNumber, same: bool, read_at: FileVersion) -> bool {
        let Some(original) = self.original.as_mut().filter(|_| self.table.get(number).is_none()) else { return false };
        if original.table.get(number).is_none() || self.sending.contains_key(&number) {
            return false;
        }
        if same {
            original.same.insert(number, self.ended.filter(|ended| *ended == read_at));
        } else {
            original.done_with.insert(number);
        }
        true
    }

    /// A part could not be copied: it is sent. Where not merely the store was away, none is asked
    /// for any more: the store cannot, or may not, or the object is another.
    pub(super) fn copy_failed(&mut self, trouble: Trouble, now: Tick) {
        match trouble {
            Trouble::Outage | Trouble::NoSuchUpload => self.failed(trouble, now),
            _ => self.original = None,
        }
    }
}
