//! What a machine asks for takes effect on the models.

use reeltime_core::{
    Action, ByteRange, Crc64Nvme, FileVersion, Input, Part, PartNumber, State, StreamRecord, Trouble, UploadState,
    WallTime,
};

use super::ledger::{Link, Outcome};
use super::store::By;
use super::world::{LIMITS, World};

/// A request under way.
pub struct Request {
    pub action: Action,
    /// The stream when it was made; of exclusive requests.
    record: Option<Box<StreamRecord>>,
    /// The bytes that it sends, once they are read.
    read: Option<(Vec<u8>, FileVersion)>,
    /// That of a record that is owed to the checkpoint; `None` if it is forgotten.
    turn: Option<u64>,
}

impl Request {
    pub fn of(action: Action, record: Option<StreamRecord>) -> Self {
        Self { action, record: record.map(Box::new), read: None, turn: None }
    }

    fn record(&self) -> &StreamRecord {
        self.record.as_ref().expect("an exclusive request knows its stream")
    }

    pub fn is_exclusive(&self) -> bool {
        self.record.is_some()
    }

    pub fn makes_object(&self) -> bool {
        matches!(self.action, Action::Complete { .. } | Action::PutObject { .. })
    }

    /// The bytes that it is to send.
    fn range(&self) -> Option<ByteRange> {
        match self.action {
            Action::SendPart { range, .. } => Some(range),
            Action::PutObject { size_bytes, .. } => Some(ByteRange { offset: 0, len: size_bytes }),
            _ => None,
        }
    }

    /// Whether it arrives at the store though its process stands still.
    pub fn is_on_its_way(&self) -> bool {
        match self.action {
            Action::SendPart { .. } | Action::PutObject { .. } => self.read.is_some(),
            Action::CreateUpload { .. } | Action::CopyPart { .. } | Action::Complete { .. } | Action::Abort { .. } => {
                true
            }
            _ => false,
        }
    }

    fn asks_store(&self) -> bool {
        !matches!(
            self.action,
            Action::Observe { .. }
                | Action::VerifyPart { .. }
                | Action::CompareObject { .. }
                | Action::Create { .. }
                | Action::Save(_)
        )
    }

    fn failed(&self, trouble: Trouble) -> Input {
        match &self.action {
            Action::SendPart { number, generation, .. } | Action::CopyPart { number, generation, .. } => {
                Input::PartFailed { number: *number, generation: *generation, trouble }
            }
            _ => Input::Failed(trouble),
        }
    }
}

impl World {
    /// Reads what the request is to send. `false` if that cannot be done, or is done already.
    pub fn read_ahead(&self, who: usize, request: &mut Request) -> bool {
        let Some(range) = request.range().filter(|_| request.read.is_none()) else { return false };
        request.read = self.read(who, range).zip(self.version(who));
        request.read.is_some()
    }

    /// Answers `None` if it is still under way, or will not be answered.
    pub fn carry_out(&mut self, who: usize, mut request: Request) -> Option<Input> {
        if request.range().is_some() && self.chance.one_in(8) && self.read_ahead(who, &mut request) {
            self.processes[who].under_way.push(request);
            return None; // what is read is not sent at once
        }
        let store_fails = self.faults && request.asks_store() && !self.is_calm;
        if store_fails && self.chance.one_in(6) {
            let trouble = if self.chance.one_in(5) { Trouble::Denied } else { Trouble::Outage };
            return Some(request.failed(trouble)); // before any effect
        }
        if matches!(request.action, Action::Save(_) | Action::Create { .. }) {
            return self.save(who, request);
        }
        let answer = self.effect(who, &request);
        if store_fails && self.chance.one_in(6) {
            self.seen.lost_answers += 1;
            return Some(request.failed(Trouble::Outage)); // after the effect
        }
        Some(answer)
    }

    /// Lets a request other than a save take effect on the models.
    pub fn effect(&mut self, who: usize, request: &Request) -> Input {
        match &request.action {
            Action::Observe { .. } if self.faults && self.chance.one_in(20) => Input::LookFailed,
            Action::Observe { ask_writers } => self.look(who, *ask_writers),
            Action::CompareObject { facts, settled } => {
                self.compare_object(who, &request.record().plan, facts, *settled)
            }
            Action::CreateUpload { .. } => self.create_upload(who, request.record()),
            Action::ListUploads => Input::UploadsListed(self.store.list_uploads(&request.record().key)),
            Action::ListParts { upload_id } => match self.store.list_parts(upload_id) {
                Some(parts) => Input::PartsListed(parts),
                None => Input::Failed(Trouble::NoSuchUpload),
            },
            Action::SendPart { .. } => self.send_part(who, request),
            Action::CopyPart { .. } => self.copy_part(who, &request.action),
            Action::VerifyPart { number, range, crc, etag } => self.verify_part(who, *number, *range, *crc, etag),
            Action::Complete { upload_id, parts, size_bytes, crc } => {
                match self.store.complete(upload_id, parts, *crc, *size_bytes, self.by(who)) {
                    Ok(etag) => {
                        self.object_was_made(who);
                        Input::ObjectCompleted { etag: Some(etag) }
                    }
                    Err(trouble) => Input::Failed(trouble),
                }
            }
            Action::PutObject { settled, .. } => self.put_object(who, request, *settled),
            Action::Head => self.head(who, request.record()),
            Action::Abort { upload_id } => {
                let is_late = self.store.abort(upload_id) && self.by(who) == By::FormerOwner;
                self.seen.late_aborts += u64::from(is_late);
                Input::UploadAborted
            }
            Action::Describe(whole) => {
                let sum: u64 = whole.parts.iter().map(|(_, range, _)| range.len).sum();
                assert_eq!(sum, whole.record.size_bytes, "the chunks make up the object");
                Input::Described
            }
            other => unreachable!("not carried out here: {other:?}"),
        }
    }

    fn create_upload(&mut self, who: usize, record: &StreamRecord) -> Input {
        assert!(matches!(record.upload, UploadState::Creating { .. }), "the intent comes before the upload");
        let upload_id = self.store.create(&record.key, &record.token(), self.tick, self.by(who));
        self.seen.late_uploads += u64::from(self.by(who) == By::FormerOwner);
        let keeps = self.store.keeps_uploads_ms();
        Input::UploadCreated { upload_id, abort_at: keeps.map(|keeps| WallTime((self.tick + keeps) as i64)) }
    }

    fn head(&mut self, who: usize, record: &StreamRecord) -> Input {
        let facts = self.store.head(&record.key);
        if facts.as_ref().is_some_and(|facts| facts.token.as_deref() == Some(&record.token())) {
            self.seen.head_decided += 1;
        }
        self.processes[who].headed_at = Some(self.store.objects_made());
        Input::HeadAnswered(facts)
    }

    fn put_object(&mut self, who: usize, request: &Request, settled: Option<FileVersion>) -> Input {
        let Some((bytes, read_at)) = self.bytes_of(who, request) else { return Input::Failed(Trouble::SourceChanged) };
        self.seen.put_whole += 1;
        let record = request.record();
        let etag = self.store.put(&record.key, Some(record.token()), bytes.clone(), self.by(who));
        self.object_was_made(who);
        let part = self.part(&bytes, etag, 1, settled.filter(|version| *version == read_at));
        if !bytes.is_empty() {
            self.note(who, record.generation, PartNumber::FIRST, &part);
        }
        Input::ObjectPut { part }
    }

    fn object_was_made(&mut self, who: usize) {
        self.made_at = self.tick;
        self.processes[who].made_at = self.store.objects_made();
        self.seen.late_objects += u64::from(self.by(who) == By::FormerOwner);
    }

    /// What was read for it, or is read now.
    fn bytes_of(&self, who: usize, request: &Request) -> Option<(Vec<u8>, FileVersion)> {
        request.read.clone().or_else(|| self.read(who, request.range()?).zip(self.version(who)))
    }

    fn send_part(&mut self, who: usize, request: &Request) -> Input {
        let Action::SendPart { upload_id, generation, number, uploads, settled, .. } = &request.action else {
            unreachable!("another action")
        };
        let refused = |trouble| Input::PartFailed { number: *number, generation: *generation, trouble };
        let Some((bytes, read_at)) = self.bytes_of(who, request) else { return refused(Trouble::SourceChanged) };
        assert!(!bytes.is_empty() && bytes.len() as u64 <= LIMITS.max_part_bytes, "a part that no store takes");
        assert!(number.get() <= LIMITS.max_parts, "a part number that no store takes");
        self.seen.resent_parts += u64::from(*uploads > 1);
        self.seen.tail_parts += u64::from(bytes.len() < 8);
        let by = self.by(who);
        match self.store.put_part(upload_id, *number, &bytes, self.tick, by) {
            Ok(etag) => {
                self.seen.late_parts += u64::from(by == By::FormerOwner);
                let part = self.part(&bytes, etag, *uploads, settled.filter(|version| *version == read_at));
                self.part_stored(who, *generation, *number, part)
            }
            Err(trouble) => {
                if trouble == Trouble::NotReplaced {
                    self.seen.not_replaced += 1;
                    self.processes[who].policy.replaces_parts = false; // for streams to come
                }
                refused(trouble)
            }
        }
    }

    fn copy_part(&mut self, who: usize, action: &Action) -> Input {
        let Action::CopyPart { upload_id, generation, number, range, object_etag, part_etag, crc, proven, .. } = action
        else {
            unreachable!("another action")
        };
        let copied = self.store.copy_part(upload_id, *number, *range, object_etag, self.tick, self.by(who));
        // The answer must show that these are the bytes.
        let is_shown = |etag: &str, told: Option<Crc64Nvme>| told.map_or(etag == part_etag, |told| told == *crc);
        let shown = copied.and_then(|(etag, told)| is_shown(&etag, told).then_some(etag).ok_or(Trouble::InvalidPart));
        match shown {
            Ok(etag) => {
                self.seen.copied += 1;
                let stored_at = WallTime(self.tick as i64);
                let (size_bytes, crc, proven) = (range.len, Some(*crc), *proven);
                let part = Part { size_bytes, etag, crc, stored_at, uploads: 0, proven, dirty: false };
                self.part_stored(who, *generation, *number, part)
            }
            Err(trouble) => {
                self.seen.copies_refused += 1;
                Input::PartFailed { number: *number, generation: *generation, trouble }
            }
        }
    }

    fn part_stored(&mut self, who: usize, generation: u32, number: PartNumber, part: Part) -> Input {
        // Stored in the checkpoint, or owed to it, before it is reported.
        self.note(who, generation, number, &part);
        Input::PartStored { number, generation, part }
    }

    // ---- the checkpoint

    pub fn link(&mut self, who: usize) -> Link<'_> {
        let is_away = self.is_checkpoint_away || self.processes[who].is_frozen;
        let has_faults = self.faults;
        Link { checkpoint: &mut self.checkpoint, chance: &mut self.chance, seen: &mut self.seen, is_away, has_faults }
    }

    pub fn note(&mut self, who: usize, generation: u32, number: PartNumber, part: &Part) {
        if let Some(ledger) = &mut self.processes[who].ledger {
            ledger.note(generation, number, part);
            self.pay(who);
        }
    }

    /// Writes what the process owes.
    pub fn pay(&mut self, who: usize) {
        let Some(mut ledger) = self.processes[who].ledger.take() else { return };
        let news = ledger.pay(&mut self.link(who));
        let process = &mut self.processes[who];
        process.ledger = Some(ledger);
        if let Some(news) = news {
            process.hints.insert(0, news);
        }
    }

    /// The ledger has a record from the moment on in which the machine asks for it.
    pub fn owe(&mut self, who: usize, request: &mut Request) {
        let process = &mut self.processes[who];
        let ledger = process.ledger.as_mut().expect("a machine has a ledger");
        request.turn = match &request.action {
            Action::Create { record, parts } => Some(ledger.create(record, parts)),
            Action::Save(record) => ledger.save(record),
            _ => return,
        };
        if request.turn.is_none() {
            process.hints.push(Input::Forgotten);
        }
    }

    /// A record is written, or owed, or waits until it is durable.
    fn save(&mut self, who: usize, request: Request) -> Option<Input> {
        let Some(turn) = request.turn else { return Some(Input::Failed(Trouble::Outage)) };
        self.pay(who);
        let must_be_durable = matches!(request.record().state, State::Completed | State::Failed);
        let ledger = self.processes[who].ledger.as_mut().expect("it has not ended");
        match ledger.outcome(turn) {
            Outcome::Forgotten => Some(Input::Failed(Trouble::Outage)),
            Outcome::Lost => None,
            Outcome::Owed if must_be_durable => {
                self.processes[who].under_way.push(request);
                None
            }
            Outcome::Written | Outcome::Owed => {
                ledger.noted.clone_from(&request.record().upload);
                Some(Input::Saved)
            }
        }
    }
}
