//! What the integration suites run against: one place for addresses, credentials and patience.
//!
//! | variable | means | unset |
//! |---|---|---|
//! | `REELTIME_TEST_S3` | `minio`, `garage`, or the `http://` address of a store that runs | `MinIO` and Garage, both |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` | the credentials for that address | those of moto |
//! | `REELTIME_TEST_STATE` | `redis` or `sqlite`: where the suites that run on those stores keep their state | `redis` |
//! | `REELTIME_TEST_DEADLINE_SECONDS`, while the tests are built | how long a test waits for what should take a moment | 120 |
//! | `REELTIME_TEST_TOOLS` | the directory with the servers that `scripts/install-test-tools` installed | below `$XDG_CACHE_HOME` or `~/.cache` |
//! | `REELTIME_TEST_UNAVAILABLE` | names of servers that this machine cannot have, with blanks between | none |
//! | `REELTIME_TEST_SKIPPED` | the file that is told of every skipped test, a line each | standard error alone |
//!
//! A server that is not there fails its tests, unless `REELTIME_TEST_UNAVAILABLE` names it:
//! `scripts/test` sets that to what the installer said it cannot install.
//!
//! The state in `SQLite` is not left out by default: the suites `recordings`, `upsets`, `outages`,
//! `limits`, `kill_loop` and `commands` keep it there whatever `REELTIME_TEST_STATE` says.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use crate::servers::Credentials;

/// How long a test waits for what should take a moment: generous, because a busy machine is no
/// failure.
pub const DEADLINE: Duration = Duration::from_secs(match option_env!("REELTIME_TEST_DEADLINE_SECONDS") {
    None => 120,
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("REELTIME_TEST_DEADLINE_SECONDS is no whole number"),
    },
});

/// Which S3 stores the suites run against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Choice {
    /// All that the testkit can start.
    All,
    /// This one alone: `minio` or `garage`.
    Only(String),
    /// One that runs already.
    At(String),
}

/// Where reeltime keeps its state in the suites that run on real stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChoice {
    /// A redis-server.
    Redis,
    /// A file of `SQLite`.
    Sqlite,
}

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which stores.
    pub s3: S3Choice,
    /// For a store that runs already.
    pub s3_credentials: Credentials,
    /// Where reeltime keeps its state.
    pub state: StateChoice,
    /// Where the installed servers are.
    pub tools: PathBuf,
    /// Servers that this machine cannot have.
    pub unavailable: Vec<String>,
    /// The file that is told of skipped tests.
    pub skipped: Option<PathBuf>,
}

impl Settings {
    /// Those of this process, read once.
    pub fn get() -> &'static Self {
        static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings::of(|name| std::env::var(name).ok()));
        &SETTINGS
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let s3 = match variable("REELTIME_TEST_S3") {
            None => S3Choice::All,
            Some(url) if url.contains("://") => S3Choice::At(url),
            Some(name) if ["minio", "garage"].contains(&name.as_str()) => S3Choice::Only(name),
            Some(other) => panic!("REELTIME_TEST_S3 is {other:?}: it may be minio, garage or http://host:port"),
        };
        let state = match variable("REELTIME_TEST_STATE").as_deref() {
            None | Some("redis") => StateChoice::Redis,
            Some("sqlite") => StateChoice::Sqlite,
            Some(other) => panic!("REELTIME_TEST_STATE is {other:?}: it may be redis or sqlite"),
        };
        let any = Credentials::default();
        let caches = || {
            let own = variable("XDG_CACHE_HOME").map(PathBuf::from);
            own.unwrap_or_else(|| PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache"))
        };
        let unavailable = variable("REELTIME_TEST_UNAVAILABLE").unwrap_or_default();
        Self {
            s3,
            state,
            s3_credentials: Credentials {
                access_key_id: variable("AWS_ACCESS_KEY_ID").unwrap_or(any.access_key_id),
                secret_access_key: variable("AWS_SECRET_ACCESS_KEY").unwrap_or(any.secret_access_key),
                region: variable("AWS_REGION").unwrap_or(any.region),
            },
            tools: variable("REELTIME_TEST_TOOLS").map_or_else(|| caches().join("reeltime-test-tools"), PathBuf::from),
            unavailable: unavailable.split_whitespace().map(str::to_owned).collect(),
            skipped: variable("REELTIME_TEST_SKIPPED").map(PathBuf::from),
        }
    }

    /// Why tests on this server are to be skipped; `None`: they are not.
    pub fn reason_to_skip(&self, server: &str) -> Option<String> {
        match &self.s3 {
            S3Choice::Only(chosen) if chosen != server => Some(format!("REELTIME_TEST_S3 chooses {chosen}")),
            S3Choice::At(url) => Some(format!("REELTIME_TEST_S3 chooses {url}")),
            _ => self.unavailable_reason(server),
        }
    }

    /// Why this machine cannot have a server; `None`: it is there, or missing.
    pub fn unavailable_reason(&self, server: &str) -> Option<String> {
        self.unavailable.iter().any(|name| name == server).then(|| "this machine cannot have it".to_owned())
    }
}

/// Says that a test was skipped: on the standard error, past the test runner's capture, and to
/// the file that `scripts/test` counts.
pub fn skip(server: &str, why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED: {test}: no {server}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes()); // nobody to tell if that is closed
    if let Some(file) = &Settings::get().skipped {
        let written = OpenOptions::new().create(true).append(true).open(file);
        written
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("{} cannot be told that {line}: {error}", file.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::of(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn without_a_choice_every_server_is_used_and_a_chosen_one_alone() {
        let all = settings(&[("HOME", "/home/a")]);
        assert_eq!(all.s3, S3Choice::All);
        assert_eq!(all.tools, PathBuf::from("/home/a/.cache/reeltime-test-tools"));
        assert_eq!((all.reason_to_skip("minio"), all.reason_to_skip("garage")), (None, None));
        assert_eq!(all.state, StateChoice::Redis);
        assert_eq!(settings(&[("REELTIME_TEST_STATE", "sqlite")]).state, StateChoice::Sqlite);
        let one = settings(&[("REELTIME_TEST_S3", "garage")]);
        assert!(one.reason_to_skip("minio").is_some_and(|why| why.contains("garage")));
        assert_eq!(one.reason_to_skip("garage"), None);
        let named = settings(&[("REELTIME_TEST_S3", "http://store:9000"), ("AWS_ACCESS_KEY_ID", "me")]);
        assert_eq!(named.s3, S3Choice::At("http://store:9000".to_owned()));
        assert_eq!(named.s3_credentials.access_key_id, "me");
        assert!(named.reason_to_skip("garage").is_some());
    }

    #[test]
    fn only_what_is_named_unavailable_is_skipped() {
        let settings = settings(&[("REELTIME_TEST_UNAVAILABLE", "minio  other")]);
        assert!(settings.reason_to_skip("minio").is_some());
        assert_eq!(settings.reason_to_skip("garage"), None);
    }

    #[test]
    #[should_panic(expected = "it may be minio, garage or http://host:port")]
    fn an_unknown_choice_is_refused() {
        settings(&[("REELTIME_TEST_S3", "ceph")]);
    }

    #[test]
    #[should_panic(expected = "it may be redis or sqlite")]
    fn an_unknown_state_is_refused() {
        settings(&[("REELTIME_TEST_STATE", "etcd")]);
    }
}
