//! Real Redis servers and a real cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use testkit::servers::{Redis, RedisCluster, RedisOptions, Reply};

#[test]
fn what_is_written_survives_a_kill_where_that_was_asked_for() {
    for (volatile, left) in [(false, vec!["a".to_owned()]), (true, vec![])] {
        let redis = Redis::start_with(&RedisOptions { volatile, ..RedisOptions::default() });
        redis.client().command(&["SADD", "set", "a"]);
        redis.client().command(&["HSET", "hash", "field", "two\r\nlines"]);
        assert_eq!(redis.client().hash("hash")["field"], "two\r\nlines");
        redis.process().kill();
        assert!(!redis.client().answers());
        redis.restart();
        assert_eq!(Vec::from_iter(redis.client().members("set")), left);
        redis.client().flush_all();
        assert!(redis.client().keys("*").is_empty());
        assert_eq!(redis.client().command(&["GET", "nothing"]), Reply::Nil);
    }
}

#[test]
fn a_cluster_spreads_keys_and_is_asked_at_any_node() {
    let cluster = RedisCluster::start();
    for key in ["a", "b", "c", "d", "e", "f"] {
        cluster.client().command(&["SADD", key, "member"]);
    }
    let keys = cluster.keys("*");
    assert_eq!(keys.len(), 3);
    assert_eq!(keys.values().map(std::collections::BTreeSet::len).sum::<usize>(), 6);
    assert!(keys.values().all(|keys| !keys.is_empty()), "{keys:?}");
    assert_eq!(cluster.masters()[2].client().members("a").len(), 1);
}
