//! Real Redis servers and a real cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::sync::Arc;

use testkit::proxy::{TcpMode, TcpProxy};
use testkit::servers::{
    Redis, RedisCertificates, RedisClient, RedisCluster, RedisOptions, RedisProgram, RedisSentinels, Reply,
};

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

#[test]
fn a_server_with_certificates_and_users_lets_nobody_in_without_both() {
    let certificates = Arc::new(RedisCertificates::new());
    let options = RedisOptions { certificates: Some(Arc::clone(&certificates)), ..RedisOptions::default() };
    let redis = Redis::start_with(&options.with_user("app", "pass word#1", ["~*", "+get"]));
    redis.client().command(&["SET", "key", "value"]);
    assert!(RedisClient::new(redis.address()).try_command(&["GET", "key"]).is_err(), "without TLS there is nothing");
    let cli = |ca: &str, args: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "--no-auth-warning", "-p", &redis.port().to_string(), "--cacert", ca]).args(args);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    };
    let (ca, login) = (certificates.ca().display().to_string(), ["--user", "app", "--pass", "pass word#1"]);
    let get = ["GET", "key"];
    assert_eq!(cli(&ca, &[&login[..], &get[..]].concat()), "value");
    assert!(cli(&ca, &get).contains("NOAUTH"), "{}", cli(&ca, &get));
    assert!(cli(&ca, &[&login[..], &["DEL", "key"][..]].concat()).contains("NOPERM"));
    let other = RedisCertificates::new().ca();
    let refused = cli("/etc/ssl/certs/ca-certificates.crt", &get);
    assert!(refused.contains("Could not connect") || refused.contains("certificate"), "{refused}");
    assert!(!other.exists(), "certificates live as long as the guard");
}

#[test]
fn sentinels_name_the_replica_when_the_master_is_away() {
    let all = RedisSentinels::start();
    let (master, replica) = (all.master(), all.replica());
    master.client().command(&["SET", "key", "value"]);
    all.wait_until_in_step();
    master.process().kill();
    all.wait_until_master_is(replica);
    assert_eq!(replica.client().command(&["GET", "key"]).text(), "value");
    master.restart();
    all.wait_until_it_follows(master);
    assert_eq!(all.master().address(), replica.address());
    assert_eq!(all.replica().address(), master.address());
}

#[test]
fn the_replica_of_a_cluster_takes_the_slots_of_its_master_over() {
    let cluster = RedisCluster::start_with_replicas();
    for number in 0..20 {
        cluster.client().command(&["SET", &format!("key {number}"), "value"]);
    }
    cluster.wait_until_in_step();
    let master = &cluster.masters()[0];
    master.process().kill();
    cluster.wait_until_taken_over(master);
    assert_eq!(cluster.partner(master).client().info("role").as_deref(), Some("master"));
    assert_eq!(cluster.partner(cluster.partner(master)).port(), master.port());
    let keys = cluster.keys("key *");
    assert_eq!(keys.values().map(std::collections::BTreeSet::len).sum::<usize>(), 20, "{keys:?}");
}

#[test]
fn servers_of_other_versions_are_what_they_are_called() {
    for (program, field, version) in [
        (RedisProgram::Redis62, "redis_version", "6.2."),
        (RedisProgram::Redis8, "redis_version", "8."),
        (RedisProgram::Valkey, "valkey_version", "9."),
    ] {
        let Some(program) = program.or_skip() else { continue };
        let redis = Redis::start_with(&RedisOptions { program, ..RedisOptions::default() });
        let found = redis.client().info(field).unwrap_or_default();
        assert!(found.starts_with(version), "{program:?} is {found}");
    }
}

#[test]
fn calls_are_counted_and_answers_can_be_cut() {
    let redis = Redis::start();
    redis.client().command(&["SET", "key", &"x".repeat(1000)]);
    redis.client().reset_calls();
    let proxy = TcpProxy::before(&redis.address());
    let through = RedisClient::new(proxy.address());
    assert_eq!(through.command(&["GET", "key"]).text().len(), 1000);
    proxy.set(TcpMode::CutAnswers { after_bytes: 50 });
    through.try_command(&["GET", "key"]).unwrap_err();
    proxy.set(TcpMode::Pass);
    assert_eq!(through.command(&["GET", "key"]).text().len(), 1000);
    assert!(
        matches!(through.try_command(&["LPUSH", "key", "1"]), Ok(Reply::Error(error)) if error.contains("WRONGTYPE"))
    );
    let (get, push) = (redis.client().calls("GET"), redis.client().calls("lpush"));
    assert_eq!((get.carried_out, get.failed, get.rejected), (3, 0, 0));
    assert_eq!((push.carried_out, push.failed), (1, 1));
    assert_eq!(redis.client().calls("incr").carried_out, 0);
}
