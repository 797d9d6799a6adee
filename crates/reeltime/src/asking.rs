//! Asking a store on behalf of somebody who waits for the answer.

use std::time::Duration;

use reeltime_core::Trouble;

use crate::storage::StoreError;

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
