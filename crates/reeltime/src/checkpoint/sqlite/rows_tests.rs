#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;

use reeltime_core::{PlanKind, Reason, State};
use rusqlite::{Connection, params_from_iter};
use uuid::Uuid;

use super::super::failure::Failure;
use super::super::schema;
use super::*;

fn tables() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, schema::Found::Empty).unwrap();
    connection
}

fn record() -> StreamRecord {
    StreamRecord {
        id: StreamId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001)),
        node: "recorder-1".to_owned(),
        epoch: 1,
        source: "/recordings".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: "/recordings/a b/ü.mp4.part".into(),
        key: ObjectKey::from_bytes("a b/ü.mp4".into()),
        state: State::Active,
        reason: None,
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Growing, 8 << 20, Limits::S3).unwrap(),
        version: None,
        size_bytes: 0,
        etag: None,
        checksum: None,
        started_at: WallTime(1_767_225_600_123),
        completed_at: None,
    }
}

fn put(connection: &Connection, record: &StreamRecord) {
    let marks = ["?"; STREAM_WIDTH].join(", ");
    connection
        .prepare_cached(&format!("INSERT OR REPLACE INTO streams ({STREAM_COLUMNS}) VALUES ({marks})"))
        .unwrap()
        .execute(params_from_iter(stream_values(record)))
        .unwrap();
}

fn get(connection: &Connection) -> Result<StreamRecord> {
    connection.prepare_cached(&format!("SELECT {STREAM_COLUMNS} FROM streams"))?.query_row([], read_stream)
}

fn put_part(connection: &Connection, generation: u32, number: PartNumber, part: &Part) {
    let marks = ["?"; PART_WIDTH].join(", ");
    connection
        .prepare_cached(&format!("INSERT OR REPLACE INTO parts ({PART_COLUMNS}) VALUES ({marks})"))
        .unwrap()
        .execute(params_from_iter(part_values(record().id, generation, number, part)))
        .unwrap();
}

fn get_part(connection: &Connection) -> Result<(PartNumber, Part)> {
    connection.prepare_cached(&format!("SELECT {PART_COLUMNS} FROM parts"))?.query_row([], read_part)
}

const VERSION: FileVersion = FileVersion { size: 7, mtime_ns: -1, ctime_ns: i64::MAX, inode: u64::MAX };

#[test]
fn every_combination_of_what_a_record_may_hold_reads_back() {
    let connection = tables();
    let reasons = Reason::ALL.into_iter().map(Some).chain([None]);
    let uploads = [
        UploadState::None,
        UploadState::Creating { since: WallTime(i64::MIN) },
        UploadState::Open { id: "an id/with \"quotes\", ünicode and\nlines".to_owned() },
        UploadState::Open { id: String::new() },
    ];
    let mut tried = 0;
    for reason in reasons {
        for state in State::ALL {
            for upload in &uploads {
                for kind in PlanKind::ALL {
                    for options in 0..16 {
                        let given = |bit: u32| options >> bit & 1 == 1;
                        let record = StreamRecord {
                            state,
                            reason,
                            upload: upload.clone(),
                            plan: PartPlan::new(kind, 5 << 20, Limits::SCALEWAY).unwrap(),
                            version: given(0).then_some(VERSION),
                            etag: given(1).then(|| "\"abc-2\"".to_owned()),
                            checksum: given(2).then_some(Crc64Nvme(0xae8b_1486_0a79_9888)),
                            completed_at: given(3).then_some(WallTime(0)),
                            ..record()
                        };
                        put(&connection, &record);
                        assert_eq!(get(&connection).unwrap(), record);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert_eq!(tried, 7 * 4 * 4 * 2 * 16);
}

#[test]
fn extremes_read_back() {
    let connection = tables();
    let limits =
        Limits { max_parts: u32::MAX, min_part_bytes: 0, max_part_bytes: u64::MAX, max_object_bytes: u64::MAX };
    let record = StreamRecord {
        epoch: u64::MAX,
        generation: u32::MAX,
        size_bytes: u64::MAX,
        started_at: WallTime(i64::MIN),
        node: String::new(),
        plan: PartPlan::new(PlanKind::Uniform, u64::MAX, limits).unwrap(),
        ..record()
    };
    put(&connection, &record);
    assert_eq!(get(&connection).unwrap(), record);
}

#[test]
fn every_combination_of_what_a_part_may_hold_reads_back() {
    let connection = tables();
    put(&connection, &record());
    for options in 0..8 {
        let given = |bit: u32| options >> bit & 1 == 1;
        for number in [PartNumber::FIRST, PartNumber::new(u32::MAX).unwrap()] {
            let part = Part {
                size_bytes: u64::MAX,
                etag: "\"e\"".to_owned(),
                crc: given(0).then_some(Crc64Nvme(u64::MAX)),
                stored_at: WallTime(1),
                uploads: u32::MAX,
                proven: given(1).then_some(VERSION),
                dirty: given(2),
            };
            connection.execute("DELETE FROM parts", []).unwrap();
            put_part(&connection, u32::MAX, number, &part);
            assert_eq!(get_part(&connection).unwrap(), (number, part));
        }
    }
}

#[test]
fn paths_are_text_where_people_can_read_them_and_the_same_bytes_always() {
    let connection = tables();
    for (bytes, kind) in
        [("/a/ü \"x\"\n.mp4".as_bytes(), "text"), (b"/a/\xff.mp4", "blob"), (b"/a\0b", "blob"), (b"", "text")]
    {
        let path = PathBuf::from(OsStr::from_bytes(bytes));
        let key = ObjectKey::from_bytes(bytes.to_vec());
        let record = StreamRecord { source: path.clone(), path, key, ..record() };
        put(&connection, &record);
        assert_eq!(get(&connection).unwrap(), record);
        for column in ["source", "path", "object_key"] {
            let sql = format!("SELECT typeof({column}) FROM streams");
            let found: String = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(found, kind, "{column} of {bytes:?}");
        }
    }
}

#[test]
fn a_row_is_readable_in_the_shell() {
    let connection = tables();
    let checksum = Some(Crc64Nvme(0xae8b_1486_0a79_9888));
    put(&connection, &StreamRecord { checksum, state: State::PendingCompletion, ..record() });
    let shown = |column: &str| -> String {
        let sql = format!("SELECT CAST({column} AS TEXT) FROM streams JOIN overview USING (id)");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(shown("streams.id"), "01990000-0000-7000-8000-000000000001");
    assert_eq!(shown("streams.state"), "pending_completion");
    assert_eq!(shown("crc64nvme"), "rosUhgp5mIg=");
    assert_eq!(shown("started_at_ms"), "1767225600123");
    assert_eq!(shown("started_at"), "2026-01-01T00:00:00Z");
    assert_eq!(shown("plan_kind"), "growing");
}

#[test]
fn a_row_that_was_changed_by_hand_is_named_with_its_column() {
    let changes = [
        ("id", "'x'"),
        ("state", "'done'"),
        ("reason", "'bored'"),
        ("source", "5"),
        ("plan_kind", "'shrinking'"),
        ("plan_max_object_bytes", "1, plan_first_bytes = 1"),
        ("plan_max_parts", "-1"),
        ("generation", "4294967296"),
        ("upload_asked_at_ms", "1"),
        ("upload_asked_at_ms", "NULL, upload = 'creating'"),
        ("version_inode", "1"),
        ("crc64nvme", "'00'"),
    ];
    for (column, value) in changes {
        let connection = tables();
        put(&connection, &record());
        connection.execute(&format!("UPDATE streams SET {column} = {value}"), []).unwrap();
        let told = Failure::from(get(&connection).expect_err(column)).to_string();
        assert!(told.contains(&format!("column {column}: ")), "{told}");
        let id = if column == "id" { "stream x" } else { "stream 01990000-0000-7000-8000-000000000001" };
        assert!(told.contains(id), "{told}");
    }
    for (column, value) in [("part_number", "0"), ("dirty", "2"), ("crc64nvme", "''"), ("proven_inode", "1")] {
        let connection = tables();
        put(&connection, &record());
        let part = Part {
            size_bytes: 1,
            etag: String::new(),
            crc: None,
            stored_at: WallTime(0),
            uploads: 1,
            proven: None,
            dirty: false,
        };
        put_part(&connection, 1, PartNumber::FIRST, &part);
        connection.execute(&format!("UPDATE parts SET {column} = {value}"), []).unwrap();
        let told = Failure::from(get_part(&connection).expect_err(column)).to_string();
        assert!(told.contains(&format!("column {column}: ")), "{told}");
    }
}
