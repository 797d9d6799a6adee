//! Redis is restarted, with and without its data, and the same store goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reeltime_core::State;
use testkit::servers::{Redis, RedisOptions};

use crate::book::Book;
use crate::common::{moved, record};
use crate::{DEADLINE, Store, eventually, note, open, outage, unknown};

/// The server is killed, and the store has noticed.
async fn killed(redis: &Redis, store: &Store) {
    redis.process().kill();
    let said = outage(note(store, &record(1), 9).await);
    assert!(said.contains(&redis.address()), "it says which: {said}");
    outage(store.load().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_everything_is_there_and_the_same_store_goes_on() {
    let redis = Redis::start();
    let (store, book, one) = (open(&redis.url()).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    for round in 1..=3 {
        note(&store, &one, round).await.unwrap();
        let before = book.snapshot();
        killed(&redis, &store).await;
        redis.restart();
        assert_eq!(book.snapshot(), before, "what was acknowledged is there");
        eventually("the store to reconnect", async || note(&store, &one, 100 + round).await).await;
        assert_eq!(book.parts(one.id).len(), 2 * round as usize);
    }
    store.transition(State::Active, &moved(&one, State::PendingCompletion)).await.unwrap();
    assert_eq!(book.state(one.id).as_deref(), Some("pending_completion"));
    assert_eq!(book.faults(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_its_data_says_that_the_stream_is_not_there() {
    let redis = Redis::start_with(&RedisOptions { volatile: true, ..RedisOptions::default() });
    let (store, book, one) = (open(&redis.url()).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    killed(&redis, &store).await;
    redis.restart();
    let found = eventually("the store to reconnect", async || store.load().await).await;
    assert_eq!(found, []);
    // An outage would be waited out, for ever: this must be told from one.
    unknown(note(&store, &one, 2).await);
    unknown(store.transition(State::Active, &moved(&one, State::Completed)).await);
    store.forget(one.id, one.epoch).await.expect("there is nothing to forget");
    assert_eq!(book.keys(), [].into(), "nothing was made up from a half of it");
    store.create(&one).await.expect("it can begin anew");
    note(&store, &one, 2).await.unwrap();
    assert_eq!((book.state(one.id).as_deref(), book.parts(one.id).len()), (Some("active"), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_at_the_opening_is_found_when_it_is_there() {
    let redis = Redis::start();
    redis.process().kill();
    let store = open(&redis.url()).await;
    for _ in 0..3 {
        outage(store.create(&record(1)).await);
    }
    redis.restart();
    eventually("the store to connect", async || store.create(&record(1)).await).await;
    assert_eq!(Book::of(&redis).state(record(1).id).as_deref(), Some("active"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_restarts_under_load_lose_nothing_that_was_acknowledged() {
    let redis = Arc::new(Redis::start());
    let (store, book, one) = (open(&redis.url()).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let restarts = {
        let (redis, done) = (Arc::clone(&redis), Arc::clone(&done));
        std::thread::spawn(move || {
            let book = Book::of(&redis);
            for _ in 0..5 {
                // In the midst of it: since the last restart something has been written.
                let before = book.parts(record(1).id).len();
                redis
                    .process()
                    .wait_until("something to be written", DEADLINE, || book.parts(record(1).id).len() > before);
                redis.restart();
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let mut noted = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let number = noted.len() as u32 + 1;
        eventually("a part to be noted", async || note(&store, &one, number).await).await;
        noted.push(number);
    }
    restarts.join().unwrap();
    eventually("the store to reconnect", async || note(&store, &one, 1).await).await;
    assert_eq!(book.parts(one.id).into_keys().collect::<Vec<_>>(), noted);
}
