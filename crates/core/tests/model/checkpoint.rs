//! A checkpoint that several processes write to, as `checkpoint/redis/scripts` has it: a write
//! counts if it bears the epoch of the stream's owner. It may be lost, or be an older copy.

use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};

use super::chance::Chance;

/// Why a write was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It may have been done, or not.
    Outage,
    /// The stream is not in the state, or not of the epoch, that the write builds upon.
    Stale,
    /// There is no such stream.
    Unknown,
}

#[derive(Clone, Default)]
struct Kept {
    record: Option<StreamRecord>,
    parts: Vec<(u32, PartNumber, Part)>,
}

/// One stream, or none.
#[derive(Default)]
pub struct Checkpoint {
    kept: Kept,
    /// What it was at some time.
    past: Vec<Kept>,
}

impl Checkpoint {
    pub fn record(&self) -> Option<&StreamRecord> {
        self.kept.record.as_ref()
    }

    pub fn table(&self) -> PartTable {
        let mut table = PartTable::default();
        let generation = self.record().map_or(0, |record| record.generation);
        for (of, number, part) in &self.kept.parts {
            if *of == generation {
                table.insert(*number, part.clone());
            }
        }
        table
    }

    fn found(&self, id: StreamId) -> Result<&StreamRecord, Refusal> {
        self.record().filter(|record| record.id == id).ok_or(Refusal::Unknown)
    }

    fn of_epoch(&self, id: StreamId, epoch: u64) -> Result<&StreamRecord, Refusal> {
        let found = self.found(id)?;
        if found.epoch == epoch { Ok(found) } else { Err(Refusal::Stale) }
    }

    pub fn create(&mut self, record: &StreamRecord) -> Result<(), Refusal> {
        match self.record() {
            Some(found) => {
                assert_eq!(found.id, record.id, "one recording is two streams");
                if (found.state, found.epoch) != (record.state, record.epoch) {
                    return Err(Refusal::Stale);
                }
            }
            None => self.kept.parts.clear(),
        }
        self.kept.record = Some(record.clone());
        Ok(())
    }

    pub fn record_part(
        &mut self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), Refusal> {
        self.of_epoch(id, epoch)?;
        self.kept.parts.retain(|(_, known, _)| *known != number);
        self.kept.parts.push((generation, number, part.clone()));
        Ok(())
    }

    pub fn transition(&mut self, from: State, record: &StreamRecord) -> Result<(), Refusal> {
        let found = self.found(record.id)?;
        if (found.state, found.epoch) != (from, record.epoch) {
            // An answer that got lost: the first time did it.
            return if found == record { Ok(()) } else { Err(Refusal::Stale) };
        }
        assert!(from.may_become(record.state), "{from} became {}", record.state);
        self.kept.record = Some(record.clone());
        Ok(())
    }

    pub fn claim(&mut self, id: StreamId, epoch: u64, node: &str) -> Result<u64, Refusal> {
        let found = self.of_epoch(id, epoch)?;
        let next = epoch + 1;
        self.kept.record = Some(StreamRecord { epoch: next, node: node.to_owned(), ..found.clone() });
        Ok(next)
    }

    pub fn remember(&mut self) {
        self.past.push(self.kept.clone());
    }

    /// The stream is none any more, and its owner knows.
    pub fn drop_stream(&mut self) {
        self.kept = Kept::default();
    }

    pub fn lose_everything(&mut self) {
        self.kept = Kept::default();
    }

    /// Becomes what it was at some time; `false` if nothing is known of earlier times.
    pub fn roll_back(&mut self, chance: &mut Chance) -> bool {
        if self.past.is_empty() {
            return false;
        }
        self.kept = self.past[chance.place(self.past.len())].clone();
        true
    }
}
