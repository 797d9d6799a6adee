//! Records as hashes, and parts as lines of JSON.
//!
//! Written for people with `redis-cli`: states and kinds are their names, numbers are decimal,
//! times are milliseconds since the Unix epoch, checksums are base64 as in S3's headers. Paths
//! and keys are the bytes that they are. What has no value has no field.
//!
//! What is read back is exactly what was written. A field that says anything else was changed
//! by hand or damaged, and is an error that names it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use reeltime_core::{
    Crc64Nvme, FileVersion, Limits, ObjectKey, Part, PartNumber, PartPlan, StreamId, StreamRecord, UploadState,
    WallTime,
};
use serde::{Deserialize, Serialize};

/// The fields of a record, with a value or without.
pub(super) type Fields = Vec<(&'static str, Option<Vec<u8>>)>;

/// What is wrong with what was read.
pub(super) type Damage = String;

/// The fields of `meta`.
pub(super) fn fields_of(record: &StreamRecord) -> Fields {
    let (upload, upload_id, upload_asked_at) = match &record.upload {
        UploadState::None => ("none", None, None),
        UploadState::Creating { since } => ("creating", None, Some(since.0)),
        UploadState::Open { id } => ("open", Some(id), None),
    };
    let limits = record.plan.limits();
    let version = record.version;
    vec![
        ("id", text(record.id)),
        ("node", text(&record.node)),
        ("epoch", text(record.epoch)),
        ("source", Some(record.source.as_os_str().as_bytes().to_vec())),
        ("source_mark", noted(&record.source_mark)),
        ("path", Some(record.path.as_os_str().as_bytes().to_vec())),
        ("destination", noted(&record.destination)),
        ("object_key", Some(record.key.as_bytes().to_vec())),
        ("state", text(record.state)),
        ("reason", record.reason.and_then(text)),
        ("generation", text(record.generation)),
        ("upload", text(upload)),
        ("upload_id", upload_id.and_then(text)),
        ("upload_asked_at_ms", upload_asked_at.and_then(text)),
        ("plan_kind", text(record.plan.kind().as_str())),
        ("plan_first_bytes", text(record.plan.first_bytes())),
        ("plan_max_parts", text(limits.max_parts)),
        ("plan_min_part_bytes", text(limits.min_part_bytes)),
        ("plan_max_part_bytes", text(limits.max_part_bytes)),
        ("plan_max_object_bytes", text(limits.max_object_bytes)),
        ("version_size_bytes", version.and_then(|version| text(version.size))),
        ("version_mtime_ns", version.and_then(|version| text(version.mtime_ns))),
        ("version_ctime_ns", version.and_then(|version| text(version.ctime_ns))),
        ("version_inode", version.and_then(|version| text(version.inode))),
        ("size_bytes", text(record.size_bytes)),
        ("etag", record.etag.as_ref().and_then(text)),
        ("crc64nvme", record.checksum.and_then(|crc| text(crc.to_base64()))),
        ("started_at_ms", text(record.started_at.0)),
        ("completed_at_ms", record.completed_at.and_then(|at| text(at.0))),
    ]
}

#[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the table above reads better so")]
fn text(value: impl ToString) -> Option<Vec<u8>> {
    Some(value.to_string().into_bytes())
}

/// A text that is empty where there is nothing to note.
fn noted(text: &str) -> Option<Vec<u8>> {
    (!text.is_empty()).then(|| text.as_bytes().to_vec())
}

/// Reads the fields of `meta`.
pub(super) fn record_of(fields: HashMap<String, Vec<u8>>) -> Result<StreamRecord, Damage> {
    let fields = Reader(fields);
    Ok(StreamRecord {
        id: fields.parsed::<StreamId>("id")?,
        node: fields.text("node")?.to_owned(),
        epoch: fields.parsed("epoch")?,
        source: fields.path("source")?,
        source_mark: fields.optional("source_mark")?.unwrap_or_default(),
        path: fields.path("path")?,
        destination: fields.optional("destination")?.unwrap_or_default(),
        key: ObjectKey::from_bytes(fields.bytes("object_key")?.clone()),
        state: fields.parsed("state")?,
        reason: fields.optional("reason")?,
        generation: fields.parsed("generation")?,
        upload: fields.upload()?,
        plan: fields.plan()?,
        version: fields.version()?,
        size_bytes: fields.parsed("size_bytes")?,
        etag: fields.optional("etag")?,
        checksum: match fields.optional::<String>("crc64nvme")? {
            Some(text) => Some(crc_of(&text)?),
            None => None,
        },
        started_at: WallTime(fields.parsed("started_at_ms")?),
        completed_at: fields.optional("completed_at_ms")?.map(WallTime),
    })
}

struct Reader(HashMap<String, Vec<u8>>);

impl Reader {
    fn bytes(&self, field: &str) -> Result<&Vec<u8>, Damage> {
        self.0.get(field).ok_or_else(|| format!("field {field} is missing"))
    }

    fn text(&self, field: &str) -> Result<&str, Damage> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| format!("field {field} is not UTF-8"))
    }

    fn parsed<T: FromStr>(&self, field: &str) -> Result<T, Damage> {
        let text = self.text(field)?;
        text.parse().map_err(|_| format!("field {field} has the unknown value {text:?}"))
    }

    fn optional<T: FromStr>(&self, field: &str) -> Result<Option<T>, Damage> {
        if self.0.contains_key(field) { self.parsed(field).map(Some) } else { Ok(None) }
    }

    fn path(&self, field: &str) -> Result<PathBuf, Damage> {
        Ok(PathBuf::from(OsString::from_vec(self.bytes(field)?.clone())))
    }

    fn upload(&self) -> Result<UploadState, Damage> {
        let id = self.optional::<String>("upload_id")?;
        let asked_at = self.optional::<i64>("upload_asked_at_ms")?;
        match (self.text("upload")?, id, asked_at) {
            ("none", None, None) => Ok(UploadState::None),
            ("creating", None, Some(at)) => Ok(UploadState::Creating { since: WallTime(at) }),
            ("open", Some(id), None) => Ok(UploadState::Open { id }),
            (state, ..) => Err(format!("upload {state:?} does not go with upload_id and upload_asked_at_ms")),
        }
    }

    fn plan(&self) -> Result<PartPlan, Damage> {
        let first_bytes = self.parsed("plan_first_bytes")?;
        let limits = Limits {
            max_parts: self.parsed("plan_max_parts")?,
            min_part_bytes: self.parsed("plan_min_part_bytes")?,
            max_part_bytes: self.parsed("plan_max_part_bytes")?,
            max_object_bytes: self.parsed("plan_max_object_bytes")?,
        };
        PartPlan::new(self.parsed("plan_kind")?, first_bytes, limits)
            .ok_or_else(|| format!("a first part of {first_bytes} bytes breaks the limits {limits:?}"))
    }

    fn version(&self) -> Result<Option<FileVersion>, Damage> {
        let size = self.optional("version_size_bytes")?;
        let mtime_ns = self.optional("version_mtime_ns")?;
        let ctime_ns = self.optional("version_ctime_ns")?;
        let inode = self.optional("version_inode")?;
        match (size, mtime_ns, ctime_ns, inode) {
            (None, None, None, None) => Ok(None),
            (Some(size), Some(mtime_ns), Some(ctime_ns), Some(inode)) => {
                Ok(Some(FileVersion { size, mtime_ns, ctime_ns, inode }))
            }
            _ => Err("a file version that is only partly set".to_owned()),
        }
    }
}

/// A part as a line of JSON.
#[derive(Serialize, Deserialize)]
struct PartLine {
    generation: u32,
    size_bytes: u64,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crc64nvme: Option<String>,
    stored_at_ms: i64,
    uploads: u32,
    dirty: bool,
    /// The version of the file with which it was last seen to agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<VersionLine>,
}

#[derive(Serialize, Deserialize)]
struct VersionLine {
    size_bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
}

/// The value of a part in `parts`.
pub(super) fn line_of(generation: u32, part: &Part) -> Vec<u8> {
    let line = PartLine {
        generation,
        size_bytes: part.size_bytes,
        etag: part.etag.clone(),
        crc64nvme: part.crc.map(Crc64Nvme::to_base64),
        stored_at_ms: part.stored_at.0,
        uploads: part.uploads,
        dirty: part.dirty,
        proven: part.proven.map(|FileVersion { size, mtime_ns, ctime_ns, inode }| VersionLine {
            size_bytes: size,
            mtime_ns,
            ctime_ns,
            inode,
        }),
    };
    // Numbers, texts and nothing that could fail.
    serde_json::to_vec(&line).unwrap_or_default()
}

/// Reads a field of `parts`: its generation, number, and what was sent.
pub(super) fn part_of(number: &str, line: &[u8]) -> Result<(u32, PartNumber, Part), Damage> {
    let nth = number.parse().ok().and_then(PartNumber::new).ok_or_else(|| format!("{number:?} is no part number"))?;
    let line: PartLine = serde_json::from_slice(line).map_err(|error| format!("part {nth}: {error}"))?;
    let crc = line.crc64nvme.map(|text| crc_of(&text)).transpose()?;
    let proven = line.proven.map(|version| FileVersion {
        size: version.size_bytes,
        mtime_ns: version.mtime_ns,
        ctime_ns: version.ctime_ns,
        inode: version.inode,
    });
    let part = Part {
        size_bytes: line.size_bytes,
        etag: line.etag,
        crc,
        stored_at: WallTime(line.stored_at_ms),
        uploads: line.uploads,
        proven,
        dirty: line.dirty,
    };
    Ok((line.generation, nth, part))
}

fn crc_of(text: &str) -> Result<Crc64Nvme, Damage> {
    Crc64Nvme::from_base64(text).ok_or_else(|| format!("{text:?} is no checksum"))
}
