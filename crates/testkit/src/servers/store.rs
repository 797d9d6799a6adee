//! A real S3 store with a bucket, for one test: `MinIO` or Garage started for it, or one that
//! `REELTIME_TEST_S3` names.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::garage::Garage;
use super::minio::Minio;
use super::moto::aws_env;
use super::{Credentials, Process, S3};
use crate::settings::{S3Choice, Settings, skip};

/// For a server that was killed to serve again.
const RESTART_DEADLINE: Duration = Duration::from_mins(2);

/// A store that verifies signatures and keeps its data, and an empty bucket in it. What was
/// started for it ends with it, and its data is deleted.
#[derive(Debug)]
pub struct Store {
    server: Server,
    endpoint: String,
    bucket: String,
    credentials: Mutex<Credentials>,
}

#[derive(Debug)]
enum Server {
    Minio(Minio),
    Garage(Garage),
    /// Not ours.
    Running,
}

impl Store {
    /// A `MinIO` of one's own; `None`, loudly, if the test is to be skipped.
    pub fn minio() -> Option<Self> {
        let credentials = Credentials {
            access_key_id: "first-key".to_owned(),
            secret_access_key: "the secret+of/the first".to_owned(),
            region: "eu-minio-1".to_owned(),
        };
        Self::unless_skipped("minio", || {
            let minio = Minio::start(&credentials);
            Self::with_bucket(&minio.port.address(), Server::Minio(minio), &credentials)
        })
    }

    /// A Garage of one's own; `None`, loudly, if the test is to be skipped.
    pub fn garage() -> Option<Self> {
        let credentials = Credentials { region: "garage".to_owned(), ..garage_key(1) };
        Self::unless_skipped("garage", || {
            let garage = Garage::start(&credentials);
            Self::with_bucket(&garage.port.address(), Server::Garage(garage), &credentials)
        })
    }

    /// A bucket in the store that `REELTIME_TEST_S3` names, emptied and deleted in the end;
    /// `None` if it names none.
    pub fn named() -> Option<Self> {
        let S3Choice::At(url) = &Settings::get().s3 else { return None };
        let address = url.strip_prefix("http://").unwrap_or_else(|| panic!("REELTIME_TEST_S3 is not http://: {url}"));
        Some(Self::with_bucket(address.trim_end_matches('/'), Server::Running, &Settings::get().s3_credentials))
    }

    fn unless_skipped(server: &str, start: impl FnOnce() -> Self) -> Option<Self> {
        match Settings::get().reason_to_skip(server) {
            None => Some(start()),
            Some(why) => {
                skip(server, &why);
                None
            }
        }
    }

    fn with_bucket(address: &str, server: Server, credentials: &Credentials) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let store = Self {
            server,
            endpoint: format!("http://{address}"),
            bucket: format!("recordings-{}-{number}", std::process::id()),
            credentials: Mutex::new(credentials.clone()),
        };
        match &store.server {
            Server::Garage(garage) => garage.create_bucket(&store.bucket, credentials),
            _ => store.s3().create_bucket(&store.bucket),
        }
        store
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
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
        S3::new(&self.endpoint, self.credentials())
    }

    /// The environment that makes a child process use this store.
    pub fn env(&self) -> Vec<(String, String)> {
        aws_env(&self.endpoint, &self.credentials())
    }

    /// The server's process, to freeze, thaw and kill; `None`, loudly, for a store that is not
    /// ours to do that with.
    pub fn process(&self) -> Option<&Process> {
        match &self.server {
            Server::Minio(minio) => Some(&minio.process),
            Server::Garage(garage) => Some(&garage.process),
            Server::Running => {
                skip("server to kill", &format!("{} was not started by this test", self.endpoint));
                None
            }
        }
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
        let old = self.credentials();
        let new = match &self.server {
            Server::Minio(minio) => {
                let new = Credentials {
                    access_key_id: "second-key".to_owned(),
                    secret_access_key: "another secret".to_owned(),
                    region: old.region.clone(),
                };
                minio.restart_with(&new);
                new
            }
            Server::Garage(garage) => {
                let new = Credentials { region: old.region.clone(), ..garage_key(2) };
                garage.replace_key(&old, &new, &self.bucket);
                new
            }
            Server::Running => panic!("ask process() first: the keys of {} are not ours", self.endpoint),
        };
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
        self.wait_serves(self.process().expect("it was started here"));
        assert!(!S3::new(&self.endpoint, old).serves(), "the old credentials are refused");
        new
    }

    /// Everything that was begun in the bucket and neither finished nor dropped, in words.
    pub fn unfinished(&self) -> Vec<String> {
        match &self.server {
            Server::Minio(minio) => minio.unfinished(),
            _ => self.s3().uploads(&self.bucket).iter().map(|upload| format!("{upload:?}")).collect(),
        }
    }

    fn wait_serves(&self, process: &Process) {
        let s3 = self.s3();
        process.wait_until("it to serve", RESTART_DEADLINE, || s3.serves());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !matches!(self.server, Server::Running) || std::thread::panicking() {
            return; // its data goes with it; after a failure it is there to be looked at
        }
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

/// A key as Garage wants it: `GK` and 12 bytes, and 32 bytes, in hexadecimal digits.
fn garage_key(number: u8) -> Credentials {
    Credentials {
        access_key_id: format!("GK{}", format!("{number:02x}").repeat(12)),
        secret_access_key: format!("{:02x}", number + 0xa0).repeat(32),
        region: String::new(),
    }
}
