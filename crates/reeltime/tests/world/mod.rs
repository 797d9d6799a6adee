//! A directory of recordings, a store that can be disturbed, and a reeltime between them.

#![allow(dead_code, reason = "every test file uses a part of it")]

mod state;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::daemon::{Daemon, LogLine, Running};
use testkit::digest::sha256_of;
use testkit::proxy::{Logged, Op, Outcome, Proxy};
use testkit::recorders::synthetic::{Finished, Recording, Style, Synthetic};
use testkit::servers::{Moto, S3, Store};

pub(crate) use state::{StateStore, Told};

/// For whatever should take a moment: generous, because a busy machine is no failure.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// The smallest part that S3 allows, and the one that tests use there.
pub(crate) const S3_PART: u64 = 5 * MIB;
/// The part that tests use in a directory.
pub(crate) const LOCAL_PART: u64 = 128 * KIB;

static MOTO: LazyLock<Moto> = LazyLock::new(Moto::start);

/// Where recordings go.
#[allow(clippy::large_enum_variant)] // one a test
pub(crate) enum Destination {
    Local(PathBuf),
    S3 { bucket: String, s3: S3, proxy: Box<Proxy>, env: Vec<(String, String)> },
}

pub(crate) struct World {
    dir: TempDir,
    pub(crate) destination: Destination,
    pub(crate) state: StateStore,
}

impl World {
    fn new(destination: impl FnOnce(&Path) -> Destination) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rec")).unwrap();
        let destination = destination(dir.path());
        let state = StateStore::Sqlite(dir.path().join("state.db"));
        Self { dir, destination, state }
    }

    /// Into a directory.
    pub(crate) fn local() -> Self {
        Self::new(|dir| Destination::Local(dir.join("out")))
    }

    /// Into a bucket of this name, which only one test may use, behind a proxy.
    pub(crate) fn s3(bucket: &str) -> Self {
        let world = Self::s3_without_bucket(bucket);
        world.bucket().create_bucket(bucket);
        world
    }

    pub(crate) fn s3_without_bucket(bucket: &str) -> Self {
        let proxy = Box::new(Proxy::before(&MOTO.address()));
        Self::new(|_| Destination::S3 { bucket: bucket.to_owned(), s3: MOTO.s3(), proxy, env: MOTO.env() })
    }

    /// Into the bucket of a real store, behind a proxy.
    pub(crate) fn on(store: &Store) -> Self {
        let proxy = Box::new(Proxy::before(store.address()));
        let bucket = store.bucket().to_owned();
        Self::new(|_| Destination::S3 { bucket, s3: store.s3(), proxy, env: store.env() })
    }

    pub(crate) fn recordings(&self) -> PathBuf {
        self.dir.path().join("rec")
    }

    /// The path of a recording.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.recordings().join(name)
    }

    /// Somewhere beside the recordings.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn to(&self) -> String {
        match &self.destination {
            Destination::Local(dir) => dir.display().to_string(),
            Destination::S3 { bucket, .. } => format!("s3://{bucket}"),
        }
    }

    pub(crate) fn part_bytes(&self) -> u64 {
        match self.destination {
            Destination::Local(_) => LOCAL_PART,
            Destination::S3 { .. } => S3_PART,
        }
    }

    /// A reeltime that tells everything and waits for nothing.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_of(Path::new(env!("CARGO_BIN_EXE_reeltime")))
    }

    /// The same, of another program.
    pub(crate) fn daemon_of(&self, program: &Path) -> Daemon {
        let daemon = Daemon::run(program)
            .arg(self.recordings())
            .args(["--to", &self.to(), "--part-size", &self.part_bytes().to_string()])
            .args(["--state", &self.state.url()])
            .args(["--close-grace", "300ms", "--scan-interval", "1s", "--node", "test"])
            .env("REELTIME_FFPROBE", "/bin/false") // what is recorded here is mostly no video
            .env("REELTIME_TAIL_FLUSH", "off") // a flag says otherwise
            .env("REELTIME_LOG", "debug");
        match &self.destination {
            Destination::Local(_) => daemon,
            Destination::S3 { proxy, env, .. } => daemon.envs(proxy.env_of(env.clone())),
        }
    }

    pub(crate) fn start(&self) -> Running {
        self.daemon().start()
    }

    /// Runs with `--once` and the same state, to its end; answers its exit code.
    pub(crate) fn once(&self) -> Option<i32> {
        self.daemon().arg("--once").start().wait_exit(DEADLINE).code()
    }

    /// Another command with this state.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
        command.env_clear().env("HOME", self.dir.path()).env("REELTIME_STATE", self.state.url()).args(args);
        command.output().unwrap()
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        match &self.destination {
            Destination::S3 { proxy, .. } => proxy,
            Destination::Local(_) => panic!("there is no proxy before a directory"),
        }
    }

    /// The store itself, past the proxy.
    pub(crate) fn bucket(&self) -> &S3 {
        match &self.destination {
            Destination::S3 { s3, .. } => s3,
            Destination::Local(_) => panic!("there is no bucket"),
        }
    }

    /// What the checkpoint says of the stream of this file, if it has one.
    pub(crate) fn told_of(&self, path: &Path) -> Option<Told> {
        let mut streams = self.state.streams().into_iter().filter(|told| Path::new(&told.path) == path);
        let told = streams.next();
        let more: Vec<_> = streams.collect();
        assert_eq!(more, [], "there is one stream of {}", path.display());
        told
    }

    /// Waits until the checkpoint says this of the stream of a file.
    #[track_caller]
    pub(crate) fn wait_told(&self, what: &str, path: &Path, holds: impl Fn(&Told) -> bool) -> Told {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let told = self.told_of(path);
            if let Some(told) = told.as_ref().filter(|told| holds(told)) {
                return told.clone();
            }
            assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}; the checkpoint says {told:#?}");
            std::thread::sleep(Duration::from_millis(50)); // between two looks
        }
    }

    /// Waits until the checkpoint says that the stream of a file is in this state.
    #[track_caller]
    pub(crate) fn wait_state(&self, path: &Path, state: &str) -> Told {
        self.wait_told(&format!("{} to be {state}", path.display()), path, |told| told.state == state)
    }

    pub(crate) fn sha256(&self, key: &str) -> Option<String> {
        match &self.destination {
            Destination::Local(dir) => dir.join(key).exists().then(|| sha256_of(dir.join(key))),
            Destination::S3 { bucket, s3, .. } => s3.sha256(bucket, key),
        }
    }

    /// The bytes of an object.
    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        match &self.destination {
            Destination::Local(dir) => fs::read(dir.join(key)).ok(),
            Destination::S3 { bucket, s3, .. } => s3.get(bucket, key),
        }
    }

    /// The object and its document are there, and the object is the recording.
    #[track_caller]
    pub(crate) fn assert_identical(&self, finished: &Finished) {
        let key = finished.path.strip_prefix(self.recordings()).unwrap().to_str().unwrap();
        assert_eq!(sha256_of(&finished.path), finished.sha256, "the file of {key} has not been touched");
        assert_eq!(self.sha256(key).as_deref(), Some(finished.sha256.as_str()), "{key} is identical");
        assert!(self.sha256(&format!("{key}.metadata.json")).is_some(), "{key} is described");
    }

    /// What has been begun in the store and neither finished nor dropped.
    ///
    /// In a directory a kill may leave what was never an upload: an empty file whose journal was
    /// not begun. Nobody can tell it from somebody else's beginning, so it stays for a day.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        match &self.destination {
            Destination::Local(dir) => hidden_files(dir),
            Destination::S3 { bucket, s3, .. } => {
                s3.uploads(bucket).iter().map(|upload| format!("{upload:?}")).collect()
            }
        }
    }

    /// Requests of an operation for a key, as the store's side saw them.
    pub(crate) fn requests(&self, op: Op, key: &str) -> Vec<Logged> {
        self.proxy().requests(op).into_iter().filter(|logged| logged.request.key == key).collect()
    }

    /// How often each part was sent, the first part first.
    pub(crate) fn sent(&self, key: &str) -> Vec<usize> {
        let parts: Vec<_> =
            self.requests(Op::UploadPart, key).iter().map(|logged| logged.request.part_number.unwrap()).collect();
        let last = parts.iter().copied().max().unwrap_or(0);
        (1..=last).map(|number| parts.iter().filter(|part| **part == number).count()).collect()
    }

    /// The uploads that parts were sent to.
    pub(crate) fn uploads_used(&self, key: &str) -> BTreeSet<String> {
        let parts = self.requests(Op::UploadPart, key).into_iter();
        parts.filter_map(|logged| logged.request.upload_id).collect()
    }

    /// Requests that change what the store holds.
    pub(crate) fn writes(&self) -> usize {
        let writing = [
            Op::CreateMultipartUpload,
            Op::UploadPart,
            Op::CompleteMultipartUpload,
            Op::AbortMultipartUpload,
            Op::PutObject,
        ];
        writing.iter().map(|op| self.proxy().count(*op)).sum()
    }
}

/// Begins a recording that is held after so many bytes.
pub(crate) fn record_until(path: PathBuf, style: Style, total: u64, held_at: u64) -> Recording {
    let recording = Synthetic::into(path, style, total).hold_at(held_at).start();
    recording.wait_held(DEADLINE);
    recording
}

/// Waits until a part is stored and the checkpoint knows.
#[track_caller]
pub(crate) fn wait_part(daemon: &Running, path: &Path, number: u64) {
    daemon.wait_event(&format!("part {number} of {}", path.display()), DEADLINE, |line| {
        line.event() == Some("part_stored") && line.path() == Some(path) && line.number("part") == Some(number)
    });
}

#[track_caller]
pub(crate) fn wait_completed(daemon: &Running, path: &Path) -> LogLine {
    daemon.wait_event_of("completed", path, DEADLINE)
}

/// Waits until the store has carried out a request of this operation whose answer is held back.
#[track_caller]
pub(crate) fn wait_carried_out(proxy: &Proxy, op: Op) {
    proxy.wait_for(&format!("{op:?} to be carried out"), DEADLINE, |log| {
        log.iter().any(|logged| {
            logged.request.op == op && logged.server_status == Some(200) && logged.outcome == Outcome::Underway
        })
    });
}

/// The events of the present run that say that a stream was given up.
pub(crate) fn failures(daemon: &Running) -> Vec<String> {
    let failed = daemon.events().into_iter().filter(|line| line.event() == Some("failed"));
    failed.map(|line| line.to_string()).collect()
}

fn hidden_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(hidden_files(&entry.path()));
            continue;
        }
        let is_beginning = !name.contains(".parts") && entry.metadata().unwrap().len() == 0;
        if name.starts_with('.') && !is_beginning {
            found.push(name);
        }
    }
    found
}
