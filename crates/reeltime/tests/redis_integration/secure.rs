//! Encrypted, and with a login that may no more than `docs/CHECKPOINTS.md` says it must.

use std::sync::Arc;

use testkit::servers::{Redis, RedisCertificates, RedisCluster, RedisOptions, RedisSentinels};

use crate::book::Book;
use crate::common::record;
use crate::{Store, eventually, nodes, note, open, outage, unusable};

const LOGIN: &str = "reeltime:p%40ss%2Fword@";

/// With certificates, and a user with the documented rules and these.
fn options(more: &[&str]) -> (Arc<RedisCertificates>, RedisOptions) {
    let document = include_str!("../../../../docs/CHECKPOINTS.md");
    let rules = document.lines().find_map(|line| line.strip_prefix("ACL SETUSER reeltime on >PASSWORD "));
    let rules = rules.expect("the document has the rules").split_whitespace().chain(more.iter().copied());
    let certificates = Arc::new(RedisCertificates::new());
    let options = RedisOptions { certificates: Some(Arc::clone(&certificates)), ..RedisOptions::default() };
    (certificates, options.with_user("reeltime", "p@ss/word", rules))
}

fn with_login(url: &str, ca: &std::path::Path) -> String {
    format!("{}?ca={}", url.replace("://", &format!("://{LOGIN}")), ca.display())
}

async fn all_requests_work(store: &Store) {
    store.create(&record(1)).await.unwrap();
    note(store, &record(1), 1).await.unwrap();
    store.transition(reeltime_core::State::Active, &record(1)).await.unwrap();
    assert_eq!(store.load().await.unwrap(), [record(1)]);
    assert_eq!(store.find(record(1).id).await.unwrap(), Some(record(1)));
    assert_eq!(store.load_parts(record(1).id, 1).await.unwrap().iter().count(), 1);
    store.create(&record(2)).await.unwrap();
    assert_eq!(store.claim(record(2).id, 3, "recorder-1").await.unwrap(), 4);
    store.forget(record(2).id, 4).await.unwrap();
    nodes::all_requests_work(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_server_with_a_login_survives_a_restart() {
    let (certificates, options) = options(&[]);
    let redis = Redis::start_with(&options);
    let store = open(&with_login(&redis.url(), &certificates.ca())).await;
    all_requests_work(&store).await;
    redis.process().kill();
    outage(note(&store, &record(1), 2).await);
    redis.restart();
    eventually("the store to reconnect", async || note(&store, &record(1), 2).await).await;
    assert_eq!(Book::of(&redis).parts(record(1).id).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_is_another_place() {
    let (certificates, options) = options(&["+select"]);
    let redis = Redis::start_with(&options);
    let store = open(&with_login(&format!("{}/5", redis.url()), &certificates.ca())).await;
    all_requests_work(&store).await;
    assert_eq!(Book::of(&redis).keys(), [].into(), "nothing is in database 0");
    assert!(redis.client().command(&["INFO", "keyspace"]).text().contains("db5:keys=8"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_sentinels_with_a_login_fail_over() {
    let (certificates, options) = options(&["+role"]);
    let all = RedisSentinels::start_as(&options);
    let store = open(&with_login(&all.url(), &certificates.ca())).await;
    all_requests_work(&store).await;
    all.wait_until_in_step();
    let replica = all.replica();
    all.master().process().kill();
    outage(note(&store, &record(1), 2).await);
    eventually("the new master to be found", async || note(&store, &record(1), 2).await).await;
    all.wait_until_master_is(replica);
    assert_eq!(Book::of(replica).parts(record(1).id).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_cluster_with_a_login_works() {
    let (certificates, options) = options(&["+cluster|slots"]);
    let cluster = RedisCluster::start_as(&options);
    let store = open(&with_login(&cluster.url(), &certificates.ca())).await;
    all_requests_work(&store).await;
    assert_eq!(cluster.keys("*").values().map(std::collections::BTreeSet::len).sum::<usize>(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_ca_is_not_trusted_gets_nothing_and_is_named() {
    let (certificates, of_this) = options(&[]);
    let redis = Redis::start_with(&of_this);
    let another = Arc::new(RedisCertificates::of_another_server());
    let misnamed =
        Redis::start_with(&RedisOptions { certificates: Some(Arc::clone(&another)), ..RedisOptions::default() });
    for (what, url) in [
        ("another CA", with_login(&redis.url(), &another.ca())),
        ("none of the system's CAs", redis.url().replace("://", &format!("://{LOGIN}"))),
        ("another name", with_login(&misnamed.url(), &another.ca())),
    ] {
        let said = unusable(open(&url).await.create(&record(1)).await);
        assert!(said.contains("certificate") && said.contains("?ca=FILE"), "{what}: {said}");
        assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
    }
    assert_eq!(Book::of(&redis).keys(), [].into());
    open(&with_login(&redis.url(), &certificates.ca()))
        .await
        .create(&record(1))
        .await
        .expect("the right one is trusted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_on_one_side_only_says_so() {
    let (certificates, options) = options(&[]);
    let (encrypted, plain) = (Redis::start_with(&options), Redis::start());
    let without = encrypted.url().replace("rediss://", &format!("redis://{LOGIN}"));
    let said = outage(open(&without).await.load().await);
    assert!(said.contains("wants TLS (rediss://)"), "{said}");
    let with = with_login(&plain.url().replace("redis://", "rediss://"), &certificates.ca());
    let said = outage(open(&with).await.load().await);
    assert!(said.contains("or not (redis://)"), "{said}");
}
