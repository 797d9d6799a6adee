//! Nodes and their leases: one process has a name, and what becomes of the other.

use std::process::Command;
use std::time::{Duration, Instant};

use reeltime::checkpoint::{Liveness, Presence};
use reeltime_core::{State, StreamRecord, WallTime};
use testkit::servers::{Redis, RedisCluster};
use uuid::Uuid;

use crate::common::record;
use crate::daemon::{PART, Site, wait_part, wait_said};
use crate::{DEADLINE, Store, open};

const NODE: &str = "reeltime:node:recorder-1";

fn presence(number: u128) -> Presence {
    Presence {
        node: "recorder-1".to_owned(),
        incarnation: Uuid::from_u128(number),
        pid: 7,
        host: "studio".to_owned(),
        machine: "boot 1".to_owned(),
        since: WallTime(1_767_225_600_000),
        sources: vec!["6.2.0".to_owned(), "7.2.0".to_owned()],
    }
}

pub(crate) async fn all_requests_work(store: &Store) {
    let one = presence(1);
    assert_eq!(store.heartbeat(&one, None, Duration::from_hours(1)).await.unwrap(), None);
    assert_eq!(store.heartbeat(&presence(2), None, Duration::from_hours(1)).await.unwrap(), Some(one.clone()));
    assert_eq!(store.liveness("recorder-1", "7.2.0").await.unwrap(), Liveness::Alive);
    let near = store.load_near("recorder-1", &["7.2.0".to_owned()]).await.unwrap();
    assert_eq!(near.len(), 1, "{near:?}");
    store.leave(&one).await.unwrap();
    assert_eq!(store.nodes().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_belongs_to_one_run_until_its_lease_ends() {
    let redis = Redis::start();
    let (store, client) = (open(&redis.url()).await, redis.client());
    let (one, other) = (presence(1), presence(2));
    let long = Duration::from_hours(1);
    assert_eq!(store.heartbeat(&one, None, long).await.unwrap(), None);
    assert_eq!(store.heartbeat(&one, None, long).await.unwrap(), None, "it is renewed");
    let told = client.hash(NODE);
    assert_eq!((told["pid"].as_str(), told["host"].as_str()), ("7", "studio"));
    assert_eq!(client.members("reeltime:nodes"), ["recorder-1".to_owned()].into());

    assert_eq!(store.heartbeat(&other, None, long).await.unwrap(), Some(one.clone()), "another is told who");
    assert_eq!(store.heartbeat(&other, Some(Uuid::from_u128(9)), long).await.unwrap(), Some(one.clone()));
    assert_eq!(store.nodes().await.unwrap()[0].alive, Some(one.clone()), "nothing was changed");
    store.leave(&other).await.unwrap();
    assert_eq!(store.nodes().await.unwrap()[0].alive, Some(one.clone()), "it can give back what is its own only");

    assert_eq!(
        store.heartbeat(&other, Some(one.incarnation), long).await.unwrap(),
        None,
        "one that is dead is replaced"
    );
    assert_eq!(store.heartbeat(&one, None, long).await.unwrap(), Some(other.clone()), "it was not dead, and is told");
    store.leave(&other).await.unwrap();
    let left: Vec<_> = client.hash(NODE).into_keys().collect();
    assert_eq!((left, store.nodes().await.unwrap()[0].alive.clone()), (vec!["left_at_ms".to_owned()], None));
    assert_eq!(store.liveness("recorder-1", "7.2.0").await.unwrap(), Liveness::Left);

    store.heartbeat(&one, None, long).await.unwrap();
    assert_eq!(store.liveness("recorder-1", "7.2.0").await.unwrap(), Liveness::Alive);
    assert_eq!(store.liveness("recorder-1", "").await.unwrap(), Liveness::Alive);
    assert_eq!(
        store.liveness("recorder-1", "8.2.0").await.unwrap(),
        Liveness::Left,
        "a directory that it does not watch"
    );
    store.heartbeat(&one, None, Duration::from_millis(1)).await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    while store.nodes().await.unwrap()[0].alive.is_some() {
        assert!(Instant::now() < deadline, "the lease ends");
        tokio::time::sleep(Duration::from_millis(1)).await; // between two looks
    }
    assert_eq!(store.liveness("recorder-1", "7.2.0").await.unwrap(), Liveness::Silent);
    assert_eq!(store.heartbeat(&other, None, long).await.unwrap(), None, "the name is free");
}

#[test]
fn a_second_reeltime_of_the_same_node_ends_and_says_who_has_the_name() {
    let (site, redis) = (Site::new(), Redis::start());
    let first = site.start(&redis.url());
    first.wait_answers("/readyz", DEADLINE);
    let second = site.start(&redis.url());
    assert_eq!(second.wait_exit(DEADLINE).code(), Some(1));
    let said = std::fs::read_to_string(second.log()).unwrap();
    assert!(said.contains(&format!("is held by process {}", first.process().pid())), "{said}");
    assert!(said.contains("another --node"), "{said}");
    // The first one has not noticed.
    let finished = site.record_whole();
    first.wait_event_of("completed", &finished.path, DEADLINE);
    site.assert_identical(&finished);
}

#[test]
fn a_killed_reeltime_has_its_name_again_at_once_and_a_stopped_one_gives_it_back() {
    let (site, redis) = (Site::new(), Redis::start());
    let mut daemon = site.start(&redis.url());
    daemon.wait_answers("/readyz", DEADLINE);
    let client = redis.client();
    let incarnation = || client.hash(NODE).get("incarnation").cloned();
    // A lease that would outlast the test: it is not waited for.
    let killed = incarnation().unwrap();
    daemon.kill();
    client.command(&["PERSIST", NODE]);
    daemon.restart();
    daemon.wait_answers("/readyz", DEADLINE);
    assert_ne!(incarnation().unwrap(), killed);
    assert_eq!(daemon.terminate(DEADLINE).code(), Some(0));
    assert_eq!(incarnation(), None);
}

#[test]
fn a_reeltime_that_was_frozen_beyond_its_lease_does_no_harm_to_the_one_that_took_its_name() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let frozen = site.start(&redis.url());
    wait_part(&frozen, &site.path(), 2);
    frozen.process().freeze();
    let client = redis.client();
    frozen.process().wait_until("the lease to end", DEADLINE, || client.hash(NODE).is_empty());

    let later = site.start(&redis.url());
    recording.go_on_until(6 * PART + 1);
    wait_part(&later, &site.path(), 6);
    frozen.process().thaw();
    assert_eq!(frozen.wait_exit(DEADLINE).code(), Some(1), "it is told that it is not the owner any more");
    recording.go_on();
    let finished = recording.wait();
    later.wait_event_of("completed", &finished.path, DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(later.process().exited().map(|exited| exited.status), None, "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_another_node_has_taken_is_left_alone() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let daemon = site.start(&redis.url());
    wait_part(&daemon, &site.path(), 2);
    let store = open(&redis.url()).await;
    let stream = store.load().await.unwrap().remove(0);
    let later = Presence { node: "recorder-2".to_owned(), ..presence(2) };
    store.heartbeat(&later, None, Duration::from_hours(1)).await.unwrap();
    let epoch = store.claim(stream.id, stream.epoch, "recorder-2").await.unwrap();
    recording.go_on_until(5 * PART + 1);
    wait_said(&daemon, "belongs to node recorder-2");
    let other = site.record_other();
    daemon.wait_event_of("completed", &other.path, DEADLINE);
    let now = store.find(stream.id).await.unwrap().unwrap();
    assert_eq!((now.node.as_str(), now.epoch, now.state), ("recorder-2", epoch, State::Active));
    assert!(!site.out().join("a.mp4").exists(), "whoever has it completes it");
    assert_eq!(daemon.process().exited().map(|exited| exited.status), None);
    drop(recording);
}

#[test]
fn status_shows_which_nodes_run() {
    let (site, redis) = (Site::new(), Redis::start());
    let daemon = site.start(&redis.url());
    daemon.wait_answers("/readyz", DEADLINE);
    let finished = site.record_whole();
    daemon.wait_event_of("completed", &finished.path, DEADLINE);
    let status = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
        let output = command.env_clear().args(["status", "--state", &redis.url()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = status();
    assert!(said.contains(&format!("node recorder-1 runs: process {}", daemon.process().pid())), "{said}");
    daemon.kill();
    redis.client().command(&["DEL", NODE]); // the end of its lease
    assert!(status().contains("node recorder-1 does not run"), "{}", status());
}

/// Streams in three directories of three nodes, each directory with its mark.
async fn of_three_directories(store: &Store) -> [StreamRecord; 3] {
    let records = [1, 2, 3].map(|number| StreamRecord {
        node: format!("recorder-{number}"),
        source_mark: format!("{number}"),
        ..record(number)
    });
    for record in &records {
        store.create(record).await.unwrap();
    }
    records
}

async fn loads_what_is_near(store: &Store) {
    let [one, two, three] = of_three_directories(store).await;
    let near = async |node: &str, marks: &[&str]| {
        let marks: Vec<_> = marks.iter().map(ToString::to_string).collect();
        let mut found = store.load_near(node, &marks).await.unwrap();
        found.sort_by_key(|record| record.id);
        found
    };
    assert_eq!(near("recorder-1", &["1"]).await, std::slice::from_ref(&one));
    assert_eq!(near("recorder-1", &["1", "2"]).await, [one.clone(), two.clone()], "another's in the same directory");
    assert_eq!(near("recorder-1", &["3"]).await, [one.clone(), three.clone()], "its own where it was before");
    assert_eq!(near("recorder-9", &["9"]).await, []);
    store.forget(one.id, one.epoch).await.unwrap();
    assert_eq!(near("recorder-1", &["1"]).await, []);
    assert_eq!(store.load().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_loads_its_streams_and_those_in_its_directories() {
    let redis = Redis::start();
    loads_what_is_near(&open(&redis.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_loads_its_streams_and_those_in_its_directories_from_a_cluster() {
    let cluster = RedisCluster::start();
    loads_what_is_near(&open(&cluster.url()).await).await;
}
