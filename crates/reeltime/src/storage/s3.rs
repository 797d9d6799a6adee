//! An S3-compatible store.
//!
//! - No call retries: when to try again is decided in the core. Each call ends in bounded time
//!   if the store does not answer, and a part for as long as the network takes bytes goes on.
//! - The bytes of parts are not hashed for the signature, which would cost three times the
//!   processor time of everything else. What protects them is their CRC64NVME, computed before
//!   and stated in a header, or `Content-MD5` where a store refuses that.
//! - The object bears the token of its stream as metadata `reeltime-token`, by which it is
//!   recognised after a lost answer.
//! - `ETag`s are kept without the quotes that stores put around them.

mod body;
mod client;
mod copy;
mod errors;
mod listing;
mod object;
mod plain;
#[cfg(test)]
mod scripted;
mod upload;
mod xml;

use std::error::Error;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use reeltime_core::{
    Crc64Nvme, Limits, ObjectFacts, ObjectKey, PartNumber, PendingUpload, RemotePart, Trouble, WallTime,
};

use self::client::Clients;
use self::errors::Failure;
use self::plain::PlainUploads;
use super::{CompletedPart, CopySource, NewUpload, ObjectStore, PartBody, StoreError, Stored, UploadRef};

/// The name of the object metadata that holds the token.
const TOKEN: &str = "reeltime-token";

/// The longest key that S3 allows, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// How parts are protected on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksums {
    /// CRC64NVME; and if the store refuses it, `Content-MD5` from then on.
    #[default]
    Auto,
    /// `Content-MD5`.
    Off,
}

/// How long silence is borne. None of it limits how long a part may take while the network
/// takes its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the network to take the next bytes of a part.
    pub stall: Duration,
    /// For the answer to a request; longer for what a store needs more time for.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), stall: Duration::from_mins(1), answer: Duration::from_secs(30) }
    }
}

/// Which store, and how to deal with it.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with, without `/` at either end; may be empty.
    pub prefix: String,
    /// The store's address; `None`: from the environment or the profile, else AWS.
    pub endpoint: Option<String>,
    /// The region; `None`: from the environment, the profile or the machine, else `us-east-1`.
    pub region: Option<String>,
    /// How parts are protected.
    pub checksums: Checksums,
    /// What the store allows; `None`: what is known of the endpoint.
    pub limits: Option<Limits>,
    /// Where credentials come from; `None`: AWS's standard chain.
    pub credentials: Option<SharedCredentialsProvider>,
    /// How long silence is borne.
    pub patience: Patience,
}

impl S3Config {
    /// A bucket and a prefix, and the defaults for everything else.
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: None,
            region: None,
            checksums: Checksums::Auto,
            limits: None,
            credentials: None,
            patience: Patience::default(),
        }
    }
}

/// A bucket of an S3-compatible store, or a prefix in it.
pub struct S3Store {
    clients: Clients,
    bucket: String,
    prefix: String,
    limits: Limits,
    patience: Patience,
    /// Whether checksums may be given up when the store refuses them.
    checksums: Checksums,
    checksums_refused: AtomicBool,
    /// The store does not copy parts.
    copies_refused: AtomicBool,
    plain: PlainUploads,
    /// When the bucket was there last.
    bucket_seen: Mutex<Option<Instant>>,
    /// The store has refused a part that may have been sent before.
    part_refused: AtomicBool,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("location", &self.location()).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Prepares for requests to a store, without making one. Fails if the endpoint is no URL.
    pub async fn connect(mut config: S3Config) -> Result<Self, StoreError> {
        config.prefix = config.prefix.trim_matches('/').to_owned();
        let clients = Clients::new(config.clone()).await;
        let endpoint = clients.endpoint().await;
        if let Some(endpoint) = endpoint.as_deref().filter(|endpoint| !is_endpoint(endpoint)) {
            let failure = Failure::new(Trouble::Denied, "the address of the store is no URL");
            let hint = "write --s3-endpoint https://host:port (or http://…); without it, see AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL";
            return Err(Failure { hint: hint.to_owned(), ..failure }.into_error("Connect", endpoint.to_owned()));
        }
        let known = match endpoint.as_deref().map(client::host_of) {
            Some(host) if host.ends_with(".scw.cloud") => Limits::SCALEWAY,
            _ => Limits::S3,
        };
        Ok(Self {
            clients,
            bucket: config.bucket,
            prefix: config.prefix,
            limits: config.limits.unwrap_or(known),
            patience: config.patience,
            checksums: config.checksums,
            checksums_refused: AtomicBool::new(false),
            copies_refused: AtomicBool::new(false),
            plain: PlainUploads::default(),
            bucket_seen: Mutex::new(None),
            part_refused: AtomicBool::new(false),
        })
    }

    /// The key with its prefix, as the store is to know it.
    fn store_key(&self, key: &ObjectKey) -> Result<String, Failure> {
        let full = self.full_key(key);
        if full.len() <= MAX_KEY_BYTES {
            return Ok(full);
        }
        let cause = format!("the key has {} bytes, and S3 allows {MAX_KEY_BYTES}", full.len());
        let hint = "choose a shorter prefix, or shorter names of directories and files".to_owned();
        Err(Failure { hint, ..Failure::new(Trouble::Refused, cause) })
    }

    async fn client(&self) -> Client {
        self.clients.get().await
    }

    /// Whether checksums are stated.
    fn with_checksums(&self) -> bool {
        self.checksums == Checksums::Auto && !self.checksums_refused.load(Ordering::Relaxed)
    }

    /// Makes a request with checksums, and if the store may have refused those, without. Once
    /// that has helped, checksums are given up for good.
    async fn with_or_without_checksums<T, R>(&self, request: impl Fn(bool) -> R) -> Result<T, Failure>
    where
        R: Future<Output = Result<T, Failure>>,
    {
        let with = self.with_checksums();
        let answer = request(with).await;
        if !with || !answer.as_ref().is_err_and(Failure::may_be_about_checksums) {
            return answer;
        }
        let answer = request(false).await;
        if answer.is_ok() && !self.checksums_refused.swap(true, Ordering::Relaxed) {
            tracing::info!(store = %self.location(), "store refuses CRC64NVME checksums; parts go with Content-MD5");
        }
        answer
    }

    /// Waits for the answer to a small request, but not for ever: `extra` longer than usual.
    async fn ask<T, E>(
        &self,
        extra: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let patience = self.patience.answer + extra;
        match tokio::time::timeout(patience, Box::pin(request)).await {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::outage(format!("no answer within {} s", patience.as_secs_f32()))),
        }
    }

    /// Gives a failure its name and target.
    async fn named<T>(
        &self,
        op: &'static str,
        target: impl FnOnce() -> String,
        result: Result<T, Failure>,
    ) -> Result<T, StoreError> {
        match result {
            Ok(value) => Ok(value),
            Err(failure) => {
                if failure.may_be_about_credentials() {
                    self.clients.credentials_were_refused().await;
                }
                Err(failure.into_error(op, target()))
            }
        }
    }

    /// A refusal of a part, which a store that does not replace parts gives only to those that it
    /// has. Which it was shows in its list of parts; other streams are careful from now on.
    fn not_replaced(&self, failure: Failure) -> Failure {
        if !failure.may_mean_not_replaced() {
            return failure;
        }
        if !self.part_refused.swap(true, Ordering::Relaxed) {
            tracing::info!(store = %self.location(), "store does not replace parts; recordings are sent at their end");
        }
        Failure { trouble: Trouble::NotReplaced, hint: errors::NOT_REPLACED.to_owned(), ..failure }
    }

    fn object_name(&self, key: &ObjectKey) -> String {
        format!("s3://{}/{}", self.bucket, self.full_key(key).escape_debug())
    }

    fn part_name(&self, upload: &UploadRef, number: PartNumber) -> String {
        format!("{} part {number}", self.object_name(&upload.key))
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn location(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    fn bucket(&self) -> String {
        self.bucket.clone()
    }

    fn full_key(&self, key: &ObjectKey) -> String {
        match self.prefix.as_str() {
            "" => key.to_utf8().into_owned(),
            prefix => format!("{prefix}/{}", key.to_utf8()),
        }
    }

    fn replaces_parts(&self) -> bool {
        !self.part_refused.load(Ordering::Relaxed)
    }

    async fn preflight(&self) -> Result<(), StoreError> {
        let result = self.look_into_bucket().await;
        self.named("ListObjectsV2", || self.location(), result).await
    }

    async fn create_upload(&self, key: &ObjectKey, token: &str) -> Result<NewUpload, StoreError> {
        self.create_upload_for(key, token, false).await
    }

    async fn create_upload_for(&self, key: &ObjectKey, token: &str, copies: bool) -> Result<NewUpload, StoreError> {
        let result = self.begin(key, token, copies).await;
        self.named("CreateMultipartUpload", || self.object_name(key), result).await
    }

    async fn put_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        _offset: u64,
        body: PartBody,
    ) -> Result<Stored, StoreError> {
        let result = self.send_part(upload, number, &body).await.map_err(|failure| self.not_replaced(failure));
        self.named("UploadPart", || self.part_name(upload, number), result).await
    }

    async fn copy_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        source: &CopySource,
    ) -> Result<Stored, StoreError> {
        let result = self.copy(upload, number, source).await;
        self.named("UploadPartCopy", || self.part_name(upload, number), result).await
    }

    async fn list_parts(&self, upload: &UploadRef) -> Result<Vec<RemotePart>, StoreError> {
        let result = self.all_parts(upload).await;
        self.named("ListParts", || self.object_name(&upload.key), result).await
    }

    async fn complete(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
        _size_bytes: u64,
    ) -> Result<Option<String>, StoreError> {
        let result = self.finish(upload, parts, crc).await;
        self.named("CompleteMultipartUpload", || self.object_name(&upload.key), result).await
    }

    async fn abort(&self, upload: &UploadRef) -> Result<(), StoreError> {
        let result = self.drop_upload(upload).await;
        self.named("AbortMultipartUpload", || self.object_name(&upload.key), result).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        let result = self.facts(key).await;
        self.named("HeadObject", || self.object_name(key), result).await
    }

    async fn put_object(
        &self,
        key: &ObjectKey,
        token: Option<&str>,
        content_type: &str,
        body: PartBody,
    ) -> Result<Stored, StoreError> {
        let result = self.send_object(key, token, content_type, &body).await;
        self.named("PutObject", || self.object_name(key), result).await
    }

    async fn list_uploads(&self, key: &ObjectKey) -> Result<Vec<PendingUpload>, StoreError> {
        let result = self.uploads_of(key).await;
        self.named("ListMultipartUploads", || self.object_name(key), result).await
    }

    async fn each_upload(&self, tell: &mut (dyn FnMut(String, String) + Send)) -> Result<(), StoreError> {
        let result = self.uploads_below(tell).await;
        self.named("ListMultipartUploads", || self.location(), result).await
    }
}

/// Whether this can be an endpoint: the SDK only finds out with the first request.
fn is_endpoint(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
        && !client::host_of(text).is_empty()
        && !text.contains(|character: char| character.is_whitespace() || character == '@')
}

/// An `ETag` without its quotes.
fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

fn wall_time(time: &DateTime) -> WallTime {
    WallTime(time.to_millis().unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn key(path: &str) -> ObjectKey {
        ObjectKey::from_relative(Path::new(path), &[]).unwrap()
    }

    #[tokio::test]
    async fn prefix_and_key_are_joined_by_one_slash() {
        for (prefix, full) in [("", "a/b.mp4"), ("p", "p/a/b.mp4"), ("/p/q/", "p/q/a/b.mp4")] {
            let config = S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..S3Config::new("b", prefix) };
            let store = S3Store::connect(config).await.unwrap();
            assert_eq!(store.full_key(&key("a/b.mp4")), full);
        }
    }

    #[tokio::test]
    async fn a_key_that_is_too_long_is_refused_without_asking() {
        let config = S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..S3Config::new("b", "p") };
        let store = S3Store::connect(config).await.unwrap();
        assert!(store.store_key(&key(&"x".repeat(1022))).is_ok());
        let error = store.create_upload(&key(&"x".repeat(1023)), "t").await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Refused, "{error}");
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_url_is_said_at_once() {
        for endpoint in ["127.0.0.1:9000", "minio", "https://", "ftp://x", "http://user:secret@x"] {
            let config = S3Config { endpoint: Some(endpoint.into()), ..S3Config::new("b", "") };
            let error = S3Store::connect(config).await.unwrap_err();
            assert!(error.hint.contains("--s3-endpoint"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_limits_of_a_known_store_are_known() {
        let config = S3Config { endpoint: Some("https://s3.fr-par.scw.cloud".into()), ..S3Config::new("b", "") };
        assert_eq!(S3Store::connect(config).await.unwrap().limits(), Limits::SCALEWAY);
    }
}
