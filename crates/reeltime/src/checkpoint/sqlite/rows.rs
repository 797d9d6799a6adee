//! Records and parts as rows.
//!
//! Written for people with the `sqlite3` shell: states and kinds are their names, times are
//! milliseconds since the Unix epoch, checksums are base64 as in S3's headers. Paths and keys
//! are text; only those that are not UTF-8 (or hold a NUL, at which the shell would stop) are
//! blobs of the same bytes. 64-bit counts are stored as they are bit by bit: from 2^63 on, as
//! some inode numbers are, they show as negative.
//!
//! What is read back is exactly what was written. A row that says anything else was changed by
//! hand or damaged, and is an error that names the row and the column.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reeltime_core::{
    Crc64Nvme, FileVersion, Limits, ObjectKey, Part, PartNumber, PartPlan, StreamId, StreamRecord, UploadState,
    WallTime,
};
use rusqlite::types::{ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{Error, Result, Row};

/// The columns of table `streams`, in the order of [`stream_values`].
pub(super) const STREAM_COLUMNS: &str = "id, node, epoch, source, path, object_key, state, reason, generation, \
    upload, upload_id, upload_asked_at_ms, \
    plan_kind, plan_first_bytes, plan_max_parts, plan_min_part_bytes, plan_max_part_bytes, plan_max_object_bytes, \
    version_size_bytes, version_mtime_ns, version_ctime_ns, version_inode, \
    size_bytes, etag, crc64nvme, started_at_ms, completed_at_ms, \
    source_mark, destination";

/// How many they are.
pub(super) const STREAM_WIDTH: usize = 29;

/// The columns of table `parts`, in the order of [`part_values`].
pub(super) const PART_COLUMNS: &str = "stream_id, part_number, generation, size_bytes, etag, crc64nvme, \
    stored_at_ms, uploads, dirty, proven_size_bytes, proven_mtime_ns, proven_ctime_ns, proven_inode";

/// How many they are.
pub(super) const PART_WIDTH: usize = 13;

/// The values of a row of `streams`.
pub(super) fn stream_values(record: &StreamRecord) -> [ToSqlOutput<'_>; STREAM_WIDTH] {
    let (upload, upload_id, upload_asked_at) = match &record.upload {
        UploadState::None => ("none", NULL, NULL),
        UploadState::Creating { since } => ("creating", NULL, integer(since.0)),
        UploadState::Open { id } => ("open", text(id), NULL),
    };
    let limits = record.plan.limits();
    let [version_size, version_mtime, version_ctime, version_inode] = version_values(record.version);
    [
        owned_text(record.id.to_string()),
        text(&record.node),
        count(record.epoch),
        bytes(record.source.as_os_str().as_bytes()),
        bytes(record.path.as_os_str().as_bytes()),
        bytes(record.key.as_bytes()),
        text(record.state.as_str()),
        record.reason.map_or(NULL, |reason| text(reason.as_str())),
        integer(i64::from(record.generation)),
        text(upload),
        upload_id,
        upload_asked_at,
        text(record.plan.kind().as_str()),
        count(record.plan.first_bytes()),
        integer(i64::from(limits.max_parts)),
        count(limits.min_part_bytes),
        count(limits.max_part_bytes),
        count(limits.max_object_bytes),
        version_size,
        version_mtime,
        version_ctime,
        version_inode,
        count(record.size_bytes),
        record.etag.as_deref().map_or(NULL, text),
        record.checksum.map_or(NULL, |crc| owned_text(crc.to_base64())),
        integer(record.started_at.0),
        record.completed_at.map_or(NULL, |at| integer(at.0)),
        text(&record.source_mark),
        text(&record.destination),
    ]
}

/// Reads a row of [`STREAM_COLUMNS`].
pub(super) fn read_stream(row: &Row<'_>) -> Result<StreamRecord> {
    // The fields are read in the order of the columns, which is that in which they stand here.
    let mut row = Reader { row, next: 0 };
    Ok(StreamRecord {
        id: row.parsed::<StreamId>()?,
        node: row.text()?.to_owned(),
        epoch: row.count()?,
        source: row.path()?,
        path: row.path()?,
        key: ObjectKey::from_bytes(row.bytes()?),
        state: row.parsed()?,
        reason: row.optional(Reader::parsed)?,
        generation: row.small()?,
        upload: row.upload()?,
        plan: row.plan()?,
        version: row.version()?,
        size_bytes: row.count()?,
        etag: row.optional(|row| row.text().map(str::to_owned))?,
        checksum: row.optional(Reader::crc)?,
        started_at: WallTime(row.integer()?),
        completed_at: row.optional(Reader::integer)?.map(WallTime),
        source_mark: row.text()?.to_owned(),
        destination: row.text()?.to_owned(),
    })
}

/// The values of a row of `parts`.
pub(super) fn part_values(
    id: StreamId,
    generation: u32,
    number: PartNumber,
    part: &Part,
) -> [ToSqlOutput<'_>; PART_WIDTH] {
    let [proven_size, proven_mtime, proven_ctime, proven_inode] = version_values(part.proven);
    [
        owned_text(id.to_string()),
        integer(i64::from(number.get())),
        integer(i64::from(generation)),
        count(part.size_bytes),
        text(&part.etag),
        part.crc.map_or(NULL, |crc| owned_text(crc.to_base64())),
        integer(part.stored_at.0),
        integer(i64::from(part.uploads)),
        integer(i64::from(part.dirty)),
        proven_size,
        proven_mtime,
        proven_ctime,
        proven_inode,
    ]
}

/// Reads a row of [`PART_COLUMNS`].
pub(super) fn read_part(row: &Row<'_>) -> Result<(PartNumber, Part)> {
    let mut row = Reader { row, next: 1 };
    let number = row.small()?;
    let number = PartNumber::new(number).ok_or_else(|| row.damaged("0 is no part number"))?;
    row.small()?; // the generation, which was asked for
    let size_bytes = row.count()?;
    let etag = row.text()?.to_owned();
    let crc = row.optional(Reader::crc)?;
    let stored_at = WallTime(row.integer()?);
    let uploads = row.small()?;
    let dirty = match row.integer()? {
        0 => false,
        1 => true,
        other => return Err(row.damaged(format!("{other} is neither 0 nor 1"))),
    };
    let proven = row.version()?;
    Ok((number, Part { size_bytes, etag, crc, stored_at, uploads, proven, dirty }))
}

const NULL: ToSqlOutput<'_> = ToSqlOutput::Borrowed(ValueRef::Null);

fn integer(value: i64) -> ToSqlOutput<'static> {
    ToSqlOutput::Borrowed(ValueRef::Integer(value))
}

fn count(value: u64) -> ToSqlOutput<'static> {
    integer(value.cast_signed())
}

fn text(value: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes()))
}

fn owned_text(value: String) -> ToSqlOutput<'static> {
    ToSqlOutput::Owned(Value::Text(value))
}

/// Text where a person can read it.
fn bytes(value: &[u8]) -> ToSqlOutput<'_> {
    let readable = std::str::from_utf8(value).is_ok() && !value.contains(&0);
    ToSqlOutput::Borrowed(if readable { ValueRef::Text(value) } else { ValueRef::Blob(value) })
}

fn version_values(version: Option<FileVersion>) -> [ToSqlOutput<'static>; 4] {
    let Some(FileVersion { size, mtime_ns, ctime_ns, inode }) = version else {
        return [NULL; 4];
    };
    [count(size), integer(mtime_ns), integer(ctime_ns), count(inode)]
}

/// Takes the columns of a row one after the other.
struct Reader<'row> {
    row: &'row Row<'row>,
    next: usize,
}

impl<'row> Reader<'row> {
    fn value(&mut self) -> Result<ValueRef<'row>> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// `None` for a NULL, else what `read` makes of the column.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.row.get_ref(self.next)? == ValueRef::Null {
            self.next += 1;
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn integer(&mut self) -> Result<i64> {
        match self.value()? {
            ValueRef::Integer(value) => Ok(value),
            other => Err(self.damaged(format!("{} where an integer belongs", other.data_type()))),
        }
    }

    fn count(&mut self) -> Result<u64> {
        self.integer().map(i64::cast_unsigned)
    }

    fn small(&mut self) -> Result<u32> {
        let value = self.integer()?;
        u32::try_from(value).map_err(|_| self.damaged(format!("{value} is out of range")))
    }

    fn text(&mut self) -> Result<&'row str> {
        match self.value()? {
            ValueRef::Text(value) => std::str::from_utf8(value).map_err(|_| self.damaged("text that is not UTF-8")),
            other => Err(self.damaged(format!("{} where text belongs", other.data_type()))),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.value()? {
            ValueRef::Text(value) | ValueRef::Blob(value) => Ok(value.to_vec()),
            other => Err(self.damaged(format!("{} where text or a blob belongs", other.data_type()))),
        }
    }

    fn path(&mut self) -> Result<PathBuf> {
        self.bytes().map(|bytes| Path::new(&OsString::from_vec(bytes)).to_owned())
    }

    fn parsed<T: FromStr>(&mut self) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| self.damaged(format!("unknown value {text:?}")))
    }

    fn crc(&mut self) -> Result<Crc64Nvme> {
        let text = self.text()?;
        Crc64Nvme::from_base64(text).ok_or_else(|| self.damaged(format!("{text:?} is no checksum")))
    }

    fn upload(&mut self) -> Result<UploadState> {
        let state = self.text()?;
        let id = self.optional(|row| row.text().map(str::to_owned))?;
        let asked_at = self.optional(Self::integer)?;
        match (state, id, asked_at) {
            ("none", None, None) => Ok(UploadState::None),
            ("creating", None, Some(at)) => Ok(UploadState::Creating { since: WallTime(at) }),
            ("open", Some(id), None) => Ok(UploadState::Open { id }),
            _ => Err(self.damaged(format!("upload {state:?} does not go with upload_id and upload_asked_at_ms"))),
        }
    }

    fn plan(&mut self) -> Result<PartPlan> {
        let kind = self.parsed()?;
        let first_bytes = self.count()?;
        let limits = Limits {
            max_parts: self.small()?,
            min_part_bytes: self.count()?,
            max_part_bytes: self.count()?,
            max_object_bytes: self.count()?,
        };
        PartPlan::new(kind, first_bytes, limits)
            .ok_or_else(|| self.damaged(format!("a first part of {first_bytes} bytes breaks the limits {limits:?}")))
    }

    fn version(&mut self) -> Result<Option<FileVersion>> {
        let size = self.optional(Self::count)?;
        let mtime_ns = self.optional(Self::integer)?;
        let ctime_ns = self.optional(Self::integer)?;
        let inode = self.optional(Self::count)?;
        match (size, mtime_ns, ctime_ns, inode) {
            (None, None, None, None) => Ok(None),
            (Some(size), Some(mtime_ns), Some(ctime_ns), Some(inode)) => {
                Ok(Some(FileVersion { size, mtime_ns, ctime_ns, inode }))
            }
            _ => Err(self.damaged("a file version that is only partly set")),
        }
    }

    /// The error of the column that was taken last.
    fn damaged(&self, what: impl Into<String>) -> Error {
        let column = self.next.saturating_sub(1);
        let row: &rusqlite::Statement<'_> = self.row.as_ref();
        let name = row.column_name(column).unwrap_or("?").to_owned();
        let id = self.row.get_ref(0).ok().and_then(|id| id.as_str().ok()).unwrap_or("?").to_owned();
        Error::FromSqlConversionFailure(
            column,
            Type::Null,
            Box::new(DamagedRow { id, column: name, what: what.into() }),
        )
    }
}

/// A row that was not written by this program.
#[derive(Debug)]
pub(super) struct DamagedRow {
    id: String,
    column: String,
    what: String,
}

impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}, column {}: {}", self.id, self.column, self.what)
    }
}

impl std::error::Error for DamagedRow {}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
