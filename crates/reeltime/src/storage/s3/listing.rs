//! What the store has of unfinished uploads; lists come in pages of 1,000.

use std::borrow::Cow;
use std::time::Duration;

use aws_sdk_s3::types::EncodingType;
use reeltime_core::{Crc64Nvme, ObjectKey, PartNumber, PendingUpload, RemotePart, WallTime};

use super::errors::Failure;
use super::{S3Store, unquoted, wall_time};
use crate::storage::UploadRef;

impl S3Store {
    pub(super) async fn all_parts(&self, upload: &UploadRef) -> Result<Vec<RemotePart>, Failure> {
        let full_key = self.store_key(&upload.key)?;
        let mut parts: Vec<RemotePart> = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let request = self
                .client()
                .await
                .list_parts()
                .bucket(&self.bucket)
                .key(&full_key)
                .upload_id(&upload.id)
                .set_part_number_marker(marker.clone());
            let page = self.ask(Duration::ZERO, request.send()).await?;
            // Begun so by an earlier process.
            let is_plain = page.checksum_algorithm().is_none_or(|algorithm| algorithm.as_str().is_empty());
            if marker.is_none() && self.clients.is_minio() && is_plain {
                self.plain.note(&upload.id);
            }
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u32::try_from(number).ok());
                let size = part.size().and_then(|size| u64::try_from(size).ok());
                let (Some(number), Some(size_bytes)) = (number.and_then(PartNumber::new), size) else {
                    return Err(Failure::outage("a listed part has no number or no size"));
                };
                parts.push(RemotePart {
                    number,
                    size_bytes,
                    etag: part.e_tag().map(unquoted).unwrap_or_default(),
                    crc: part.checksum_crc64_nvme().and_then(Crc64Nvme::from_base64),
                    stored_at: part.last_modified().map(wall_time).unwrap_or_default(),
                });
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if next.is_none() || next == marker {
                return Err(Failure::outage("the list of parts does not come to its end"));
            }
            marker = next;
        }
        parts.sort_by_key(|part| part.number);
        parts.dedup_by_key(|part| part.number);
        Ok(parts)
    }

    pub(super) async fn uploads_of(&self, key: &ObjectKey) -> Result<Vec<PendingUpload>, Failure> {
        let full_key = self.store_key(key)?;
        let mut uploads = Vec::new();
        self.each_upload_of(&full_key, &mut |listed, upload_id, initiated| {
            if listed == full_key.as_bytes() {
                uploads.push(PendingUpload { key: key.clone(), upload_id: upload_id.to_owned(), initiated });
            }
        })
        .await?;
        Ok(uploads)
    }

    pub(super) async fn uploads_below(&self, tell: &mut (dyn FnMut(String, String) + Send)) -> Result<(), Failure> {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        self.each_upload_of(&prefix, &mut |key, id, _| tell(String::from_utf8_lossy(key).into_owned(), id.to_owned()))
            .await
    }

    async fn each_upload_of(
        &self,
        prefix: &str,
        tell: &mut (dyn FnMut(&[u8], &str, WallTime) + Send),
    ) -> Result<(), Failure> {
        let mut marker: Option<(String, Option<String>)> = None;
        loop {
            let (key_marker, id_marker) = marker.clone().unzip();
            let request = self
                .client()
                .await
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(prefix)
                .encoding_type(EncodingType::Url)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker.flatten());
            let page = self.ask(Duration::ZERO, request.send()).await?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            let plain = |text: &str| if encoded { decoded(text) } else { Cow::Borrowed(text.as_bytes()).into_owned() };
            for upload in page.uploads() {
                let (Some(listed), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                tell(&plain(listed), id, upload.initiated().map(wall_time).unwrap_or_default());
            }
            if page.is_truncated() != Some(true) {
                return Ok(());
            }
            let next_key = page.next_key_marker().map(|text| String::from_utf8_lossy(&plain(text)).into_owned());
            let next = next_key.map(|key| (key, page.next_upload_id_marker().map(str::to_owned)));
            if next.is_none() || next == marker {
                return Err(Failure::outage("the list of uploads does not come to its end"));
            }
            marker = next;
        }
    }
}

/// The bytes that a key of `encoding-type=url` stands for, where `+` is a space.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others.get(..2).filter(|_| *first == b'%');
        let byte = hex.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &others[2..];
        } else {
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = others;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_key_is_decoded() {
        assert_eq!(decoded("a%2Fb+c%2Bd%0Ae%25%C3%A4"), "a/b c+d\ne%ä".as_bytes());
        assert_eq!(decoded("%"), b"%");
        assert_eq!(decoded("%g1%1"), b"%g1%1");
    }
}
