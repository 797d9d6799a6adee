//! What the checkpoint is to know of one stream, and does not know yet.
//!
//! A checkpoint store that is away, or that hangs, does not stop uploads: what it misses is
//! owed, and written as soon as it is there. After a crash the store's own lists make up for
//! what was still owed. Only the ends of a stream wait until they are durable: a file may be
//! deleted upon `completed`.
//!
//! One task per stream writes what is owed, when there is something: see [`paying`].

mod paying;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reeltime_core::{Input, Part, PartNumber, State, StreamId, StreamRecord, Trouble};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Outside, Told};
use crate::events::{Event, What};

/// What takes longer than this is owed.
const PROMPT: Duration = Duration::from_secs(1);

/// In so many steps that is waited for.
const STEPS: u32 = 20;

/// The debts of one stream. A clone has the same.
#[derive(Clone)]
pub(super) struct Ledger(Arc<Inner>);

struct Inner {
    outside: Outside,
    id: StreamId,
    node: String,
    /// That of this process.
    epoch: u64,
    path: Arc<Mutex<PathBuf>>,
    debts: Mutex<Debts>,
    changed: Notify,
    /// Brings the machine what no request is answered with.
    late: mpsc::UnboundedSender<Told>,
    /// Nothing new may be begun.
    stop: CancellationToken,
    /// Nobody is left to write for.
    gone: CancellationToken,
}

struct Debts {
    /// The state in which the checkpoint has the stream; `None`: it does not have it.
    known: Option<State>,
    /// The newest record, and how many there were with it.
    record: Option<(u64, StreamRecord)>,
    records: u64,
    /// The last record that was written.
    written: u64,
    parts: BTreeMap<PartNumber, (u32, Part)>,
    is_paying: bool,
    /// Another owner has the stream, or its object.
    is_lost: bool,
    /// The stream that has the object.
    rival: Option<Box<StreamRecord>>,
}

impl Ledger {
    /// The ledger of a stream that the checkpoint has in this state, or has not.
    pub(super) fn new(
        outside: Outside,
        record: &StreamRecord,
        known: Option<State>,
        path: Arc<Mutex<PathBuf>>,
        late: mpsc::UnboundedSender<Told>,
        stop: CancellationToken,
    ) -> Self {
        let debts = Debts {
            known,
            record: None,
            records: 0,
            written: 0,
            parts: BTreeMap::new(),
            is_paying: false,
            is_lost: false,
            rival: None,
        };
        Self(Arc::new(Inner {
            outside,
            id: record.id,
            node: record.node.clone(),
            epoch: record.epoch,
            path,
            debts: Mutex::new(debts),
            changed: Notify::new(),
            late,
            stop,
            gone: CancellationToken::new(),
        }))
    }

    /// The stream of another node that has the object, if the checkpoint has said so.
    pub(super) fn rival(&self) -> Option<Box<StreamRecord>> {
        self.debts().rival.clone()
    }

    /// Nothing is written any more.
    pub(super) fn close(&self) {
        self.0.gone.cancel();
    }

    /// Writes a stream that the checkpoint does not have. Answered as [`Ledger::save`].
    pub(super) fn create(
        &self,
        record: StreamRecord,
        parts: Vec<(PartNumber, Part)>,
        running: &mut JoinSet<Vec<Input>>,
    ) {
        let mut debts = self.debts();
        debts.known = None;
        let generation = record.generation;
        debts.parts.retain(|_, (of, _)| *of == generation);
        for (number, part) in parts {
            // What was noted since is newer.
            debts.parts.entry(number).or_insert((generation, part));
        }
        self.owe(debts, record, running);
    }

    /// Writes the record; answers [`Input::Saved`], or [`Input::Failed`] if it is not durable
    /// and has to be, or if the checkpoint does not have the stream any more.
    pub(super) fn save(&self, record: StreamRecord, running: &mut JoinSet<Vec<Input>>) {
        let debts = self.debts();
        if debts.is_forgotten() {
            // Only the machine has all that is to be created. It is told once more: what it was told
            // while a creation was under way it took for that.
            let _ = self.0.late.send(Input::Forgotten.into()); // whoever saves hears
            running.spawn(std::future::ready(vec![Input::Failed(Trouble::Outage)]));
        } else {
            self.owe(debts, record, running);
        }
    }

    fn owe(&self, mut debts: MutexGuard<'_, Debts>, record: StreamRecord, running: &mut JoinSet<Vec<Input>>) {
        let must_be_durable = matches!(record.state, State::Completed | State::Failed);
        debts.records += 1;
        let turn = debts.records;
        debts.parts.retain(|_, (generation, _)| *generation == record.generation);
        debts.record = Some((turn, record));
        self.begin_to_pay(debts);
        let ledger = self.clone();
        running.spawn(async move { ledger.settled(turn, must_be_durable).await });
    }

    /// Writes a stored part, replacing one with the same number. Returns when that is done, or
    /// when it takes too long and is owed.
    pub(super) async fn note(&self, generation: u32, number: PartNumber, part: Part) {
        let owed = (generation, part);
        {
            let mut debts = self.debts();
            debts.parts.insert(number, owed.clone());
            self.begin_to_pay(debts);
        }
        let is_written = || {
            let debts = self.debts();
            let is_owed = debts.parts.get(&number) == Some(&owed);
            (!is_owed || debts.is_forgotten() || debts.is_lost).then_some(())
        };
        tokio::select! {
            biased;
            () = self.wait_for(is_written) => {}
            () = while_running(PROMPT) => {} // it is owed then
        }
    }

    /// Has parts written that were found in the store.
    pub(super) fn note_found(&self, generation: u32, parts: Vec<(PartNumber, Part)>) {
        let mut debts = self.debts();
        debts.parts.extend(parts.into_iter().map(|(number, part)| (number, (generation, part))));
        self.begin_to_pay(debts);
    }

    async fn settled(&self, turn: u64, must_be_durable: bool) -> Vec<Input> {
        let outcome = || {
            let debts = self.debts();
            if debts.is_lost {
                Some(vec![]) // the machine is told
            } else if debts.written >= turn {
                Some(vec![Input::Saved])
            } else if debts.is_forgotten() {
                Some(vec![Input::Failed(Trouble::Outage)]) // it is forgotten, and the machine is told
            } else {
                None
            }
        };
        let patience = async {
            if must_be_durable {
                self.0.stop.cancelled().await;
            }
            while_running(PROMPT).await;
        };
        tokio::select! {
            biased;
            answer = self.wait_for(outcome) => answer,
            () = patience => vec![if must_be_durable { Input::Failed(Trouble::Outage) } else { Input::Saved }],
        }
    }

    async fn wait_for<T>(&self, condition: impl Fn() -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(holds) = condition() {
                return holds;
            }
            changed.await;
        }
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.0.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_to_pay(&self, mut debts: MutexGuard<'_, Debts>) {
        if !debts.is_paying && !debts.is_lost {
            debts.is_paying = true;
            tokio::spawn(self.clone().work_or_say_why());
        }
    }

    fn tell(&self, what: What) {
        let path = self.0.path.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.outside.events.tell(Event { stream: Some(self.0.id), path: Some(path), what });
    }
}

/// Lets a while pass. What this process stands still for counts as a small step of it: nothing was
/// waited for meanwhile, and what became of its streams is yet to be heard.
async fn while_running(span: Duration) {
    for _ in 0..STEPS {
        tokio::time::sleep(span / STEPS).await;
    }
}

impl Debts {
    /// The checkpoint does not have the stream, and nothing is here to create it with.
    fn is_forgotten(&self) -> bool {
        self.known.is_none() && self.record.is_none()
    }

    /// The checkpoint has the stream in this state, and the record of that turn.
    fn is_written(&mut self, state: State, turn: Option<u64>) {
        self.known = Some(state);
        if let Some(turn) = turn {
            self.written = self.written.max(turn);
            if self.record.as_ref().is_some_and(|(newest, _)| *newest == turn) {
                self.record = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_process_stood_still_for_is_no_waiting() {
        let (span, still) = (Duration::from_millis(50), Duration::from_millis(300));
        let began = std::time::Instant::now();
        let waiting = tokio::spawn(while_running(span));
        tokio::task::yield_now().await;
        std::thread::sleep(still); // with everything that this thread runs
        waiting.await.expect("it ends");
        let took = began.elapsed();
        assert!(took >= still + span / 2, "most of it is waited afterwards: {took:?}");
    }
}
