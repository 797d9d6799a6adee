//! Who has been replaced as the owner of a stream cannot write any more.

use reeltime_core::{State, StreamRecord};
use testkit::servers::{Redis, RedisCluster};

use crate::book::{Book, Snapshot};
use crate::common::{moved, nth, part, record};
use crate::{Store, note, open, stale};

/// Every write with an epoch that is not the stream's is refused, says what it found, and changes
/// nothing.
async fn refused(store: &Store, book: &Book<'_>) {
    let pending = moved(&record(1), State::PendingCompletion);
    store.create(&record(1)).await.unwrap();
    note(store, &record(1), 1).await.unwrap();
    store.transition(State::Active, &pending).await.unwrap();
    let before: Snapshot = book.snapshot();
    for epoch in [0, 2, 4, u64::MAX] {
        let one = StreamRecord { epoch, ..pending.clone() };
        let changed = StreamRecord { size_bytes: 77, ..one.clone() };
        for (what, answer) in [
            ("create", store.create(&one).await),
            ("create, changed", store.create(&changed).await),
            ("note a part", store.record_part(one.id, epoch, 1, nth(1), &part(9)).await),
            ("note a new part", store.record_part(one.id, epoch, 1, nth(2), &part(2)).await),
            ("save", store.transition(State::PendingCompletion, &changed).await),
            ("complete", store.transition(State::PendingCompletion, &moved(&one, State::Completed)).await),
            ("go back", store.transition(State::Active, &moved(&one, State::Active)).await),
            ("forget", store.forget(one.id, epoch).await),
        ] {
            let found = stale(answer);
            assert_eq!(found, "state pending_completion, epoch 3, node recorder-1", "{what} as epoch {epoch}");
            assert_eq!(book.snapshot(), before, "{what} as epoch {epoch} changes nothing");
        }
    }
    store.transition(State::PendingCompletion, &moved(&record(1), State::Completed)).await.expect("its owner may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_of_a_stale_owner_is_refused() {
    let redis = Redis::start();
    refused(&open(&redis.url()).await, &Book::of(&redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_of_a_stale_owner_is_refused_in_a_cluster() {
    let cluster = RedisCluster::start();
    refused(&open(&cluster.url()).await, &Book::of_cluster(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_who_is_replaced_between_two_writes_is_refused_at_the_next() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    redis.client().command(&["HSET", &format!("reeltime:stream:{}:meta", one.id), "epoch", "4", "node", "recorder-2"]);
    let taken_over = "state active, epoch 4, node recorder-2";
    assert_eq!(stale(note(&store, &one, 2).await), taken_over);
    assert_eq!(stale(store.transition(State::Active, &moved(&one, State::PendingCompletion)).await), taken_over);
    assert_eq!(stale(store.forget(one.id, one.epoch).await), taken_over);
    assert_eq!(Book::of(&redis).parts(one.id).len(), 1);
    let now = StreamRecord { epoch: 4, ..one };
    note(&store, &now, 2).await.expect("the new owner goes on");
}
