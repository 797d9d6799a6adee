//! A write to the checkpoint takes effect, its answer is lost, and the checkpoint is away while the
//! stream goes on: what is found there afterwards is the stream's own, not another owner's.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use reeltime::checkpoint::{CheckpointError, CheckpointStore};
use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};
use testkit::recorders::synthetic::Style;
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, record_until};

testkit::on_every_store! {
    a_lost_answer_to_a_change_of_state_is_not_another_owners_change
    a_lost_answer_to_the_creation_does_not_cost_the_open_file
}

/// The write whose answer is lost; the checkpoint is away from then on, until it is told to come
/// back.
#[derive(Clone, Copy, PartialEq)]
enum Lost {
    Creation,
    TransitionTo(State),
}

struct LosesAnAnswer {
    inner: Arc<dyn CheckpointStore>,
    lost: Lost,
    has_lost: AtomicBool,
    is_away: Arc<AtomicBool>,
}

impl LosesAnAnswer {
    fn reach(&self) -> Result<&dyn CheckpointStore, CheckpointError> {
        let away = || CheckpointError::Outage { op: "reach it", target: "the test".into(), cause: "away".into() };
        if self.is_away.load(Ordering::SeqCst) { Err(away()) } else { Ok(&*self.inner) }
    }

    /// Loses the answer to that write, once.
    fn answer(&self, write: Lost, answer: Result<(), CheckpointError>) -> Result<(), CheckpointError> {
        if write == self.lost && answer.is_ok() && !self.has_lost.swap(true, Ordering::SeqCst) {
            self.is_away.store(true, Ordering::SeqCst);
            return self.reach().map(drop);
        }
        answer
    }
}

#[async_trait]
impl CheckpointStore for LosesAnAnswer {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        self.reach()?.load().await
    }

    async fn find(&self, id: StreamId) -> Result<Option<StreamRecord>, CheckpointError> {
        self.reach()?.find(id).await
    }

    async fn load_parts(&self, id: StreamId, generation: u32) -> Result<PartTable, CheckpointError> {
        self.reach()?.load_parts(id, generation).await
    }

    async fn create(&self, record: &StreamRecord) -> Result<(), CheckpointError> {
        let answer = self.reach()?.create(record).await;
        self.answer(Lost::Creation, answer)
    }

    async fn record_part(
        &self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), CheckpointError> {
        self.reach()?.record_part(id, epoch, generation, number, part).await
    }

    async fn transition(&self, from: State, record: &StreamRecord) -> Result<(), CheckpointError> {
        let answer = self.reach()?.transition(from, record).await;
        self.answer(Lost::TransitionTo(record.state), answer)
    }

    async fn claim(&self, id: StreamId, epoch: u64, node: &str) -> Result<u64, CheckpointError> {
        self.reach()?.claim(id, epoch, node).await
    }

    async fn forget(&self, id: StreamId, epoch: u64) -> Result<(), CheckpointError> {
        self.reach()?.forget(id, epoch).await
    }
}

/// Records, loses the answer, and goes on to the object and its document without the checkpoint;
/// then that is back.
fn goes_on(provider: Provider, lost: Lost, is_deleted: bool) {
    let world = World::at(provider);
    let is_away = Arc::new(AtomicBool::new(false));
    let reeltime = world.start_inside_with(&[], |outside| {
        let inner = Arc::clone(&outside.checkpoint);
        let (has_lost, is_away) = (AtomicBool::new(false), Arc::clone(&is_away));
        outside.checkpoint = Arc::new(LosesAnAnswer { inner, lost, has_lost, is_away });
    });
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    world.proxy().wait_for("part 1 to be stored", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(1) && logged.server_status == Some(200))
    });
    if is_deleted {
        fs::remove_file(&path).unwrap();
    }
    recording.go_on();
    let finished = recording.wait();
    world.proxy().wait_for("the document", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.key.ends_with(".metadata.json") && logged.server_status == Some(200))
    });
    assert!(is_away.swap(false, Ordering::SeqCst), "the answer was lost");

    reeltime.heard.wait_of("completed", &path, DEADLINE);
    let told = world.wait_state(&path, "completed");
    assert_eq!(told.numbers(), [1, 2, 3]);
    assert_eq!(world.sha256("a.mp4"), Some(finished.sha256));
    assert_eq!((world.sent("a.mp4"), world.leftovers()), (vec![1, 1, 1], vec![]));
}

fn a_lost_answer_to_a_change_of_state_is_not_another_owners_change(provider: Provider) {
    goes_on(provider, Lost::TransitionTo(State::PendingCompletion), false);
}

fn a_lost_answer_to_the_creation_does_not_cost_the_open_file(provider: Provider) {
    goes_on(provider, Lost::Creation, true);
}
