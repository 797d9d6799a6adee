//! `reeltime run`: watches directories and uploads what is recorded there.

use std::path::PathBuf;

use super::Failure;
use crate::config::{Config, Listen, Settings, file};
use crate::{http, telemetry};

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
    let listener = match config.listen {
        Listen::At(address) => Some(http::bind(address).await?),
        Listen::Off => None,
    };
    // Seam: the supervisor starts here, with `config` checked, the log open and the port ours.
    drop(listener);
    Ok(())
}
