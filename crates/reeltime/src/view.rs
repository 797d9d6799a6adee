//! A stream as the API, the command line and the dashboard show it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reeltime_core::{StreamId, StreamRecord, WallTime};
use serde::Serialize;

/// One stream. The field names are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct StreamView {
    /// The stream's id.
    pub id: String,
    /// The file, with what is not UTF-8 replaced.
    pub path: String,
    /// The object, as the store knows it.
    pub key: String,
    /// The node that owns it.
    pub node: String,
    /// `active`, `pending_completion`, `completed` or `failed`.
    pub state: String,
    /// Why it failed, or the trouble that it waits out.
    pub reason: Option<String>,
    /// Size of the file.
    pub size_bytes: u64,
    /// Bytes of it that the store holds.
    pub uploaded_bytes: u64,
    /// For how long bytes have been on disk that the store does not hold yet.
    pub lag_seconds: f64,
    /// Parts of a file of this size.
    pub parts_total: u32,
    /// Parts that the store holds.
    pub parts_sent: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub completed_at: Option<String>,
}

impl StreamView {
    /// What a checkpoint knows of a stream; `parts_sent` and `uploaded_bytes` are those of a
    /// completed one, or 0.
    pub fn of_record(record: &StreamRecord, full_key: String) -> Self {
        let parts_total = record.plan.parts_for(record.size_bytes).unwrap_or(0);
        let done = record.state == reeltime_core::State::Completed;
        Self {
            id: record.id.to_string(),
            path: record.path.to_string_lossy().into_owned(),
            key: full_key,
            node: record.node.clone(),
            state: record.state.as_str().to_owned(),
            reason: record.reason.map(|reason| reason.as_str().to_owned()),
            size_bytes: record.size_bytes,
            uploaded_bytes: if done { record.size_bytes } else { 0 },
            lag_seconds: 0.0,
            parts_total,
            parts_sent: if done { parts_total } else { 0 },
            started_at: rfc3339(record.started_at),
            completed_at: record.completed_at.map(rfc3339),
        }
    }
}

/// The time as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: WallTime) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.0.to_string(), |at| format!("{at:.3}"))
}

/// The streams of this process, as they are now. A clone shows the same.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<HashMap<StreamId, StreamView>>>);

impl Board {
    /// Shows a stream, in place of what was shown of it.
    pub fn show(&self, id: StreamId, view: StreamView) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, view);
    }

    /// Stops showing a stream.
    pub fn remove(&self, id: StreamId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// One stream.
    pub fn get(&self, id: StreamId) -> Option<StreamView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All streams, the oldest first.
    pub fn all(&self) -> Vec<StreamView> {
        let mut all: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }
}
