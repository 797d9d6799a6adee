//! Multipart uploads: begin, send parts, finish, drop.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload};
use aws_smithy_types::base64;
use reeltime_core::{Crc64Nvme, ObjectKey, PartNumber, Trouble};

use super::body::SendBody;
use super::errors::Failure;
use super::{S3Store, TOKEN, unquoted, wall_time};
use crate::storage::{CompletedPart, NewUpload, PartBody, SOURCE_CHANGED, Stored, UploadRef, now};

/// What a store may need to put a part in its place at completion, beyond its usual answer
/// time. AWS says that completion may take minutes.
const COMPLETION_PER_PART: Duration = Duration::from_millis(60);
const COMPLETION: Duration = Duration::from_mins(1);

impl S3Store {
    pub(super) async fn begin(&self, key: &ObjectKey, token: &str, for_copies: bool) -> Result<NewUpload, Failure> {
        let full_key = self.store_key(key)?;
        let plain = for_copies && self.clients.is_minio();
        let begin = |with| self.begin_once(key, &full_key, token, with && !plain);
        let answer = self.with_or_without_checksums(begin).await?;
        let id = answer.upload_id().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Failure::new(Trouble::Denied, "the answer has no upload id"))?.to_owned();
        if plain {
            self.plain.note(&id);
        }
        Ok(NewUpload { id, abort_at: answer.abort_date().map(wall_time) })
    }

    async fn begin_once(
        &self,
        key: &ObjectKey,
        full_key: &str,
        token: &str,
        with_checksums: bool,
    ) -> Result<CreateMultipartUploadOutput, Failure> {
        let mut request = self
            .client()
            .await
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(full_key)
            .content_type(crate::storage::content_type(key))
            .metadata(TOKEN, token);
        if with_checksums {
            request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
        }
        self.ask(Duration::ZERO, request.send()).await
    }

    pub(super) async fn send_part(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        body: &PartBody,
    ) -> Result<Stored, Failure> {
        self.with_or_without_checksums(|with| self.send_part_once(upload, number, body, with)).await
    }

    async fn send_part_once(
        &self,
        upload: &UploadRef,
        number: PartNumber,
        body: &PartBody,
        with_checksums: bool,
    ) -> Result<Stored, Failure> {
        let mut request = self
            .client()
            .await
            .upload_part()
            .bucket(&self.bucket)
            .key(self.store_key(&upload.key)?)
            .upload_id(&upload.id)
            .part_number(number.get() as i32);
        if with_checksums {
            request = request.checksum_crc64_nvme(body.crc().to_base64());
        } else {
            request = request.content_md5(content_md5(body).await?);
        }
        let send = |bytes| request.body(bytes).customize().disable_payload_signing().send();
        let answer = self.send_body(body, send).await?;
        let etag = answer.e_tag().map(unquoted).unwrap_or_default();
        if etag.is_empty() {
            return Err(Failure::new(Trouble::Denied, "the answer has no ETag"));
        }
        Ok(Stored { etag, at: now() })
    }

    /// Sends a request with the bytes of `body`, under the watch of [`SendBody`]'s progress.
    /// An `Ok` means that the bytes sent are those with checksum `body.crc()`.
    pub(super) async fn send_body<T, E, R>(
        &self,
        body: &PartBody,
        send: impl FnOnce(ByteStream) -> R,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let (bytes, progress) = SendBody::of(body);
        let request = Box::pin(send(ByteStream::new(SdkBody::from_body_1_x(bytes))));
        let answer = tokio::select! {
            biased;
            answer = request => answer.map_err(|error| Failure::of(&error)),
            stalled = progress.stalled(self.patience) => Err(Failure::outage(stalled)),
        };
        if let Some(error) = progress.take_source_error() {
            return Err(Failure::source(&error));
        }
        let changed = body.sent().is_some_and(|sent| sent != body.crc());
        match answer {
            // The store noticed it, or will not: the request counts for nothing either way.
            Ok(_) if changed => Err(Failure::new(Trouble::SourceChanged, SOURCE_CHANGED)),
            Err(failure) if changed && failure.trouble == Trouble::InvalidPart => {
                Err(Failure::new(Trouble::SourceChanged, SOURCE_CHANGED))
            }
            Ok(_) if body.sent().is_none() => Err(Failure::outage("the store answered before it had all bytes")),
            answer => answer,
        }
    }

    pub(super) async fn finish(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
    ) -> Result<Option<String>, Failure> {
        if parts.is_empty() {
            return Err(Failure::new(Trouble::InvalidPart, "an upload is not completed without parts"));
        }
        let all_known = parts.iter().all(|part| part.crc.is_some());
        let crc = crc.filter(|_| all_known && !self.plain.has(&upload.id));
        let request = |with| self.finish_once(upload, parts, crc.filter(|_| with));
        let answer = self.with_or_without_checksums(request).await?;
        self.plain.forget(&upload.id);
        Ok(answer.e_tag().map(unquoted).filter(|etag| !etag.is_empty()))
    }

    async fn finish_once(
        &self,
        upload: &UploadRef,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
    ) -> Result<CompleteMultipartUploadOutput, Failure> {
        let list = parts.iter().map(|part| {
            let checksum = part.crc.filter(|_| crc.is_some()).map(Crc64Nvme::to_base64);
            aws_sdk_s3::types::CompletedPart::builder()
                .part_number(part.number.get() as i32)
                .e_tag(format!("\"{}\"", part.etag))
                .set_checksum_crc64_nvme(checksum)
                .build()
        });
        let mut request = self
            .client()
            .await
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.store_key(&upload.key)?)
            .upload_id(&upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(list.collect())).build());
        if let Some(crc) = crc {
            request = request.checksum_crc64_nvme(crc.to_base64()).checksum_type(ChecksumType::FullObject);
        }
        let extra = COMPLETION + COMPLETION_PER_PART * parts.len() as u32;
        // A `200 OK` whose body is an error arrives here as that error.
        self.ask(extra, request.send()).await
    }

    pub(super) async fn drop_upload(&self, upload: &UploadRef) -> Result<(), Failure> {
        let request = self
            .client()
            .await
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.store_key(&upload.key)?)
            .upload_id(&upload.id);
        let answer = self.ask(Duration::ZERO, request.send()).await;
        if answer.is_ok() {
            self.plain.forget(&upload.id);
        }
        match answer {
            Err(failure) if failure.trouble == Trouble::NoSuchUpload => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// The `Content-MD5` of a body, for which its bytes are read once more.
pub(super) async fn content_md5(body: &PartBody) -> Result<String, Failure> {
    body.md5().await.map(base64::encode).map_err(|error| Failure::source(&error))
}
