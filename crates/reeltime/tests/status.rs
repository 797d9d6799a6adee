//! `reeltime status` over a real state file, with and without its owner.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use reeltime::checkpoint::CheckpointStore;
use reeltime::checkpoint::url::{StateUrl, open};
use reeltime_core::{
    Limits, ObjectKey, Part, PartNumber, PartPlan, PlanKind, Reason, State, StreamId, StreamRecord, UploadState,
    WallTime,
};
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

fn record(dir: &Path, number: u128, state: State, name: &str) -> StreamRecord {
    StreamRecord {
        id: StreamId(Uuid::from_u128(number)),
        node: "cam-1".to_owned(),
        epoch: 1,
        source: dir.to_owned(),
        source_mark: String::new(),
        destination: "s3://archive".to_owned(),
        path: dir.join(name),
        key: ObjectKey::from_bytes(name.into()),
        state,
        reason: (state == State::Failed).then_some(Reason::SourceMissing),
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Uniform, 5 * MIB, Limits::S3).unwrap(),
        version: None,
        size_bytes: 12 * MIB,
        etag: None,
        checksum: None,
        started_at: WallTime(1_782_900_000_000 + number as i64),
        completed_at: (state == State::Completed).then_some(WallTime(1_782_900_060_000)),
    }
}

async fn owner(dir: &Path) -> Arc<dyn CheckpointStore> {
    open(&StateUrl::Sqlite(dir.join("state.db")), "cam-1").await.unwrap()
}

async fn with_streams(dir: &Path) -> Arc<dyn CheckpointStore> {
    let store = owner(dir).await;
    fs::write(dir.join("live.mp4"), vec![1; 11 * MIB as usize]).unwrap();
    let streams = [
        record(dir, 3, State::Failed, "gone.mp4"),
        record(dir, 1, State::Completed, "done\x1b[2J.mp4"),
        record(dir, 2, State::Active, "live.mp4"),
    ];
    for stream in &streams {
        store.create(stream).await.unwrap();
    }
    for number in [1, 2] {
        let part = Part {
            size_bytes: 5 * MIB,
            etag: "e".to_owned(),
            crc: None,
            stored_at: WallTime(0),
            uploads: 1,
            proven: None,
            dirty: false,
        };
        store.record_part(streams[2].id, 1, 1, PartNumber::new(number).unwrap(), &part).await.unwrap();
    }
    store
}

fn status(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
    command.env_clear().env("REELTIME_STATE", dir.join("state.db")).current_dir(dir);
    command.arg("status").args(args.split_whitespace()).output().unwrap()
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn column(table: &str, column: usize) -> Vec<&str> {
    table.lines().take(4).map(|line| line.split_whitespace().nth(column).unwrap()).collect()
}

#[tokio::test]
async fn the_table_shows_the_newest_last_while_the_owner_runs() {
    let dir = tempfile::tempdir().unwrap();
    let owner = with_streams(dir.path()).await;
    let table = stdout(status(dir.path(), ""));
    println!("{table}");
    assert_eq!(column(&table, 0), ["STATE", "completed", "active", "failed"]);
    assert_eq!(
        table.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>()[1..5],
        ["11.0", "MiB", "90%", "2/3"]
    );
    assert!(table.lines().nth(1).unwrap().ends_with("done\\u{1b}[2J.mp4"), "{table}");
    assert!(table.lines().nth(3).unwrap().ends_with("gone.mp4  (source_missing)"), "{table}");
    assert!(table.ends_with("\n1 active, 0 pending_completion, 1 completed, 1 failed\n"), "{table}");
    drop(owner);
}

#[tokio::test]
async fn json_has_the_fields_of_the_api_when_nobody_runs() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_streams(dir.path()).await);
    let streams: Value = serde_json::from_str(&stdout(status(dir.path(), "--json --to s3://b/studio"))).unwrap();
    assert_eq!(
        streams[1],
        json!({
            "id": "00000000-0000-0000-0000-000000000002",
            "path": dir.path().join("live.mp4"),
            "key": "studio/live.mp4",
            "node": "cam-1",
            "state": "active",
            "reason": null,
            "size_bytes": 11 * MIB,
            "uploaded_bytes": 10 * MIB,
            "lag_seconds": 0.0,
            "parts_total": 3,
            "parts_sent": 2,
            "started_at": "2026-07-01T10:00:00.002Z",
            "completed_at": null,
        })
    );
    assert_eq!(streams[0]["completed_at"], "2026-07-01T10:01:00.000Z");
    assert_eq!(streams.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_stream_whose_file_is_gone_has_the_size_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_streams(dir.path()).await);
    fs::remove_file(dir.path().join("live.mp4")).unwrap();
    let streams: Value = serde_json::from_str(&stdout(status(dir.path(), "--json"))).unwrap();
    assert_eq!((&streams[1]["size_bytes"], &streams[1]["key"]), (&json!(12 * MIB), &json!("live.mp4")));
}

#[tokio::test]
async fn a_state_without_streams_says_so() {
    let dir = tempfile::tempdir().unwrap();
    drop(owner(dir.path()).await);
    assert_eq!(stdout(status(dir.path(), "")), format!("no streams in sqlite://{}/state.db\n", dir.path().display()));
    assert_eq!(stdout(status(dir.path(), "--json")), "[]\n");
}

#[tokio::test]
async fn the_file_of_run_says_where_the_state_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_streams(dir.path()).await);
    fs::write(dir.path().join("r.toml"), "state = 'state.db'\nto = 's3://b/p'\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
    command.env_clear().current_dir(dir.path()).args(["status", "--json", "--config", "r.toml"]);
    let streams: Value = serde_json::from_str(&stdout(command.output().unwrap())).unwrap();
    assert_eq!(streams[1]["key"], "p/live.mp4");
}

#[test]
fn a_state_that_is_missing_or_none_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let state: PathBuf = dir.path().join("state.db");
    for content in [
        None,
        Some(
            "this is a letter, and no database, of more than a hundred bytes, so that it is read as a header by all means",
        ),
    ] {
        if let Some(content) = content {
            fs::write(&state, content).unwrap();
        }
        let output = status(dir.path(), "");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].contains("state.db") && lines[1].starts_with("hint: name with --state"),
            "{stderr}"
        );
        assert_eq!(state.exists(), content.is_some(), "looking creates nothing");
    }
}
