//! The durable record of a stream: what a checkpoint keeps besides the parts.

use std::path::PathBuf;

use crate::{Crc64Nvme, FileVersion, ObjectKey, PartPlan, Reason, State, StreamId, WallTime};

/// The multipart upload of a stream, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UploadState {
    /// There is none, and none was asked for.
    None,
    /// One was asked for; whether the store has it is unknown. `since` bounds the search for
    /// it.
    Creating {
        /// When it was asked for.
        since: WallTime,
    },
    /// The store has given this id.
    Open {
        /// The store's upload id.
        id: String,
    },
}

impl UploadState {
    /// The store's id of the upload, if that is known.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Open { id } => Some(id),
            Self::None | Self::Creating { .. } => None,
        }
    }

    /// Whether an upload that was begun for a stream, which is in this state and has this, is
    /// nobody's. As long as its owner looks for one it may be that: then it is not known yet.
    pub fn leaves(&self, upload_id: &str, state: State) -> Option<bool> {
        match self {
            Self::Open { id } => Some(id != upload_id),
            Self::Creating { .. } => None,
            Self::None => matches!(state, State::Completed | State::Failed).then_some(true),
        }
    }
}

/// What is remembered of a stream besides its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamRecord {
    /// The stream.
    pub id: StreamId,
    /// The node that owns it.
    pub node: String,
    /// Counts the owners; a write with an older epoch is refused.
    pub epoch: u64,
    /// The watched directory.
    pub source: PathBuf,
    /// Tells that directory from every other, on whatever node it is seen; empty if that is not
    /// known.
    pub source_mark: String,
    /// The file as it is called now.
    pub path: PathBuf,
    /// Where the object goes: bucket and prefix, or the directory.
    pub destination: String,
    /// The object.
    pub key: ObjectKey,
    /// Where the stream is.
    pub state: State,
    /// Why it failed; only in [`State::Failed`].
    pub reason: Option<Reason>,
    /// Counts the attempts to build the object from its first part: parts, upload and object
    /// of an earlier generation are void. From 1.
    pub generation: u32,
    /// The upload of this generation.
    pub upload: UploadState,
    /// How this generation is divided into parts.
    pub plan: PartPlan,
    /// The version of the file that was completed, or that failed.
    pub version: Option<FileVersion>,
    /// Size of the object, or of the file when it was last recorded here.
    pub size_bytes: u64,
    /// The object's `ETag`, once completed.
    pub etag: Option<String>,
    /// The object's checksum, once completed.
    pub checksum: Option<Crc64Nvme>,
    /// When the recording was first seen.
    pub started_at: WallTime,
    /// When it was completed.
    pub completed_at: Option<WallTime>,
}

impl StreamRecord {
    /// The mark that reeltime leaves on an object, so that it can tell its own from another's:
    /// stream and generation.
    pub fn token(&self) -> String {
        format!("{}.{}", self.id, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_left_when_its_owner_has_another_or_needs_none() {
        let open = |id: &str| UploadState::Open { id: id.to_owned() };
        let creating = UploadState::Creating { since: WallTime(0) };
        assert_eq!(open("mine").leaves("mine", State::Active), Some(false));
        assert_eq!(open("mine").leaves("mine", State::Completed), Some(false), "it may be being completed");
        assert_eq!(open("theirs").leaves("mine", State::Active), Some(true));
        assert_eq!(creating.leaves("mine", State::PendingCompletion), None, "it may be found");
        assert_eq!(UploadState::None.leaves("mine", State::Active), None, "it may be found");
        assert_eq!(UploadState::None.leaves("mine", State::Completed), Some(true));
        assert_eq!(UploadState::None.leaves("mine", State::Failed), Some(true));
    }
}
