//! A real S3 store with a bucket, for one test: on a `MinIO` or a Garage that all tests of the
//! process share or that is started for one of them, or one that `REELTIME_TEST_S3` names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::garage::Garage;
use super::minio::Minio;
use super::moto::aws_env;
use super::{Credentials, Process, S3, Shared};
use crate::settings::{S3Choice, Settings, skip};

/// For a server that was killed to serve again.
const RESTART_DEADLINE: Duration = Duration::from_mins(2);

/// Whose servers a test runs on. [`crate::on_every_store!`] hands one to each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    /// `MinIO`.
    Minio,
    /// Garage.
    Garage,
    /// The one that `REELTIME_TEST_S3` names.
    Named,
}

/// A store that verifies signatures and keeps its data, and an empty bucket in it. The bucket
/// ends with it, also when the test panics.
#[derive(Debug)]
pub struct Store {
    server: Arc<Server>,
    /// Nobody else uses the server.
    is_own: bool,
    bucket: String,
    credentials: Mutex<Credentials>,
}

#[derive(Debug)]
struct Server {
    kind: Kind,
    endpoint: String,
    /// The first ones.
    credentials: Credentials,
}

#[derive(Debug)]
enum Kind {
    Minio(Minio),
    Garage(Garage),
    /// Not ours.
    Running,
}

impl Provider {
    /// `MinIO`; `None`, loudly, if its tests are to be skipped.
    pub fn minio() -> Option<Self> {
        Self::Minio.unless_skipped("minio")
    }

    /// Garage; `None`, loudly, if its tests are to be skipped.
    pub fn garage() -> Option<Self> {
        Self::Garage.unless_skipped("garage")
    }

    /// The store that `REELTIME_TEST_S3` names. Panics if it names none.
    pub fn named() -> Self {
        let choice = &Settings::get().s3;
        assert!(matches!(choice, S3Choice::At(_)), "this test needs REELTIME_TEST_S3=http://host:port: {choice:?}");
        Self::Named
    }

    fn unless_skipped(self, server: &str) -> Option<Self> {
        let why = Settings::get().reason_to_skip(server);
        if let Some(why) = &why {
            skip(server, why);
        }
        why.is_none().then_some(self)
    }

    /// A bucket of one's own on the server that all tests of this process share. What it holds
    /// and how it fares is a test's own, the server is not: see [`Provider::own_store`].
    pub fn store(self) -> Arc<Store> {
        static MINIO: Shared<Server> = Shared::new();
        static GARAGE: Shared<Server> = Shared::new();
        let server = match self {
            Self::Minio => MINIO.get_or_make(|| self.start()),
            Self::Garage => GARAGE.get_or_make(|| self.start()),
            Self::Named => Arc::new(self.start()),
        };
        Arc::new(Store::with_bucket(server, false))
    }

    /// A bucket on a server of one's own, to kill, freeze and change. Of a named store there is
    /// only the one: see [`Store::process`].
    pub fn own_store(self) -> Arc<Store> {
        Arc::new(Store::with_bucket(Arc::new(self.start()), true))
    }

    fn start(self) -> Server {
        let (address, kind, credentials) = match self {
            Self::Minio => {
                let credentials = Credentials {
                    access_key_id: "first-key".to_owned(),
                    secret_access_key: "the secret+of/the first".to_owned(),
                    region: "eu-minio-1".to_owned(),
                };
                let minio = Minio::start(&credentials);
                (minio.port.address(), Kind::Minio(minio), credentials)
            }
            Self::Garage => {
                let credentials = Credentials { region: "garage".to_owned(), ..garage_key(1) };
                let garage = Garage::start(&credentials);
                (garage.port.address(), Kind::Garage(garage), credentials)
            }
            Self::Named => {
                let settings = Settings::get();
                let S3Choice::At(url) = &settings.s3 else { panic!("REELTIME_TEST_S3 names no store") };
                let address = url.strip_prefix("http://");
                let address = address.unwrap_or_else(|| panic!("REELTIME_TEST_S3 is not http://: {url}"));
                (address.trim_end_matches('/').to_owned(), Kind::Running, settings.s3_credentials.clone())
            }
        };
        Server { kind, endpoint: format!("http://{address}"), credentials }
    }
}

impl Store {
    fn with_bucket(server: Arc<Server>, is_own: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let store = Self {
            bucket: format!("recordings-{}-{number}", std::process::id()),
            credentials: Mutex::new(server.credentials.clone()),
            server,
            is_own,
        };
        match &store.server.kind {
            Kind::Garage(garage) => garage.create_bucket(&store.bucket, &store.server.credentials),
            _ => store.s3().create_bucket(&store.bucket),
        }
        store
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> &str {
        &self.server.endpoint
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.endpoint().trim_start_matches("http://")
    }

    /// The bucket of this test alone.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What the store accepts now.
    pub fn credentials(&self) -> Credentials {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client to look inside with.
    pub fn s3(&self) -> S3 {
        S3::new(self.endpoint(), self.credentials())
    }

    /// The environment that makes a child process use this store.
    pub fn env(&self) -> Vec<(String, String)> {
        aws_env(self.endpoint(), &self.credentials())
    }

    /// The server's process, to freeze, thaw and kill; `None`, loudly, for a store that is not
    /// ours to do that with. Panics if other tests use it.
    pub fn process(&self) -> Option<&Process> {
        let process = match &self.server.kind {
            Kind::Minio(minio) => &minio.process,
            Kind::Garage(garage) => &garage.process,
            Kind::Running => {
                skip("server to kill", &format!("{} was not started by this test", self.endpoint()));
                return None;
            }
        };
        assert!(self.is_own, "other tests use this server: ask for Provider::own_store()");
        Some(process)
    }

    /// Kills it if it runs, starts it again at the same address with the same data, and returns
    /// when it serves.
    pub fn restart(&self) {
        let process = self.process().expect("only what was started can be started again");
        process.restart();
        self.wait_serves(process);
    }

    /// Makes the store accept new credentials and refuse the old ones: Garage while it runs,
    /// `MinIO` by a restart. Gives the new ones.
    pub fn replace_credentials(&self) -> Credentials {
        let process = self.process().unwrap_or_else(|| panic!("the keys of {} are not ours", self.endpoint()));
        let old = self.credentials();
        let new = match &self.server.kind {
            Kind::Minio(minio) => {
                let new = Credentials {
                    access_key_id: "second-key".to_owned(),
                    secret_access_key: "another secret".to_owned(),
                    region: old.region.clone(),
                };
                minio.restart_with(&new);
                new
            }
            Kind::Garage(garage) => {
                let new = Credentials { region: old.region.clone(), ..garage_key(2) };
                garage.replace_key(&old, &new, &self.bucket);
                new
            }
            Kind::Running => unreachable!("it has no process"),
        };
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
        self.wait_serves(process);
        assert!(!S3::new(self.endpoint(), old).serves(), "the old credentials are refused");
        new
    }

    /// Everything that was begun in the bucket under these keys and neither finished nor
    /// dropped, in words; elsewhere than on `MinIO` also what was begun under other keys.
    pub fn unfinished<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Vec<String> {
        match &self.server.kind {
            Kind::Minio(minio) => {
                keys.into_iter().flat_map(|key| minio.unfinished(&self.bucket, key.as_ref())).collect()
            }
            _ => self.s3().uploads(&self.bucket).iter().map(|upload| format!("{upload:?}")).collect(),
        }
    }

    fn wait_serves(&self, process: &Process) {
        let s3 = self.s3();
        process.wait_until("it to serve", RESTART_DEADLINE, || s3.serves());
    }

    fn delete_bucket(&self) {
        let (s3, bucket) = (self.s3(), &self.bucket);
        for upload in s3.uploads(bucket) {
            s3.abort(bucket, &upload.key, &upload.upload_id);
        }
        for key in s3.keys(bucket) {
            s3.delete(bucket, &key);
        }
        s3.delete_bucket(bucket);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.is_own && !matches!(self.server.kind, Kind::Running) {
            return; // the data goes with the server
        }
        // Tried after a failure too; the first failure is the one to be told of.
        let deleted = catch_unwind(AssertUnwindSafe(|| self.delete_bucket()));
        assert!(deleted.is_ok() || std::thread::panicking(), "bucket {} could not be deleted", self.bucket);
    }
}

/// A key as Garage wants it: `GK` and 12 bytes, and 32 bytes, in hexadecimal digits.
fn garage_key(number: u8) -> Credentials {
    Credentials {
        access_key_id: format!("GK{}", format!("{number:02x}").repeat(12)),
        secret_access_key: format!("{:02x}", number + 0xa0).repeat(32),
        region: String::new(),
    }
}

/// Makes a test on `MinIO`, one on Garage and one on the store that `REELTIME_TEST_S3` names of
/// each function; it is given the [`Provider`]. The last ones are ignored unless they are asked
/// for, as `scripts/test` does when there is such a store.
#[macro_export]
macro_rules! on_every_store {
    ($($name:ident)*) => {
        $crate::on_every_store!(@on minio: $($name)*);
        $crate::on_every_store!(@on garage: $($name)*);
        mod named {
            $(
                #[test]
                #[ignore = "needs REELTIME_TEST_S3=http://host:port"]
                fn $name() {
                    super::$name($crate::servers::Provider::named());
                }
            )*
        }
    };
    (@on $server:ident: $($name:ident)*) => {
        mod $server {
            $(
                #[test]
                fn $name() {
                    if let Some(provider) = $crate::servers::Provider::$server() {
                        super::$name(provider);
                    }
                }
            )*
        }
    };
}
