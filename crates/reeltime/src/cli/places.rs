//! Where recordings go and where the state is: what the commands beside `run` share with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use crate::checkpoint::url::{self, StateUrl, open_read_only};
use crate::checkpoint::{CheckpointError, CheckpointStore, Presence};
use crate::config::{Problem, S3Checksums, S3Config, Settings, destination, endpoint, file};
use crate::storage::url::Destination;
use crate::storage::{LocalStore, ObjectStore, StoreError, s3};

/// The destination, as flags, variables and file give it.
#[derive(Debug, clap::Args)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls, reason = "it is help text")]
pub(super) struct DestinationArgs {
    /// Where recordings go, as for `reeltime run`: s3://BUCKET[/PREFIX], file:///DIR or a path
    #[arg(long, value_name = "URL", env = "REELTIME_TO", hide_env = true, help_heading = DESTINATION)]
    pub(super) to: Option<OsString>,

    /// Address of an S3-compatible store [default: AWS]
    #[arg(long, value_name = "URL", env = "REELTIME_S3_ENDPOINT", hide_env = true, help_heading = DESTINATION)]
    pub(super) s3_endpoint: Option<String>,

    /// Region of the bucket [default: AWS's standard chain]
    #[arg(long, value_name = "NAME", env = "REELTIME_S3_REGION", hide_env = true, help_heading = DESTINATION)]
    pub(super) s3_region: Option<String>,

    /// Checksums on requests: auto or off [default: auto]
    ///
    /// off does not ask the store for checksums either: only ETags are left to compare with.
    #[arg(long, value_name = "MODE", env = "REELTIME_S3_CHECKSUMS", hide_env = true, help_heading = DESTINATION)]
    pub(super) s3_checksums: Option<S3Checksums>,

    /// Read what is not given from this file of `reeltime run`
    ///
    /// Keys that this command does not need are not used.
    #[arg(long, value_name = "FILE", env = "REELTIME_CONFIG", hide_env = true)]
    pub(super) config: Option<PathBuf>,
}

const DESTINATION: &str = "Destination";

impl DestinationArgs {
    /// What was given, over what the file says.
    pub(super) fn settings(self) -> Result<Settings, Problem> {
        let from_file = self.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let given = Settings {
            to: self.to,
            s3_endpoint: self.s3_endpoint,
            s3_region: self.s3_region,
            s3_checksums: self.s3_checksums,
            ..Settings::default()
        };
        Ok(given.or(from_file))
    }
}

/// The destination that settings name, and what S3 needs besides.
pub(super) fn destination_of(settings: &Settings) -> Result<(Destination, S3Config), Problem> {
    let Some(to) = &settings.to else {
        return Err(Problem::new("no destination", "say where recordings go, as for `reeltime run`: --to URL"));
    };
    let s3 = S3Config {
        endpoint: settings.s3_endpoint.clone().map(endpoint).transpose()?,
        region: settings.s3_region.clone(),
        checksums: settings.s3_checksums.unwrap_or(S3Checksums::Auto),
    };
    Ok((destination(to)?, s3))
}

/// Opens the destination. Does not ask it anything.
pub(super) async fn open_store(to: &Destination, s3: &S3Config) -> Result<Arc<dyn ObjectStore>, Failure> {
    Ok(match to {
        Destination::Local(dir) => Arc::new(LocalStore::open(dir.clone())),
        Destination::S3 { bucket, prefix } => {
            let mut config = s3::S3Config::new(bucket.clone(), prefix.clone());
            config.endpoint.clone_from(&s3.endpoint);
            config.region.clone_from(&s3.region);
            config.checksums = match s3.checksums {
                S3Checksums::Auto => s3::Checksums::Auto,
                S3Checksums::Off => s3::Checksums::Off,
            };
            Arc::new(s3::S3Store::connect(config).await.map_err(|error| store_failure(&error))?)
        }
    })
}

/// A store that cannot be used, as the end of a command.
pub(super) fn store_failure(error: &StoreError) -> Failure {
    Failure::failed(error.to_string(), error.hint.clone())
}

/// A checkpoint that cannot be used, as the end of a command.
pub(super) fn checkpoint_failure(error: &CheckpointError) -> Failure {
    let hint = match error {
        CheckpointError::Held { .. } => {
            "stop the other one, or give this one another --state (or, in a shared one, another --node)"
        }
        CheckpointError::Outage { .. } => "check the disk or the service that holds the state; nothing is lost",
        _ => "",
    };
    Failure::failed(error.to_string(), hint)
}

/// Opens the state to look at it, whether or not its owner runs.
pub(super) async fn open_to_look(state: &StateUrl) -> Result<Arc<dyn CheckpointStore>, Failure> {
    open_read_only(state).await.map_err(|error| unreadable(&error))
}

/// Opens the state to change it, as node `node`. One that is not there is not created: whoever
/// mends what a reeltime left behind has misspelt it.
pub(super) async fn open_to_mend(state: &StateUrl, node: &str) -> Result<Arc<dyn CheckpointStore>, Failure> {
    drop(open_to_look(state).await?);
    url::open(state, node).await.map_err(|error| match error {
        CheckpointError::Held { .. } => Failure::failed(
            error.to_string(),
            "a reeltime that runs minds its streams itself: stop it first, or leave them to it; nothing was changed",
        ),
        error => unreadable(&error),
    })
}

/// The run of `node` that is alive by its lease; one that was killed a moment ago still is.
pub(super) async fn running(checkpoint: &dyn CheckpointStore, node: &str) -> Result<Option<Presence>, Failure> {
    let nodes = checkpoint.nodes().await.map_err(|error| unreadable(&error))?;
    Ok(nodes.into_iter().find(|state| state.node == node).and_then(|state| state.alive))
}

/// A state that cannot be read, as the end of a command.
pub(super) fn unreadable(error: &CheckpointError) -> Failure {
    let hint = match error {
        CheckpointError::Unusable { .. } => "name with --state the state that `reeltime run` uses; nothing was changed",
        _ => "try again; nothing was changed",
    };
    Failure::failed(error.to_string(), hint)
}

/// Prints to stdout; a reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {error}"), ""))
        }
        _ => Ok(()),
    }
}
