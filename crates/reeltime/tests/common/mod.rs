//! Records and parts to write into checkpoint stores.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use reeltime_core::{
    Crc64Nvme, FileVersion, Limits, ObjectKey, Part, PartNumber, PartPlan, PlanKind, State, StreamId, StreamRecord,
    UploadState, WallTime,
};
use uuid::Uuid;

/// A new stream; the same `number` is the same stream.
pub(crate) fn record(number: u32) -> StreamRecord {
    // Neither the path nor the key is UTF-8: whatever is done to a record must keep them.
    let name = [format!("{number} ").as_bytes(), b"\xff.mp4"].concat();
    StreamRecord {
        id: StreamId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))),
        node: "recorder-1".to_owned(),
        epoch: 3,
        source: "/recordings".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: PathBuf::from("/recordings").join(OsStr::from_bytes(&name)),
        key: ObjectKey::from_bytes(name),
        state: State::Active,
        reason: None,
        generation: 1,
        upload: UploadState::Creating { since: WallTime(1_767_225_600_000) },
        plan: PartPlan::new(PlanKind::Growing, 8 << 20, Limits::S3).expect("the limits allow it"),
        version: None,
        size_bytes: u64::from(number),
        etag: None,
        checksum: None,
        started_at: WallTime(1_767_225_600_123),
        completed_at: None,
    }
}

/// The same stream in `state`, with what belongs to that.
pub(crate) fn moved(record: &StreamRecord, state: State) -> StreamRecord {
    let mut record = record.clone();
    record.state = state;
    record.upload = UploadState::Open { id: "upload/1".to_owned() };
    if state == State::Completed {
        record.version = Some(FileVersion { size: 9, mtime_ns: 10, ctime_ns: 11, inode: u64::MAX });
        record.etag = Some("\"whole-2\"".to_owned());
        record.checksum = Some(Crc64Nvme(7));
        record.completed_at = Some(WallTime(1_767_225_700_000));
    }
    record
}

/// What was sent as a part; a different `number` is a different content.
pub(crate) fn part(number: u32) -> Part {
    Part {
        size_bytes: u64::from(number) + (8 << 20),
        etag: format!("\"part-{number}\""),
        crc: number.is_multiple_of(2).then_some(Crc64Nvme(u64::from(number))),
        stored_at: WallTime(i64::from(number)),
        uploads: 1,
        proven: number.is_multiple_of(3).then_some(FileVersion { size: 1, mtime_ns: 2, ctime_ns: 3, inode: 4 }),
        dirty: number.is_multiple_of(5),
    }
}

/// The part number `number`, from 1.
pub(crate) fn nth(number: u32) -> PartNumber {
    PartNumber::new(number).expect("part numbers begin at 1")
}
