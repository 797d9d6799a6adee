//! A directory that behaves like a store.
//!
//! An upload is a hidden temp file in the directory where the recording is to be, with a
//! journal of its parts beside it (`local/journal.rs` has the format). Parts are written in place;
//! completion is a rename, so that a recording under its name is whole.
//!
//! What holds after a crash, or a power loss, at any moment:
//!
//! - Until the rename, the upload can be resumed: what its journal lists is in the temp file,
//!   because a part is listed only when its bytes are durable and struck out before they are
//!   overwritten. Listing nevertheless compares bytes with checksums.
//! - From the rename on, the recording is complete. A journal that is left over means nothing,
//!   and goes away when the directory is next looked into.
//! - A temp file without a journal is an upload whose id nobody got; it goes away after a day.
//!
//! What is weaker than in S3: a part that is sent again is overwritten in place, so that after an
//! error it may be neither the old nor the new one. Then it is not listed, and completion refuses
//! it.
//!
//! Calls for one upload wait for each other, so that a call that was given up cannot write into
//! a file that has been completed meanwhile. Two machines that share a directory have to keep
//! apart by their leases.

mod copy;
mod files;
mod journal;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use reeltime_core::{
    ByteRange, Crc64Nvme, Limits, ObjectFacts, ObjectKey, PartNumber, PendingUpload, RemotePart, Trouble,
};
use tokio::sync::OwnedMutexGuard;

use self::files::{UploadFiles, object_path};
use super::body::{blocking, checksum_of};
use super::{
    CompletedPart, CopySource, NewUpload, ObjectStore, PartBody, StoreError, Stored, UploadRef, source_trouble,
};

/// A directory that takes recordings.
#[derive(Debug)]
pub struct LocalStore {
    base: PathBuf,
    /// The device that `base` is on, once it is known: a disk that was unmounted leaves an
    /// empty directory, which must not be taken for the destination.
    device: Arc<OnceLock<u64>>,
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why a call failed: the destination, the recording, or what was asked for.
#[derive(Debug)]
enum Failure {
    /// The destination's file system.
    Io(io::Error),
    /// The recording could not be read.
    Source(io::Error),
    /// Something else.
    Because(Trouble, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An upload that is used by one call at a time.
type Turn = OwnedMutexGuard<()>;

impl LocalStore {
    /// A store in `dir`, which need not exist yet: [`ObjectStore::preflight`] creates it.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        let given: PathBuf = dir.into();
        // A later change of the working directory must not move the destination.
        let base = std::path::absolute(&given).unwrap_or(given);
        Self { base, device: Arc::default(), busy: Mutex::default() }
    }

    fn object(&self, key: &ObjectKey) -> PathBuf {
        object_path(&self.base, key)
    }

    /// Waits until no other call uses the upload.
    async fn turn(&self, id: &str) -> Turn {
        let upload = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, upload| Arc::strong_count(upload) > 1); // those in use
            Arc::clone(busy.entry(id.to_owned()).or_default())
        };
        upload.lock_owned().await
    }

    /// Runs blocking work after checking that the destination is still the same disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (base, device) = (self.base.clone(), Arc::clone(&self.device));
        blocking(move || {
            Ok(match same_device(&base, &device) {
                Ok(()) => work(&base),
                Err(failure) => Err(failure),
            })
        })
        .await
        .unwrap_or_else(|error| Err(Failure::Io(error)))
    }

    fn named<T>(
        &self,
        op: &'static str,
        target: impl FnOnce() -> String,
        result: Result<T, Failure>,
    ) -> Result<T, StoreError> {
        result.map_err(|failure| {
            let (trouble, cause, hint) = match failure {
                Failure::Io(error) => {
                    let (trouble, hint) = files::meaning(&error, &self.base);
                    (trouble, error.to_string(), hint)
                }
                Failure::Source(error) => {
                    let (trouble, cause, hint) = source_trouble(&error);
                    (trouble, cause, hint.to_owned())
                }
                Failure::Because(Trouble::Outage, cause) => {
                    (Trouble::Outage, cause, "check that the disk is mounted; it is tried again".to_owned())
                }
                Failure::Because(trouble, cause) => (trouble, cause, String::new()),
            };
            StoreError { op, target: target(), cause, trouble, hint }
        })
    }

    fn name(&self, key: &ObjectKey) -> String {
        self.object(key).to_string_lossy().escape_debug().to_string() // hostile names in one line
    }
}

/// Whether `base` is on the disk where it was seen first.
fn same_device(base: &Path, seen: &OnceLock<u64>) -> Result<(), Failure> {
    let found = match fs::metadata(base) {
        Ok(found) => found.dev(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && seen.get().is_some() => {
            return Err(Failure::Because(Trouble::Outage, "the directory has gone".to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            files::create_dirs(base)?;
            fs::metadata(base)?.dev()
        }
        Err(error) => return Err(error.into()),
    };
    if *seen.get_or_init(|| found) == found {
        return Ok(());
    }
    Err(Failure::Because(Trouble::Outage, "another file system is mounted there than before".to_owned()))
}

#[async_trait]
impl ObjectStore for LocalStore {
    fn limits(&self) -> Limits {
        Limits::LOCAL
    }

    fn location(&self) -> String {
        self.base.display().to_string()
    }

    fn bucket(&self) -> String {
        self.location()
    }

    fn full_key(&self, key: &ObjectKey) -> String {
        key.to_utf8().into_owned()
    }

    async fn preflight(&self) -> Result<(), StoreError> {
        let probe = |base: &Path| {
            let probe = files::put_temp(&base.join("probe"));
            files::create_new(&probe)?;
            Ok(files::remove(&probe)?)
        };
        let result = self.run(probe).await;
        self.named("Probe", || self.location(), result)
    }

    async fn create_upload(&self, key: &ObjectKey, token: &str) -> Result<NewUpload, StoreError> {
        let (object, key_of_upload, token) = (self.object(key), key.clone(), token.to_owned());
        let result = self.run(move |_| upload::begin(&object, &key_of_upload, &token)).await;
        self.named("CreateMultipartUpload", || self.name(key), result).map(|id| NewUpload { id, abort_at: None })
    }

    async fn put_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        offset: u64,
        body: PartBody,
    ) -> Result<Stored, StoreError> {
        let result = self.write_part(upload, number, offset, &body).await;
        self.named("UploadPart", || format!("{} part {number}", self.name(&upload.key)), result)
    }

    async fn copy_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        source: &CopySource,
    ) -> Result<Stored, StoreError> {
        let turn = self.turn(&upload.id).await;
        let (object, upload_of_call, source) = (self.object(&upload.key), upload.clone(), source.clone());
        let result = self
            .run(move |_| {
                let _turn = turn;
                copy::part(&object, &upload_of_call, number, &source)
            })
            .await;
        self.named("UploadPartCopy", || format!("{} part {number}", self.name(&upload.key)), result)
    }

    async fn list_parts(&self, upload: &UploadRef) -> Result<Vec<RemotePart>, StoreError> {
        let turn = self.turn(&upload.id).await;
        let (object, upload_of_call) = (self.object(&upload.key), upload.clone());
        let result = self
            .run(move |_| {
                let _turn = turn;
                upload::list(&object, &upload_of_call)
            })
            .await;
        self.named("ListParts", || self.name(&upload.key), result)
    }

    async fn complete(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
        size_bytes: u64,
    ) -> Result<Option<String>, StoreError> {
        let turn = self.turn(&upload.id).await;
        let (object, upload_of_call, parts) = (self.object(&upload.key), upload.clone(), parts.to_vec());
        let result = self
            .run(move |_| {
                let _turn = turn;
                upload::complete(&object, &upload_of_call, &parts, crc, size_bytes)
            })
            .await;
        self.named("CompleteMultipartUpload", || self.name(&upload.key), result).map(|crc| Some(etag(crc)))
    }

    async fn abort(&self, upload: &UploadRef) -> Result<(), StoreError> {
        let turn = self.turn(&upload.id).await;
        let files = UploadFiles::of(&self.object(&upload.key), &upload.id);
        let result = self
            .run(move |_| {
                let _turn = turn;
                // In this order: a journal without a temp file means nothing.
                match files {
                    Some(files) => Ok(files::remove(&files.temp).and_then(|()| files::remove(&files.journal))?),
                    None => Ok(()),
                }
            })
            .await;
        self.named("AbortMultipartUpload", || self.name(&upload.key), result)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        let object = self.object(key);
        let result = self.run(move |_| facts(&object)).await;
        self.named("HeadObject", || self.name(key), result)
    }

    async fn put_object(
        &self,
        key: &ObjectKey,
        token: Option<&str>,
        _content_type: &str,
        body: PartBody,
    ) -> Result<Stored, StoreError> {
        let result = self.write_object(key, token, &body).await;
        self.named("PutObject", || self.name(key), result)
    }

    async fn list_uploads(&self, key: &ObjectKey) -> Result<Vec<PendingUpload>, StoreError> {
        let (object, wanted) = (self.object(key), key.clone());
        let result = self.run(move |_| upload::of_key(&object, &wanted)).await;
        self.named("ListMultipartUploads", || self.name(key), result)
    }
}

/// The name of bytes: their checksum.
fn etag(crc: Crc64Nvme) -> String {
    format!("{:016x}", crc.0)
}

fn facts(object: &Path) -> Result<Option<ObjectFacts>, Failure> {
    let file = match File::open(object) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let size_bytes = metadata.len();
    let crc = checksum_of(&file, ByteRange { offset: 0, len: size_bytes })?;
    Ok(Some(ObjectFacts { size_bytes, etag: etag(crc), crc: Some(crc), token: files::token_of(&file) }))
}
