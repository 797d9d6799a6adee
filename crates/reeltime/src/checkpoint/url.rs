//! `--state`: which checkpoint store.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CheckpointError, CheckpointStore};

/// A checkpoint store as `--state` names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateUrl {
    /// A file of this machine.
    Sqlite(PathBuf),
}

/// A `--state` that names no checkpoint store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateUrlError {
    /// Nothing.
    #[error("the state is empty: give a path, sqlite:///file or redis://host")]
    Empty,
    /// A URL of something else.
    #[error("unknown scheme {scheme}:// for the state: use sqlite:///file or a plain path")]
    UnknownScheme {
        /// What stands before `://`.
        scheme: String,
    },
}

impl StateUrl {
    /// Reads what was given as `--state`.
    pub fn parse(given: &OsStr) -> Result<Self, StateUrlError> {
        let text = given.to_string_lossy();
        match text.split_once("://") {
            _ if given.is_empty() => Err(StateUrlError::Empty),
            None => Ok(Self::Sqlite(given.into())),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some((scheme, _)) => Err(StateUrlError::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

impl fmt::Display for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        path.display().fmt(f)
    }
}

/// The state file that is used when none is named: in systemd's state directory, else in the
/// user's; `None` if the environment names neither.
pub fn default_state_path(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    crate::view::default_state_path(var)
}

/// Opens a checkpoint store to look at it.
pub async fn open_read_only(url: &StateUrl) -> Result<Arc<dyn CheckpointStore>, CheckpointError> {
    let cause = "this build has no backend for it".to_owned();
    Err(CheckpointError::Unusable { target: url.to_string(), cause })
}
