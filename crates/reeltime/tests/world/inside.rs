//! A whole reeltime within the test's own process: what it tells is heard as it is, not as log
//! lines, and its parts can be looked at. Everything else is as in the built binary, which has
//! the signals, the log and HTTP besides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use reeltime::checkpoint;
use reeltime::cli::Failure;
use reeltime::cli::run::{RunArgs, outside, supervise};
use reeltime::config::Config;
use reeltime::http::Readiness;
use reeltime::processor::Outside;
use reeltime::storage::s3::Patience;
use reeltime::storage::{ObjectStore, S3Config, S3Store};
use reeltime::supervisor::Ended;
use reeltime::view::{Board, StreamView};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, Destination, Heard, World};

/// A running reeltime. Dropping it stops it without waiting for anything, as a kill does.
pub(crate) struct Inside {
    /// Everything that it told.
    pub(crate) heard: Heard,
    /// What it shows of its streams.
    board: Board,
    stop: CancellationToken,
    work: Option<JoinHandle<Result<Ended, Failure>>>,
    runtime: Option<Runtime>,
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    run: RunArgs,
}

impl World {
    /// A reeltime like [`World::start`]'s, within this process, with further arguments.
    pub(crate) fn start_inside(&self, args: &[&str]) -> Inside {
        self.start_inside_with(args, |_| {})
    }

    /// The same, with a change of what cannot be set from outside.
    pub(crate) fn start_inside_with(&self, args: &[&str], change: impl FnOnce(&mut Outside)) -> Inside {
        self.start_inside_so(args, Patience::default(), change)
    }

    /// The same, which bears the silence of the store for so long.
    pub(crate) fn start_inside_patient(&self, args: &[&str], patience: Patience) -> Inside {
        self.start_inside_so(args, patience, |_| {})
    }

    fn start_inside_so(&self, args: &[&str], patience: Patience, change: impl FnOnce(&mut Outside)) -> Inside {
        let config = self.config(args);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let (heard, board, work) = runtime.block_on(async {
            let store = self.connect(patience).await;
            let checkpoint = checkpoint::url::open(&config.state, &config.node).await.unwrap();
            let mut outside = outside(&config, store, checkpoint, 1024);
            change(&mut outside);
            let (heard, board) = (Heard::collect(outside.events.listen()), outside.board.clone());
            let work = tokio::spawn(supervise(config, outside, Arc::new(Readiness::default()), stop.clone()));
            (heard, board, work)
        });
        Inside { heard, board, stop, work: Some(work), runtime: Some(runtime) }
    }

    fn config(&self, more: &[&str]) -> Config {
        let (recordings, to, state) = (self.recordings(), self.to(), self.state.url());
        let part_size = self.part_bytes().to_string();
        let mut args = vec!["reeltime", recordings.to_str().unwrap(), "--to", &to, "--state", &state];
        args.extend(["--part-size", &part_size, "--close-grace", "300ms", "--scan-interval", "1s"]);
        args.extend(["--node", "test", "--tail-flush", "off"]);
        args.extend(more);
        let mut config = Command::parse_from(args).run.config().unwrap().check().unwrap();
        config.ffprobe = "/bin/false".into();
        config
    }

    async fn connect(&self, patience: Patience) -> Arc<dyn ObjectStore> {
        let Destination::S3 { bucket, proxy, store: Some(store), .. } = &self.destination else {
            panic!("only real stores are used so")
        };
        let keys = store.credentials();
        let given =
            aws_sdk_s3::config::Credentials::new(keys.access_key_id, keys.secret_access_key, None, None, "test");
        let config = S3Config {
            endpoint: Some(proxy.endpoint()),
            region: Some(keys.region),
            credentials: Some(aws_sdk_s3::config::SharedCredentialsProvider::new(given)),
            patience,
            ..S3Config::new(bucket, "")
        };
        Arc::new(S3Store::connect(config).await.unwrap())
    }
}

impl Inside {
    /// Waits until it shows this of its streams.
    #[track_caller]
    pub(crate) fn wait_shown(&self, what: &str, holds: impl Fn(&[StreamView]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let shown = self.board.all();
            if holds(&shown) {
                return;
            }
            assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}; it shows {shown:#?}");
            std::thread::sleep(Duration::from_millis(20)); // between two looks
        }
    }

    /// Asks it to end, as SIGTERM does, and waits for that.
    pub(crate) fn stop(mut self) -> Ended {
        self.stop.cancel();
        let (runtime, work) = (self.runtime.take().unwrap(), self.work.take().unwrap());
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
        ended.expect("it ends in time").unwrap().unwrap()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
