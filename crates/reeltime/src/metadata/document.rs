//! The metadata document: what stands beside the object as `….metadata.json`.
//!
//! Its fields are a contract, described by `docs/metadata.schema.json`. Within a
//! `schema_version` fields are added at most, never changed or removed. The fields of an object
//! are always in the same order. A document has some 300 bytes per part (3 MB for 10,000) and
//! what the prober said (4 MB at most).

use std::path::Path;

use reeltime_core::{ByteRange, Part, PartNumber, WallTime, WholeObject};
use serde::{Deserialize, Serialize};

use super::probe::{Probe, ProbeReport};
use crate::view::rfc3339;

/// The version of the document's shape.
pub const SCHEMA_VERSION: u32 = 1;

/// A described recording. All times are RFC 3339 in UTC.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MetadataDocument {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The stream that the object came from.
    pub stream_id: String,
    /// The node that completed it.
    pub node: String,
    /// Where the file was; what is not UTF-8 is replaced by U+FFFD.
    pub original_path: String,
    /// Base64 of the path's bytes; only if `original_path` has lost something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_path_bytes: Option<String>,
    /// The bucket, or the directory.
    pub bucket: String,
    /// The object's key, with the destination's prefix.
    pub key: String,
    /// Size of the object.
    pub total_size_bytes: u64,
    /// Length of the recording; `None` if unknown.
    pub duration_seconds: Option<f64>,
    /// When the recording was first seen.
    pub started_at: String,
    /// When the object was complete.
    pub completed_at: String,
    /// When this document was made.
    pub processed_at: String,
    /// Checksum of the whole object; `None` if unknown.
    pub checksum: Option<Checksum>,
    /// The parts in order.
    pub chunks: Vec<Chunk>,
    /// What the recording is, if it could be read; otherwise `probe_error` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeReport>,
    /// Why the recording could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_error: Option<String>,
}

/// A checksum and its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checksum {
    /// `CRC64NVME`.
    pub algorithm: String,
    /// Base64 of the big-endian value, as in S3's headers.
    pub value: String,
}

/// One part of the object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// From 1.
    pub part_number: u32,
    /// Its first byte in the object.
    pub offset: u64,
    /// Its size.
    pub size_bytes: u64,
    /// The store's name for it.
    pub etag: String,
    /// CRC64NVME as in [`Checksum::value`]; `None` if unknown.
    pub checksum: Option<String>,
    /// When the store had it.
    pub uploaded_at: String,
    /// How often it was sent; more than once if the recorder rewrote it, or after a failure.
    pub uploads: u32,
}

impl MetadataDocument {
    /// Describes `whole`, stored as `full_key` in `bucket`, as of `processed_at`.
    pub fn new(whole: &WholeObject, bucket: &str, full_key: &str, probe: Probe, processed_at: WallTime) -> Self {
        let record = &whole.record;
        let (original_path, original_path_bytes) = spell(&record.path);
        let (probe, probe_error) = match probe {
            Probe::Known(report) => (Some(report), None),
            Probe::Unknown(error) => (None, Some(error)),
        };
        Self {
            schema_version: SCHEMA_VERSION,
            stream_id: record.id.to_string(),
            node: record.node.clone(),
            original_path,
            original_path_bytes,
            bucket: bucket.to_owned(),
            key: full_key.to_owned(),
            total_size_bytes: record.size_bytes,
            duration_seconds: probe.as_ref().and_then(ProbeReport::duration_seconds),
            started_at: rfc3339(record.started_at),
            // Always set by then; a document is not made before the object is complete.
            completed_at: rfc3339(record.completed_at.unwrap_or(processed_at)),
            processed_at: rfc3339(processed_at),
            checksum: record.checksum.map(|crc| Checksum { algorithm: "CRC64NVME".to_owned(), value: crc.to_base64() }),
            chunks: whole.parts.iter().map(Chunk::new).collect(),
            probe,
            probe_error,
        }
    }

    /// The document as indented JSON with a newline at the end.
    pub fn to_json(&self) -> Vec<u8> {
        // Fails only for map keys that are no text and for values that refuse to be written;
        // the fields above have neither.
        #[allow(clippy::expect_used)]
        let mut json = serde_json::to_vec_pretty(self).expect("text, numbers and lists are always JSON");
        json.push(b'\n');
        json
    }
}

impl Chunk {
    fn new((number, range, part): &(PartNumber, ByteRange, Part)) -> Self {
        Self {
            part_number: number.get(),
            offset: range.offset,
            size_bytes: range.len,
            etag: part.etag.clone(),
            checksum: part.crc.map(reeltime_core::Crc64Nvme::to_base64),
            uploaded_at: rfc3339(part.stored_at),
            uploads: part.uploads,
        }
    }
}

/// A path as text, and its bytes in base64 if they cannot be told from the text.
fn spell(path: &Path) -> (String, Option<String>) {
    if let Some(text) = path.to_str() {
        return (text.to_owned(), None);
    }
    let bytes = aws_smithy_types::base64::encode(path.as_os_str().as_encoded_bytes());
    (path.to_string_lossy().into_owned(), Some(bytes))
}
