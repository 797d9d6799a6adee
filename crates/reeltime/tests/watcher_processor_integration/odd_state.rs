//! A checkpoint that loses answers, forgets, breaks, or is away at the wrong moment: the stream
//! goes on, whatever that is taken for at first.

use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use reeltime::checkpoint::{CheckpointError, CheckpointStore};
use reeltime::events::What;
use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};
use testkit::proxy::Op;
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, Inside, MIB, S3_PART, World, record_until};

testkit::on_every_store! {
    a_lost_answer_to_a_change_of_state_is_not_another_owners_change
    a_lost_answer_to_the_creation_does_not_cost_the_open_file
    a_stream_that_is_forgotten_again_as_it_is_created_goes_on
    a_panic_while_the_state_is_written_costs_a_word_and_no_recording
    a_stop_does_not_wait_for_a_state_that_is_away
    an_upload_of_a_live_temp_name_is_not_taken_by_a_file_of_the_final_name
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Write {
    Creation,
    Part,
    TransitionTo(State),
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Done,
    /// It does not reach the checkpoint.
    Away,
    /// It is done, and nobody hears.
    Unheard,
    /// The stream is lost before it.
    Forgotten,
    Panic,
}

type Decide = Box<dyn Fn(Write, StreamId) -> Fate + Send + Sync>;

/// A checkpoint whose writes have the fate that is decided for each.
struct Odd {
    inner: Arc<dyn CheckpointStore>,
    decide: Decide,
}

impl Odd {
    fn away() -> CheckpointError {
        CheckpointError::Outage { op: "write", target: "the test".into(), cause: "away".into() }
    }

    async fn write(
        &self,
        write: Write,
        (id, epoch): (StreamId, u64),
        done: impl Future<Output = Result<(), CheckpointError>> + Send,
    ) -> Result<(), CheckpointError> {
        match (self.decide)(write, id) {
            Fate::Done => done.await,
            Fate::Away => Err(Self::away()),
            Fate::Unheard => done.await.and(Err(Self::away())),
            Fate::Forgotten => {
                self.inner.forget(id, epoch).await?;
                done.await
            }
            Fate::Panic => panic!("a fault of the program"),
        }
    }
}

#[async_trait]
impl CheckpointStore for Odd {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        self.inner.load().await
    }

    async fn find(&self, id: StreamId) -> Result<Option<StreamRecord>, CheckpointError> {
        self.inner.find(id).await
    }

    async fn load_parts(&self, id: StreamId, generation: u32) -> Result<PartTable, CheckpointError> {
        self.inner.load_parts(id, generation).await
    }

    async fn create(&self, record: &StreamRecord) -> Result<(), CheckpointError> {
        self.write(Write::Creation, (record.id, record.epoch), self.inner.create(record)).await
    }

    async fn record_part(
        &self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), CheckpointError> {
        let done = self.inner.record_part(id, epoch, generation, number, part);
        self.write(Write::Part, (id, epoch), done).await
    }

    async fn transition(&self, from: State, record: &StreamRecord) -> Result<(), CheckpointError> {
        let done = self.inner.transition(from, record);
        self.write(Write::TransitionTo(record.state), (record.id, record.epoch), done).await
    }

    async fn claim(&self, id: StreamId, epoch: u64, node: &str) -> Result<u64, CheckpointError> {
        self.inner.claim(id, epoch, node).await
    }

    async fn forget(&self, id: StreamId, epoch: u64) -> Result<(), CheckpointError> {
        self.inner.forget(id, epoch).await
    }
}

fn start(world: &World, decide: impl Fn(Write, StreamId) -> Fate + Send + Sync + 'static) -> Inside {
    world.start_inside_with(&[], |outside| {
        outside.checkpoint = Arc::new(Odd { inner: Arc::clone(&outside.checkpoint), decide: Box::new(decide) });
    })
}

fn wait_document(world: &World) {
    world.proxy().wait_for("the document", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.key.ends_with(".metadata.json") && logged.server_status == Some(200))
    });
}

/// Records, loses the answer to a write and all after it, and goes on to the object and its
/// document without the checkpoint; then that is back.
fn goes_on_after_a_lost_answer(provider: Provider, lost: Write, is_deleted: bool) {
    let world = World::at(provider);
    let is_away = Arc::new(AtomicBool::new(false));
    let (away, has_lost) = (Arc::clone(&is_away), AtomicBool::new(false));
    let reeltime = start(&world, move |write, _| {
        if write == lost && !has_lost.swap(true, Ordering::SeqCst) {
            away.store(true, Ordering::SeqCst);
            return Fate::Unheard;
        }
        if away.load(Ordering::SeqCst) { Fate::Away } else { Fate::Done }
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
    wait_document(&world);
    assert!(is_away.swap(false, Ordering::SeqCst), "the answer was lost");

    reeltime.heard.wait_of("completed", &path, DEADLINE);
    let told = world.wait_state(&path, "completed");
    assert_eq!(told.numbers(), [1, 2, 3]);
    assert_eq!(world.sha256("a.mp4"), Some(finished.sha256));
    assert_eq!((world.sent("a.mp4"), world.leftovers()), (vec![1, 1, 1], vec![]));
}

fn a_lost_answer_to_a_change_of_state_is_not_another_owners_change(provider: Provider) {
    goes_on_after_a_lost_answer(provider, Write::TransitionTo(State::PendingCompletion), false);
}

fn a_lost_answer_to_the_creation_does_not_cost_the_open_file(provider: Provider) {
    goes_on_after_a_lost_answer(provider, Write::Creation, true);
}

/// Each time between its creation and its first part, while the machine waits for the answer to
/// the creation.
fn a_stream_that_is_forgotten_again_as_it_is_created_goes_on(provider: Provider) {
    let world = World::at(provider);
    let (creations, created) = (AtomicU32::new(0), Mutex::new(HashSet::new()));
    let reeltime = start(&world, move |write, stream| {
        let mut created = created.lock().unwrap();
        if write == Write::Creation && creations.fetch_add(1, Ordering::SeqCst) < 24 {
            created.insert(stream);
        }
        if write == Write::Part && created.remove(&stream) { Fate::Forgotten } else { Fate::Done }
    });
    let record = |number: u64| Synthetic::into(world.path(&format!("{number}.mp4")), Style::Append, S3_PART + number);
    let recordings: Vec<_> = (1..=4).map(|number| record(number).seed(number).start()).collect();
    for (number, recording) in (1..).zip(recordings) {
        let finished = recording.wait();
        reeltime.heard.wait_of("completed", &finished.path, DEADLINE);
        world.assert_identical(&finished);
        assert_eq!(world.wait_state(&finished.path, "completed").numbers(), [1, 2]);
        assert_eq!(world.sent(&format!("{number}.mp4")), [1, 1]);
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn a_panic_while_the_state_is_written_costs_a_word_and_no_recording(provider: Provider) {
    let world = World::at(provider);
    let has_panicked = AtomicBool::new(false);
    let reeltime = start(&world, move |write, _| {
        let panics = write == Write::Part && !has_panicked.swap(true, Ordering::SeqCst);
        if panics { Fate::Panic } else { Fate::Done }
    });
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 2 * S3_PART + MIB).start().wait();
    reeltime.heard.wait_of("completed", &finished.path, DEADLINE);
    world.assert_identical(&finished);
    let is_said = |what: &What| matches!(what, What::Notice { hint, .. } if hint.contains("this is a bug"));
    assert!(reeltime.heard.all().iter().any(|event| is_said(&event.what)), "{:?}", reeltime.heard.all());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn a_stop_does_not_wait_for_a_state_that_is_away(provider: Provider) {
    let world = World::at(provider);
    let reeltime =
        start(&world, |write, _| if write == Write::TransitionTo(State::Completed) { Fate::Away } else { Fate::Done });
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_document(&world);
    reeltime.heard.wait_of("retrying", &finished.path, DEADLINE);
    let heard = reeltime.heard.clone();
    reeltime.stop();
    let is_late = |what: &What| matches!(what, What::Notice { message, .. } if message.contains("did not end"));
    assert!(!heard.all().iter().any(|event| is_late(&event.what)), "no part was in flight: {:?}", heard.all());
    assert_eq!(world.told_of(&finished.path).unwrap().state, "pending_completion");
    assert_eq!(world.once(), Some(0), "it is completed by the next one");
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4"), [1, 1]);
}

/// They have one key. The one that is moved in was there before the process.
fn an_upload_of_a_live_temp_name_is_not_taken_by_a_file_of_the_final_name(provider: Provider) {
    let world = World::at(provider);
    let moved = Synthetic::into(world.beside("moved.mp4"), Style::Append, 2 * S3_PART).seed(7).start().wait();
    File::options().write(true).open(&moved.path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let reeltime = start(&world, |_, _| Fate::Done);
    let temp = world.path("a.mp4.part");
    let recording = record_until(temp.clone(), Style::Append, 3 * S3_PART, 2 * S3_PART);
    reeltime.heard.wait_part(&temp, 2, DEADLINE);
    let upload = world.told_of(&temp).unwrap().upload_id.unwrap();

    let path = world.path("a.mp4");
    fs::rename(&moved.path, &path).unwrap();
    reeltime.heard.wait_of("completed", &path, DEADLINE);
    assert_eq!(world.sha256("a.mp4"), Some(moved.sha256));
    let into_it = world.requests(Op::UploadPart, "a.mp4").into_iter();
    let into_it = into_it.filter(|sent| sent.request.upload_id.as_ref() == Some(&upload)).count();
    assert_eq!(into_it, 2, "only the two parts of the live recording");
    drop(recording);
}
