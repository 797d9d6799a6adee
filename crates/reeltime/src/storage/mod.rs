//! Where recordings go: the [`ObjectStore`] trait and its backends.
//!
//! The trait has the calls that reeltime uses and no others. Every backend passes one
//! conformance suite. No call retries by itself: when to try again is decided per stream, in
//! the core.

mod blocks;
pub mod body;
mod content_type;
pub mod local;
pub mod s3;
pub mod url;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use reeltime_core::{
    ByteRange, Crc64Nvme, Limits, ObjectFacts, ObjectKey, PartNumber, PendingUpload, RemotePart, Trouble, WallTime,
};

pub use body::PartBody;
pub use content_type::content_type;
pub use local::LocalStore;
pub use s3::{S3Config, S3Store};
pub use url::{Destination, DestinationError};

/// What a store answers to a stored part or object.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The store's name for the bytes.
    pub etag: String,
    /// When it was stored, by this machine's clock.
    pub at: WallTime,
}

/// An upload: its object and the store's id.
#[derive(Clone, Debug)]
pub struct UploadRef {
    /// The object.
    pub key: ObjectKey,
    /// The store's upload id.
    pub id: String,
}

/// What is copied: a range of the object that is at the upload's key.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// Only an object with this `ETag` is meant.
    pub object_etag: String,
    /// Its bytes.
    pub range: ByteRange,
    /// The store's name for them when they were sent as a part of that object.
    pub part_etag: String,
    /// Their checksum.
    pub crc: Crc64Nvme,
}

/// A part in the list that completes an upload.
#[derive(Clone, Debug)]
pub struct CompletedPart {
    /// Its number.
    pub number: PartNumber,
    /// The store's name for it.
    pub etag: String,
    /// Its checksum, if known.
    pub crc: Option<Crc64Nvme>,
}

/// A new upload.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// The store's upload id.
    pub id: String,
    /// When the store will abort the upload by itself, if it says so.
    pub abort_at: Option<WallTime>,
}

/// A request that a store did not fulfil.
#[derive(Debug, thiserror::Error)]
#[error("{op} {target}: {cause}")]
pub struct StoreError {
    /// What was tried, in S3's terms: `UploadPart`.
    pub op: &'static str,
    /// On what: `s3://bucket/key part 3`.
    pub target: String,
    /// The cause in words, with the store's error code and request id where there are.
    pub cause: String,
    /// What it means for the stream.
    pub trouble: Trouble,
    /// What an operator can do; empty if nothing.
    pub hint: String,
}

/// What it means that a recording could not be read on its way to a store, in words, and what
/// to do.
fn source_trouble(error: &io::Error) -> (Trouble, String, &'static str) {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let cause = "the recording became shorter while it was read".to_owned();
        return (Trouble::SourceChanged, cause, "");
    }
    let cause = format!("the recording cannot be read: {error}");
    (Trouble::SourceUnreadable, cause, "check the disk or the network mount that holds the recording")
}

/// What a recording that changed while it was sent is called.
const SOURCE_CHANGED: &str = "the recording changed while it was sent";

/// The time by this machine's clock.
fn now() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// An S3-compatible store, or a directory that behaves like one.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// What the store allows.
    fn limits(&self) -> Limits;

    /// The destination as a person would write it, without credentials.
    fn location(&self) -> String;

    /// The bucket, or the directory, for the metadata document.
    fn bucket(&self) -> String;

    /// The key as the metadata document and the API give it: with the destination's prefix.
    fn full_key(&self, key: &ObjectKey) -> String;

    /// Whether a part that is sent again replaces the first, as far as is known by now.
    fn replaces_parts(&self) -> bool {
        true
    }

    /// Whether the destination exists and may be used. [`Trouble::Outage`] if that cannot be
    /// told now. Has no effect.
    async fn preflight(&self) -> Result<(), StoreError>;

    /// Begins an upload; the object will bear `token`. Not idempotent: after
    /// [`Trouble::Outage`] there may be an upload that only [`ObjectStore::list_uploads`]
    /// finds.
    async fn create_upload(&self, key: &ObjectKey, token: &str) -> Result<NewUpload, StoreError>;

    /// The same; with `copies`, an upload into which the store copies parts, where it makes a
    /// difference.
    async fn create_upload_for(&self, key: &ObjectKey, token: &str, _copies: bool) -> Result<NewUpload, StoreError> {
        self.create_upload(key, token).await
    }

    /// Stores a part; one with the same number is replaced. Idempotent. After
    /// [`Trouble::Outage`] the part is the old one or the new one.
    ///
    /// `offset` is where the part lies in the object. An `Ok` means that the store has exactly
    /// the bytes with checksum `body.crc()`; if the file changed while it was read, the answer
    /// is [`Trouble::SourceChanged`]. Of a store that does not replace parts it is
    /// [`Trouble::NotReplaced`].
    async fn put_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        offset: u64,
        body: PartBody,
    ) -> Result<Stored, StoreError>;

    /// Stores as a part what the object at the upload's key has in a range, which is also where
    /// the part lies; nothing is sent. The object is larger than the smallest part. Idempotent,
    /// and after [`Trouble::Outage`] as [`ObjectStore::put_part`].
    ///
    /// An `Ok` means that the part has exactly these bytes: not every store heeds the condition, so
    /// that its answer must show it, by checksum or by the part's `ETag`. If the object is another,
    /// or that does not show, the answer is [`Trouble::InvalidPart`]; of a store that cannot copy it is
    /// [`Trouble::Denied`], from then on without asking it.
    async fn copy_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        source: &CopySource,
    ) -> Result<Stored, StoreError>;

    /// All parts of an upload, in order. [`Trouble::NoSuchUpload`] if there is none.
    async fn list_parts(&self, upload: &UploadRef) -> Result<Vec<RemotePart>, StoreError>;

    /// Makes the object of exactly these parts; others of the upload are dropped. Readers see
    /// the old object or the new one. Answers the object's `ETag` where the store tells it.
    ///
    /// After [`Trouble::Outage`] it may have taken effect; repeated after that, it answers as
    /// before or [`Trouble::NoSuchUpload`], and [`ObjectStore::head`] decides.
    async fn complete(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
        size_bytes: u64,
    ) -> Result<Option<String>, StoreError>;

    /// Aborts an upload and drops its parts. Idempotent: an upload that is gone is a success.
    async fn abort(&self, upload: &UploadRef) -> Result<(), StoreError>;

    /// What the store says of an object; `None` if there is none.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError>;

    /// Stores an object in one request; it bears `token` if one is given. Idempotent.
    async fn put_object(
        &self,
        key: &ObjectKey,
        token: Option<&str>,
        content_type: &str,
        body: PartBody,
    ) -> Result<Stored, StoreError>;

    /// The unfinished uploads of exactly this key. Not every store lists every one.
    async fn list_uploads(&self, key: &ObjectKey) -> Result<Vec<PendingUpload>, StoreError>;

    /// Tells the unfinished uploads of all keys below the destination, whoever began them: full
    /// key and id. For people to see; not every store lists every one, and a directory none.
    async fn each_upload(&self, _tell: &mut (dyn FnMut(String, String) + Send)) -> Result<(), StoreError> {
        Ok(())
    }
}
