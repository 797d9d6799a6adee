#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use reeltime_core::{
    Limits, ObjectKey, Part, PartNumber, PartPlan, PlanKind, State, StreamId, StreamRecord, UploadState, WallTime,
};
use uuid::Uuid;

use super::super::connection::{create_missing, open_for_reading};
use super::super::requests::load;
use super::*;

fn record(number: u128) -> StreamRecord {
    StreamRecord {
        id: StreamId(Uuid::from_u128(number)),
        node: "n".to_owned(),
        epoch: 1,
        source: "/r".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: format!("/r/{number}.mp4").into(),
        key: ObjectKey::from_bytes(format!("{number}.mp4").into_bytes()),
        state: State::Active,
        reason: None,
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Growing, 8 << 20, Limits::S3).unwrap(),
        version: None,
        size_bytes: 0,
        etag: None,
        checksum: None,
        started_at: WallTime(0),
        completed_at: None,
    }
}

fn create(number: u128) -> Write {
    Write::Create(record(number))
}

fn record_part(number: u128) -> Write {
    let part = Part {
        size_bytes: 1,
        etag: "e".to_owned(),
        crc: None,
        stored_at: WallTime(0),
        uploads: 1,
        proven: None,
        dirty: false,
    };
    Write::RecordPart { id: record(number).id, epoch: 1, generation: 1, number: PartNumber::FIRST, part }
}

fn ids(path: &Path) -> Vec<u128> {
    load(&open_for_reading(path).unwrap()).unwrap().into_iter().map(|record| record.id.0.as_u128()).collect()
}

/// A new state file in `dir`, as the writing thread has it.
fn state_file(dir: &tempfile::TempDir) -> StateFile {
    let path = dir.path().join("state.db");
    let lock = StateLock::acquire(&path, "n").unwrap();
    create_missing(&path).unwrap();
    let connection = open_for_owner(&path).unwrap();
    let identity = Identity::of(&path).unwrap();
    StateFile { connection: Some(connection), path, identity, location: "here".to_owned(), lock }
}

/// A writer on a new state file, and the file.
fn writer(dir: &tempfile::TempDir) -> (Writer, PathBuf) {
    let StateFile { connection, path, location, lock, .. } = state_file(dir);
    let writer = Writer::start(connection.unwrap(), path.clone(), location, lock).unwrap();
    (writer, path)
}

#[test]
fn a_commit_survives_a_power_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = state_file(&dir);
    let setting = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        file.connection.as_ref().unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(setting("synchronous"), "2", "FULL: the log is synced before a commit is answered");
    assert_eq!(setting("journal_mode"), "wal");
    assert_eq!(setting("foreign_keys"), "1");
}

#[test]
fn a_refused_request_does_not_touch_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = state_file(&dir);
    let answers = file.answers(&[create(1), record_part(2), create(3)]);
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(matches!(&answers[1], Err(CheckpointError::Unknown { .. })));
    assert_eq!(ids(&file.path), [1, 3]);
}

#[test]
fn an_impossible_request_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = state_file(&dir);
    let refuse = "CREATE TEMP TRIGGER t BEFORE INSERT ON main.parts BEGIN SELECT RAISE(ABORT, 'no parts'); END";
    file.connection.as_ref().unwrap().execute_batch(refuse).unwrap();
    let answers = file.answers(&[create(1), record_part(1), create(3)]);
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    let told = answers[1].as_ref().unwrap_err();
    assert!(matches!(told, CheckpointError::Unusable { .. }), "{told:?}");
    assert!(told.to_string().contains("no parts"), "{told}");
    assert_eq!(ids(&file.path), [1, 3]);
}

#[test]
fn a_full_disk_fails_the_whole_batch_and_nothing_of_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = state_file(&dir);
    assert!(file.answers(&[create(1)])[0].is_ok());
    let pages: i64 = file.connection.as_ref().unwrap().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    file.connection.as_ref().unwrap().pragma_update(None, "max_page_count", pages).unwrap();
    let batch: Vec<_> = (2..100).map(create).collect();
    for answer in file.answers(&batch) {
        let told = answer.expect_err("there is no room for 98 streams");
        assert!(matches!(told, CheckpointError::Outage { op: "create stream", .. }), "{told:?}");
        assert!(told.to_string().contains("free some space"), "{told}");
    }
    assert_eq!(ids(&file.path), [1]);
    // The next batch has a new connection, without the limit: there is room again.
    assert!(file.answers(&batch).iter().all(Result::is_ok));
    assert_eq!(ids(&file.path).len(), 99);
}

#[test]
fn a_file_that_another_program_holds_is_an_outage_until_it_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = state_file(&dir);
    file.connection.as_ref().unwrap().busy_timeout(Duration::ZERO).unwrap();
    let shell = Connection::open(&file.path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let told = file.answers(&[create(1)]).remove(0).unwrap_err();
    assert!(matches!(told, CheckpointError::Outage { .. }), "{told:?}");
    assert!(told.to_string().contains("another program"), "{told}");
    shell.execute_batch("COMMIT").unwrap();
    assert!(file.answers(&[create(1)])[0].is_ok());
}

#[test]
fn a_file_that_was_taken_away_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = state_file(&dir);
    let aside = dir.path().join("aside.db");
    std::fs::rename(&file.path, &aside).unwrap();
    let told = file.answers(&[create(1)]).remove(0).unwrap_err();
    assert!(matches!(told, CheckpointError::Unusable { .. }), "{told:?}");
    assert!(told.to_string().contains("removed or replaced"), "{told}");
    std::fs::rename(&aside, &file.path).unwrap();
    assert!(file.answers(&[create(1)])[0].is_ok());
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, path) = writer(&dir);
    let commits_before = commits(&path);
    // While somebody else holds the file, requests pile up behind the first.
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked = ask(&writer, 200).await;
    shell.execute_batch("COMMIT").unwrap();
    for answered in asked {
        answered.await.expect("it is answered").unwrap();
    }
    assert_eq!(ids(&path).len(), 200);
    let commits = commits(&path) - commits_before;
    assert!((1..=2).contains(&commits), "{commits} commits for 200 requests that waited together");
}

/// Queues the creation of `count` streams.
async fn ask(writer: &Writer, count: u128) -> Vec<oneshot::Receiver<Answer>> {
    let mut asked = Vec::new();
    for number in 1..=count {
        let (answer, answered) = oneshot::channel();
        writer.queue.as_ref().unwrap().send(Job { write: create(number), answer }).await.unwrap();
        asked.push(answered);
    }
    asked
}

/// How many commits are in the log: frames whose header tells the size of the file after them.
fn commits(path: &Path) -> usize {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::read(log).unwrap();
    let page_bytes = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks(24 + page_bytes).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn dropping_carries_out_what_is_queued_and_gives_back_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, path) = writer(&dir);
    let mut asked = ask(&writer, 300).await;
    drop(writer);
    let _lock = StateLock::acquire(&path, "next").expect("the lock is free");
    for answered in &mut asked {
        answered.try_recv().expect("it is answered").unwrap();
    }
    assert_eq!(ids(&path).len(), 300);
}
