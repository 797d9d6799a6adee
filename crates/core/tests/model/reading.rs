//! What a process sees of the file.

use reeltime_core::{
    ByteRange, Crc64Nvme, FileVersion, Input, ObjectFacts, Observation, Part, PartNumber, PartPlan, Trouble, WallTime,
    Writers,
};

use super::recorder::File;
use super::store;
use super::world::World;

impl World {
    /// The file that it has open, and whether that has a name.
    pub fn open_file(&self, who: usize) -> Option<(&File, bool)> {
        let unlinked = self.processes[who].unlinked.as_ref().map(|file| (file, false));
        unlinked.or_else(|| self.file.as_ref().map(|file| (file, true)))
    }

    pub fn version(&self, who: usize) -> Option<FileVersion> {
        self.open_file(who).map(|(file, _)| file.version())
    }

    pub fn read(&self, who: usize, range: ByteRange) -> Option<Vec<u8>> {
        let (file, _) = self.open_file(who)?;
        file.bytes.get(range.offset as usize..range.end() as usize).map(<[u8]>::to_vec)
    }

    pub fn part(&self, bytes: &[u8], etag: String, uploads: u32, proven: Option<FileVersion>) -> Part {
        Part {
            size_bytes: bytes.len() as u64,
            etag,
            crc: Some(Crc64Nvme::of(bytes)),
            stored_at: WallTime(self.tick as i64),
            uploads,
            proven,
            dirty: false,
        }
    }

    pub fn look(&mut self, who: usize, ask_writers: bool) -> Input {
        let jump = if self.clock_jumps { self.chance.place(4) } else { 9 };
        let Some((file, linked)) = self.open_file(who) else { return Input::SourceMissing };
        let content_end = file.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        let mut age_ms = self.tick.saturating_sub(file.mtime_ms.max(file.ctime_ms));
        if jump < 2 {
            age_ms = [0, age_ms + 3_600_000][jump];
        }
        let writers = match (ask_writers, self.writers_known, self.writer_open) {
            (false, ..) => Writers::NotAsked,
            (true, false, _) => Writers::Unknowable,
            (true, true, true) => Writers::Open,
            (true, true, false) => Writers::None,
        };
        Input::Observed(Observation { version: file.version(), content_end, age_ms, writers, linked })
    }

    pub fn verify_part(
        &self,
        who: usize,
        number: PartNumber,
        range: ByteRange,
        crc: Option<Crc64Nvme>,
        etag: &str,
    ) -> Input {
        let Some((bytes, read_at)) = self.read(who, range).zip(self.version(who)) else {
            let generation = self.processes[who].machine.as_ref().map_or(0, |machine| machine.record().generation);
            return Input::PartFailed { number, generation, trouble: Trouble::SourceChanged };
        };
        let actual = Crc64Nvme::of(&bytes);
        let matches = match crc {
            Some(crc) => crc == actual,
            None => self.etag_is_md5 && store::etag_of(&bytes) == *etag,
        };
        Input::PartVerified { number, etag: etag.to_owned(), crc: actual, matches, read_at }
    }

    pub fn compare_object(
        &mut self,
        who: usize,
        plan: &PartPlan,
        facts: &ObjectFacts,
        settled: Option<FileVersion>,
    ) -> Input {
        let range = ByteRange { offset: 0, len: facts.size_bytes };
        let Some((bytes, read_at)) = self.read(who, range).zip(self.version(who)) else {
            return Input::Failed(Trouble::SourceChanged);
        };
        let same = match facts.crc {
            Some(crc) => crc == Crc64Nvme::of(&bytes),
            None => self.etag_is_md5 && store::etag_of(&bytes) == facts.etag,
        };
        let parts = same.then(|| {
            let count = plan.parts_for(facts.size_bytes).unwrap();
            let numbers = (1..=count).filter_map(PartNumber::new);
            let part = |number| {
                let range = plan.range_in(number, facts.size_bytes).unwrap();
                let bytes = &bytes[range.offset as usize..range.end() as usize];
                let proven = settled.filter(|version| *version == read_at);
                let etag = if facts.crc.is_some() { facts.etag.clone() } else { store::etag_of(bytes) };
                (number, self.part(bytes, etag, 1, proven))
            };
            numbers.map(part).collect()
        });
        if same {
            self.seen.recognised += 1;
            self.made_at = self.tick;
        }
        Input::ObjectCompared { parts, read_at }
    }
}
