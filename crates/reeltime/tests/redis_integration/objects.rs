//! Whose an object is, among nodes.

use std::time::Duration;

use reeltime::checkpoint::{CheckpointError, Presence};
use reeltime_core::{ObjectKey, Reason, State, StreamId, StreamRecord, WallTime};
use testkit::servers::{Redis, RedisCluster};
use uuid::Uuid;

use crate::book::Book;
use crate::common::{moved, record};
use crate::{Answer, Store, open, outage, unusable};

/// A stream of node `recorder-2`, in another directory, that is to become the same object as the
/// first.
fn rival() -> StreamRecord {
    StreamRecord { node: "recorder-2".to_owned(), source_mark: "8.2.0".to_owned(), key: record(1).key, ..record(2) }
}

#[track_caller]
fn taken_by(answer: Answer, by: &StreamRecord) {
    match answer {
        Err(CheckpointError::Taken { by: found }) => assert_eq!(*found, *by),
        other => panic!("expected Taken, not {other:?}"),
    }
}

async fn say_alive(store: &Store, node: &str) {
    let presence = Presence {
        node: node.to_owned(),
        incarnation: Uuid::from_u128(1),
        pid: 7,
        host: "studio".to_owned(),
        machine: String::new(),
        since: WallTime(0),
        sources: vec!["7.2.0".to_owned()],
    };
    assert_eq!(store.heartbeat(&presence, None, Duration::from_hours(1)).await.unwrap(), None);
}

async fn belongs_to_one(store: &Store, book: &Book<'_>) {
    let one = record(1);
    store.create(&one).await.unwrap();
    store.create(&one).await.expect("the same again");
    let before = book.snapshot();
    taken_by(store.create(&rival()).await, &one);
    assert_eq!(book.snapshot(), before, "nothing was changed");
    store.create(&StreamRecord { destination: "s3://another".to_owned(), ..rival() }).await.expect("another object");
    store.forget(rival().id, 3).await.unwrap();

    // What was completed is still its, and another name is another object.
    let completed = moved(&one, State::Completed);
    store.transition(State::Active, &moved(&one, State::PendingCompletion)).await.unwrap();
    store.transition(State::PendingCompletion, &completed).await.unwrap();
    taken_by(store.create(&rival()).await, &completed);
    let renamed = StreamRecord { key: ObjectKey::from_bytes(b"renamed.mp4".to_vec()), ..moved(&one, State::Active) };
    store.transition(State::Completed, &renamed).await.unwrap();
    store.create(&rival()).await.expect("its old name is free");
    taken_by(store.transition(State::Active, &moved(&one, State::Active)).await, &rival());
    let found = store.find(one.id).await.unwrap().unwrap();
    assert_eq!(found.key, renamed.key, "nothing was changed");

    store.forget(rival().id, 3).await.unwrap();
    store.transition(State::Active, &moved(&one, State::Active)).await.expect("who is forgotten has none");
    let failed = StreamRecord { reason: Some(Reason::SourceMissing), ..moved(&one, State::Failed) };
    store.transition(State::Active, &failed).await.unwrap();
    store.create(&rival()).await.expect("who has failed has none");
    taken_by(store.transition(State::Failed, &moved(&one, State::Active)).await, &rival());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_belongs_to_one_stream_of_all_nodes() {
    let redis = Redis::start();
    belongs_to_one(&open(&redis.url()).await, &Book::of(&redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_belongs_to_one_stream_of_all_nodes_in_a_cluster() {
    let cluster = RedisCluster::start();
    belongs_to_one(&open(&cluster.url()).await, &Book::of_cluster(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_used_again_in_its_directory_when_the_node_that_completed_it_is_gone() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    say_alive(&store, "recorder-1").await;
    store.create(&one).await.unwrap();
    let again = StreamRecord { source_mark: one.source_mark.clone(), ..rival() };
    let the_same_file = StreamRecord { path: one.path.clone(), ..again.clone() };
    redis.client().command(&["DEL", "reeltime:node:recorder-1"]);
    taken_by(store.create(&again).await, &one); // it is unfinished

    say_alive(&store, "recorder-1").await;
    let completed = moved(&one, State::Completed);
    store.transition(State::Active, &moved(&one, State::PendingCompletion)).await.unwrap();
    store.transition(State::PendingCompletion, &completed).await.unwrap();
    taken_by(store.create(&again).await, &completed); // its node sees the new one, too
    redis.client().command(&["DEL", "reeltime:node:recorder-1"]);
    taken_by(store.create(&the_same_file).await, &completed);
    taken_by(store.create(&rival()).await, &completed);
    store.create(&again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_at_once_one_gets_the_object() {
    let redis = Redis::start();
    let store = open(&redis.url()).await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 2..50_u32 {
        let store = store.clone();
        let one = StreamRecord { node: format!("recorder-{number}"), key: record(1).key, ..record(number) };
        say_alive(&store, &one.node).await;
        asking.spawn(async move {
            loop {
                match store.create(&one).await {
                    // Of one that has the object and is not there yet, nobody can say more.
                    Err(CheckpointError::Outage { .. }) => {}
                    answer => return answer.is_ok(),
                }
            }
        });
    }
    let got = asking.join_all().await;
    assert_eq!(got.iter().filter(|got| **got).count(), 1, "{got:?}");
    assert_eq!(store.load().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_without_a_stream_counts_as_long_as_its_node_is_there() {
    let redis = Redis::start();
    let (store, client) = (open(&redis.url()).await, redis.client());
    // As if `recorder-2` had been killed between its word and its stream.
    let (one, object) = (record(7), format!("s3://archive/studio/{}", record(7).key.to_utf8()));
    let word = format!("{} recorder-2", StreamId(Uuid::from_u128(9)));
    client.command(&["HSET", "reeltime:objects", &object, &word]);
    say_alive(&store, "recorder-2").await;
    assert!(outage(store.create(&one).await).contains("recorder-2 is about to record the same object"));
    assert_eq!(client.hash("reeltime:objects")[&object], word);
    client.command(&["DEL", "reeltime:node:recorder-2"]);
    store.create(&one).await.unwrap();
    assert_eq!(client.hash("reeltime:objects")[&object], format!("{} recorder-1", one.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_by_half_is_forgotten_with_its_object_the_next_time() {
    let redis = Redis::start();
    let (store, client, one) = (open(&redis.url()).await, redis.client(), record(1));
    store.create(&one).await.unwrap();
    // Whatever keeps the one half from being done; a word without its stream would be waited for.
    client.command(&["RENAME", "reeltime:objects", "kept"]);
    client.command(&["SET", "reeltime:objects", "something else"]);
    unusable(store.forget(one.id, one.epoch).await);
    client.command(&["RENAME", "kept", "reeltime:objects"]);
    store.forget(one.id, one.epoch).await.unwrap();
    assert_eq!(Book::of(&redis).keys(), [].into());
}
