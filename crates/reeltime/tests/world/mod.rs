//! A directory of recordings, a store that can be disturbed, and a reeltime between them.

#![allow(dead_code, unused_imports, reason = "every test file uses a part of it")]

mod evidence;
mod heard;
mod inside;
mod state;
mod waits;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::daemon::{Daemon, Running};
use testkit::proxy::{Proxy, TcpProxy};
use testkit::servers::{Moto, Provider, S3, Shared, Store};

pub(crate) use heard::Heard;
pub(crate) use inside::Inside;
pub(crate) use state::{RedisState, StateStore, Told};
pub(crate) use waits::{failures, record_until, wait_carried_out, wait_completed, wait_part};

pub(crate) use testkit::settings::DEADLINE;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// The smallest part that S3 allows, and the one that tests use there.
pub(crate) const S3_PART: u64 = 5 * MIB;
/// The part that tests use in a directory.
pub(crate) const LOCAL_PART: u64 = 128 * KIB;

/// Where recordings go.
#[allow(clippy::large_enum_variant)] // one a test
pub(crate) enum Destination {
    Local(PathBuf),
    S3 {
        bucket: String,
        s3: S3,
        proxy: Box<Proxy>,
        env: Vec<(String, String)>,
        /// The real one, if it is one.
        store: Option<Arc<Store>>,
    },
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
        let state = match &destination {
            Destination::S3 { store: Some(_), .. } => StateStore::chosen(dir.path()),
            _ => StateStore::Sqlite(dir.path().join("state.db")),
        };
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
        static MOTO: Shared<Moto> = Shared::new();
        let moto = MOTO.get_or_make(Moto::start);
        Self::new(|_| Destination::S3 {
            bucket: bucket.to_owned(),
            s3: moto.s3(),
            proxy: Box::new(Proxy::before(&moto.address())),
            env: moto.env(),
            store: None,
        })
    }

    /// Into a bucket of one's own on the server that all tests share, behind a proxy, with the
    /// state where `REELTIME_TEST_STATE` says.
    pub(crate) fn at(provider: Provider) -> Self {
        Self::on(&provider.store())
    }

    /// Into the bucket of a real store, otherwise the same.
    pub(crate) fn on(store: &Arc<Store>) -> Self {
        Self::new(|_| Destination::S3 {
            bucket: store.bucket().to_owned(),
            s3: store.s3(),
            proxy: Box::new(Proxy::before(store.address())),
            env: store.env(),
            store: Some(Arc::clone(store)),
        })
    }

    /// The same with the state in Redis, whatever `REELTIME_TEST_STATE` says.
    pub(crate) fn with_state_in_redis(mut self) -> Self {
        self.state = StateStore::in_redis();
        self
    }

    /// The state is in this file from now on, whatever `REELTIME_TEST_STATE` says.
    pub(crate) fn keep_state_in(&mut self, path: &Path) {
        self.state = StateStore::Sqlite(path.to_owned());
    }

    /// The state is in Redis from now on, whatever `REELTIME_TEST_STATE` says, and reeltime comes to
    /// it by this address of the machine.
    pub(crate) fn keep_state_in_redis_at(&mut self, host: IpAddr) -> Arc<TcpProxy> {
        let redis = RedisState::at(host);
        let proxy = Arc::clone(&redis.proxy);
        self.state = StateStore::Redis(redis);
        proxy
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
        self.node("test")
    }

    /// The same, of this name.
    pub(crate) fn node(&self, name: &str) -> Daemon {
        self.daemon_of(Path::new(env!("CARGO_BIN_EXE_reeltime")), name)
    }

    /// The same, of another program.
    pub(crate) fn daemon_of(&self, program: &Path, node: &str) -> Daemon {
        let daemon = Daemon::run(program)
            .arg(self.recordings())
            .args(["--to", &self.to(), "--part-size", &self.part_bytes().to_string()])
            .args(["--state", &self.state.url()])
            .args(["--close-grace", "300ms", "--scan-interval", "1s", "--node", node])
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

    /// Another command with this state and destination, of node `test` unless `args` say
    /// otherwise.
    pub(crate) fn mend(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
        command.env_clear().env("HOME", self.dir.path()).env("REELTIME_STATE", self.state.url());
        command.env("REELTIME_TO", self.to()).env("REELTIME_NODE", "test").args(args);
        if let Destination::S3 { proxy, env, .. } = &self.destination {
            command.envs(proxy.env_of(env.clone()));
        }
        let output = command.output().unwrap();
        println!("{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        output
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

    pub(crate) fn bucket_name(&self) -> &str {
        match &self.destination {
            Destination::S3 { bucket, .. } => bucket,
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
}
