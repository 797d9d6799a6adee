//! The metadata document and the schema that promises its shape.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use boon::{Compiler, SchemaIndex, Schemas};
use reeltime_core::{
    ByteRange, Crc64Nvme, Limits, ObjectKey, Part, PartNumber, PartPlan, PlanKind, State, StreamId, StreamRecord,
    UploadState, WallTime, WholeObject,
};
use serde_json::json;

use super::*;
use crate::metadata::MetadataDocument;

struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metadata.schema.json");
        let schema = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.enable_content_assertions();
        compiler.add_resource("urn:reeltime:metadata:1", schema).unwrap();
        let index = compiler.compile("urn:reeltime:metadata:1", &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn check(&self, document: &Value) -> Result<(), String> {
        self.0.validate(document, self.1).map_err(|error| format!("{error:#}\n{document:#}"))
    }
}

/// 1970 lies behind: 2026-07-01T12:00:00Z and so many milliseconds.
fn at(millis: i64) -> WallTime {
    WallTime(1_782_907_200_000 + millis)
}

fn part(size_bytes: u64, crc: Option<Crc64Nvme>, uploads: u32) -> Part {
    Part { size_bytes, etag: "\"e\"".into(), crc, stored_at: at(500), uploads, proven: None, dirty: false }
}

fn whole(path: impl Into<PathBuf>, size_bytes: u64) -> WholeObject {
    let plan = PartPlan::new(PlanKind::Growing, 5 << 20, Limits::S3).unwrap();
    let path = path.into();
    let parts: Vec<_> = (1..=plan.parts_for(size_bytes).unwrap())
        .map(|number| {
            let number = PartNumber::new(number).unwrap();
            let range = plan.range_in(number, size_bytes).unwrap();
            (number, range, part(range.len, Some(Crc64Nvme(number.get().into())), number.get()))
        })
        .collect();
    WholeObject {
        record: StreamRecord {
            id: StreamId(uuid::Uuid::now_v7()),
            node: "camera-host".into(),
            epoch: 1,
            source: "/rec".into(),
            source_mark: "7.2.0".into(),
            destination: "s3://archive/studio".into(),
            key: ObjectKey::from_relative(Path::new(path.file_name().unwrap()), &[]).unwrap(),
            path,
            state: State::PendingCompletion,
            reason: None,
            generation: 1,
            upload: UploadState::None,
            plan,
            version: None,
            size_bytes,
            etag: Some("\"whole-2\"".into()),
            checksum: Some(Crc64Nvme::of(b"123456789")),
            started_at: at(0),
            completed_at: Some(at(61_007)),
        },
        parts,
    }
}

fn parse(document: &[u8]) -> Value {
    assert_eq!(document.last(), Some(&b'\n'));
    serde_json::from_slice(document).expect("the document is JSON")
}

#[tokio::test]
async fn a_document_says_what_was_stored_and_what_it_is() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let whole = whole(&path, 6 << 20);
    for (describer, prober) in [(with_ffprobe(), "ffprobe"), (without_ffprobe(), "mp4-boxes")] {
        let document = parse(&describer.describe(&whole, open(&path), "bucket", "a/plain.mp4").await);
        Schema::load().check(&document).unwrap();
        let expected = json!({
            "schema_version": 1,
            "stream_id": whole.record.id.to_string(),
            "node": "camera-host",
            "original_path": path.to_str().unwrap(),
            "bucket": "bucket",
            "key": "a/plain.mp4",
            "total_size_bytes": 6_291_456,
            "started_at": "2026-07-01T12:00:00.000Z",
            "completed_at": "2026-07-01T12:01:01.007Z",
            "checksum": { "algorithm": "CRC64NVME", "value": "rosUhgp5mIg=" },
            "chunks": [
                { "part_number": 1, "offset": 0, "size_bytes": 5_242_880, "etag": "\"e\"",
                  "checksum": "AAAAAAAAAAE=", "uploaded_at": "2026-07-01T12:00:00.500Z", "uploads": 1 },
                { "part_number": 2, "offset": 5_242_880, "size_bytes": 1_048_576, "etag": "\"e\"",
                  "checksum": "AAAAAAAAAAI=", "uploaded_at": "2026-07-01T12:00:00.500Z", "uploads": 2 },
            ],
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&document[field], value, "{field}");
        }
        assert_eq!(document["probe"]["prober"], prober);
        assert_eq!(text(&document["probe"]["streams"][0], "codec_name"), "h264");
        assert!((document["duration_seconds"].as_f64().unwrap() - 1.0).abs() < 0.1);
        assert_eq!(document.get("probe_error"), None);
        assert_eq!(document.get("original_path_bytes"), None);
    }
}

#[tokio::test]
async fn a_document_is_made_of_what_cannot_be_read() {
    let dir = temp_dir();
    let empty = dir.path().join("empty.mp4");
    std::fs::write(&empty, "").unwrap();
    let mut whole = whole(OsString::from_vec(b"/rec/caf\xe9.mp4".to_vec()), 0);
    whole.record.checksum = None;
    whole.parts = vec![(PartNumber::FIRST, ByteRange { offset: 0, len: 0 }, part(0, None, 1))];
    let document = parse(&with_ffprobe().describe(&whole, open(&empty), "/dir", "caf%E9.mp4").await);
    Schema::load().check(&document).unwrap();
    assert_eq!(document["probe_error"], "the recording is empty");
    assert_eq!(document["duration_seconds"], Value::Null);
    assert_eq!(document["checksum"], Value::Null);
    assert_eq!(document["chunks"][0]["checksum"], Value::Null);
    assert_eq!(document.get("probe"), None);
    assert_eq!(document["original_path"], "/rec/caf\u{fffd}.mp4");
    let bytes = aws_smithy_types::base64::decode(document["original_path_bytes"].as_str().unwrap()).unwrap();
    assert_eq!(bytes, b"/rec/caf\xe9.mp4");
}

#[test]
fn fields_keep_their_order_and_read_back() {
    let unknown = Probe::Unknown("ffprobe: no".into());
    let document = MetadataDocument::new(&whole("/rec/x.mp4", 1), "b", "x.mp4", unknown, at(62_000));
    let json = document.to_json();
    let text = std::str::from_utf8(&json).unwrap();
    let order: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("  \"")?.split_once('"')).map(|(field, _)| field).collect();
    assert_eq!(
        order,
        [
            "schema_version",
            "stream_id",
            "node",
            "original_path",
            "bucket",
            "key",
            "total_size_bytes",
            "duration_seconds",
            "started_at",
            "completed_at",
            "processed_at",
            "checksum",
            "chunks",
            "probe_error"
        ]
    );
    assert_eq!(serde_json::from_slice::<MetadataDocument>(&json).unwrap(), document);
}

#[test]
fn the_largest_upload_makes_a_document_of_some_megabytes() {
    let whole = whole("/rec/x.mp4", PartPlan::new(PlanKind::Growing, 5 << 20, Limits::S3).unwrap().capacity());
    assert_eq!(whole.parts.len(), 10_000);
    let unknown = Probe::Unknown("ffprobe: no".into());
    let json = MetadataDocument::new(&whole, "b", "x.mp4", unknown, at(62_000)).to_json();
    assert!(json.len() < 4 << 20, "{} bytes", json.len());
    Schema::load().check(&parse(&json)).unwrap();
}

#[test]
fn the_schema_lets_nothing_else_pass() {
    let schema = Schema::load();
    let unknown = Probe::Unknown("ffprobe: no".into());
    let json = MetadataDocument::new(&whole("/rec/x.mp4", 1), "b", "x.mp4", unknown, at(62_000)).to_json();
    let good = parse(&json);
    schema.check(&good).unwrap();
    for field in good.as_object().unwrap().keys() {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(field);
        assert!(schema.check(&bad).is_err(), "passes without {field}");
    }
    for field in good["chunks"][0].as_object().unwrap().keys() {
        let mut bad = good.clone();
        bad["chunks"][0].as_object_mut().unwrap().remove(field);
        assert!(schema.check(&bad).is_err(), "passes without {field} in a chunk");
    }
    for (pointer, value) in [
        ("/schema_version", json!(2)),
        ("/total_size_bytes", json!(-1)),
        ("/duration_seconds", json!("1.0")),
        ("/started_at", json!("2026-07-01 12:00:00")),
        ("/completed_at", json!("2026-07-01T12:00:00.000+02:00")),
        ("/processed_at", json!("2026-13-01T12:00:00.000Z")),
        ("/checksum/algorithm", json!("CRC32")),
        ("/checksum/value", json!("abc")),
        ("/chunks/0/part_number", json!(0)),
        ("/chunks/0/checksum", json!("rosUhgp5mIg")),
        ("/stream_id", json!("x")),
        ("/probe_error", json!("")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(schema.check(&bad).is_err(), "passes with {pointer}: {bad:#}");
    }
    let mut both = good.clone();
    both["probe"] = json!({ "prober": "ffprobe", "format": {}, "streams": [] });
    assert!(schema.check(&both).is_err(), "passes with probe and probe_error");
    let mut more = good;
    more["another"] = json!(1);
    assert!(schema.check(&more).is_err(), "passes with an unknown field");
}
