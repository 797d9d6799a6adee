//! What a stored recording is, and the document that says so.
//!
//! A recording is described as far as it can be read, and described in any case: no failure of
//! a prober holds up the completion of a stream. The order is ffprobe; where that is not
//! installed, the boxes of an MP4 file; any other failure is written into the document as it is.

pub mod document;
pub mod ffprobe;
pub mod mp4;
pub mod probe;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reeltime_core::{WallTime, WholeObject};
use tokio::sync::Semaphore;

pub use document::MetadataDocument;
pub use ffprobe::ProbeError;
pub use probe::{Probe, ProbeReport, Prober};

use mp4::BoxError;

/// How long a recording may take to be probed, unless told otherwise.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many recordings are probed at once, unless told otherwise: it competes with recorders
/// for the processor and the disk.
pub const DEFAULT_PROBES_AT_ONCE: usize = 2;

/// Probes recordings and makes their documents. A clone shares the limit.
#[derive(Clone, Debug)]
pub struct Describer {
    ffprobe: OsString,
    timeout: Duration,
    slots: Arc<Semaphore>,
}

impl Default for Describer {
    /// The `ffprobe` of the search path and the default limits.
    fn default() -> Self {
        Self::new("ffprobe".into(), DEFAULT_PROBE_TIMEOUT, DEFAULT_PROBES_AT_ONCE)
    }
}

impl Describer {
    /// Uses the program `ffprobe` (a name for the search path, or a path), for at most `timeout`
    /// per recording, and for at most `at_once` recordings (at least 1) at the same time.
    pub fn new(ffprobe: OsString, timeout: Duration, at_once: usize) -> Self {
        Self { ffprobe, timeout, slots: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Reads what `file` is; it was found at `path`, where it need not be any more. Never fails,
    /// and takes little more than the timeout once it is its turn. Has no effect on the file.
    pub async fn probe(&self, file: Arc<File>, path: &Path) -> Probe {
        // The semaphore is never closed; if it were, the limit would be all that is lost.
        let _slot = self.slots.acquire().await.ok();
        let stat = Arc::clone(&file);
        match self.on_thread(move |_| Ok(stat.metadata()?.len())).await {
            Ok(0) => return Probe::Unknown("the recording is empty".to_owned()),
            Ok(_) => {}
            Err(error) => return Probe::Unknown(format!("the recording cannot be read: {error}")),
        }
        let not_installed = match ffprobe::read(&self.ffprobe, self.timeout, &file, path).await {
            Ok(report) => return Probe::Known(report),
            Err(error @ ProbeError::NotInstalled { .. }) => error,
            Err(error) => return Probe::Unknown(error.to_string()),
        };
        match self.on_thread(move |deadline| mp4::read(&file, deadline)).await {
            Ok(report) => Probe::Known(report),
            Err(error) => Probe::Unknown(format!("{not_installed}; its boxes: {error}")),
        }
    }

    /// Probes the recording and makes the document of the object `full_key` in `bucket`, as
    /// JSON. Never fails; to store it is the caller's part.
    pub async fn describe(&self, whole: &WholeObject, file: Arc<File>, bucket: &str, full_key: &str) -> Vec<u8> {
        let probe = self.probe(file, &whole.record.path).await;
        MetadataDocument::new(whole, bucket, full_key, probe, now()).to_json()
    }

    /// Runs blocking reads on a thread of their own. One that hangs in the kernel is left to
    /// itself when the time is over; any other sees the deadline.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(Instant) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, BoxError> {
        let deadline = Instant::now() + self.timeout;
        let thread = tokio::task::spawn_blocking(move || work(deadline));
        match tokio::time::timeout(self.timeout, thread).await {
            Ok(Ok(result)) => result,
            Ok(Err(broken)) => Err(BoxError::Io(std::io::Error::other(broken))),
            Err(_) => Err(BoxError::TimedOut),
        }
    }
}

fn now() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
