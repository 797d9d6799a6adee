//! Which uploads the streams of this process are at work on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reeltime_core::{StreamId, UploadState};

/// The open uploads by stream. A clone knows the same.
#[derive(Clone, Debug, Default)]
pub struct Uploads(Arc<Mutex<HashMap<StreamId, String>>>);

impl Uploads {
    /// Notes the upload that a stream is at work on.
    pub fn note(&self, stream: StreamId, upload: &UploadState) {
        match upload {
            UploadState::Open { id } => {
                let mut open = self.open();
                if open.get(&stream) != Some(id) {
                    open.insert(stream, id.clone());
                }
            }
            UploadState::None | UploadState::Creating { .. } => self.forget(stream),
        }
    }

    /// The stream is worked on no more.
    pub fn forget(&self, stream: StreamId) {
        self.open().remove(&stream);
    }

    /// Whether another stream is at work on this upload.
    pub fn is_anothers(&self, stream: StreamId, upload: &str) -> bool {
        self.open().iter().any(|(other, id)| *other != stream && id == upload)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<StreamId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
