//! What a process owes to the checkpoint, as `processor/ledger` has it: written in order, again
//! after an outage, and asked after where it is refused.

use std::collections::BTreeMap;

use reeltime_core::{Input, Part, PartNumber, State, StreamId, StreamRecord, UploadState};

use super::chance::Chance;
use super::checkpoint::{Checkpoint, Refusal};
use super::seen::Seen;

/// The way to the checkpoint.
pub struct Link<'a> {
    pub checkpoint: &'a mut Checkpoint,
    pub chance: &'a mut Chance,
    pub seen: &'a mut Seen,
    /// Nothing arrives.
    pub is_away: bool,
    /// Now and then something does not arrive, or its answer does not.
    pub has_faults: bool,
}

impl Link<'_> {
    fn write<T>(&mut self, write: impl FnOnce(&mut Checkpoint) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let fate = if self.has_faults { self.chance.below(16) } else { 2 };
        if self.is_away || fate == 0 {
            return Err(Refusal::Outage);
        }
        let answer = write(self.checkpoint);
        if fate == 1 {
            self.seen.unanswered_writes += u64::from(answer.is_ok());
            return Err(Refusal::Outage);
        }
        answer
    }

    /// Makes a process the owner of the stream that it found, which becomes what the checkpoint
    /// has; as `processor/saving.rs` has it. `false` if that is impossible, or is to be tried
    /// later.
    pub fn claim(&mut self, record: &mut StreamRecord, node: &str) -> bool {
        for _ in 0..4 {
            match self.write(|checkpoint| checkpoint.claim(record.id, record.epoch, node)) {
                Ok(epoch) => {
                    record.epoch = epoch;
                    node.clone_into(&mut record.node);
                    return true;
                }
                Err(Refusal::Unknown) => return false,
                Err(Refusal::Outage) => {}
                // The answer to an earlier attempt got lost.
                Err(Refusal::Stale) => match self.checkpoint.record() {
                    Some(found) if found.node == node => *record = found.clone(),
                    _ => return false,
                },
            }
        }
        false
    }
}

/// What became of a record that is to be written.
pub enum Outcome {
    Written,
    Forgotten,
    /// Another owner has the stream.
    Lost,
    Owed,
}

pub struct Ledger {
    id: StreamId,
    node: String,
    pub epoch: u64,
    /// The state in which the checkpoint has the stream; `None`: it does not have it.
    known: Option<State>,
    /// The newest record, and how many there were with it.
    record: Option<(u64, StreamRecord)>,
    records: u64,
    written: u64,
    parts: BTreeMap<PartNumber, (u32, Part)>,
    /// The upload of the last record that the machine was told is written, or owed.
    pub noted: UploadState,
    pub is_lost: bool,
    is_older_copy: bool,
}

impl Ledger {
    pub fn new(record: &StreamRecord, known: Option<State>) -> Self {
        Self {
            id: record.id,
            node: record.node.clone(),
            epoch: record.epoch,
            known,
            record: None,
            records: 0,
            written: 0,
            parts: BTreeMap::new(),
            noted: record.upload.clone(),
            is_lost: false,
            is_older_copy: false,
        }
    }

    /// Answers the record's turn.
    pub fn create(&mut self, record: &StreamRecord, parts: &[(PartNumber, Part)]) -> u64 {
        self.known = None;
        self.parts.retain(|_, (of, _)| *of == record.generation);
        for (number, part) in parts {
            // What was noted since is newer.
            self.parts.entry(*number).or_insert_with(|| (record.generation, part.clone()));
        }
        self.owe(record)
    }

    /// Answers the record's turn; `None` if the checkpoint does not have the stream.
    pub fn save(&mut self, record: &StreamRecord) -> Option<u64> {
        if self.is_forgotten() { None } else { Some(self.owe(record)) }
    }

    fn owe(&mut self, record: &StreamRecord) -> u64 {
        self.records += 1;
        self.parts.retain(|_, (generation, _)| *generation == record.generation);
        self.record = Some((self.records, record.clone()));
        self.records
    }

    pub fn note(&mut self, generation: u32, number: PartNumber, part: &Part) {
        self.parts.insert(number, (generation, part.clone()));
    }

    pub fn outcome(&self, turn: u64) -> Outcome {
        if self.is_lost {
            Outcome::Lost
        } else if self.written >= turn {
            Outcome::Written
        } else if self.is_forgotten() {
            Outcome::Forgotten
        } else {
            Outcome::Owed
        }
    }

    /// A record is only in the memory of the process.
    pub fn owes_record(&self) -> bool {
        self.record.is_some()
    }

    fn owes(&self) -> bool {
        self.record.is_some() || (self.known.is_some() && !self.parts.is_empty())
    }

    fn is_forgotten(&self) -> bool {
        self.known.is_none() && self.record.is_none()
    }

    /// Writes what is owed, as far as that is possible now. Answers what the machine is to be
    /// told. What is refused again and again waits for the next time, as it does for a backoff.
    pub fn pay(&mut self, link: &mut Link<'_>) -> Option<Input> {
        for _ in 0..8 {
            if !self.owes() || self.is_lost {
                break;
            }
            match self.pay_all(link) {
                Ok(()) => {}
                Err(Refusal::Outage) => break,
                Err(Refusal::Unknown) => return Some(self.forgotten()),
                Err(Refusal::Stale) => match self.is_still_ours(link) {
                    Ok(true) => {
                        link.seen.still_ours += 1;
                        if std::mem::take(&mut self.is_older_copy) {
                            return Some(Input::Forgotten);
                        }
                    }
                    Ok(false) => {
                        self.is_lost = true;
                        return Some(Input::LeaseLost);
                    }
                    Err(Refusal::Unknown) => return Some(self.forgotten()),
                    Err(_) => break,
                },
            }
        }
        link.seen.owed_writes += u64::from(self.owes());
        None
    }

    fn pay_all(&mut self, link: &mut Link<'_>) -> Result<(), Refusal> {
        if let (None, Some((turn, record))) = (self.known, self.newest()) {
            // Its parts come before it is completed.
            let state = if record.state == State::Completed { State::PendingCompletion } else { record.state };
            let is_all = state == record.state;
            link.write(|checkpoint| checkpoint.create(&StreamRecord { state, ..record }))?;
            self.is_written(state, is_all.then_some(turn));
        }
        while let Some((number, (generation, part))) = self.parts.first_key_value() {
            let (id, epoch) = (self.id, self.epoch);
            link.write(|checkpoint| checkpoint.record_part(id, epoch, *generation, *number, part))?;
            self.parts.pop_first();
        }
        if let (Some(mut from), Some((turn, record))) = (self.known, self.newest()) {
            let last = record.state;
            for state in from.way_to(last) {
                let step = StreamRecord { state, ..record.clone() };
                link.write(|checkpoint| checkpoint.transition(from, &step))?;
                self.is_written(state, (state == last).then_some(turn));
                from = state;
            }
        }
        Ok(())
    }

    /// The newest record that is not written, as this owner writes it.
    fn newest(&self) -> Option<(u64, StreamRecord)> {
        let (turn, record) = self.record.as_ref()?;
        Some((*turn, StreamRecord { epoch: self.epoch, ..record.clone() }))
    }

    fn is_written(&mut self, state: State, turn: Option<u64>) {
        self.known = Some(state);
        if let Some(turn) = turn {
            self.written = turn;
            self.record = None;
        }
    }

    /// A write was refused: by another owner's epoch, or because an earlier one took effect?
    fn is_still_ours(&mut self, link: &mut Link<'_>) -> Result<bool, Refusal> {
        let found = link.write(|checkpoint| Ok(checkpoint.record().cloned()))?;
        let found = found.filter(|found| found.id == self.id).ok_or(Refusal::Unknown)?;
        if found.node != self.node || found.epoch > self.epoch {
            return Ok(false);
        }
        let mut epoch = found.epoch;
        while epoch < self.epoch {
            epoch = link.write(|checkpoint| checkpoint.claim(self.id, epoch, &self.node))?;
            self.is_older_copy = true;
        }
        self.known = Some(found.state);
        Ok(true)
    }

    fn forgotten(&mut self) -> Input {
        self.known = None;
        self.record = None;
        Input::Forgotten
    }
}
