//! What a test holds against what reeltime says: the objects, what is left over beside them, and
//! the requests that the store got.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use testkit::digest::sha256_of;
use testkit::proxy::{Logged, Op};
use testkit::recorders::synthetic::Finished;
use testkit::servers::s3::PartEntry;

use super::{Destination, World};

impl World {
    pub(crate) fn sha256(&self, key: &str) -> Option<String> {
        match &self.destination {
            Destination::Local(dir) => dir.join(key).exists().then(|| sha256_of(dir.join(key))),
            Destination::S3 { bucket, s3, .. } => s3.sha256(bucket, key),
        }
    }

    /// The bytes of an object.
    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        match &self.destination {
            Destination::Local(dir) => fs::read(dir.join(key)).ok(),
            Destination::S3 { bucket, s3, .. } => s3.get(bucket, key),
        }
    }

    /// The object and its document are there, and the object is the recording.
    #[track_caller]
    pub(crate) fn assert_identical(&self, finished: &Finished) {
        let key = finished.path.strip_prefix(self.recordings()).unwrap().to_str().unwrap();
        assert_eq!(sha256_of(&finished.path), finished.sha256, "the file of {key} has not been touched");
        assert_eq!(self.sha256(key).as_deref(), Some(finished.sha256.as_str()), "{key} is identical");
        assert!(self.sha256(&format!("{key}.metadata.json")).is_some(), "{key} is described");
    }

    /// What has been begun in the store and neither finished nor dropped.
    ///
    /// In a directory a kill may leave what was never an upload: an empty file whose journal was
    /// not begun, or is empty too. Nobody can tell it from somebody else's beginning, so it stays for a
    /// day.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        match &self.destination {
            Destination::Local(dir) => hidden_files(dir),
            Destination::S3 { store: Some(store), proxy, .. } => {
                let created = proxy.requests(Op::CreateMultipartUpload);
                let keys: BTreeSet<_> = created.into_iter().map(|logged| logged.request.key).collect();
                store.unfinished(keys)
            }
            Destination::S3 { bucket, s3, .. } => {
                s3.uploads(bucket).iter().map(|upload| format!("{upload:?}")).collect()
            }
        }
    }

    /// What is left of uploads by which they can be told to be reeltime's without any state: those
    /// of these keys that have a full part.
    pub(crate) fn recognisable_leftovers(&self, keys: &[String]) -> Vec<String> {
        if let Destination::Local(dir) = &self.destination {
            let has_full = |name: &String| has_part_of(&dir.join(format!("{name}.parts")), self.part_bytes());
            return hidden_files(dir).into_iter().filter(has_full).collect();
        }
        self.left_with(keys, |part| part.size_bytes >= self.part_bytes())
    }

    /// What is left of uploads and must be paid for: those of these keys that have a part.
    pub(crate) fn leftovers_with_parts(&self, keys: &[String]) -> Vec<String> {
        self.left_with(keys, |_| true)
    }

    fn left_with(&self, keys: &[String], is_meant: impl Fn(&PartEntry) -> bool) -> Vec<String> {
        let uploads = keys.iter().flat_map(|key| self.uploads_used(key).into_iter().map(move |id| (key, id)));
        let has_one = |parts: Vec<PartEntry>| parts.iter().any(&is_meant);
        let left = uploads.filter(|(key, id)| self.stored_parts(key, id).is_some_and(has_one));
        left.map(|(key, id)| format!("{key}: {id}")).collect()
    }

    /// The parts of an unfinished upload by the store's own list; `None` if there is no such upload.
    pub(crate) fn stored_parts(&self, key: &str, upload_id: &str) -> Option<Vec<PartEntry>> {
        self.bucket().parts(self.bucket_name(), key, upload_id)
    }

    /// Requests of an operation for a key, as the store's side saw them.
    pub(crate) fn requests(&self, op: Op, key: &str) -> Vec<Logged> {
        self.proxy().requests(op).into_iter().filter(|logged| logged.request.key == key).collect()
    }

    /// How often each part was sent, the first part first.
    pub(crate) fn sent(&self, key: &str) -> Vec<usize> {
        let parts: Vec<_> =
            self.requests(Op::UploadPart, key).iter().map(|logged| logged.request.part_number.unwrap()).collect();
        let last = parts.iter().copied().max().unwrap_or(0);
        (1..=last).map(|number| parts.iter().filter(|part| **part == number).count()).collect()
    }

    /// The uploads that parts were sent to.
    pub(crate) fn uploads_used(&self, key: &str) -> BTreeSet<String> {
        let parts = self.requests(Op::UploadPart, key).into_iter();
        parts.filter_map(|logged| logged.request.upload_id).collect()
    }

    /// Requests that change what the store holds.
    pub(crate) fn writes(&self) -> usize {
        let writing = [
            Op::CreateMultipartUpload,
            Op::UploadPart,
            Op::CompleteMultipartUpload,
            Op::AbortMultipartUpload,
            Op::PutObject,
        ];
        writing.iter().map(|op| self.proxy().count(*op)).sum()
    }
}

/// Whether an upload into a directory holds a part of so many bytes, by its journal.
fn has_part_of(journal: &Path, bytes: u64) -> bool {
    let Ok(records) = fs::read_to_string(journal) else { return false };
    let mut held = BTreeMap::new();
    for record in records.lines() {
        match record.split(' ').collect::<Vec<_>>()[..] {
            ["part", number, _, len, ..] => drop(held.insert(number, len == bytes.to_string())),
            ["void", number, ..] => drop(held.remove(number)),
            _ => {}
        }
    }
    held.into_values().any(|is_full| is_full)
}

fn hidden_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(hidden_files(&entry.path()));
            continue;
        }
        let is_beginning = entry.metadata().unwrap().len() == 0;
        if name.starts_with('.') && !is_beginning {
            found.push(name);
        }
    }
    found
}
