//! What the sink remembers of objects and uploads: everything but the bytes.

use std::collections::{BTreeMap, HashMap};

/// What is known of an object, or of a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) size_bytes: u64,
    pub(super) etag: String,
    /// CRC64NVME in base64, if the client has stated it.
    pub(super) crc: Option<String>,
    /// `x-amz-meta-…`
    pub(super) metadata: Vec<(String, String)>,
}

/// An unfinished upload.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// Bucket and key.
    pub(super) path: String,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) parts: BTreeMap<u32, Facts>,
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By bucket and key.
    pub(super) objects: BTreeMap<String, Facts>,
    pub(super) uploads: HashMap<String, Upload>,
    /// How often each request was answered.
    pub(super) requests: BTreeMap<&'static str, u64>,
    last_number: u64,
}

impl Memory {
    /// An `ETag` that cannot be taken for an MD5, so that nobody compares it with one.
    pub(super) fn new_etag(&mut self) -> String {
        format!("\"{:016x}-1\"", self.next_number())
    }

    /// Begins an upload; answers its id.
    pub(super) fn begin(&mut self, path: &str, metadata: Vec<(String, String)>) -> String {
        let id = format!("upload-{:016x}", self.next_number());
        self.uploads.insert(id.clone(), Upload { path: path.to_owned(), metadata, parts: BTreeMap::new() });
        id
    }

    /// Makes the object of an upload, of the parts with these numbers. `None`: there is no such
    /// upload, or no such part.
    pub(super) fn complete(&mut self, id: &str, numbers: &[u32], crc: Option<String>) -> Option<Facts> {
        let upload = self.uploads.get(id)?;
        let sizes = numbers.iter().map(|number| upload.parts.get(number).map(|part| part.size_bytes));
        let size_bytes = sizes.sum::<Option<u64>>()?;
        let upload = self.uploads.remove(id)?;
        let facts = Facts { size_bytes, etag: self.new_etag(), crc, metadata: upload.metadata };
        self.objects.insert(upload.path, facts.clone());
        Some(facts)
    }

    /// Forgets objects, uploads and counts.
    pub(super) fn forget(&mut self) {
        *self = Self { last_number: self.last_number, ..Self::default() };
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}
