//! A store with S3's rules.

use std::collections::BTreeMap;

use reeltime_core::{
    ByteRange, Crc64Nvme, Limits, ObjectFacts, ObjectKey, Part, PartNumber, PendingUpload, RemotePart, Trouble,
    WallTime,
};

use super::chance::Chance;

/// Who makes a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The process that owns the stream.
    Owner,
    /// One that owned it, and may not know that it does not any more.
    FormerOwner,
    /// Another program.
    Stranger,
}

struct Upload {
    key: ObjectKey,
    token: String,
    initiated: u64,
    by: By,
    parts: BTreeMap<PartNumber, StoredPart>,
}

struct StoredPart {
    bytes: Vec<u8>,
    at: u64,
    by: By,
}

impl Upload {
    /// Its parts show whose it is. Those of a former owner came when nobody may have looked for
    /// it any more.
    fn is_known(&self) -> bool {
        self.parts.values().any(|part| part.by == By::Owner && part.bytes.len() >= FULL_PART)
    }
}

struct Object {
    bytes: Vec<u8>,
    token: Option<String>,
    by: By,
    /// Which one it is of all that were made.
    nth: u64,
    /// The upload it came from.
    from: Option<String>,
}

/// In what stores differ.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy)]
pub struct Habits {
    /// The second completion of an upload succeeds, as on AWS; or `NoSuchUpload`, as on MinIO.
    pub idempotent_completion: bool,
    /// Parts and objects are listed with their checksums.
    pub tells_checksums: bool,
    /// Parts may be copied of objects.
    pub copies: bool,
    /// A part that is sent again replaces the first.
    pub replaces_parts: bool,
    /// It says that it will abort an upload so many milliseconds after its beginning.
    pub keeps_uploads_ms: Option<u64>,
}

pub struct Store {
    limits: Limits,
    habits: Habits,
    uploads: BTreeMap<String, Upload>,
    objects: BTreeMap<ObjectKey, Object>,
    next_id: u64,
    strangers: u64,
    objects_made: u64,
    /// The same bytes were stored once more as the same part of the same upload.
    parts_again: u64,
    /// The same object was made once more.
    objects_again: u64,
    objects_of_uploads: u64,
    /// What former owners did: parts, objects, and uploads that they began.
    late: [u64; 3],
}

/// The first part of a plan, when it is full.
const FULL_PART: usize = 8;

/// The store's name for some bytes: stands for an MD5.
pub fn etag_of(bytes: &[u8]) -> String {
    format!("{:016x}{:016x}", Crc64Nvme::of(bytes).0, bytes.len())
}

impl Store {
    pub fn new(limits: Limits, habits: Habits) -> Self {
        Self {
            limits,
            habits,
            uploads: BTreeMap::new(),
            objects: BTreeMap::new(),
            next_id: 1,
            strangers: 0,
            objects_made: 0,
            parts_again: 0,
            objects_again: 0,
            objects_of_uploads: 0,
            late: [0; 3],
        }
    }

    pub fn create(&mut self, key: &ObjectKey, token: &str, tick: u64, by: By) -> String {
        let id = format!("u{}", self.next_id);
        self.next_id += 1;
        self.late[2] += u64::from(by == By::FormerOwner);
        let (key, token) = (key.clone(), token.to_owned());
        self.uploads.insert(id.clone(), Upload { key, token, initiated: tick, by, parts: BTreeMap::new() });
        id
    }

    /// Another program begins an upload, and stores parts of these sizes.
    pub fn create_strangers(&mut self, key: &ObjectKey, sizes: &[usize], tick: u64) {
        let part = |size: &usize| StoredPart { bytes: vec![9; *size], at: tick, by: By::Stranger };
        let parts = (1..).filter_map(PartNumber::new).zip(sizes.iter().map(part)).collect();
        let upload = Upload { key: key.clone(), token: String::new(), initiated: tick, by: By::Stranger, parts };
        self.strangers += 1;
        self.uploads.insert(format!("s{}", self.strangers), upload);
    }

    /// An upload of reeltime's.
    fn ours(&mut self, id: &str) -> Result<&mut Upload, Trouble> {
        let upload = self.uploads.get_mut(id).ok_or(Trouble::NoSuchUpload)?;
        assert_ne!(upload.by, By::Stranger, "{id} is somebody else's upload");
        Ok(upload)
    }

    pub fn put_part(
        &mut self,
        id: &str,
        number: PartNumber,
        bytes: &[u8],
        tick: u64,
        by: By,
    ) -> Result<String, Trouble> {
        let replaces_parts = self.habits.replaces_parts;
        let upload = self.ours(id)?;
        if !replaces_parts && upload.parts.contains_key(&number) {
            return Err(Trouble::NotReplaced);
        }
        let before = upload.parts.insert(number, StoredPart { bytes: bytes.to_vec(), at: tick, by });
        self.late[0] += u64::from(by == By::FormerOwner);
        self.parts_again += u64::from(before.is_some_and(|before| before.bytes == bytes));
        Ok(etag_of(bytes))
    }

    /// Copies a range of the object at the upload's key, if it is still that object; answers what
    /// the part is then.
    pub fn copy_part(
        &mut self,
        id: &str,
        number: PartNumber,
        range: ByteRange,
        object_etag: &str,
        tick: u64,
        by: By,
    ) -> Result<(String, Option<Crc64Nvme>), Trouble> {
        let upload = self.uploads.get(id).ok_or(Trouble::NoSuchUpload)?;
        if !self.habits.copies {
            return Err(Trouble::Denied);
        }
        let object = self.objects.get(&upload.key).filter(|object| etag_of(&object.bytes) == object_etag);
        let bytes = &object.ok_or(Trouble::Denied)?.bytes;
        assert!(bytes.len() as u64 > self.limits.min_part_bytes, "ranges are copied of large objects only");
        let bytes = bytes[range.offset as usize..range.end() as usize].to_vec();
        let etag = self.put_part(id, number, &bytes, tick, by)?;
        Ok((etag, self.habits.tells_checksums.then(|| Crc64Nvme::of(&bytes))))
    }

    pub fn list_parts(&self, id: &str) -> Option<Vec<RemotePart>> {
        let upload = self.uploads.get(id)?;
        let list = upload.parts.iter().map(|(number, StoredPart { bytes, at, .. })| RemotePart {
            number: *number,
            size_bytes: bytes.len() as u64,
            etag: etag_of(bytes),
            crc: self.habits.tells_checksums.then(|| Crc64Nvme::of(bytes)),
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
        by: By,
    ) -> Result<String, Trouble> {
        if !self.uploads.contains_key(id) {
            let made = self.objects.values().find(|object| object.from.as_deref() == Some(id));
            return match made {
                Some(object) if self.habits.idempotent_completion => Ok(etag_of(&object.bytes)),
                _ => Err(Trouble::NoSuchUpload),
            };
        }
        let min_part_bytes = self.limits.min_part_bytes;
        let upload = self.ours(id)?;
        assert!(!parts.is_empty(), "an upload cannot be completed without parts");
        let mut bytes = Vec::new();
        for (at, (number, part)) in (1..).zip(parts) {
            assert_eq!(number.get(), at, "part numbers are consecutive");
            let stored = &upload.parts.get(number).ok_or(Trouble::InvalidPart)?.bytes;
            if etag_of(stored) != part.etag {
                return Err(Trouble::InvalidPart);
            }
            let last = at as usize == parts.len();
            assert!(last || stored.len() as u64 >= min_part_bytes, "EntityTooSmall: part {number}");
            bytes.extend_from_slice(stored);
        }
        assert_eq!(bytes.len() as u64, size);
        assert!(
            crc.is_none_or(|crc| crc == Crc64Nvme::of(&bytes)),
            "the checksum that was announced is that of the parts"
        );
        let upload = self.uploads.remove(id).unwrap();
        self.objects_of_uploads += 1;
        Ok(self.make(upload.key, Some(upload.token), bytes, by, Some(id.to_owned())))
    }

    pub fn put(&mut self, key: &ObjectKey, token: Option<String>, bytes: Vec<u8>, by: By) -> String {
        self.make(key.clone(), token, bytes, by, None)
    }

    fn make(&mut self, key: ObjectKey, token: Option<String>, bytes: Vec<u8>, by: By, from: Option<String>) -> String {
        let etag = etag_of(&bytes);
        self.objects_again += u64::from(self.object(&key) == Some(&bytes));
        self.late[1] += u64::from(by == By::FormerOwner);
        self.objects_made += 1;
        self.objects.insert(key, Object { bytes, token, by, nth: self.objects_made, from });
        etag
    }

    /// So many objects have been made.
    pub fn objects_made(&self) -> u64 {
        self.objects_made
    }

    /// Whether the object was made after so many others, and not by the stream's owner.
    pub fn is_overwritten(&self, key: &ObjectKey, since: u64) -> bool {
        self.objects.get(key).is_some_and(|object| object.nth > since && object.by != By::Owner)
    }

    pub fn head(&self, key: &ObjectKey) -> Option<ObjectFacts> {
        self.objects.get(key).map(|object| ObjectFacts {
            size_bytes: object.bytes.len() as u64,
            etag: etag_of(&object.bytes),
            crc: self.habits.tells_checksums.then(|| Crc64Nvme::of(&object.bytes)),
            token: object.token.clone(),
        })
    }

    pub fn replaces_parts(&mut self) {
        self.habits.replaces_parts = true;
    }

    pub fn keeps_uploads_ms(&self) -> Option<u64> {
        self.habits.keeps_uploads_ms
    }

    pub fn tells_checksums(&self) -> bool {
        self.habits.tells_checksums
    }

    /// Parts, objects and uploads of former owners.
    pub fn late(&self) -> [u64; 3] {
        self.late
    }

    /// Parts that were sent again, objects that were made again, and uploads that became no
    /// object.
    pub fn done_again(&self) -> [u64; 3] {
        [self.parts_again, self.objects_again, self.next_id - 1 - self.objects_of_uploads - self.unknown()]
    }

    /// Uploads that are left and do not show whose they are.
    fn unknown(&self) -> u64 {
        self.uploads.values().filter(|upload| upload.by != By::Stranger && !upload.is_known()).count() as u64
    }

    /// `false` if it is gone already.
    pub fn abort(&mut self, id: &str) -> bool {
        let is_there = self.ours(id).is_ok();
        self.uploads.remove(id);
        is_there
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

    /// Our uploads that show whose they are.
    pub fn uploads_of(&self, key: &ObjectKey) -> Vec<PendingUpload> {
        let mut uploads = self.list_uploads(key);
        uploads.retain(|upload| self.uploads[&upload.upload_id].is_known());
        uploads
    }

    /// Those that no former owner has touched.
    pub fn all_our_uploads(&self) -> usize {
        let is_touched = |upload: &Upload| upload.parts.values().any(|part| part.by == By::FormerOwner);
        self.uploads.values().filter(|upload| upload.by == By::Owner && !is_touched(upload)).count()
    }
}
