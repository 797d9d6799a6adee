//! Parts that are copied of an object instead of being sent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reeltime_core::{Crc64Nvme, PartNumber, Trouble};

use super::errors::Failure;
use super::{S3Store, unquoted};
use crate::storage::{CopySource, ObjectStore, Stored, UploadRef, now};

/// A store may have to read and write the whole part before it answers: 1 MiB/s is borne.
fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes >> 20)
}

impl S3Store {
    pub(super) async fn copy(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        source: &CopySource,
    ) -> Result<Stored, Failure> {
        if self.copies_refused.load(Ordering::Relaxed) {
            return Err(Failure::new(Trouble::Denied, "the store has said that it does not copy parts"));
        }
        let full_key = self.store_key(&upload.key)?;
        let range = source.range;
        let request = self
            .client()
            .await
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(&full_key)
            .upload_id(&upload.id)
            .part_number(number.get() as i32)
            .copy_source(format!("{}/{}", self.bucket, escaped(&full_key)))
            .copy_source_range(format!("bytes={}-{}", range.offset, range.end() - 1))
            .copy_source_if_match(format!("\"{}\"", source.object_etag));
        let answer = self.ask(time_for(range.len), request.send()).await.inspect_err(|failure| {
            let is_unknown = matches!(failure.status, Some(405 | 501));
            if is_unknown && !self.copies_refused.swap(true, Ordering::Relaxed) {
                tracing::info!(store = %self.location(), "store does not copy parts; they are sent");
            }
        });
        let answer = answer.map_err(|failure| match failure.status {
            Some(404 | 412 | 416) if failure.trouble != Trouble::NoSuchUpload => {
                Failure { trouble: Trouble::InvalidPart, ..failure }
            }
            _ => failure,
        })?;
        let result = answer.copy_part_result();
        let etag = result.and_then(|result| result.e_tag()).map(unquoted).unwrap_or_default();
        if etag.is_empty() {
            return Err(Failure::new(Trouble::Denied, "the answer has no ETag"));
        }
        let crc = result.and_then(|result| result.checksum_crc64_nvme()).and_then(Crc64Nvme::from_base64);
        // Where the `ETag` is no MD5, because of encryption, the same bytes have another one.
        if crc.map_or(etag != source.part_etag, |crc| crc != source.crc) {
            let cause = "the answer does not show that the bytes are those of the old part";
            return Err(Failure::new(Trouble::InvalidPart, cause));
        }
        Ok(Stored { etag, at: now() })
    }
}

/// A key as the name of a source, which is a header: percent-encoded but for what needs none.
fn escaped(key: &str) -> String {
    use std::fmt::Write;
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
