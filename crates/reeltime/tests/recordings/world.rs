//! A directory to record into, a destination, and what an outsider sees of both.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use reeltime_core::ObjectKey;
use serde_json::Value;
use tempfile::TempDir;
use testkit::daemon::{Daemon, LogLine, Running};
use testkit::digest::{sha256_of, sha256_of_bytes};
use testkit::proxy::{Op, Proxy};
use testkit::recorders::synthetic::fill;
use testkit::servers::{Moto, S3};

/// For whatever must happen; far more than it takes.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Where objects are in their bucket.
const PREFIX: &str = "studio";

const DOCUMENT: &str = ".metadata.json";

pub struct World {
    recordings: TempDir,
    scratch: TempDir,
    destination: Destination,
}

#[allow(clippy::large_enum_variant, reason = "there is one per test")]
enum Destination {
    Dir(TempDir),
    Bucket { proxy: Proxy, s3: S3, bucket: String, moto: Arc<Moto> },
}

use Destination::{Bucket, Dir};

impl World {
    /// With a directory.
    pub fn local() -> Self {
        Self::to(Dir(tempfile::tempdir().unwrap()))
    }

    /// With a bucket of its own on the server that all tests share.
    pub fn s3() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let moto = shared_moto();
        let bucket = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let s3 = moto.with_bucket(&bucket);
        Self::to(Bucket { proxy: Proxy::before(&moto.address()), s3, bucket, moto })
    }

    fn to(destination: Destination) -> Self {
        // As reeltime tells it: free of symbolic links.
        let recordings = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        Self { recordings, scratch: tempfile::tempdir().unwrap(), destination }
    }

    pub fn is_local(&self) -> bool {
        matches!(self.destination, Dir(_))
    }

    /// The size of a part: small, but on S3 not smaller than the store allows.
    pub fn part_bytes(&self) -> u64 {
        if self.is_local() { 256 << 10 } else { 5 << 20 }
    }

    /// A name below the watched directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.recordings.path().join(name)
    }

    /// A name that is not watched, on the same file system.
    pub fn aside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A reeltime with short times. They are variables, so that flags may replace them.
    pub fn reeltime(&self) -> Daemon {
        let daemon = Daemon::run(env!("CARGO_BIN_EXE_reeltime"))
            .arg(self.recordings.path())
            .env("REELTIME_PART_SIZE", self.part_bytes().to_string())
            .env("REELTIME_CLOSE_GRACE", "300ms")
            .env("REELTIME_IDLE_TIMEOUT", "2s")
            .env("REELTIME_NODE", "studio-1")
            .env("REELTIME_LOG", "debug");
        match &self.destination {
            Dir(dir) => daemon.env("REELTIME_TO", dir.path()),
            Bucket { proxy, bucket, moto, .. } => {
                daemon.env("REELTIME_TO", format!("s3://{bucket}/{PREFIX}")).envs(proxy.env_of(moto.env()))
            }
        }
    }

    /// A running one, ready, with these further arguments.
    pub fn run(&self, args: &[&str]) -> Running {
        let daemon = self.reeltime().args(args).start();
        daemon.wait_answers("/readyz", DEADLINE);
        daemon
    }

    /// Writes a whole file at once, in the directories that it needs; answers the path.
    pub fn drop_file(&self, name: impl AsRef<Path>, seed: u64, size_bytes: u64) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, noise(seed, size_bytes)).unwrap();
        path
    }

    /// SHA-256 of an object.
    pub fn sha256(&self, name: impl AsRef<Path>) -> Option<String> {
        let key = ObjectKey::from_relative(name.as_ref(), &[]).unwrap();
        match &self.destination {
            Dir(dir) => fs::read(dir.path().join(key.as_path())).ok().map(|bytes| sha256_of_bytes(&bytes)),
            Bucket { s3, bucket, .. } => s3.sha256(bucket, &format!("{PREFIX}/{}", key.to_utf8())),
        }
    }

    /// The metadata document of an object.
    pub fn document(&self, name: impl AsRef<Path>) -> Value {
        let key = ObjectKey::from_relative(name.as_ref(), &[]).unwrap().metadata_document();
        let bytes = match &self.destination {
            Dir(dir) => fs::read(dir.path().join(key.as_path())).ok(),
            Bucket { s3, bucket, .. } => s3.get(bucket, &format!("{PREFIX}/{}", key.to_utf8())),
        };
        let bytes = bytes.unwrap_or_else(|| panic!("there is no document {key}; there are {:?}", self.keys()));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The keys of all objects that are no documents, sorted, less the prefix.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = match &self.destination {
            Dir(dir) => files_below(dir.path())
                .iter()
                .map(|path| path.strip_prefix(dir.path()).unwrap().as_os_str().as_bytes().to_vec())
                .map(|name| ObjectKey::from_bytes(name).to_utf8().into_owned())
                .collect(),
            Bucket { s3, bucket, .. } => {
                let all = s3.keys(bucket);
                all.iter().map(|key| key.strip_prefix("studio/").expect("below the prefix").to_owned()).collect()
            }
        };
        keys.retain(|key| !key.ends_with(DOCUMENT));
        keys.sort();
        keys
    }

    /// Removes an object, as somebody might.
    pub fn remove(&self, key: &str) {
        match &self.destination {
            Dir(dir) => fs::remove_file(dir.path().join(key)).unwrap(),
            Bucket { s3, bucket, .. } => s3.delete(bucket, &format!("{PREFIX}/{key}")),
        }
    }

    /// Waits until a recording is completed, and compares it with its object.
    pub fn wait_identical(&self, daemon: &Running, name: impl AsRef<Path>) -> LogLine {
        let name = name.as_ref();
        let line = wait_completed(daemon, &self.path(name), 1);
        self.assert_identical(name);
        line
    }

    /// The object is, byte for byte, what is in the file now, and is described.
    pub fn assert_identical(&self, name: impl AsRef<Path>) {
        let path = self.path(&name);
        self.assert_is(name, &sha256_of(&path), fs::metadata(&path).unwrap().len());
    }

    /// The object has this content, and is described.
    pub fn assert_is(&self, name: impl AsRef<Path>, sha256: &str, size_bytes: u64) {
        let name = name.as_ref();
        let object = self.sha256(name).unwrap_or_else(|| panic!("no {}; there are {:?}", name.display(), self.keys()));
        assert_eq!(object, sha256, "{} is another than its object", name.display());
        assert_eq!(self.document(name)["total_size_bytes"], size_bytes, "{}", name.display());
    }

    /// Bytes of recordings that were sent, whatever came of it: as the proxy saw them, or for a
    /// directory as they are logged.
    pub fn bytes_sent(&self, daemon: &Running) -> u64 {
        match &self.destination {
            Dir(_) => {
                let events = daemon.events();
                let parts = events.iter().filter(|line| line.event() == Some("part_stored"));
                parts.map(|line| line.number("size_bytes").unwrap()).sum()
            }
            Bucket { proxy, .. } => {
                let log = proxy.log();
                let recordings = log.iter().filter(|logged| match logged.request.op {
                    Op::UploadPart => true,
                    Op::PutObject => !logged.request.key.ends_with(DOCUMENT),
                    _ => false,
                });
                recordings.map(|logged| logged.body_bytes).sum()
            }
        }
    }

    /// The proxy before the store; none before a directory.
    pub fn proxy(&self) -> Option<&Proxy> {
        match &self.destination {
            Dir(_) => None,
            Bucket { proxy, .. } => Some(proxy),
        }
    }

    /// Nothing is left behind that costs somebody something.
    pub fn close(&self) {
        match &self.destination {
            Dir(dir) => {
                let left: Vec<_> = files_below(dir.path()).into_iter().filter(|path| is_own(path)).collect();
                assert!(left.is_empty(), "left in the destination: {left:?}");
            }
            Bucket { s3, bucket, .. } => {
                let left = s3.uploads(bucket);
                assert!(left.is_empty(), "unfinished uploads: {left:?}");
                s3.objects(bucket, "").iter().for_each(|object| s3.delete(bucket, &object.key)); // its memory
            }
        }
    }
}

/// Waits until a file has been completed this often; answers the last time.
pub fn wait_completed(daemon: &Running, path: &Path, times: usize) -> LogLine {
    wait_told(daemon, "completed", path, times)
}

/// Waits until parts of a file are stored, some of them perhaps twice.
pub fn wait_parts(daemon: &Running, path: &Path, count: usize) {
    wait_told(daemon, "part_stored", path, count);
}

fn wait_told(daemon: &Running, event: &str, path: &Path, times: usize) -> LogLine {
    let what = format!("{event} of {}", path.display());
    daemon.wait_events(&what, times, DEADLINE, |line| is_of(line, event, path)).remove(times - 1)
}

/// How often something was told of a file so far.
pub fn told(daemon: &Running, event: &str, path: &Path) -> usize {
    daemon.events().iter().filter(|line| is_of(line, event, path)).count()
}

fn is_of(line: &LogLine, event: &str, path: &Path) -> bool {
    line.event() == Some(event) && line.text("path") == Some(&path.to_string_lossy())
}

/// The stream of a file in `/api/streams`.
pub fn stream_of(daemon: &Running, path: &Path) -> Option<Value> {
    daemon.api_streams().into_iter().find(|stream| stream["path"] == path.to_string_lossy().as_ref())
}

/// Waits until the stream of a file is so.
pub fn wait_stream(daemon: &Running, path: &Path, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let stream = stream_of(daemon, path);
        match stream {
            Some(stream) if is_so(&stream) => return stream,
            other if Instant::now() >= deadline => panic!("waited for {what} of {}: {other:?}", path.display()),
            _ => std::thread::sleep(Duration::from_millis(20)), // between two requests
        }
    }
}

/// Ends a reeltime in good order, so that what it has to say is said.
pub fn stop(daemon: &Running) {
    let exited = daemon.terminate(DEADLINE);
    assert_eq!(exited.code(), Some(0), "{}", daemon.process().log_tail());
}

/// The bytes of a seed.
pub fn noise(seed: u64, size_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap()];
    fill(seed, 0, &mut bytes);
    bytes
}

/// A path with something behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn is_own(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".reeltime-"))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// The server that all running tests share.
fn shared_moto() -> Arc<Moto> {
    static SHARED: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let moto = Arc::new(Moto::start());
        *shared = Arc::downgrade(&moto);
        moto
    })
}
