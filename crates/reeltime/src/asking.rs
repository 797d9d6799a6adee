//! Asking a store on behalf of somebody who waits for the answer.

use std::time::Duration;

use reeltime_core::Trouble;

use crate::storage::{ObjectStore, StoreError, UploadRef};

/// Asks the store; while it is away, a few times. A command has somebody who waits for it: what
/// takes longer than a hiccup is told.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if error.trouble == Trouble::Outage => tokio::time::sleep(wait).await,
            answer => return answer,
        }
        wait *= 2;
    }
    ask().await
}

/// Requests to a store that is away.
const ATTEMPTS: u32 = 4;

/// After the first of them.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Aborts an upload and makes sure that it is gone: a part that is on its way when an upload is
/// aborted may be stored behind it, and then the upload is there, and paid for, as before.
pub(crate) async fn abort_until_gone(store: &dyn ObjectStore, upload: &UploadRef) -> Result<(), String> {
    for _ in 0..ABORTS {
        patiently(|| store.abort(upload)).await.map_err(|error| error.to_string())?;
        match patiently(|| store.list_parts(upload)).await {
            Err(error) if error.trouble == Trouble::NoSuchUpload => return Ok(()),
            Err(error) => return Err(format!("it was aborted, but whether it is gone cannot be told: {error}")),
            Ok(_) => tokio::time::sleep(ABORT_AGAIN).await,
        }
    }
    Err(format!("it was aborted {ABORTS} times and is still there: parts of it may be on their way"))
}

/// Attempts to abort one upload.
const ABORTS: u32 = 10;

/// From one of them to the next.
const ABORT_AGAIN: Duration = Duration::from_secs(1);
