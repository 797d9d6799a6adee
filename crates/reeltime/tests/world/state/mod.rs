//! What the checkpoint says of the streams, read with a client that is not reeltime's.

mod redis;
mod sqlite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use testkit::settings::{Settings, StateChoice, skip};

pub(crate) use redis::RedisState;

/// Where a test's reeltime keeps its state.
pub(crate) enum StateStore {
    /// A file.
    Sqlite(PathBuf),
    /// Keys of its own on the redis-server of all tests, behind a proxy.
    Redis(RedisState),
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

impl Told {
    /// The numbers of its parts.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.parts.keys().copied().collect()
    }
}

/// A state store that cannot be written, until this is dropped.
#[allow(dead_code, reason = "they are held for their end")]
pub(crate) enum Away {
    Sqlite(sqlite::Locked),
    Redis(redis::Down),
}

impl StateStore {
    /// Of the kind that the environment chooses; a file is in this directory.
    pub(crate) fn chosen(dir: &Path) -> Self {
        match Settings::get().state {
            StateChoice::Redis => Self::in_redis(),
            StateChoice::Sqlite => Self::Sqlite(dir.join("state.db")),
        }
    }

    /// Keys of its own on the redis-server of all tests.
    pub(crate) fn in_redis() -> Self {
        Self::Redis(RedisState::new())
    }

    /// For `--state`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Redis(redis) => redis.url(),
        }
    }

    /// For what only Redis can do; `None`, loudly, where the state is in a file.
    pub(crate) fn redis(&self) -> Option<&RedisState> {
        match self {
            Self::Redis(redis) => Some(redis),
            Self::Sqlite(_) => {
                skip("redis", "REELTIME_TEST_STATE chooses sqlite");
                None
            }
        }
    }

    /// All streams, in the order of their paths. Panics if what is written there contradicts
    /// itself.
    pub(crate) fn streams(&self) -> Vec<Told> {
        let mut streams = match self {
            Self::Sqlite(path) => sqlite::streams(path),
            Self::Redis(redis) => redis.streams(),
        };
        streams.sort_by(|one, other| one.path.cmp(&other.path));
        streams
    }

    /// The state is gone, as after the loss of its disk. Only while reeltime does not run.
    pub(crate) fn lose_everything(&self) {
        match self {
            Self::Sqlite(path) => sqlite::delete(path),
            Self::Redis(redis) => redis.lose_everything(),
        }
    }

    /// Nothing can be written from now on, until the guard is dropped.
    #[must_use]
    pub(crate) fn take_away(&self) -> Away {
        match self {
            Self::Sqlite(path) => Away::Sqlite(sqlite::lock(path)),
            Self::Redis(redis) => Away::Redis(redis.go_down()),
        }
    }

    /// Takes the id of its upload from a stream, as if it had never been written down. Only
    /// while reeltime does not run.
    pub(crate) fn forget_upload_id(&self, stream: &str) {
        match self {
            Self::Sqlite(path) => sqlite::forget_upload_id(path, stream),
            Self::Redis(redis) => redis.forget_upload_id(stream),
        }
    }
}
