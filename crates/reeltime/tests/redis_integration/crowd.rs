//! Many streams at once, from several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use reeltime_core::{State, StreamRecord};
use testkit::servers::Redis;
use tokio::task::JoinSet;

use crate::book::Book;
use crate::common::{moved, record};
use crate::{Store, note, open};

const STREAMS: u32 = 250;
const CONNECTIONS: usize = 4;
const PARTS: u32 = 4;

async fn connections(redis: &Redis) -> Vec<Store> {
    let mut stores = Vec::new();
    for _ in 0..CONNECTIONS {
        stores.push(open(&redis.url()).await);
    }
    stores
}

/// A stream's life, each step over another connection, its parts at the same time.
async fn live(stores: Vec<Store>, number: u32) {
    let via = |step: u32| &stores[(number + step) as usize % CONNECTIONS];
    let one = record(number);
    via(0).create(&one).await.unwrap();
    let mut parts = JoinSet::new();
    for at in 1..=PARTS {
        let (store, one) = (Arc::clone(via(at)), one.clone());
        parts.spawn(async move { note(&store, &one, at).await.unwrap() });
    }
    let steps = [State::Active, State::PendingCompletion, State::Active, State::PendingCompletion, State::Completed];
    let mut from = State::Active;
    for (step, to) in (1..).zip(steps) {
        let next = StreamRecord { size_bytes: u64::from(step), ..moved(&one, to) };
        via(step).transition(from, &next).await.unwrap();
        from = to;
    }
    parts.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_from_several_connections_lose_no_update_and_are_in_one_set_each() {
    let redis = Arc::new(Redis::start());
    let stores = connections(&redis).await;
    let done = Arc::new(AtomicBool::new(false));
    let auditor = {
        let (redis, done) = (Arc::clone(&redis), Arc::clone(&done));
        tokio::task::spawn_blocking(move || {
            let book = Book::of(&redis);
            let mut audits = 0;
            while !done.load(Ordering::SeqCst) {
                assert_eq!(book.faults(), Vec::<String>::new());
                audits += 1;
            }
            audits
        })
    };
    let mut lives = JoinSet::new();
    for number in 1..=STREAMS {
        lives.spawn(live(stores.clone(), number));
    }
    lives.join_all().await;
    done.store(true, Ordering::SeqCst);
    let audits = auditor.await.unwrap();
    assert!(audits >= 3, "it was looked at meanwhile: {audits}");

    let book = Book::of(&redis);
    assert_eq!(book.faults(), Vec::<String>::new());
    assert_eq!(redis.client().members("reeltime:streams:completed").len(), STREAMS as usize);
    assert_eq!(book.keys().len(), 3 + 2 * STREAMS as usize, "their set, their directory and their objects");
    for number in 1..=STREAMS {
        let id = record(number).id;
        assert_eq!(book.parts(id).keys().copied().collect::<Vec<_>>(), (1..=PARTS).collect::<Vec<_>>());
        assert_eq!(book.meta(id)["size_bytes"], "5", "the last update counts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_move_a_stream_at_once_one_wins_each_time() {
    let redis = Redis::start();
    let stores = connections(&redis).await;
    let book = Book::of(&redis);
    for number in 1..=20 {
        let one = record(number);
        stores[0].create(&one).await.unwrap();
        let mut racers = JoinSet::new();
        for racer in 1..=10_u64 {
            let store = Arc::clone(&stores[racer as usize % CONNECTIONS]);
            let to = if racer % 2 == 0 { State::PendingCompletion } else { State::Failed };
            let mine = StreamRecord { size_bytes: 1000 + racer, ..moved(&one, to) };
            racers.spawn(async move { store.transition(State::Active, &mine).await.is_ok().then_some(mine) });
        }
        let winners: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(book.state(one.id).as_deref(), Some(winners[0].state.as_str()));
        assert_eq!(book.meta(one.id)["size_bytes"], winners[0].size_bytes.to_string());
    }
    assert_eq!(book.faults(), Vec::<String>::new());
}

/// What a fleet costs: `--release -- --ignored --nocapture crowd::what_ten`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn what_ten_thousand_streams_cost() {
    const STREAMS: u32 = 10_000;
    const PARTS: u32 = 20;
    let redis = Redis::start();
    let stores = connections(&redis).await;
    let client = redis.client();
    let number = |field: &str| client.info(field).and_then(|text| text.parse::<f64>().ok()).unwrap();
    let cpu = || number("used_cpu_user") + number("used_cpu_sys");
    let mut before = (number("used_memory"), cpu(), Instant::now());
    let mut measure = |what: &str, requests: f64| {
        let after = (number("used_memory"), cpu(), Instant::now());
        let (bytes, cpu, time) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        println!(
            "{what}: {:.0} a second in {:.1} s, {:.1} us of Redis and {:.0} bytes each",
            requests / time.as_secs_f64(),
            time.as_secs_f64(),
            cpu / requests * 1e6,
            bytes / requests
        );
        before = after;
    };

    at_once(&stores, STREAMS, |store, number| async move {
        let one = StreamRecord { node: format!("recorder-{}", number % 100), ..record(number) };
        store.create(&one).await.unwrap();
    })
    .await;
    measure("streams created", f64::from(STREAMS));
    at_once(&stores, STREAMS, |store, number| async move {
        for at in 1..=PARTS {
            note(&store, &record(number), at).await.unwrap();
        }
    })
    .await;
    measure("parts noted", f64::from(STREAMS * PARTS));
    at_once(&stores, STREAMS, |store, number| async move {
        let pending = moved(&record(number), State::PendingCompletion);
        store.transition(State::Active, &pending).await.unwrap();
        store.transition(State::PendingCompletion, &moved(&pending, State::Completed)).await.unwrap();
    })
    .await;
    measure("states changed", f64::from(STREAMS * 2));
    assert_eq!(stores[0].load().await.unwrap().len(), STREAMS as usize);
    measure("streams loaded", f64::from(STREAMS));
}

/// Does something for each stream, over all connections, with 64 under way.
async fn at_once<F: Future<Output = ()> + Send + 'static>(
    stores: &[Store],
    streams: u32,
    work: impl Fn(Store, u32) -> F,
) {
    let mut running = JoinSet::new();
    for number in 0..streams {
        if running.len() >= 64 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(work(Arc::clone(&stores[number as usize % CONNECTIONS]), number));
    }
    running.join_all().await;
}
