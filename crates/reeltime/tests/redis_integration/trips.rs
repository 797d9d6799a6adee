//! What a request costs.

use std::collections::BTreeMap;

use reeltime_core::State;
use testkit::servers::{Redis, RedisCluster};

use crate::common::{moved, record};
use crate::{note, open};

/// All commands but those of the looking itself and those within scripts.
fn commands(redis: &Redis) -> BTreeMap<String, u64> {
    let within = ["hget", "hmget", "hset", "hdel", "hlen", "del", "sadd", "srem"];
    let looking = ["info", "config|resetstat", "config"];
    let text = redis.client().command(&["INFO", "commandstats"]).text();
    let called = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let called = called.filter(|(name, _)| !within.contains(name) && !looking.contains(name));
    called.map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_part_is_one_command_and_other_changes_are_few() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    assert_eq!(redis.client().calls("eval").carried_out, 3, "each script is taught once");
    redis.client().reset_calls();
    for number in 1..=50 {
        note(&store, &one, number).await.unwrap();
    }
    assert_eq!(commands(&redis), [("evalsha".to_owned(), 50)].into());

    let pending = moved(&one, State::PendingCompletion);
    store.transition(State::Active, &pending).await.unwrap();
    store.forget(one.id, one.epoch).await.unwrap();
    redis.client().reset_calls();
    store.create(&one).await.unwrap();
    store.transition(State::Active, &pending).await.unwrap();
    store.forget(one.id, one.epoch).await.unwrap();
    // A beginning and an end are two, because of the object; and what is forgotten is looked at.
    assert_eq!(commands(&redis), [("evalsha".to_owned(), 5), ("hgetall".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_part_is_one_command_in_a_cluster() {
    let cluster = RedisCluster::start();
    let (store, one) = (open(&cluster.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    let calls = || cluster.masters().iter().map(|node| node.client().calls("evalsha").carried_out).collect::<Vec<_>>();
    let before = calls();
    for number in 1..=50 {
        note(&store, &one, number).await.unwrap();
    }
    let grown: Vec<_> = calls().iter().zip(before).map(|(now, then)| now - then).collect();
    assert_eq!(grown.iter().sum::<u64>(), 50, "{grown:?}");
    assert!(grown.contains(&50), "all are at the node that has the stream, without detours: {grown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_forgotten_the_scripts_is_taught_them_again() {
    let redis = Redis::start();
    let (store, one) = (open(&redis.url()).await, record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    redis.client().command(&["SCRIPT", "FLUSH"]);
    redis.client().reset_calls();
    note(&store, &one, 2).await.expect("nobody notices");
    note(&store, &one, 3).await.unwrap();
    assert_eq!(redis.client().calls("eval").carried_out, 1);
    assert_eq!(redis.client().calls("evalsha").carried_out, 2, "of which the first was in vain");
}
