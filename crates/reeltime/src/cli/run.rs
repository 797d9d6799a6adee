//! `reeltime run`: watches directories and uploads what is recorded there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use reeltime_core::{PartPlan, Policy, Trouble};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::places::{checkpoint_failure, open_store, store_failure};
use crate::checkpoint::{self, CheckpointStore};
use crate::config::{Config, Listen, Settings, file};
use crate::events::{Event, EventBus, What};
use crate::http::{self, AppState, Readiness};
use crate::lease::Lease;
use crate::metadata::{DEFAULT_PROBE_TIMEOUT, DEFAULT_PROBES_AT_ONCE, Describer};
use crate::pacing::Pacer;
use crate::process;
use crate::processor::{self, Outside, Uploads};
use crate::storage::ObjectStore;
use crate::supervisor::{self, Ended, Supervisor};
use crate::telemetry::{self, metrics::Metrics};
use crate::uplink::Uplink;
use crate::view::Board;
use crate::watch::{Selection, WatchOptions, Watcher, mark_of};

/// Watch directories and upload recordings while they are written
///
/// reeltime finds recordings below the given directories, uploads them part by part while
/// they grow, and completes the object a moment after the recorder has closed the file. It
/// runs until it is stopped; stopping it at any moment, even with kill -9, loses nothing.
#[derive(Debug, clap::Args)]
#[command(override_usage = "reeltime run [OPTIONS] --to <URL> <DIR>...", after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// The settings.
    #[command(flatten)]
    pub(super) settings: Settings,

    /// Read settings from this TOML file
    ///
    /// Every flag has its key there: its long name without the dashes. Variables come before
    /// the file, and flags before both. An unknown key is an error.
    #[arg(long, value_name = "FILE", env = "REELTIME_CONFIG", hide_env = true, help_heading = "This node")]
    config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Every flag has its variable: --part-size is REELTIME_PART_SIZE. In lists, ':' \
stands between the values, as in PATH. Flags come before variables, and both \
before the file of --config.

Sizes are written 8MiB, 5MB or 1g; rates 20MiB/s or 100Mbit/s; times 500ms, 2s or 1m30s.

Exit codes: 0 done, 1 something failed, 2 usage or configuration.

Examples:
  reeltime run /recordings --to s3://archive/studio
      Upload **/*.mp4 as it is recorded, to keys that begin with studio/.

  reeltime run /rec --to s3://archive --s3-endpoint http://minio:9000 \\
      --include '**/*.mkv' --include '**/*.mp4' --bandwidth 100Mbit/s
      Two kinds of recordings, to another store, over a part of the link.

  reeltime run /rec --to s3://archive --after-upload delete --once
      Upload what is there, delete what has arrived, and exit.
";

impl RunArgs {
    /// The configuration from flags, variables and file.
    pub fn config(self) -> Result<Config, Failure> {
        let settings = match &self.config {
            Some(path) => self.settings.or(file::read(path)?),
            None => self.settings,
        };
        Ok(settings.resolve(|name| std::env::var_os(name))?)
    }
}

/// Runs until it is stopped or, with `--once`, until everything is completed.
pub async fn run(config: Config) -> Result<(), Failure> {
    telemetry::log::init(config.log_format)?;
    let config = config.check()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node.as_str(),
        to = %config.to,
        state = %config.state,
        sources = config.dirs.len(),
        "reeltime starts"
    );
    let open_files = process::raise_open_file_limit().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files could not be raised");
        FEW_OPEN_FILES
    });
    let stop = CancellationToken::new();
    process::stop_on_signals(stop.clone())
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}"), ""))?;
    let listener = match config.listen {
        Listen::At(address) => Some(http::bind(address).await?),
        Listen::Off => None,
    };
    let checkpoint =
        checkpoint::url::open(&config.state, &config.node).await.map_err(|error| checkpoint_failure(&error))?;
    let outside = outside(&config, open_store(&config.to, &config.s3).await?, checkpoint, open_files);
    let readiness = Arc::new(Readiness::default());

    // Told to the end: what the log and the metrics hear outlives the work itself.
    let narrators = CancellationToken::new();
    let mut told = JoinSet::new();
    told.spawn(telemetry::log::narrate(outside.events.listen(), narrators.clone()));
    let (metrics, registry) = Metrics::new(&outside.board);
    told.spawn(metrics.follow(outside.events.listen(), narrators.clone()));
    if let Some(listener) = listener {
        let state = app_state(&outside, registry, &readiness);
        let serving = http::serve(listener, state, narrators.clone());
        told.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    // With HTTP being served: a store that does not answer takes its time to be found out.
    preflight(&outside.store, &readiness, &stop).await?;
    let troubles = outside.events.listen();
    tokio::spawn(watch_store(Arc::clone(&outside.store), Arc::clone(&readiness), troubles, stop.clone()));

    let once = config.once;
    let ended = supervise(config, outside, readiness, stop).await;
    narrators.cancel();
    told.join_all().await;
    match ended? {
        Ended { failures, .. } if once && failures > 0 => Err(Failure::failed(
            format!("not everything is completed: {failures} recordings or directories failed"),
            "see the errors above, and `reeltime status`; nothing was removed",
        )),
        // Whoever asked for everything must not take this for it.
        Ended { is_done: false, .. } if once => {
            Err(Failure::failed("stopped before everything was completed", "start it again to go on; nothing is lost"))
        }
        _ => Ok(()),
    }
}

/// The work itself, without signals, log and HTTP: until `stop` or, with `--once`, until
/// everything is completed. The configuration has been checked.
pub async fn supervise(
    config: Config,
    outside: Outside,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) -> Result<Ended, Failure> {
    let selection = Selection::new(&config.include, &config.exclude, &config.temp_suffixes)
        .map_err(|error| Failure::usage(error.to_string(), "mend the pattern or the suffix"))?;
    let selection = Arc::new(selection);
    let plan = PartPlan::new(config.part_plan, config.part_size_bytes, outside.store.limits())
        .ok_or_else(|| Failure::usage("--part-size does not fit this store", "its parts are larger or smaller"))?;
    let options =
        WatchOptions { mode: config.watch, scan_interval: config.scan_interval, selection: Arc::clone(&selection) };
    let (watcher, events) = Watcher::start(config.dirs.clone(), options, outside.events.clone())
        .await
        .map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    let Config { node, dirs: sources, once, .. } = config;
    let marks: HashMap<_, _> = sources.iter().map(|source| (source.clone(), mark_of(source))).collect();
    let watched = marks.values().filter(|mark| !mark.is_empty()).cloned().collect();
    let lease = Lease::take(Arc::clone(&outside.checkpoint), &node, watched, outside.events.clone(), &stop).await;
    let lease = lease.map_err(|error| checkpoint_failure(&error))?;
    let task = supervisor::Task { sources, marks, selection, node, plan, once };
    let work = Supervisor::new(task, outside, readiness, stop.clone()).run(watcher, events);
    tokio::pin!(work);
    let ended = tokio::select! {
        ended = &mut work => ended,
        Some(lost) = lease.keep(&stop) => {
            stop.cancel();
            let _ = work.await; // why it ended is known
            Err(lost)
        }
    };
    lease.give_back().await;
    ended.map_err(|error| checkpoint_failure(&error))
}

/// What all streams share, between the destination and the checkpoint.
pub fn outside(
    config: &Config,
    store: Arc<dyn ObjectStore>,
    checkpoint: Arc<dyn CheckpointStore>,
    open_files: u64,
) -> Outside {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Outside {
        store,
        checkpoint,
        describer: Describer::new(config.ffprobe.clone().into(), DEFAULT_PROBE_TIMEOUT, DEFAULT_PROBES_AT_ONCE),
        uplink: Uplink::new(config.max_uploads),
        pacer: config
            .bandwidth
            .map_or_else(Pacer::unlimited, |rate| Pacer::limited(rate.bytes_per_second, config.max_uploads)),
        looks: processor::Looks::default(),
        readers: Arc::new(Semaphore::new(READERS)),
        requests: Arc::new(Semaphore::new(processor::requests_at_once(open_files))),
        handles: Arc::new(Semaphore::new(usize::try_from(open_files / 2).map_or(MANY, |half| half.clamp(1, MANY)))),
        uploads: Uploads::default(),
        events: EventBus::default(),
        board: Board::default(),
        policy: Policy {
            close_grace_ms: millis(config.close_grace),
            idle_timeout_ms: millis(config.idle_timeout),
            tail_flush_ms: config.tail_flush.after().map(millis),
            parallel_parts: config.max_uploads,
            single_request_bytes: config.part_size_bytes.min(SINGLE_REQUEST_BYTES),
            plan_kind: config.part_plan,
            replaces_parts: true,
            on_delete: config.on_delete,
        },
        temp_suffixes: config.temp_suffixes.clone().into(),
        after_upload: Arc::new(config.after_upload.clone()),
        once: config.once,
    }
}

/// Whether the destination may be used. What an operator must mend ends the start; a store that
/// is away is waited for, beside the work.
async fn preflight(
    store: &Arc<dyn ObjectStore>,
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let answer = tokio::select! {
        answer = store.preflight() => answer,
        () = stop.cancelled() => return Ok(()),
    };
    match answer {
        Ok(()) => {
            readiness.store(Ok(()));
            Ok(())
        }
        Err(error) if error.trouble == Trouble::Outage => {
            tracing::warn!(%error, hint = error.hint.as_str(), "the destination cannot be reached; waiting for it");
            readiness.store(Err(error.to_string()));
            Ok(())
        }
        Err(error) => Err(store_failure(&error)),
    }
}

/// Keeps readiness true: when a stream has trouble, the store is asked, and again until it
/// answers. Not more often than [`ASK_AGAIN`], however many streams are in trouble.
async fn watch_store(
    store: Arc<dyn ObjectStore>,
    readiness: Arc<Readiness>,
    mut troubles: broadcast::Receiver<Event>,
    stop: CancellationToken,
) {
    let watch = async {
        loop {
            if readiness.is_store_reached() {
                if !hear_trouble(&mut troubles).await {
                    return;
                }
            } else {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            let was_reached = readiness.is_store_reached();
            match store.preflight().await {
                Ok(()) if was_reached => {
                    // The trouble is another; what was said of it meanwhile is no news.
                    tokio::time::sleep(ASK_AGAIN).await;
                    troubles = troubles.resubscribe();
                }
                Ok(()) => {
                    tracing::info!("the destination is reached");
                    readiness.store(Ok(()));
                }
                Err(error) => {
                    if was_reached {
                        tracing::warn!(%error, hint = error.hint.as_str(), "the destination is lost; waiting for it");
                    }
                    readiness.store(Err(error.to_string()));
                }
            }
        }
    };
    tokio::select! {
        () = watch => {}
        () = stop.cancelled() => {}
    }
}

/// Waits until a request has failed. `false` if nobody is left who could tell.
async fn hear_trouble(troubles: &mut broadcast::Receiver<Event>) -> bool {
    loop {
        match troubles.recv().await {
            Ok(Event { what: What::Retrying { .. }, .. }) | Err(RecvError::Lagged(_)) => return true,
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

fn app_state(outside: &Outside, registry: Registry, readiness: &Arc<Readiness>) -> AppState {
    let store = Arc::clone(&outside.store);
    AppState {
        board: outside.board.clone(),
        checkpoint: Arc::clone(&outside.checkpoint),
        registry: Arc::new(registry),
        readiness: Arc::clone(readiness),
        full_key: Arc::new(move |key| store.full_key(key)),
    }
}

/// Recordings that are read for comparison at the same time.
const READERS: usize = 2;

/// What most systems allow at least.
const FEW_OPEN_FILES: u64 = 1024;

/// More recordings are never open at the same time. Half of the open files are for them, and
/// the other half for everything that brings them to their end.
const MANY: usize = 1 << 20;

/// The largest recording that goes in one request.
const SINGLE_REQUEST_BYTES: u64 = 8 << 20;

/// From one attempt to reach the destination to the next.
const ASK_AGAIN: Duration = Duration::from_secs(2);
