//! What reeltime is told to do: defaults < file < environment < flags.
//!
//! [`Settings`] are what was given, in all three ways; [`Config`] is the outcome, complete and
//! typed, and [`Config::check`] holds it against the disk before anything begins. Nothing that
//! was given is ever ignored: what cannot be used is refused, with a hint.

mod after_upload;
mod check;
mod choices;
pub mod file;
mod listen;
mod place;
mod rate;
mod resolve;
mod settings;
mod size;
mod span;
mod tail_flush;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use reeltime_core::{OnDelete, PlanKind};

pub use after_upload::AfterUpload;
pub use choices::{LogFormat, OnDeleteChoice, PartPlanChoice, S3Checksums};
pub use listen::Listen;
pub use rate::Rate;
pub use settings::Settings;
pub use size::ByteSize;
pub use span::Span;
pub use tail_flush::TailFlush;
pub use text::BadValue;

pub(crate) use resolve::{destination, endpoint, node_name, state_url};

use crate::checkpoint::url::StateUrl;
use crate::storage::url::Destination;
use crate::watch::WatchMode;

/// Everything that `reeltime run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The watched directories; absolute and without symbolic links once checked.
    pub dirs: Vec<PathBuf>,
    /// Files that are uploaded: patterns on the path below the directory, less the temporary
    /// suffix.
    pub include: Vec<String>,
    /// Files that are left out, even if included.
    pub exclude: Vec<String>,
    /// What recorders append to a name while they write; none is empty.
    pub temp_suffixes: Vec<String>,
    /// Where recordings go.
    pub to: Destination,
    /// The S3 settings; without meaning for a directory.
    pub s3: S3Config,
    /// What becomes of the file afterwards.
    pub after_upload: AfterUpload,
    /// What becomes of a recording whose file is deleted while it is uploaded.
    pub on_delete: OnDelete,
    /// Bytes of the first part.
    pub part_size_bytes: u64,
    /// How part sizes develop.
    pub part_plan: PlanKind,
    /// Parts in flight over all streams; not 0 once checked.
    pub max_uploads: usize,
    /// Upper limit of sending; `None`: none. Not 0 once checked.
    pub bandwidth: Option<Rate>,
    /// Finalize this long after the last writer closed.
    pub close_grace: Duration,
    /// Finalize after this long without change and without a writer.
    pub idle_timeout: Duration,
    /// When the tail is sent.
    pub tail_flush: TailFlush,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// Time from one scan to the next; `None`: as it suits the way of watching.
    pub scan_interval: Option<Duration>,
    /// Upload what is there and end.
    pub once: bool,
    /// Where the state is kept.
    pub state: StateUrl,
    /// This node's name.
    pub node: String,
    /// Where HTTP is served.
    pub listen: Listen,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The ffprobe program.
    pub ffprobe: PathBuf,
}

/// What only S3 needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// The store's address; `None`: what AWS's standard chain says.
    pub endpoint: Option<String>,
    /// The region; `None`: what AWS's standard chain says.
    pub region: Option<String>,
    /// Whether checksums travel with the parts.
    pub checksums: S3Checksums,
}

/// A configuration that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What is wrong, on what, and why.
    pub message: String,
    /// What to do; empty if the message says it.
    pub hint: String,
}

impl Problem {
    /// A problem with its hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}
