//! What must be so when a stream has come to an end, and at the end of all.

use reeltime_core::{ObjectKey, Reason, State};

use super::recorder::File;
use super::world::World;

impl World {
    /// A stream was announced as completed.
    pub fn is_done_rightly(&mut self, who: usize) {
        let process = &self.processes[who];
        assert!(process.headed_at.unwrap_or(0) >= process.made_at, "an object is looked at after it was made");
        if let Some(made) = process.headed_at {
            self.verified_at = made;
        }
        let key = process.record().key.clone();
        let epoch = process.ledger.as_ref().expect("a machine has a ledger").epoch;
        if let Some(record) = self.checkpoint.record().filter(|record| record.epoch == epoch) {
            assert_eq!(record.state, State::Completed, "what is announced is durable");
            let noted = self.checkpoint.table().bytes();
            assert!(noted >= record.size_bytes, "completed with {noted} of {} bytes", record.size_bytes);
        }
        let object = self.store.object(&key).expect("a done stream has an object");
        // A former owner may still have another file open.
        let now = self.open_file(who).map(|(file, _)| file).into_iter().chain(&self.file).map(|file| &file.bytes);
        let then =
            self.past.iter().filter(|(until, _)| *until >= self.made_at.saturating_sub(30)).map(|(_, bytes)| bytes);
        let is_the_file = now.chain(then).any(|bytes| bytes == object);
        assert!(
            is_the_file || self.is_overwritten(&key),
            "the object is no content that the file has had since it was made"
        );
    }

    /// Somebody else made another object after the completed one had been looked at: nobody can
    /// prevent that.
    fn is_overwritten(&mut self, key: &ObjectKey) -> bool {
        let is_overwritten = self.store.is_overwritten(key, self.verified_at);
        self.seen.overwritten += u64::from(is_overwritten);
        is_overwritten
    }

    /// The file is deleted after its upload, if that is so configured, as `processor/disposal.rs`
    /// does it.
    pub fn dispose(&mut self, who: usize) {
        let record = self.processes[who].record().clone();
        let is_named = self.processes[who].unlinked.is_none() && record.key == self.key;
        let is_same = |file: &File| record.version.is_some_and(|version| version.same_content(&file.version()));
        if !self.disposes || !is_named || !self.file.as_ref().is_some_and(is_same) {
            return;
        }
        // What was not looked at just now is asked for.
        let found = self.store.head(&record.key).expect("a done stream has an object");
        if self.processes[who].headed_at.is_none() && Some(found.etag) != record.etag {
            return;
        }
        let file = self.unlink().expect("it is there");
        self.say("deleted, because it is uploaded");
        self.seen.disposed += 1;
        self.disposed = Some((record.key, file.bytes));
    }

    pub fn all_is_well(&mut self) {
        if let Some(file) = &self.file {
            let record = self.checkpoint.record().expect("every file becomes a stream");
            if self.temp_name && self.final_name_taken {
                assert_eq!(record.reason, Some(Reason::KeyTaken));
                return self.nothing_is_left_behind();
            }
            assert_eq!(record.state, State::Completed, "{:?}", record.reason);
            let (key, bytes) = (self.key.clone(), file.bytes.clone());
            self.object_is(&key, &bytes, "the object equals the file");
        }
        if let Some((key, bytes)) = self.disposed.take() {
            self.object_is(&key, &bytes, "a file is deleted only after its bytes are in the store for good");
        }
        self.one_has_it();
        self.nothing_is_left_behind();
        if self.is_calm {
            self.nothing_was_done_again();
        }
    }

    fn object_is(&mut self, key: &ObjectKey, bytes: &Vec<u8>, what: &str) {
        if self.store.object(key) != Some(bytes) && !self.is_overwritten(key) {
            assert_eq!(self.store.object(key), Some(bytes), "{what}");
        }
    }

    /// The stream belongs to the last one that took it up.
    fn one_has_it(&self) {
        let Some(record) = self.checkpoint.record() else { return };
        if let Some((node, epoch)) = &self.owned_by {
            assert_eq!((&record.node, record.epoch), (node, *epoch), "somebody else has the stream");
        }
    }

    /// Of what a lost checkpoint alone knew, the upload of a file that is gone, or has another
    /// name by now, cannot be found. Where the object was recognised nobody looks for more, and
    /// parts of a file that was cut may not show whose they are; and an older copy may name an
    /// upload that was left, or tell of another file altogether. Of one that may not have its name
    /// nothing is looked for.
    ///
    /// An upload that a former owner touched when it was none any more may be left: its part hides
    /// whose it is, or nobody knows of it, or it was taken for the one that is left.
    fn nothing_is_left_behind(&self) {
        let is_failed = self.checkpoint.record().is_some_and(|record| record.state == State::Failed);
        let is_hidden = is_failed || self.has_truncated || self.seen.recognised > 0 || self.seen.rolled_back > 0;
        let left = match (self.has_lost_checkpoint, &self.file) {
            // Without a full part it does not show whose it is.
            (false, _) if self.has_lost_upload => self.store.uploads_of(&self.key).len(),
            (false, _) => self.store.all_our_uploads(),
            (true, Some(file)) if !is_hidden => {
                let uploads = self.store.uploads_of(&self.key).into_iter();
                uploads.filter(|upload| upload.initiated.0 > file.born_ms as i64).count()
            }
            (true, _) => 0,
        };
        assert!(left as u64 <= self.store.late()[2], "{left} uploads are left behind");
    }

    /// What former owners did when they were none any more may have been in vain, or have made
    /// something else vain.
    fn nothing_was_done_again(&self) {
        let mut again = self.store.done_again();
        if self.seen.rolled_back > 0 {
            again[2] = 0; // it may name one that had been left, having no full part
        }
        let late = self.store.late();
        assert!(
            again.iter().zip(&late).all(|(again, late)| again <= late),
            "parts sent again, objects made again, uploads begun for nothing: {again:?}, of former owners {late:?}"
        );
    }
}
