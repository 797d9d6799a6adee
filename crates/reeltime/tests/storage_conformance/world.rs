//! The stores under test, and what the tests need besides the trait.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reeltime::storage::s3::Checksums;
use reeltime::storage::{
    CompletedPart, CopySource, LocalStore, NewUpload, ObjectStore, PartBody, S3Config, S3Store, StoreError, Stored,
    UploadRef,
};
use reeltime_core::{ByteRange, Crc64Nvme, ObjectKey, PartNumber};
use tempfile::TempDir;

use crate::moto::Moto;

/// The smallest part that is not a tail.
pub const PART: usize = 5 << 20;

/// A store, and a way to its objects that is not the store's.
pub struct World {
    pub store: Box<dyn ObjectStore>,
    objects: Objects,
    scratch: TempDir,
}

enum Objects {
    Dir(TempDir),
    Bucket(Arc<Moto>, String),
}

/// A new directory.
pub async fn local() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Box::new(LocalStore::open(dir.path()));
    World { store, objects: Objects::Dir(dir), scratch: tempfile::tempdir().unwrap() }
}

/// A prefix in a new bucket of a real server.
pub async fn s3() -> World {
    s3_with(Checksums::Auto).await
}

/// The same without CRC64NVME.
pub async fn s3_with_md5() -> World {
    s3_with(Checksums::Off).await
}

async fn s3_with(checksums: Checksums) -> World {
    let moto = tokio::task::spawn_blocking(Moto::shared).await.unwrap();
    let bucket = new_bucket(&moto);
    let config = S3Config { checksums, ..config(&moto.endpoint(), &bucket) };
    let store = Box::new(S3Store::connect(config).await.unwrap());
    World { store, objects: Objects::Bucket(moto, bucket), scratch: tempfile::tempdir().unwrap() }
}

/// A bucket that no other test uses.
pub fn new_bucket(moto: &Moto) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let bucket = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    moto.create_bucket(&bucket);
    bucket
}

pub fn config(endpoint: &str, bucket: &str) -> S3Config {
    let credentials = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
    S3Config {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: Some(aws_sdk_s3::config::SharedCredentialsProvider::new(credentials)),
        ..S3Config::new(bucket, "some/prefix")
    }
}

impl World {
    /// The bytes of an object as anybody else sees them.
    pub fn read(&self, key: &ObjectKey) -> Option<Vec<u8>> {
        match &self.objects {
            Objects::Dir(dir) => std::fs::read(dir.path().join(key.as_path())).ok(),
            Objects::Bucket(moto, bucket) => moto.get(bucket, &self.store.full_key(key)).map(|(_, bytes)| bytes),
        }
    }

    /// Whether it is the directory.
    pub fn is_local(&self) -> bool {
        matches!(self.objects, Objects::Dir(_))
    }

    /// A recording with these bytes.
    pub fn recording(&self, bytes: &[u8]) -> Recording {
        let file = tempfile::tempfile_in(&self.scratch).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Recording { file: Arc::new(file) }
    }

    /// Begins an upload.
    pub async fn begin(&self, key: &ObjectKey, token: &str) -> UploadRef {
        let NewUpload { id, .. } = self.store.create_upload(key, token).await.unwrap();
        UploadRef { key: key.clone(), id }
    }

    /// Sends bytes as a part at `offset`.
    pub async fn put(&self, upload: &UploadRef, part: u32, offset: usize, bytes: &[u8]) -> CompletedPart {
        let body = self.recording(bytes).body(0, bytes.len()).await;
        let stored = self.try_put(upload, part, offset, body).await.unwrap();
        assert!(!stored.etag.is_empty() && !stored.etag.contains('"'), "{stored:?}");
        CompletedPart { number: number(part), etag: stored.etag, crc: Some(Crc64Nvme::of(bytes)) }
    }

    pub async fn try_put(
        &self,
        upload: &UploadRef,
        part: u32,
        offset: usize,
        body: PartBody,
    ) -> Result<Stored, StoreError> {
        self.store.put_part(upload, number(part), offset as u64, body).await
    }

    /// An object of full parts and a tail.
    pub async fn object_of_parts(&self, key: &ObjectKey, whole: &[u8]) -> Original {
        let upload = self.begin(key, "old").await;
        let mut parts = Vec::new();
        for (at, bytes) in whole.chunks(PART).enumerate() {
            parts.push(self.put(&upload, at as u32 + 1, at * PART, bytes).await);
        }
        self.complete(&upload, &parts, whole).await.unwrap();
        Original { etag: self.store.head(key).await.unwrap().unwrap().etag, parts }
    }

    /// Has a full part copied.
    pub async fn copy(&self, upload: &UploadRef, part: u32, original: &Original) -> Result<CompletedPart, StoreError> {
        let offset = (part as usize - 1) * PART;
        let CompletedPart { etag, crc, .. } = &original.parts[part as usize - 1];
        let range = ByteRange { offset: offset as u64, len: PART as u64 };
        let source =
            CopySource { object_etag: original.etag.clone(), range, part_etag: etag.clone(), crc: crc.unwrap() };
        let Stored { etag, .. } = self.store.copy_part(upload, number(part), &source).await?;
        Ok(CompletedPart { number: number(part), etag, crc: *crc })
    }

    /// Completes an upload whose object is to have these bytes.
    pub async fn complete(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        whole: &[u8],
    ) -> Result<Option<String>, StoreError> {
        self.store.complete(upload, parts, Some(Crc64Nvme::of(whole)), whole.len() as u64).await
    }
}

/// An object that can be copied of.
pub struct Original {
    etag: String,
    parts: Vec<CompletedPart>,
}

/// A file that is being recorded.
pub struct Recording {
    pub file: Arc<File>,
}

impl Recording {
    pub async fn body(&self, offset: usize, len: usize) -> PartBody {
        let range = ByteRange { offset: offset as u64, len: len as u64 };
        PartBody::of_file(Arc::clone(&self.file), range).await.unwrap()
    }
}

pub fn key(path: &str) -> ObjectKey {
    ObjectKey::from_relative(Path::new(path), &[]).unwrap()
}

pub fn number(part: u32) -> PartNumber {
    PartNumber::new(part).unwrap()
}

/// Bytes that differ from place to place and from seed to seed.
pub fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut bytes = Vec::with_capacity(len + 4);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
