//! Writes what is owed to the checkpoint.
//!
//! 1. The stream, if the checkpoint does not have it;
//! 2. the parts, which so are there before `completed` is;
//! 3. the record, through every state that was passed meanwhile.

use std::time::Duration;

use reeltime_core::{Input, Part, PartNumber, State, StreamRecord};
use tokio::task::JoinSet;

use super::{Inner, Ledger};
use crate::checkpoint::CheckpointError;
use crate::events::{Side, What};
use crate::processor::saving::{Backoff, HINT};
use crate::storage::UploadRef;

/// How often, and from when to when, the next owner of a stream is asked for its upload.
const QUESTIONS: usize = 60;
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(1);

/// Parts that are written at the same time.
const PARTS_AT_ONCE: usize = 16;

impl Ledger {
    /// A bug must not leave the stream waiting for ever: it goes on from its checkpoint.
    pub(super) async fn work_or_say_why(self) {
        if let Err(error) = tokio::spawn(self.clone().work()).await {
            self.give_up(
                &format!("writing to the checkpoint ended early: {error}"),
                "this is a bug; the stream goes on from its checkpoint",
            );
        }
    }

    /// Pays until nothing is owed, however long that takes.
    async fn work(self) {
        let mut backoff = Backoff::default();
        let paying = async {
            loop {
                let paid = self.pay().await;
                self.0.changed.notify_waiters();
                match paid {
                    Ok(()) if self.is_done() => return,
                    Ok(()) => backoff = Backoff::default(),
                    Err(CheckpointError::Unknown { .. }) => {
                        self.forgotten();
                        return;
                    }
                    Err(CheckpointError::Taken { by }) => return self.taken(by),
                    Err(error @ (CheckpointError::Stale { .. } | CheckpointError::Held { .. })) => {
                        match self.is_still_ours().await {
                            Ok(true) => backoff = Backoff::default(),
                            Ok(false) => {
                                let hint = "another reeltime has taken this stream over; this one leaves it alone";
                                self.give_up(&error.to_string(), hint);
                                tokio::spawn(self.clone().leave_upload()); // the processor ends before it
                                return;
                            }
                            Err(CheckpointError::Unknown { .. }) => return self.forgotten(),
                            Err(error) => self.retrying(&error),
                        }
                        backoff.wait().await;
                    }
                    Err(error) => {
                        self.retrying(&error);
                        backoff.wait().await;
                    }
                }
            }
        };
        let _ = self.0.gone.run_until_cancelled(paying).await; // what was owed is owed no more
        self.0.changed.notify_waiters();
    }

    /// A write was refused. Was that another owner, or did an earlier write take effect whose
    /// answer got lost, or has the checkpoint become an older copy? What it has now is built
    /// upon, if it is ours.
    async fn is_still_ours(&self) -> Result<bool, CheckpointError> {
        let Inner { outside, id, node, epoch, .. } = &*self.0;
        let Some(found) = outside.checkpoint.find(*id).await? else {
            let target = outside.checkpoint.location();
            return Err(CheckpointError::Unknown { op: "find a stream", target, id: *id });
        };
        if found.node != *node || found.epoch > *epoch {
            return Ok(false);
        }
        if found.epoch < *epoch {
            // It lacks what was written since, and has epochs that were given away already.
            let _ = self.0.late.send(Input::Forgotten.into()); // a processor that has ended needs nothing
            let mut has = found.epoch;
            while has < *epoch {
                has = match outside.checkpoint.claim(*id, has, node).await {
                    Err(CheckpointError::Stale { .. }) => return Ok(true), // to be looked at once more
                    claimed => claimed?,
                };
            }
        }
        self.debts().known = Some(found.state);
        Ok(true)
    }

    fn is_done(&self) -> bool {
        let mut debts = self.debts();
        let is_done = debts.record.is_none() && (debts.parts.is_empty() || debts.known.is_none());
        debts.is_paying = !is_done;
        is_done
    }

    /// One attempt to write all that is owed.
    async fn pay(&self) -> Result<(), CheckpointError> {
        self.pay_creation().await?;
        self.pay_parts().await?;
        self.pay_record().await
    }

    async fn pay_creation(&self) -> Result<(), CheckpointError> {
        let (turn, record) = {
            let debts = self.debts();
            match (debts.known, &debts.record) {
                (None, Some(newest)) => newest.clone(),
                _ => return Ok(()),
            }
        };
        // Its parts come before it is completed.
        let state = if record.state == State::Completed { State::PendingCompletion } else { record.state };
        let is_all = state == record.state;
        self.0.outside.checkpoint.create(&StreamRecord { state, ..record }).await?;
        self.debts().is_written(state, is_all.then_some(turn));
        Ok(())
    }

    async fn pay_parts(&self) -> Result<(), CheckpointError> {
        loop {
            let parts: Vec<_> = {
                let debts = self.debts();
                if debts.known.is_none() {
                    return Ok(());
                }
                let owed = debts.parts.iter().take(PARTS_AT_ONCE);
                owed.map(|(number, (generation, part))| (*number, *generation, part.clone())).collect()
            };
            if parts.is_empty() {
                return Ok(());
            }
            let mut writing = JoinSet::new();
            for (number, generation, part) in parts {
                let ledger = self.clone();
                writing.spawn(async move { ledger.pay_part(number, generation, part).await });
            }
            for written in writing.join_all().await {
                written?;
            }
            self.0.changed.notify_waiters();
        }
    }

    async fn pay_part(&self, number: PartNumber, generation: u32, part: Part) -> Result<(), CheckpointError> {
        let Inner { outside, id, epoch, .. } = &*self.0;
        outside.checkpoint.record_part(*id, *epoch, generation, number, &part).await?;
        let mut debts = self.debts();
        if debts.parts.get(&number).is_some_and(|owed| *owed == (generation, part)) {
            debts.parts.remove(&number);
        }
        Ok(())
    }

    async fn pay_record(&self) -> Result<(), CheckpointError> {
        let (mut from, (turn, record)) = {
            let debts = self.debts();
            match (debts.known, &debts.record) {
                (Some(known), Some(newest)) if debts.parts.is_empty() => (known, newest.clone()),
                _ => return Ok(()),
            }
        };
        let last = record.state;
        for state in from.way_to(last) {
            let step = StreamRecord { state, ..record.clone() };
            self.0.outside.checkpoint.transition(from, &step).await?;
            self.debts().is_written(state, (state == last).then_some(turn));
            if from != state {
                self.tell(What::StateChanged { from, to: state });
            }
            from = state;
        }
        Ok(())
    }

    fn forgotten(&self) {
        {
            let mut debts = self.debts();
            debts.known = None;
            debts.record = None;
            debts.is_paying = false;
        }
        let hint = "it is written anew, with all its parts; look for who flushed or replaced the state";
        let message = "the checkpoint does not have this stream any more".to_owned();
        self.tell(What::Notice { message, hint: hint.into() });
        let _ = self.0.late.send(Input::Forgotten.into()); // a processor that has ended needs nothing
    }

    /// The object is another stream's. That is told by who takes in what is left of this one.
    fn taken(&self, by: Box<StreamRecord>) {
        let upload = by.upload.clone();
        {
            let mut debts = self.debts();
            debts.is_lost = true;
            debts.rival = Some(by);
        }
        self.0.changed.notify_waiters();
        let _ = self.0.late.send(Input::ObjectTaken { upload }.into()); // a processor that has ended needs nothing
    }

    /// Nothing more is written.
    fn give_up(&self, message: &str, hint: &str) {
        self.debts().is_lost = true;
        self.tell(What::Notice { message: message.to_owned(), hint: hint.to_owned() });
        self.0.changed.notify_waiters();
        let _ = self.0.late.send(Input::LeaseLost.into()); // a processor that has ended needs nothing
    }

    /// An upload that this owner began when it was none any more is known to nobody else. It is
    /// aborted, unless the next owner has found it, or may yet find it.
    async fn leave_upload(self) {
        let Inner { outside, id, .. } = &*self.0;
        let named = |(_, record): &(u64, StreamRecord)| {
            record.upload.id().map(|id| UploadRef { key: record.key.clone(), id: id.to_owned() })
        };
        let Some(upload) = self.debts().record.as_ref().and_then(named) else { return };
        for _ in 0..QUESTIONS {
            let is_left = match outside.checkpoint.find(*id).await {
                Ok(Some(theirs)) => theirs.upload.leaves(&upload.id, theirs.state),
                Ok(None) => Some(false), // who takes the file for a new stream may find it
                Err(_) => None,
            };
            match is_left {
                Some(false) => return,
                Some(true) if outside.store.abort(&upload).await.is_ok() => return,
                _ => tokio::time::sleep(BETWEEN_QUESTIONS).await,
            }
        }
        let message =
            format!("upload {} of {} may be left in the store", upload.id, outside.store.full_key(&upload.key));
        let hint = "nobody knows of it; the store's lifecycle rule aborts it, or do so by hand";
        self.tell(What::Notice { message, hint: hint.to_owned() });
    }

    fn retrying(&self, error: &CheckpointError) {
        self.tell(What::Retrying { side: Side::Checkpoint, error: error.to_string(), hint: HINT.into() });
    }
}
