//! Requests to the store that carry no bytes of a recording.
//!
//! They are small, and each stream has one under way at most. But a thousand recordings may end in
//! one moment, or meet a store that is only just back: each request takes an open file, and the
//! store has to bear them all. So they wait for a place.

use reeltime_core::{Action, Input, Trouble};
use tokio::sync::SemaphorePermit;

use super::hands::Task;
use crate::storage::{CompletedPart, UploadRef};

/// How many may be under way where so many files may be open.
pub(crate) fn at_once(open_files: u64) -> usize {
    usize::try_from(open_files / 8).map_or(MANY, |part| part.clamp(FEW, MANY))
}

/// Enough that none has to wait where few files may be open, and few recordings are held open
/// for that reason.
const FEW: usize = 4;

/// Enough for five hundred requests a second to a store that takes 60 ms for one. Each has a
/// connection to itself, which is kept for a while and takes some 70 KB.
const MANY: usize = 32;

impl Task {
    /// Asks the store, as soon as there is a place.
    pub(super) async fn ask(&self, action: Action) -> Input {
        let _place = match self.place().await {
            Ok(place) => place,
            Err(trouble) => return Input::Failed(trouble),
        };
        let store = &self.outside.store;
        let key = &self.record.key;
        let upload = |id: String| UploadRef { key: key.clone(), id };
        let answer = match action {
            Action::CreateUpload { for_copies } => store
                .create_upload_for(key, &self.record.token(), for_copies)
                .await
                .map(|upload| Input::UploadCreated { upload_id: upload.id, abort_at: upload.abort_at }),
            Action::ListUploads => store.list_uploads(key).await.map(|mut uploads| {
                // Another stream of this process is at work on it: under a temp name, for example.
                uploads.retain(|upload| !self.outside.uploads.is_anothers(self.id, &upload.upload_id));
                Input::UploadsListed(uploads)
            }),
            Action::ListParts { upload_id } => store.list_parts(&upload(upload_id)).await.map(Input::PartsListed),
            Action::Abort { upload_id } => store.abort(&upload(upload_id)).await.map(|()| Input::UploadAborted),
            Action::Head => store.head(key).await.map(Input::HeadAnswered),
            Action::Complete { upload_id, parts, crc, size_bytes } => {
                let parts: Vec<_> = parts
                    .into_iter()
                    .map(|(number, part)| CompletedPart { number, etag: part.etag, crc: part.crc })
                    .collect();
                let completed = store.complete(&upload(upload_id), &parts, crc, size_bytes).await;
                completed.map(|etag| Input::ObjectCompleted { etag })
            }
            _ => return Input::Touched, // carried out elsewhere
        };
        answer.unwrap_or_else(|error| Input::Failed(self.tell_trouble(&error)))
    }

    /// A place among these requests; an outage after a stop.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, Trouble> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Trouble::Outage),
            place = self.outside.requests.acquire() => place.map_err(|_| Trouble::Outage), // it is never closed
        }
    }
}
