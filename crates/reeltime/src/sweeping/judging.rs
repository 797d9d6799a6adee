//! Whom an upload belongs to, and whether it is orphaned.

use reeltime_core::{Reason, RemotePart, State, StreamId, StreamRecord, UploadState, plan_of};

use super::{Candidate, Sweeper};
use crate::leftover::{FileState, file_state};

/// Whom an upload belongs to.
pub(super) enum Owner {
    /// It is orphaned: this stream's.
    Orphan { stream: StreamId, why: String },
    /// It is to be left alone.
    Kept { stream: Option<StreamId>, why: String },
    /// It is not known to be reeltime's.
    Foreign(&'static str),
}

impl Sweeper {
    /// Whom an upload with these parts belongs to; `streams` are all that have its key.
    pub(super) async fn judge(&self, candidate: &Candidate, parts: &[RemotePart], streams: &[StreamRecord]) -> Owner {
        let names = |record: &&StreamRecord| record.upload.id() == Some(&candidate.id);
        if let Some(record) = streams.iter().find(names) {
            let stream = record.id;
            return match self.standing(record).await {
                Ok(why) => Owner::Orphan { stream, why },
                Err(why) => Owner::Kept { stream: Some(stream), why },
            };
        }
        let mut why_orphaned = String::new();
        for record in streams {
            match self.standing(record).await {
                Ok(why) => why_orphaned = why,
                Err(why) => return Owner::Kept { stream: Some(record.id), why: format!("of its key: {why}") },
            }
        }
        let begun_since = |record: &&StreamRecord| {
            candidate.initiated.is_some_and(|initiated| initiated.0 + LISTED_TO_MS > record.started_at.0)
        };
        let Some(_) = streams.iter().find(begun_since) else {
            return Owner::Foreign("it was begun before any stream of its key");
        };
        if parts.is_empty() {
            return Owner::Foreign("it has no parts that would show whose it is");
        }
        match streams.iter().filter(begun_since).find(|record| plan_of(parts, record.plan).is_some()) {
            Some(record) => Owner::Orphan { stream: record.id, why: why_orphaned },
            None => Owner::Foreign("it is not divided as reeltime would divide it"),
        }
    }

    /// Why the uploads of a stream are orphaned or, as the error, why they are not.
    async fn standing(&self, record: &StreamRecord) -> Result<String, String> {
        if record.node != self.node {
            return Err(format!("a stream of node {}", record.node));
        }
        match record.state {
            State::Completed if record.upload != UploadState::None => {
                Err("the upload of a stream that is completed".to_owned())
            }
            State::Completed => Ok("its stream is completed".to_owned()),
            State::Failed => {
                let reason = record.reason.map_or("", Reason::as_str);
                Ok(format!("its stream has failed: {reason}"))
            }
            State::Active | State::PendingCompletion => {
                let copy = record.clone();
                let found = tokio::task::spawn_blocking(move || file_state(&copy)).await.unwrap_or(FileState::Away);
                match found {
                    FileState::There => Err("a stream that goes on when reeltime runs".to_owned()),
                    FileState::Away => Err(format!(
                        "a stream whose directory {} is missing, empty or cannot be read here: is it mounted?",
                        record.source.display()
                    )),
                    FileState::Gone if self.may_be_running => {
                        Err("a stream whose file is gone, but which a running reeltime may finish from its open file; \
                         if it died a moment ago, say --yes"
                            .to_owned())
                    }
                    FileState::Gone => Ok("its stream is unfinished, and its file is gone".to_owned()),
                }
            }
        }
    }
}

/// Stores list the beginning of an upload in whole seconds.
const LISTED_TO_MS: i64 = 1_000;
