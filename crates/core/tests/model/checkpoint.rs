//! A checkpoint that may be away (what it misses is owed), be lost, or be an older copy.

use reeltime_core::{Part, PartNumber, PartTable, State, StreamRecord};

use super::Chance;

#[derive(Clone, Default)]
struct Kept {
    record: Option<StreamRecord>,
    parts: Vec<(u32, PartNumber, Part)>,
}

#[derive(Default)]
pub struct Checkpoint {
    durable: Kept,
    /// Answered as saved, and not written yet.
    owed: Option<StreamRecord>,
    /// What is owed is the stream itself, and not a change of one that is there.
    is_creation: bool,
    owed_parts: Vec<(u32, PartNumber, Part)>,
    /// The process has been told that the stream is not there.
    is_missed: bool,
    /// What it was at some time.
    past: Vec<Kept>,
}

impl Checkpoint {
    pub fn record(&self) -> Option<&StreamRecord> {
        self.durable.record.as_ref()
    }

    pub fn table(&self) -> PartTable {
        let mut table = PartTable::default();
        let generation = self.record().map_or(0, |record| record.generation);
        for (of, number, part) in &self.durable.parts {
            if *of == generation {
                table.insert(*number, part.clone());
            }
        }
        table
    }

    /// `is_away`: it is owed.
    pub fn create(&mut self, record: &StreamRecord, parts: &[(PartNumber, Part)], is_away: bool) {
        assert!(self.durable.record.is_none(), "a stream is created once");
        self.is_missed = false;
        // What was noted since this was asked for is newer.
        let noted: Vec<_> = self.owed_parts.drain(..).filter(|(of, ..)| *of == record.generation).collect();
        let given = parts.iter().map(|(number, part)| (record.generation, *number, part.clone()));
        self.owed_parts = given.chain(noted).collect();
        self.owed = Some(record.clone());
        self.is_creation = true;
        if !is_away || is_final(record) {
            self.pay();
        }
    }

    /// `false` if the stream is not there.
    pub fn save(&mut self, record: &StreamRecord, is_away: bool) -> bool {
        if self.is_gone() {
            return false;
        }
        self.owed = Some(record.clone());
        self.owed_parts.retain(|(generation, ..)| *generation == record.generation);
        if !is_away || is_final(record) {
            self.pay();
        }
        true
    }

    /// `false` if the stream is not there.
    pub fn note(&mut self, generation: u32, number: PartNumber, part: &Part, is_away: bool) -> bool {
        self.owed_parts.retain(|(_, known, _)| *known != number);
        self.owed_parts.push((generation, number, part.clone()));
        if self.is_gone() {
            return false;
        }
        if !is_away {
            self.pay();
        }
        true
    }

    /// The stream was lost; what was owed of it is no stream.
    fn is_gone(&mut self) -> bool {
        let is_gone = self.durable.record.is_none() && !(self.is_creation && self.owed.is_some());
        if is_gone {
            self.owed = None;
        }
        is_gone
    }

    /// Whether the process is to be told, now, that the stream is not there.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.is_missed, true)
    }

    /// Everything that is owed is written; `false` if the stream is not there.
    pub fn pay(&mut self) -> bool {
        if self.owed.is_none() && self.owed_parts.is_empty() {
            return true;
        }
        if self.is_gone() {
            return false;
        }
        if let Some(record) = self.owed.take() {
            self.durable.record = Some(record);
            self.is_creation = false;
        }
        if self.durable.record.is_some() {
            for (generation, number, part) in std::mem::take(&mut self.owed_parts) {
                self.durable.parts.retain(|(_, known, _)| *known != number);
                self.durable.parts.push((generation, number, part));
            }
        }
        true
    }

    pub fn remember(&mut self) {
        self.past.push(self.durable.clone());
    }

    /// The stream is none any more, and its owner knows.
    pub fn drop_stream(&mut self) {
        *self = Self { past: std::mem::take(&mut self.past), ..Self::default() };
    }

    pub fn lose_everything(&mut self) {
        self.durable = Kept::default();
    }

    /// What is owed was only in the memory of the process. `true` if there was any.
    pub fn crash(&mut self) -> bool {
        let is_lost = self.owed.is_some();
        self.is_missed = false;
        self.owed = None;
        self.owed_parts.clear();
        self.is_creation = false;
        is_lost
    }

    /// Becomes what it was at some time; `false` if nothing is known of earlier times.
    pub fn roll_back(&mut self, chance: &mut Chance) -> bool {
        if self.past.is_empty() {
            return false;
        }
        self.durable = self.past[chance.below(self.past.len() as u64) as usize].clone();
        true
    }
}

fn is_final(record: &StreamRecord) -> bool {
    matches!(record.state, State::Completed | State::Failed)
}
