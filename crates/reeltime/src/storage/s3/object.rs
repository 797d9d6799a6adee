//! Whole objects, and the bucket they are in.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{ChecksumMode, EncodingType};
use reeltime_core::{Crc64Nvme, ObjectFacts, ObjectKey, Trouble};

use super::errors::Failure;
use super::upload::content_md5;
use super::{S3Store, TOKEN, unquoted};
use crate::storage::{PartBody, Stored, now};

/// How long a bucket that was there is not asked for again, when an object is missing in it.
const BUCKET_IS_THERE: Duration = Duration::from_secs(5);

impl S3Store {
    /// Lists one object of the bucket. Unlike the answer to `HeadBucket`, this one has a body
    /// that tells a missing bucket from a forbidden one and from wrong credentials. It needs
    /// the permission `s3:ListBucket`, without which `HeadObject` cannot tell a missing object
    /// from a forbidden one either.
    pub(super) async fn look_into_bucket(&self) -> Result<(), Failure> {
        let mut request =
            self.client().await.list_objects_v2().bucket(&self.bucket).max_keys(1).encoding_type(EncodingType::Url);
        if !self.prefix.is_empty() {
            request = request.prefix(format!("{}/", self.prefix));
        }
        let answer = self.ask(Duration::ZERO, request.send()).await;
        match answer {
            Ok(_) => {
                *self.bucket_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            Err(failure) if failure.code == "NoSuchBucket" => {
                let hint = format!("create it (aws s3 mb s3://{}), or correct --to", self.bucket);
                Err(Failure { hint, ..failure })
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn facts(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, Failure> {
        let full_key = self.store_key(key)?;
        let with = self.with_checksums();
        let mut answer = self.facts_once(&full_key, with).await;
        // An answer to HEAD has no body, so a refused header cannot be told from a refused
        // request; with encryption by KMS the checksum needs a permission of its own.
        if with && answer.as_ref().is_err_and(|failure| matches!(failure.status, Some(400 | 403 | 405 | 501))) {
            answer = self.facts_once(&full_key, false).await;
        }
        match answer {
            Err(failure) if failure.status == Some(404) => {
                // It may be the bucket that is missing.
                let seen = *self.bucket_seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.is_none_or(|at| at.elapsed() > BUCKET_IS_THERE) {
                    self.look_into_bucket().await?;
                }
                Ok(None)
            }
            Err(failure) if failure.status == Some(403) => {
                let hint = "allow s3:GetObject and s3:ListBucket: without the latter, a missing object is answered \
                     as a forbidden one";
                Err(Failure { hint: hint.to_owned(), ..failure })
            }
            answer => answer.map(Some),
        }
    }

    async fn facts_once(&self, full_key: &str, with_checksums: bool) -> Result<ObjectFacts, Failure> {
        let mut request = self.client().await.head_object().bucket(&self.bucket).key(full_key);
        if with_checksums {
            request = request.checksum_mode(ChecksumMode::Enabled);
        }
        let answer = self.ask(Duration::ZERO, request.send()).await?;
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
        Ok(ObjectFacts {
            size_bytes: size.ok_or_else(|| Failure::outage("the answer has no size"))?,
            etag: answer.e_tag().map(unquoted).unwrap_or_default(),
            crc: answer.checksum_crc64_nvme().and_then(Crc64Nvme::from_base64),
            token: answer.metadata().and_then(|metadata| metadata.get(TOKEN)).cloned(),
        })
    }

    pub(super) async fn send_object(
        &self,
        key: &ObjectKey,
        token: Option<&str>,
        content_type: &str,
        body: &PartBody,
    ) -> Result<Stored, Failure> {
        let full_key = self.store_key(key)?;
        let request = |with| self.send_object_once(&full_key, token, content_type, body, with);
        self.with_or_without_checksums(request).await
    }

    async fn send_object_once(
        &self,
        full_key: &str,
        token: Option<&str>,
        content_type: &str,
        body: &PartBody,
        with_checksums: bool,
    ) -> Result<Stored, Failure> {
        let mut request =
            self.client().await.put_object().bucket(&self.bucket).key(full_key).content_type(content_type);
        if let Some(token) = token {
            request = request.metadata(TOKEN, token);
        }
        if with_checksums {
            request = request.checksum_crc64_nvme(body.crc().to_base64());
        } else {
            request = request.content_md5(content_md5(body).await?);
        }
        let answer = self
            .send_body(body, |bytes| request.body(bytes).customize().disable_payload_signing().send())
            .await
            .map_err(|failure| match failure.trouble {
                // No upload is part of this: what the store does not know is something else.
                Trouble::NoSuchUpload => Failure { trouble: Trouble::Denied, ..failure },
                _ => failure,
            })?;
        Ok(Stored { etag: answer.e_tag().map(unquoted).unwrap_or_default(), at: now() })
    }
}
