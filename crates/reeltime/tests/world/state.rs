//! What the checkpoint says of the streams, read with a client that is not reeltime's.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Where a test's reeltime keeps its state.
pub(crate) enum StateStore {
    /// A file, looked at with the program `sqlite3`.
    Sqlite(PathBuf),
}

/// A stream as the checkpoint tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    /// `none`, `creating`, `open`.
    pub(crate) upload: String,
    pub(crate) upload_id: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) first_part_bytes: u64,
    /// Of the present generation.
    pub(crate) parts: BTreeMap<u32, ToldPart>,
}

/// A stored part as the checkpoint tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToldPart {
    pub(crate) size_bytes: u64,
    /// Without quotes.
    pub(crate) etag: String,
}

impl StateStore {
    /// For `--state`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
        }
    }

    /// All streams, in the order of their paths.
    pub(crate) fn streams(&self) -> Vec<Told> {
        let mut streams = match self {
            Self::Sqlite(path) => sqlite::streams(path),
        };
        streams.sort_by(|one, other| one.path.cmp(&other.path));
        streams
    }

    /// The state is gone, as after the loss of its disk. Only while reeltime does not run.
    pub(crate) fn lose_everything(&self) {
        match self {
            Self::Sqlite(path) => {
                for suffix in ["", "-wal", "-shm", ".lock"] {
                    let mut file = path.clone().into_os_string();
                    file.push(suffix);
                    if let Err(error) = fs::remove_file(&file) {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", file.display());
                    }
                }
            }
        }
    }

    /// Nothing can be written from now on, until the guard is dropped.
    #[must_use]
    pub(crate) fn take_away(&self) -> Away {
        match self {
            Self::Sqlite(path) => Away(sqlite::lock(path)),
        }
    }

    /// Takes the id of its upload from a stream, as if it had never been written down. Only
    /// while reeltime does not run.
    pub(crate) fn forget_upload_id(&self, stream: &str) {
        match self {
            Self::Sqlite(path) => {
                let since = "upload_asked_at_ms = started_at_ms";
                let change = format!("UPDATE streams SET upload = 'creating', upload_id = NULL, {since}");
                sqlite::run(path, &format!("{change} WHERE id = '{stream}'"));
            }
        }
    }
}

/// A state store that cannot be written, until this is dropped.
pub(crate) struct Away(Child);

impl Drop for Away {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // the end of its input is the end of its lock
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success());
        }
    }
}

mod sqlite {
    use super::{BTreeMap, BufRead, BufReader, Child, Command, Path, Stdio, Told, ToldPart, Value, Write};

    /// A process that keeps everybody else from writing for as long as its input is open.
    pub(super) fn lock(path: &Path) -> Child {
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
        child
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
    pub(super) fn run(path: &Path, statement: &str) -> Vec<Value> {
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
}
