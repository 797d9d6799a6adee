//! A Redis that is there and does not answer, or whose answer does not arrive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reeltime_core::{State, StreamRecord};
use testkit::proxy::{TcpMode, TcpProxy};
use testkit::servers::{Redis, RedisCluster, RedisOptions, Reply};

use crate::book::Book;
use crate::common::{moved, record};
use crate::{DEADLINE, eventually, note, open, outage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loads_its_data_is_waited_for() {
    // Microseconds a key; only a start with data takes its time.
    let redis = Redis::start_with(&RedisOptions::default().with(["--key-load-delay", "500"]));
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    let fill = "for n = 1, 20000 do redis.call('SET', 'filler:' .. n, n) end";
    redis.client().command(&["EVAL", fill, "0"]);
    redis.process().kill();
    outage(note(&store, &one, 2).await);
    slow_restart(&redis);
    let deadline = Instant::now() + DEADLINE;
    let said = loop {
        let said = outage(note(&store, &one, 2).await);
        if said.contains("LOADING") || said.contains("loading") {
            break said;
        }
        assert!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(10)).await; // between two attempts
    };
    assert!(said.contains("by itself"), "{said}");
    redis.client().config_set("key-load-delay", "0");
    eventually("the data to be loaded", async || note(&store, &one, 2).await).await;
    assert_eq!(Book::of(&redis).parts(one.id).len(), 2);
}

/// Starts it again, and returns when it says that it is loading.
fn slow_restart(redis: &Redis) {
    redis.process().restart();
    let client = redis.client();
    redis.process().wait_until(
        "redis to be loading",
        DEADLINE,
        || matches!(client.try_command(&["GET", "x"]), Ok(Reply::Error(error)) if error.starts_with("LOADING")),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_busy_with_a_script_is_waited_for() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    redis.client().config_set("lua-time-limit", "10");
    let client = redis.client();
    let busy = std::thread::spawn(move || client.try_command(&["EVAL", "while true do end", "0"]));
    let client = redis.client();
    redis.process().wait_until(
        "redis to be busy",
        DEADLINE,
        || matches!(client.try_command(&["GET", "x"]), Ok(Reply::Error(error)) if error.starts_with("BUSY")),
    );
    let said = outage(note(&store, &one, 1).await);
    assert!(said.contains("BUSY") && said.contains("by itself"), "{said}");
    client.command(&["SCRIPT", "KILL"]);
    busy.join().unwrap().unwrap();
    note(&store, &one, 1).await.expect("it is no longer busy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_an_outage_after_a_while_and_goes_on_when_it_is_thawed() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    redis.process().freeze();
    let began = Instant::now();
    let said = outage(note(&store, &one, 1).await);
    assert!(began.elapsed() < Duration::from_secs(25), "it gives up in time: {:?}", began.elapsed());
    assert!(said.contains("time") || said.contains("no answer"), "{said}");
    // Nothing waits for what is known to be away.
    let began = Instant::now();
    outage(note(&store, &one, 1).await);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    redis.process().thaw();
    eventually("the store to go on", async || note(&store, &one, 2).await).await;
    let book = Book::of(&redis);
    assert!(book.parts(one.id).contains_key(&2), "{:?}", book.parts(one.id));
    store.transition(State::Active, &moved(&one, State::PendingCompletion)).await.unwrap();
    assert_eq!(book.faults(), Vec::<String>::new());
}

/// Writes whose answer is lost, each in another way: whether they were done is not known, and
/// asking again is right in both cases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_cut_off_may_be_asked_for_again() {
    let redis = Redis::start();
    let proxy = TcpProxy::before(&redis.address());
    let (store, book) = (open(&format!("redis://{}", proxy.address())).await, Book::of(&redis));
    let one = StreamRecord { destination: String::new(), ..record(1) }; // no object is reserved, so every call is one script
    let pending = moved(&one, State::PendingCompletion);
    store.create(&record(7)).await.unwrap();
    note(&store, &record(7), 1).await.unwrap();
    store.transition(State::Active, &record(7)).await.unwrap();
    store.forget(record(7).id, 3).await.unwrap(); // the scripts are known from here on
    for after_bytes in [0, 1, 3] {
        proxy.set(TcpMode::CutAnswers { after_bytes });
        outage(store.create(&one).await);
        assert_eq!(book.state(one.id).as_deref(), Some("active"), "it was done");
        proxy.set(TcpMode::Pass);
        eventually("the same again", async || store.create(&one).await).await;

        proxy.set(TcpMode::CutAnswers { after_bytes });
        outage(note(&store, &one, 1).await);
        assert_eq!(book.parts(one.id).len(), 1, "it was done");
        proxy.set(TcpMode::Pass);
        eventually("the same again", async || note(&store, &one, 1).await).await;
        assert_eq!(book.parts(one.id).len(), 1);

        proxy.set(TcpMode::CutAnswers { after_bytes });
        outage(store.transition(State::Active, &pending).await);
        assert_eq!(book.state(one.id).as_deref(), Some("pending_completion"), "it was done");
        proxy.set(TcpMode::Pass);
        eventually("the same again", async || store.transition(State::Active, &pending).await).await;

        proxy.set(TcpMode::CutAnswers { after_bytes });
        outage(store.forget(one.id, one.epoch).await); // it asked first what there is to forget
        proxy.set(TcpMode::Pass);
        for _ in 0..2 {
            eventually("the same again", async || store.forget(one.id, one.epoch).await).await;
            assert_eq!(book.state(one.id), None, "it was done");
        }
        assert_eq!(book.faults(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_may_be_reserved_again_when_the_answer_was_cut_off() {
    let redis = Redis::start();
    let proxy = TcpProxy::before(&redis.address());
    let (store, book, one) = (open(&format!("redis://{}", proxy.address())).await, Book::of(&redis), record(1));
    store.create(&record(7)).await.unwrap(); // the script is known from here on
    proxy.set(TcpMode::CutAnswers { after_bytes: 0 });
    outage(store.create(&one).await);
    assert_eq!(redis.client().hash("reeltime:objects").len(), 2, "it was done");
    assert_eq!(book.state(one.id), None);
    proxy.set(TcpMode::Pass);
    eventually("the same again", async || store.create(&one).await).await;
    assert_eq!((book.state(one.id).as_deref(), book.faults()), (Some("active"), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_holds_everything_back_delays_and_loses_nothing() {
    let redis = Redis::start();
    let proxy = TcpProxy::before(&redis.address());
    let (store, book, one) = (open(&format!("redis://{}", proxy.address())).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 9).await.unwrap(); // the script is known from here on
    proxy.set(TcpMode::HoldAnswers);
    let held = {
        let (store, one) = (Arc::clone(&store), one.clone());
        tokio::spawn(async move { note(&store, &one, 1).await })
    };
    redis.process().wait_until("the part to be noted", DEADLINE, || book.parts(one.id).len() == 2);
    assert!(!held.is_finished());
    proxy.set(TcpMode::Pass);
    held.await.unwrap().unwrap();

    proxy.go_down();
    outage(note(&store, &one, 2).await);
    let said = outage(note(&store, &one, 2).await);
    assert!(said.contains(&proxy.address()), "it says which: {said}");
    proxy.come_up();
    eventually("the store to reconnect", async || note(&store, &one, 2).await).await;
    proxy.reset_connections();
    eventually("the store to reconnect", async || note(&store, &one, 3).await).await;
    assert_eq!(book.parts(one.id).len(), 4);
}

/// What has its slots elsewhere goes on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_misses_a_node_is_an_outage_for_its_streams_until_it_is_back() {
    let cluster = RedisCluster::start();
    for node in cluster.nodes() {
        node.client().config_set("cluster-require-full-coverage", "no");
    }
    let (store, book) = (open(&cluster.url()).await, Book::of_cluster(&cluster));
    for number in 1..=16 {
        store.create(&record(number)).await.unwrap();
    }
    let holds = |number: u32| {
        let key = format!("stream:{}:meta", record(number).id);
        let keys = cluster.keys("*");
        let node = keys.iter().find(|(_, keys)| keys.iter().any(|has| has.ends_with(&key)));
        node.expect("it is somewhere").0.clone()
    };
    let away = cluster.masters().iter().find(|node| node.address() == holds(1)).unwrap();
    let elsewhere = (2..=16).find(|number| holds(*number) != away.address()).expect("shards are on several nodes");
    away.process().kill();
    let said = outage(note(&store, &record(1), 1).await);
    assert!(!said.is_empty());
    eventually("the others to go on", async || note(&store, &record(elsewhere), 1).await).await;
    outage(store.load().await);
    away.restart();
    cluster.wait_until_it_serves();
    eventually("the node to be back", async || note(&store, &record(1), 1).await).await;
    assert_eq!(store.load().await.unwrap().len(), 16);
    assert_eq!(book.parts(record(1).id).len(), 1);
}
