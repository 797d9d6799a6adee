//! The one vocabulary of what happened, from which logs, metrics, the API and tests are fed.

use std::path::PathBuf;
use std::time::Duration;

use reeltime_core::{PartNumber, Reason, State, StreamId};
use tokio::sync::broadcast;

/// Something that happened to a stream, or to the process.
#[derive(Clone, Debug)]
pub struct Event {
    /// The stream; `None` for what concerns the process.
    pub stream: Option<StreamId>,
    /// The recording's file, where there is one.
    pub path: Option<PathBuf>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A recording was found and is a stream now.
    Discovered,
    /// A stream goes on after a restart.
    Resumed {
        /// Bytes that the checkpoint says the store holds.
        uploaded_bytes: u64,
    },
    /// The store has an upload for it.
    UploadCreated {
        /// The store's id.
        upload_id: String,
    },
    /// A part is stored and in the checkpoint.
    PartStored {
        /// Which.
        number: PartNumber,
        /// Its size.
        size_bytes: u64,
        /// Whether the number was sent before.
        again: bool,
        /// From the request to the answer.
        took: Duration,
    },
    /// A part was copied inside the store, from the object that was completed before, and is in
    /// the checkpoint. Nothing was sent.
    PartCopied {
        /// Which.
        number: PartNumber,
        /// Its size.
        size_bytes: u64,
        /// From the request to the answer.
        took: Duration,
    },
    /// The stream changed its state.
    StateChanged {
        /// From this state.
        from: State,
        /// To this one.
        to: State,
    },
    /// Bytes of sent parts were compared with the file.
    Verified {
        /// Which part.
        number: PartNumber,
        /// How many bytes.
        size_bytes: u64,
        /// Whether they are the same.
        matches: bool,
    },
    /// An object that was found in the store was compared with the file.
    Compared {
        /// How many bytes.
        size_bytes: u64,
        /// Whether they are the same.
        matches: bool,
    },
    /// The object is stored, verified, described and remembered.
    Completed {
        /// Its size.
        size_bytes: u64,
        /// Since the last change of the file.
        after_last_change: Duration,
    },
    /// The stream was given up.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// A request failed and will be tried again.
    Retrying {
        /// Whose fault it is.
        side: Side,
        /// What was tried, and how it failed.
        error: String,
        /// What an operator can do; empty if nothing.
        hint: String,
    },
    /// An upload was aborted.
    UploadAborted,
    /// The file was deleted or moved, as asked for, after completion.
    SourceDisposed,
    /// Something that an operator should know, said once.
    Notice {
        /// What.
        message: String,
        /// What to do; empty if nothing.
        hint: String,
    },
}

/// Who did not do what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Where recordings go.
    Store,
    /// What survives a crash.
    Checkpoint,
    /// Where recordings come from.
    Source,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Checkpoint, Self::Source];

    /// Its name in log lines and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Checkpoint => "checkpoint",
            Self::Source => "source",
        }
    }
}

impl What {
    /// A short name: the `event` field of log lines and the label in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Resumed { .. } => "resumed",
            Self::UploadCreated { .. } => "upload_created",
            Self::PartStored { .. } => "part_stored",
            Self::PartCopied { .. } => "part_copied",
            Self::StateChanged { .. } => "state_changed",
            Self::Verified { .. } => "verified",
            Self::Compared { .. } => "compared",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::Retrying { .. } => "retrying",
            Self::UploadAborted => "upload_aborted",
            Self::SourceDisposed => "source_disposed",
            Self::Notice { .. } => "notice",
        }
    }
}

/// Where events are told and heard. A listener that is too slow loses the oldest ones and is
/// told so; nobody who tells ever waits.
#[derive(Clone, Debug)]
pub struct EventBus(broadcast::Sender<Event>);

impl Default for EventBus {
    fn default() -> Self {
        Self(broadcast::channel(4096).0)
    }
}

impl EventBus {
    /// Tells an event to all who listen.
    pub fn tell(&self, event: Event) {
        let _ = self.0.send(event); // nobody listening is no error
    }

    /// Hears the events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
