//! Uploads that are begun without checksums, so that parts can be copied into them.
//!
//! `MinIO` wants a checksum for every part of an upload that was begun with checksums, and computes
//! none for a part that it copies itself: it refuses to copy. Into an upload without them it
//! copies, and only there. What protects the bytes are the checksums of sent parts, which it checks
//! nevertheless, and the `ETag`s, which are those of the old parts; the whole object has no
//! checksum then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// Whether the store says in its answers that it is `MinIO`.
#[derive(Clone, Debug, Default)]
pub(super) struct SaysMinio(Arc<AtomicBool>);

impl SaysMinio {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for SaysMinio {
    fn name(&self) -> &'static str {
        "SaysMinio"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().headers().get("server").is_some_and(|server| server.starts_with("MinIO")) {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The uploads without checksums that this process knows.
#[derive(Debug, Default)]
pub(super) struct PlainUploads(Mutex<HashSet<String>>);

impl PlainUploads {
    pub(super) fn note(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    pub(super) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}
