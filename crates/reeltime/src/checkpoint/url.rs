//! `--state`: which checkpoint store, and opening it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::redis::{Address, RedisStore};
use super::sqlite::SqliteStore;
use super::{CheckpointError, CheckpointStore};

/// A checkpoint store as `--state` names it.
#[derive(Clone, PartialEq, Eq)]
pub enum StateUrl {
    /// A file of this machine: `sqlite:///file`, or a plain path. What follows `sqlite://` is
    /// the path as it is, without percent-encoding.
    Sqlite(PathBuf),
    /// The URL of Redis, as a server, behind Sentinel or as a cluster, with its credentials:
    /// never print it, print the [`StateUrl`].
    Redis(String),
}

/// A `--state` that names no checkpoint store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateUrlError {
    /// Nothing.
    #[error("the state is empty: give a path, sqlite:///file or redis://host")]
    Empty,
    /// A URL of something else.
    #[error(
        "unknown scheme {scheme}:// for the state: use sqlite:///file, redis://host, rediss://host or a plain path"
    )]
    UnknownScheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// `sqlite://` without a path behind it.
    #[error("{given} names no file: after sqlite:// comes an absolute path, as in sqlite:///var/lib/reeltime/state.db")]
    NotAbsolute {
        /// What was given.
        given: String,
    },
    /// `redis://` with something wrong behind it.
    #[error(
        "the redis URL cannot be used: {why}. It looks like redis://user:password@host:6379/0, \
         redis+sentinel://sentinel:26379/master or redis+cluster://host:6379,host:6379"
    )]
    Redis {
        /// What is wrong, without the credentials.
        why: String,
    },
}

impl StateUrl {
    /// Reads what was given as `--state`. A plain path may be any bytes; `./a://b` is one, too.
    pub fn parse(given: &OsStr) -> Result<Self, StateUrlError> {
        if given.is_empty() {
            return Err(StateUrlError::Empty);
        }
        let Some((scheme, rest)) = split_scheme(given.as_bytes()) else {
            return Ok(Self::Sqlite(PathBuf::from(given)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" if rest.first() == Some(&b'/') && rest.last() != Some(&b'/') => {
                Ok(Self::Sqlite(PathBuf::from(OsStr::from_bytes(rest))))
            }
            "sqlite" => Err(StateUrlError::NotAbsolute { given: given.to_string_lossy().into_owned() }),
            scheme if scheme.starts_with("redis") => match given.to_str().map(|text| (text, Address::parse(text))) {
                Some((text, Ok(_))) => Ok(Self::Redis(text.to_owned())),
                Some((_, Err(why))) => Err(StateUrlError::Redis { why }),
                None => Err(StateUrlError::Redis { why: "it is not UTF-8".to_owned() }),
            },
            _ => Err(StateUrlError::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

impl FromStr for StateUrl {
    type Err = StateUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(OsStr::new(text))
    }
}

/// As a person would write it, without credentials.
impl fmt::Display for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) if path.is_absolute() => write!(f, "sqlite://{}", path.display()),
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Redis(url) => {
                let (scheme, host, rest) = authority(url);
                write!(f, "{scheme}://{host}{rest}")
            }
        }
    }
}

impl fmt::Debug for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateUrl({self})")
    }
}

/// The scheme and what follows `://`, if there is something like a scheme.
fn split_scheme(given: &[u8]) -> Option<(&str, &[u8])> {
    let at = given.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&given[..at]).ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(allowed);
    is_scheme.then_some((scheme, &given[at + 3..]))
}

/// Scheme, host with port, and path of a URL; user, password and query, which may hold secrets,
/// are left out.
fn authority(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    // A password may, against the rules, hold a `/`: everything up to the last `@` is hidden.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (scheme, host, path)
}

/// The state file that is used when none is named: in systemd's state directory, else in the
/// user's; `None` if the environment names neither.
pub fn default_state_path(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    if let Some(dirs) = var("STATE_DIRECTORY") {
        // A unit with several state directories gets them all, separated by colons.
        let first = dirs.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
        return Some(PathBuf::from(OsStr::from_bytes(first)).join("state.db"));
    }
    let base = var("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    Some(base.join("reeltime/state.db"))
}

/// Opens a checkpoint store as its owner: to read and write it as node `node`. A state file
/// that is missing is created, with its directory.
///
/// [`CheckpointError::Held`] if another process has the state file.
///
/// Redis is not waited for: while it is away, requests fail with [`CheckpointError::Outage`].
pub async fn open(url: &StateUrl, node: &str) -> Result<Arc<dyn CheckpointStore>, CheckpointError> {
    let node = node.to_owned();
    open_with(url, false, move |path| SqliteStore::open(&path, &node)).await
}

/// Opens a checkpoint store to look at it, whether or not its owner runs; writes are refused.
/// A state file that is missing is an error.
pub async fn open_read_only(url: &StateUrl) -> Result<Arc<dyn CheckpointStore>, CheckpointError> {
    open_with(url, true, |path| SqliteStore::open_read_only(&path)).await
}

async fn open_with(
    url: &StateUrl,
    read_only: bool,
    open_file: impl FnOnce(PathBuf) -> Result<SqliteStore, CheckpointError> + Send + 'static,
) -> Result<Arc<dyn CheckpointStore>, CheckpointError> {
    let path = match url {
        StateUrl::Sqlite(path) => path.clone(),
        StateUrl::Redis(text) => {
            let unusable = |cause| CheckpointError::Unusable { target: url.to_string(), cause };
            let address = Address::parse(text).map_err(unusable)?;
            return Ok(Arc::new(RedisStore::open(&address, url.to_string(), read_only)?));
        }
    };
    let opened = tokio::task::spawn_blocking(move || open_file(path)).await;
    let opened = opened.unwrap_or_else(|error| {
        Err(CheckpointError::Outage { op: "open", target: url.to_string(), cause: error.to_string() })
    })?;
    Ok(Arc::new(opened))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn file(path: &str) -> StateUrl {
        StateUrl::Sqlite(path.into())
    }

    #[test]
    fn a_url_or_a_path_names_a_file() {
        assert_eq!("sqlite:///var/lib/state.db".parse(), Ok(file("/var/lib/state.db")));
        assert_eq!("SQLite:///a%20b?x".parse(), Ok(file("/a%20b?x")));
        for plain in ["/var/lib/state.db", "state.db", "./a://b", "sqlite:x", ":memory:", "C:\\x", "1x://y"] {
            assert_eq!(plain.parse(), Ok(file(plain)));
        }
        let odd = OsStr::from_bytes(b"/a/\xff.db");
        assert_eq!(StateUrl::parse(odd), Ok(StateUrl::Sqlite(odd.into())));
        assert_eq!(StateUrl::parse(OsStr::from_bytes(b"sqlite:///a/\xff.db")), Ok(StateUrl::Sqlite(odd.into())));
    }

    #[test]
    fn what_names_no_store_is_refused_with_what_would() {
        let refused = |text: &str| text.parse::<StateUrl>().expect_err(text).to_string();
        assert!(refused("").contains("sqlite:///file"));
        assert!(refused("postgres://db/x").contains("unknown scheme postgres://"), "{}", refused("postgres://db/x"));
        assert!(refused("s3://bucket/x").contains("sqlite:///file, redis://host"));
        for no_file in ["sqlite://", "sqlite:///", "sqlite://state.db", "sqlite:///dir/"] {
            assert!(refused(no_file).contains("sqlite:///var/lib"), "{}", refused(no_file));
        }
        for no_host in ["redis://", "rediss://user:secret@", "redis:///0"] {
            let answer = refused(no_host);
            assert!(answer.contains("names no host") && !answer.contains("secret"), "{answer}");
        }
        for odd in
            ["redis://:sec/ret@@host", "redis://host?password=secret", "redis://u:secret@host/x", "redis+x://secret@h"]
        {
            let answer = refused(odd);
            assert!(answer.contains("redis+cluster://") && !answer.contains("sec"), "{answer}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        for (given, shown) in [
            ("redis://host", "redis://host"),
            ("rediss://user:secret@host:6380/2", "rediss://host:6380/2"),
            ("redis+cluster://u:secret@a:1,b:2?prefix=x:", "redis+cluster://a:1,b:2"),
            ("redis-sentinel://u:secret@a,b/main/3", "redis-sentinel://a,b/main/3"),
        ] {
            let url: StateUrl = given.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("StateUrl({shown})"));
            assert_eq!(url, StateUrl::Redis(given.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_file_opens_by_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let url: StateUrl = format!("sqlite://{}/a/b/state.db", dir.path().display()).parse().unwrap();
        let answer = open_read_only(&url).await.err().expect("there is no file yet").to_string();
        assert!(answer.contains("does not exist"), "{answer}");
        let owner = open(&url, "n").await.unwrap();
        assert_eq!(owner.location(), url.to_string());
        assert_eq!(open_read_only(&url).await.unwrap().load().await.unwrap(), []);
    }

    #[test]
    fn the_default_is_in_the_state_directory_of_the_service_or_the_user() {
        let path = |vars: &[(&str, &str)]| {
            default_state_path(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
        };
        let service = [("STATE_DIRECTORY", "/var/lib/reeltime"), ("HOME", "/root")];
        assert_eq!(path(&service), Some("/var/lib/reeltime/state.db".into()));
        let several = [("STATE_DIRECTORY", "/var/lib/reeltime:/var/lib/more")];
        assert_eq!(path(&several), Some("/var/lib/reeltime/state.db".into()));
        let user = [("XDG_STATE_HOME", "/home/u/state"), ("HOME", "/home/u")];
        assert_eq!(path(&user), Some("/home/u/state/reeltime/state.db".into()));
        let home = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "relative"), ("HOME", "/home/u")];
        assert_eq!(path(&home), Some("/home/u/.local/state/reeltime/state.db".into()));
        assert_eq!(path(&[]), None);
    }
}
