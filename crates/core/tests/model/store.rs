//! A store with S3's rules.

use std::collections::BTreeMap;

use reeltime_core::{
    Crc64Nvme, Limits, ObjectFacts, ObjectKey, Part, PartNumber, PendingUpload, RemotePart, Trouble, WallTime,
};

use super::Chance;

struct Upload {
    key: ObjectKey,
    token: String,
    initiated: u64,
    parts: BTreeMap<PartNumber, (Vec<u8>, u64)>,
}

struct Object {
    bytes: Vec<u8>,
    token: String,
    /// The upload it came from, and the parts it was asked for.
    from: Option<String>,
}

pub struct Store {
    limits: Limits,
    /// The second completion of an upload succeeds, as on AWS; or `NoSuchUpload`, as on MinIO.
    idempotent_completion: bool,
    /// Parts and objects are listed with their checksums.
    tells_checksums: bool,
    uploads: BTreeMap<String, Upload>,
    objects: BTreeMap<ObjectKey, Object>,
    next_id: u64,
    /// The same bytes were stored once more as the same part of the same upload.
    parts_again: u64,
    /// The same object was made once more.
    objects_again: u64,
    objects_of_uploads: u64,
}

/// The first part of a plan, when it is full.
const FULL_PART: usize = 8;

/// The store's name for some bytes: stands for an MD5.
pub fn etag_of(bytes: &[u8]) -> String {
    format!("{:016x}{:016x}", Crc64Nvme::of(bytes).0, bytes.len())
}

impl Store {
    pub fn new(limits: Limits, idempotent_completion: bool, tells_checksums: bool) -> Self {
        Self {
            limits,
            idempotent_completion,
            tells_checksums,
            uploads: BTreeMap::new(),
            objects: BTreeMap::new(),
            next_id: 1,
            parts_again: 0,
            objects_again: 0,
            objects_of_uploads: 0,
        }
    }

    pub fn create(&mut self, key: &ObjectKey, token: &str, tick: u64) -> String {
        let id = format!("u{}", self.next_id);
        self.next_id += 1;
        let upload = Upload { key: key.clone(), token: token.to_owned(), initiated: tick, parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    pub fn put_part(&mut self, id: &str, number: PartNumber, bytes: &[u8], tick: u64) -> Option<String> {
        let upload = self.uploads.get_mut(id)?;
        let before = upload.parts.insert(number, (bytes.to_vec(), tick));
        self.parts_again += u64::from(before.is_some_and(|(before, _)| before == bytes));
        Some(etag_of(bytes))
    }

    pub fn list_parts(&self, id: &str) -> Option<Vec<RemotePart>> {
        let upload = self.uploads.get(id)?;
        let list = upload.parts.iter().map(|(number, (bytes, at))| RemotePart {
            number: *number,
            size_bytes: bytes.len() as u64,
            etag: etag_of(bytes),
            crc: self.tells_checksums.then(|| Crc64Nvme::of(bytes)),
            stored_at: WallTime(*at as i64),
        });
        Some(list.collect())
    }

    pub fn list_uploads(&self, key: &ObjectKey) -> Vec<PendingUpload> {
        let of_key = self.uploads.iter().filter(|(_, upload)| upload.key == *key);
        of_key
            .map(|(id, upload)| PendingUpload {
                key: upload.key.clone(),
                upload_id: id.clone(),
                initiated: WallTime(upload.initiated as i64),
            })
            .collect()
    }

    pub fn complete(
        &mut self,
        id: &str,
        parts: &[(PartNumber, Part)],
        crc: Option<Crc64Nvme>,
        size: u64,
    ) -> Result<String, Trouble> {
        let Some(upload) = self.uploads.get(id) else {
            let made = self.objects.values().find(|object| object.from.as_deref() == Some(id));
            return match made {
                Some(object) if self.idempotent_completion => Ok(etag_of(&object.bytes)),
                _ => Err(Trouble::NoSuchUpload),
            };
        };
        assert!(!parts.is_empty(), "an upload cannot be completed without parts");
        let mut bytes = Vec::new();
        for (at, (number, part)) in (1..).zip(parts) {
            assert_eq!(number.get(), at, "part numbers are consecutive");
            let (stored, _) = upload.parts.get(number).ok_or(Trouble::InvalidPart)?;
            if etag_of(stored) != part.etag {
                return Err(Trouble::InvalidPart);
            }
            let last = at as usize == parts.len();
            assert!(last || stored.len() as u64 >= self.limits.min_part_bytes, "EntityTooSmall: part {number}");
            bytes.extend_from_slice(stored);
        }
        assert_eq!(bytes.len() as u64, size);
        assert!(
            crc.is_none_or(|crc| crc == Crc64Nvme::of(&bytes)),
            "the checksum that was announced is that of the parts"
        );
        let upload = self.uploads.remove(id).unwrap();
        let etag = etag_of(&bytes);
        self.objects_again += u64::from(self.object(&upload.key) == Some(&bytes));
        self.objects_of_uploads += 1;
        self.objects.insert(upload.key, Object { bytes, token: upload.token, from: Some(id.to_owned()) });
        Ok(etag)
    }

    pub fn put(&mut self, key: &ObjectKey, token: &str, bytes: Vec<u8>) -> String {
        let etag = etag_of(&bytes);
        self.objects_again += u64::from(self.object(key) == Some(&bytes));
        self.objects.insert(key.clone(), Object { bytes, token: token.to_owned(), from: None });
        etag
    }

    pub fn head(&self, key: &ObjectKey) -> Option<ObjectFacts> {
        self.objects.get(key).map(|object| ObjectFacts {
            size_bytes: object.bytes.len() as u64,
            etag: etag_of(&object.bytes),
            crc: self.tells_checksums.then(|| Crc64Nvme::of(&object.bytes)),
            token: Some(object.token.clone()),
        })
    }

    pub fn tells_checksums(&self) -> bool {
        self.tells_checksums
    }

    /// Parts that were sent again, objects that were made again, and uploads that became no
    /// object.
    pub fn done_again(&self) -> [u64; 3] {
        [self.parts_again, self.objects_again, self.next_id - 1 - self.objects_of_uploads - self.without_full_part()]
    }

    /// Uploads that are left and have no full part: nobody can tell whose they are.
    fn without_full_part(&self) -> u64 {
        let has_full = |upload: &Upload| upload.parts.values().any(|(bytes, _)| bytes.len() >= FULL_PART);
        self.uploads.values().filter(|upload| !has_full(upload)).count() as u64
    }

    pub fn abort(&mut self, id: &str) {
        self.uploads.remove(id);
    }

    /// An upload expires, or somebody aborts it.
    pub fn vanish_one(&mut self, chance: &mut Chance) -> bool {
        if self.uploads.is_empty() {
            return false;
        }
        let which = chance.below(self.uploads.len() as u64) as usize;
        let id = self.uploads.keys().nth(which).unwrap().clone();
        self.uploads.remove(&id);
        true
    }

    pub fn object(&self, key: &ObjectKey) -> Option<&Vec<u8>> {
        self.objects.get(key).map(|object| &object.bytes)
    }

    /// The uploads that show whose they are.
    pub fn uploads_of(&self, key: &ObjectKey) -> Vec<PendingUpload> {
        let mut uploads = self.list_uploads(key);
        uploads
            .retain(|upload| self.uploads[&upload.upload_id].parts.values().any(|(bytes, _)| bytes.len() >= FULL_PART));
        uploads
    }

    pub fn all_uploads(&self) -> usize {
        self.uploads.len()
    }
}
