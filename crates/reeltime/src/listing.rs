//! The streams that a checkpoint remembers, as the API and the command line show them.

use std::sync::Arc;

use reeltime_core::{ObjectKey, State, StreamRecord};

use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::view::StreamView;

/// Gives the key as the store knows it.
pub type FullKey = Arc<dyn Fn(&ObjectKey) -> String + Send + Sync>;

/// A remembered stream. What is on its way is filled up from its parts and from its file;
/// asks the checkpoint only for such a stream.
pub async fn view_of(
    record: &StreamRecord,
    checkpoint: &dyn CheckpointStore,
    full_key: &FullKey,
) -> Result<StreamView, CheckpointError> {
    let mut view = StreamView::of_record(record, full_key(&record.key));
    if record.state == State::Completed {
        return Ok(view);
    }
    let parts = checkpoint.load_parts(record.id, record.generation).await?;
    let on_disk = match record.state {
        State::Failed => None, // another file may have taken the name
        _ => tokio::fs::metadata(&record.path).await.ok().map(|metadata| metadata.len()),
    };
    view.size_bytes = on_disk.unwrap_or_else(|| record.size_bytes.max(parts.bytes()));
    view.uploaded_bytes = parts.bytes().min(view.size_bytes);
    view.parts_sent = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    view.parts_total = record.plan.parts_for(view.size_bytes).unwrap_or(0);
    Ok(view)
}
