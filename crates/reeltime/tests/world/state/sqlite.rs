//! A state file, looked at with the program `sqlite3`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Told, ToldPart};

/// A lock on the file, until this is dropped.
pub(crate) struct Locked(Child);

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // the end of its input is the end of its lock
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success());
        }
    }
}

/// Deletes it and what belongs to it.
pub(super) fn delete(path: &Path) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        if let Err(error) = fs::remove_file(&file) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{}", file.display());
        }
    }
}

pub(super) fn forget_upload_id(path: &Path, stream: &str) {
    let since = "upload_asked_at_ms = started_at_ms";
    let change = format!("UPDATE streams SET upload = 'creating', upload_id = NULL, {since}");
    run(path, &format!("{change} WHERE id = '{stream}'"));
}

/// A process that keeps everybody else from writing for as long as its input is open.
pub(super) fn lock(path: &Path) -> Locked {
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail", "-cmd", ".timeout 60000"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run sqlite3 (Debian: apt-get install sqlite3): {error}"));
    child.stdin.as_mut().unwrap().write_all(b"BEGIN IMMEDIATE;\nSELECT 'locked';\n").unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said.trim(), "locked", "{} can be locked", path.display());
    Locked(child)
}

pub(super) fn streams(path: &Path) -> Vec<Told> {
    if !path.exists() {
        return Vec::new();
    }
    // In one statement, so that streams and parts belong to the same moment.
    let parts = "(SELECT json_group_array(json_object('number', part_number, 'size', size_bytes, 'etag', etag)) \
                 FROM parts WHERE stream_id = id AND parts.generation = streams.generation) AS parts";
    let rows = run(path, &format!("SELECT *, {parts} FROM streams"));
    rows.iter().map(told).collect()
}

/// Runs a statement and gives the rows that it answers.
fn run(path: &Path, statement: &str) -> Vec<Value> {
    let output = Command::new("sqlite3")
        .args(["-batch", "-json", "-cmd", ".timeout 60000"])
        .arg(path)
        .arg(statement)
        .output()
        .unwrap_or_else(|error| panic!("cannot run sqlite3 (Debian: apt-get install sqlite3): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    // Before reeltime has made its tables there are no streams.
    if said.contains("no such table") {
        return Vec::new();
    }
    assert!(output.status.success() && said.is_empty(), "sqlite3 {}: {statement}: {said}", path.display());
    if output.stdout.is_empty() {
        return Vec::new();
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

fn told(row: &Value) -> Told {
    let text = |name: &str| row[name].as_str().map(str::to_owned);
    let must = |name: &str| text(name).unwrap_or_else(|| panic!("no {name} in {row}"));
    let parts: Vec<Value> = serde_json::from_str(&must("parts")).unwrap();
    let part = |part: &Value| {
        let etag = part["etag"].as_str().unwrap().trim_matches('"').to_owned();
        let number = u32::try_from(part["number"].as_u64().unwrap()).unwrap();
        (number, ToldPart { size_bytes: part["size"].as_u64().unwrap(), etag })
    };
    Told {
        id: must("id"),
        path: must("path"),
        key: must("object_key"),
        node: must("node"),
        state: must("state"),
        reason: text("reason"),
        upload: must("upload"),
        upload_id: text("upload_id"),
        size_bytes: row["size_bytes"].as_u64().unwrap(),
        first_part_bytes: row["plan_first_bytes"].as_u64().unwrap(),
        parts: parts.iter().map(part).collect::<BTreeMap<_, _>>(),
    }
}
