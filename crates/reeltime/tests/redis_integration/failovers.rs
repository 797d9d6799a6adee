//! A replica takes over: the same store goes on with it by itself.
//!
//! Replication is asynchronous, so what was acknowledged in the last moment may be lost; here the
//! replica is in step before the master dies.

use std::time::{Duration, Instant};

use reeltime_core::State;
use testkit::servers::{RedisCluster, RedisSentinels};

use crate::book::Book;
use crate::common::{moved, record};
use crate::{eventually, note, open, outage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinel_the_store_goes_on_with_the_new_master() {
    let all = RedisSentinels::start();
    let (store, one) = (open(&all.url()).await, record(1));
    store.create(&one).await.unwrap();
    for round in 1..=2 {
        let (master, replica) = (all.master(), all.replica());
        note(&store, &one, round).await.unwrap();
        assert_eq!(Book::of(master).parts(one.id).len(), 2 * round as usize - 1);
        all.wait_until_in_step();
        master.process().kill();
        outage(note(&store, &one, 100 + round).await);
        eventually("the new master to be found", async || note(&store, &one, 100 + round).await).await;
        all.wait_until_master_is(replica);
        let book = Book::of(replica);
        assert_eq!(book.parts(one.id).len(), 2 * round as usize, "what the replica had, and what came after");
        assert_eq!(book.faults(), Vec::<String>::new());
        master.restart();
        all.wait_until_it_follows(master);
        note(&store, &one, 100 + round).await.expect("the old master in its new part disturbs nobody");
        all.wait_until_in_step();
        assert_eq!(Book::of(master).snapshot(), book.snapshot(), "it has what the new master has");
    }
    store.transition(State::Active, &moved(&one, State::PendingCompletion)).await.unwrap();
    assert_eq!(Book::of(all.master()).state(one.id).as_deref(), Some("pending_completion"));
}

/// The master lives on, and knows within a moment that it is none any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_demoted_is_left_for_the_new_one() {
    let all = RedisSentinels::start();
    let (store, one) = (open(&all.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    all.wait_until_in_step();
    let (master, replica) = (all.master(), all.replica());
    all.ask_for_failover();
    all.wait_until_master_is(replica);
    all.wait_until_it_follows(master);
    eventually("the new master to be found", async || note(&store, &one, 2).await).await;
    assert_eq!(Book::of(replica).parts(one.id).len(), 2);
}

/// Its host is gone, or its network: nobody says that it does not listen any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_is_left_for_the_new_one() {
    let all = RedisSentinels::start();
    let (store, one) = (open(&all.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    all.wait_until_in_step();
    let (master, replica) = (all.master(), all.replica());
    master.process().freeze();
    let began = Instant::now();
    outage(note(&store, &one, 2).await);
    assert!(began.elapsed() < Duration::from_secs(25), "it gives up in time: {:?}", began.elapsed());
    eventually("the new master to be found", async || note(&store, &one, 2).await).await;
    all.wait_until_master_is(replica);
    assert_eq!(Book::of(replica).parts(one.id).len(), 2);
    master.process().thaw();
    all.wait_until_it_follows(master);
    note(&store, &one, 3).await.expect("the old master in its new part disturbs nobody");
    assert_eq!(Book::of(replica).parts(one.id).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_of_which_some_are_away_are_enough() {
    let all = RedisSentinels::start();
    all.kill_sentinel(0);
    let store = open(&all.url()).await;
    store.create(&record(1)).await.expect("the others are asked");
    let unknown = open(&all.url().replace("/reels", "/wheels")).await;
    let said = outage(unknown.load().await);
    assert!(said.contains("no Sentinel that answers knows a master of this name"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_the_store_goes_on_with_the_replicas() {
    let cluster = RedisCluster::start_with_replicas();
    let (store, book) = (open(&cluster.url()).await, Book::of_cluster(&cluster));
    for number in 1..=16 {
        store.create(&record(number)).await.unwrap();
        note(&store, &record(number), 1).await.unwrap();
    }
    let before = book.snapshot();
    for master in &cluster.masters()[..1] {
        cluster.wait_until_in_step();
        master.process().kill();
        // Not waited for: the store must live through the time in which nobody has the slots.
        for number in 1..=16 {
            eventually("the replica to be found", async || note(&store, &record(number), 2).await).await;
        }
        cluster.wait_until_taken_over(master);
    }
    let after = Book::of_cluster(&cluster);
    assert_eq!(after.keys(), before.keys().cloned().collect());
    for number in 1..=16 {
        let (id, pending) = (record(number).id, moved(&record(number), State::PendingCompletion));
        assert_eq!(after.parts(id).len(), 2);
        eventually("the stream to move", async || store.transition(State::Active, &pending).await).await;
        assert_eq!(after.state(id).as_deref(), Some("pending_completion"));
    }
    assert_eq!(eventually("all to be loaded", async || store.load().await).await.len(), 16);
}
