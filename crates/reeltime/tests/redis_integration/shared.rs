//! Several nodes that record in one directory, or that would make one object.

use std::fs;

use testkit::daemon::Running;
use testkit::servers::Redis;

use crate::DEADLINE;
use crate::book::Book;
use crate::daemon::{PART, Site, has_said, parts_of, wait_part, wait_said};

/// Two nodes with one directory, a recording that goes on, and which of them has it.
struct Shared {
    site: Site,
    redis: Redis,
    nodes: [Running; 2],
    /// The place of the node that has the recording.
    owner: usize,
    recording: testkit::recorders::synthetic::Recording,
}

impl Shared {
    /// The recording stands still, and two parts of it are stored.
    fn start() -> Self {
        let (site, redis) = (Site::new(), Redis::start());
        let nodes = ["left", "right"].map(|node| site.start_as(node, "rec", &redis.url()));
        for node in &nodes {
            node.wait_answers("/readyz", DEADLINE);
        }
        let recording = site.record();
        let path = site.path();
        let has_part = |node: &Running| !parts_of(node, &path).is_empty();
        nodes[0].process().wait_until("one of them to have it", DEADLINE, || nodes.iter().any(has_part));
        let owner = usize::from(has_part(&nodes[1]));
        wait_part(&nodes[owner], &path, 2);
        wait_said(&nodes[1 - owner], "belongs to node");
        nodes[0].process().wait_until("two parts in Redis", DEADLINE, || {
            let book = Book::of(&redis);
            book.streams().iter().any(|id| book.parts(*id).len() == 2)
        });
        Self { site, redis, nodes, owner, recording }
    }

    fn other(&self) -> &Running {
        &self.nodes[1 - self.owner]
    }

    /// The other node has the recording, and brings it to its end; answers which parts it sent, and
    /// which were sent by the one that had it.
    fn goes_on_elsewhere(self) -> (Vec<u64>, Vec<u64>) {
        let path = self.site.path();
        self.recording.go_on_until(6 * PART + 1);
        wait_part(self.other(), &path, 6);
        self.recording.go_on();
        let other = &self.nodes[1 - self.owner];
        let finished = self.recording.wait();
        other.wait_event_of("completed", &path, DEADLINE);
        self.site.assert_identical(&finished);
        let book = Book::of(&self.redis);
        assert_eq!(book.faults(), Vec::<String>::new());
        let streams = book.streams();
        assert_eq!(streams.len(), 1, "one recording is one stream: {streams:?}");
        assert_eq!(book.state(streams[0]).as_deref(), Some("completed"));
        (parts_of(other, &path), parts_of(&self.nodes[self.owner], &path))
    }
}

#[test]
fn of_two_nodes_that_see_a_recording_one_uploads_it() {
    let shared = Shared::start();
    shared.recording.go_on();
    let path = shared.site.path();
    let finished = shared.recording.wait();
    shared.nodes[shared.owner].wait_event_of("completed", &path, DEADLINE);
    shared.site.assert_identical(&finished);
    let other = &shared.nodes[1 - shared.owner];
    other.terminate(DEADLINE);
    assert_eq!(parts_of(other, &path), [0; 0]);

    // Nor does it so after a restart, when it finds the whole file.
    let other = shared.site.start_as(["right", "left"][shared.owner], "rec", &shared.redis.url());
    let next = shared.site.record_other();
    let is_completed = |node: &Running| {
        node.events().iter().any(|line| line.event() == Some("completed") && line.path() == Some(&next.path))
    };
    let owner = &shared.nodes[shared.owner];
    other.process().wait_until("the next one", DEADLINE, || is_completed(&other) || is_completed(owner));
    assert_eq!(parts_of(&other, &path), [0; 0]);
    assert_eq!(Book::of(&shared.redis).streams().len(), 2);
}

#[test]
fn the_recordings_of_a_dead_node_go_on_elsewhere_and_nothing_is_sent_again() {
    let shared = Shared::start();
    shared.nodes[shared.owner].kill();
    let (sent, _) = shared.goes_on_elsewhere();
    assert_eq!(sent, (3..=21).collect::<Vec<_>>());
}

#[test]
fn a_node_that_is_stopped_hands_its_recordings_over_at_once() {
    let shared = Shared::start();
    // A lease that would outlast the test is not waited for.
    let owner = &shared.nodes[shared.owner];
    shared.redis.client().command(&["PERSIST", &format!("reeltime:node:{}", ["left", "right"][shared.owner])]);
    assert_eq!(owner.terminate(DEADLINE).code(), Some(0));
    let (sent, _) = shared.goes_on_elsewhere();
    assert_eq!(sent, (3..=21).collect::<Vec<_>>());
}

#[test]
fn a_node_that_was_frozen_beyond_its_lease_leaves_its_recordings_to_who_has_them_now() {
    let shared = Shared::start();
    let path = shared.site.path();
    shared.nodes[shared.owner].process().freeze();
    shared.recording.go_on_until(6 * PART + 1);
    wait_part(shared.other(), &path, 6);
    shared.nodes[shared.owner].process().thaw();
    wait_said(&shared.nodes[shared.owner], "belongs to node");
    let (sent, by_the_frozen) = shared.goes_on_elsewhere();
    assert!(sent.contains(&21), "{sent:?}");
    assert!(by_the_frozen.iter().all(|part| *part <= 6), "it has noticed by then: {by_the_frozen:?}");
}

#[test]
fn the_same_name_in_another_directory_is_another_recording_and_replaces_nothing() {
    let (site, redis) = (Site::new(), Redis::start());
    let one = site.start_as("one", "rec", &redis.url());
    let finished = site.record_whole();
    one.wait_event_of("completed", &finished.path, DEADLINE);

    let elsewhere = site.path().with_file_name("../elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("a.mp4"), b"another recording").unwrap();
    let two = site.start_as("two", "elsewhere", &redis.url());
    two.wait_event("that it is not uploaded", DEADLINE, |line| {
        line.message().is_some_and(|message| {
            message.contains("elsewhere/a.mp4 is not uploaded") && message.contains("of node one would become")
        })
    });
    site.assert_identical(&finished);
    let book = Book::of(&redis);
    let state_of =
        |node: &str| book.streams().into_iter().find(|id| book.meta(*id)["node"] == node).map(|id| book.state(id));
    two.process().wait_until("it to be noted", DEADLINE, || state_of("two") == Some(Some("failed".to_owned())));
    assert_eq!(state_of("one"), Some(Some("completed".to_owned())));
}

#[test]
fn what_two_nodes_began_while_redis_was_away_becomes_one_recording() {
    let (site, redis) = (Site::new(), Redis::start());
    let nodes = ["left", "right"].map(|node| site.start_as(node, "rec", &redis.url()));
    for node in &nodes {
        node.wait_answers("/readyz", DEADLINE);
    }
    redis.process().kill();
    let recording = site.record();
    let path = site.path();
    for node in &nodes {
        wait_part(node, &path, 2); // each believes that it is alone
    }
    redis.restart();
    let has_yielded = |node: &Running| has_said(node, "belongs to node");
    nodes[0].process().wait_until("one to yield", DEADLINE, || nodes.iter().any(has_yielded));
    let owner = usize::from(has_yielded(&nodes[0]));
    recording.go_on();
    let finished = recording.wait();
    nodes[owner].wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert!(!has_yielded(&nodes[owner]));
    assert!(parts_of(&nodes[1 - owner], &path).len() < 5);
    let book = Book::of(&redis);
    assert_eq!((book.streams().len(), book.faults()), (1, Vec::new()));
    nodes[0].process().wait_until("the other's upload to be gone", DEADLINE, || {
        let left = fs::read_dir(site.out()).unwrap().map(|entry| entry.unwrap().file_name());
        !left.into_iter().any(|name| name.to_string_lossy().starts_with(".reeltime-"))
    });
}

#[test]
fn a_node_with_another_destination_uploads_what_it_sees_there() {
    let (site, redis) = (Site::new(), Redis::start());
    let one = site.start_as("one", "rec", &redis.url());
    let finished = site.record_whole();
    one.wait_event_of("completed", &finished.path, DEADLINE);
    let two = site.start_to("two", "rec", "copy", &redis.url());
    two.wait_event_of("completed", &finished.path, DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(testkit::digest::sha256_of(site.out().with_file_name("copy").join("a.mp4")), finished.sha256);
    assert_eq!(Book::of(&redis).streams().len(), 2);
}
