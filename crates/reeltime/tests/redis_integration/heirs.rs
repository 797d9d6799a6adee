//! What becomes of a node's recordings when it is gone, in the odd cases.

use std::fs;
use std::path::{Path, PathBuf};

use reeltime::recording::version_of;
use reeltime::watch::mark_of;
use reeltime_core::{Reason, State, StreamRecord};
use testkit::daemon::Running;
use testkit::digest::sha256_of;
use testkit::recorders::synthetic::{Recording, Style, Synthetic};
use testkit::servers::Redis;

use crate::book::Book;
use crate::common::record;
use crate::daemon::{PART, Site, has_said, parts_of, record_at, wait_part, wait_said};
use crate::{DEADLINE, open};

/// Nodes with one directory, ready; the first one was alone when the recording there began.
fn with_an_owner(site: &Site, redis: &Redis, path: &Path, others: &[&str]) -> (Vec<Running>, Recording) {
    let owner = site.start_as("owner", "rec", &redis.url());
    owner.wait_answers("/readyz", DEADLINE);
    let recording = record_at(path);
    wait_part(&owner, path, 2);
    let book = Book::of(redis);
    owner
        .process()
        .wait_until("two parts in Redis", DEADLINE, || book.streams().iter().any(|id| book.parts(*id).len() == 2));
    let mut nodes = vec![owner];
    for node in others {
        let node = site.start_as(node, "rec", &redis.url());
        node.wait_answers("/readyz", DEADLINE);
        nodes.push(node);
    }
    (nodes, recording)
}

#[test]
fn who_was_too_late_for_a_recording_gets_it_from_who_was_faster() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &["heir", "late"]);
    let [owner, heir, late] = &nodes[..] else { unreachable!() };
    late.process().freeze();
    owner.kill();
    recording.go_on_until(4 * PART + 1);
    wait_part(heir, &path, 4);
    late.process().thaw();
    heir.kill();
    recording.go_on();
    let finished = recording.wait();
    late.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(Book::of(&redis).streams().len(), 1);
}

#[test]
fn a_recording_that_gets_its_final_name_when_its_node_is_dead_is_completed_by_another() {
    let (site, redis) = (Site::new(), Redis::start());
    let temp = site.path().with_file_name("a.mp4.part");
    let (nodes, recording) = with_an_owner(&site, &redis, &temp, &["heir"]);
    let [owner, heir] = &nodes[..] else { unreachable!() };
    owner.kill();
    recording.go_on();
    let finished = recording.wait();
    fs::rename(&temp, site.path()).unwrap();
    heir.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(parts_of(heir, &site.path()), (3..=21).collect::<Vec<_>>());
    assert_eq!(Book::of(&redis).streams().len(), 1);
}

#[test]
fn a_name_that_is_used_again_is_not_that_of_a_node_that_is_gone() {
    let (site, redis) = (Site::new(), Redis::start());
    let owner = site.start_as("owner", "rec", &redis.url());
    owner.wait_answers("/readyz", DEADLINE);
    let first = site.record_whole();
    owner.wait_event_of("completed", &first.path, DEADLINE);
    owner.terminate(DEADLINE);
    fs::remove_file(&first.path).unwrap();

    let heir = site.start_as("heir", "rec", &redis.url());
    heir.wait_answers("/readyz", DEADLINE);
    let temp = site.path().with_file_name("a.mp4.part");
    let recording = record_at(&temp);
    wait_part(&heir, &temp, 2);
    recording.go_on();
    let finished = recording.wait();
    fs::rename(&temp, site.path()).unwrap();
    heir.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
}

#[test]
fn once_under_another_name_goes_on_with_what_a_killed_one_has_left() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &[]);
    nodes[0].kill();
    recording.go_on();
    let finished = recording.wait();
    let once = site.node("another", "rec", "out", &redis.url()).arg("--once").start();
    assert_eq!(once.wait_exit(DEADLINE).code(), Some(0));
    site.assert_identical(&finished);
    assert_eq!(parts_of(&once, &path), (3..=21).collect::<Vec<_>>());
}

#[test]
fn once_waits_for_what_another_node_is_at_work_on() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &[]);
    let once = site.node("another", "rec", "out", &redis.url()).arg("--once").start();
    once.wait_answers("/readyz", DEADLINE);
    let asked = || redis.client().calls("hgetall").carried_out;
    let began = asked();
    once.process().wait_until("it to ask for it again and again", DEADLINE, || asked() >= began + 5);
    assert_eq!(once.process().exited().map(|exited| exited.status), None, "it is not completed");
    recording.go_on();
    let finished = recording.wait();
    assert_eq!(once.wait_exit(DEADLINE).code(), Some(0));
    site.assert_identical(&finished);
    assert_eq!(parts_of(&nodes[0], &path).len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_says_what_has_failed_on_another_node() {
    let (site, redis) = (Site::new(), Redis::start());
    let finished = site.record_whole();
    let owner = site.start_as("gone", "rec", &redis.url());
    owner.wait_event_of("completed", &finished.path, DEADLINE);
    let store = open(&redis.url()).await;
    let completed = store.load().await.unwrap().remove(0);
    let failed = StreamRecord { state: State::Failed, reason: Some(Reason::Refused), ..completed.clone() };
    store.transition(State::Completed, &StreamRecord { state: State::Active, ..completed }).await.unwrap();
    store.transition(State::Active, &failed).await.unwrap();
    let once = site.node("another", "rec", "out", &redis.url()).arg("--once").start();
    assert_eq!(once.wait_exit(DEADLINE).code(), Some(1));
    wait_said(&once, "a.mp4 failed on node gone");
}

#[test]
fn a_recording_that_gets_the_name_of_another_nodes_object_is_not_uploaded_under_its_old_name() {
    let (site, redis) = (Site::new(), Redis::start());
    let one = site.start_as("one", "rec", &redis.url());
    let theirs = site.record_whole();
    one.wait_event_of("completed", &theirs.path, DEADLINE);

    let dir = site.beside("elsewhere");
    fs::create_dir(&dir).unwrap();
    let two = site.start_as("two", "elsewhere", &redis.url());
    two.wait_answers("/readyz", DEADLINE);
    let recording = record_at(&dir.join("z.mp4"));
    wait_part(&two, &dir.join("z.mp4"), 2);
    fs::rename(dir.join("z.mp4"), dir.join("a.mp4")).unwrap();
    recording.go_on();
    recording.wait();
    wait_said(&two, "elsewhere/a.mp4 is not uploaded");
    let book = Book::of(&redis);
    let mine = book.streams().into_iter().find(|id| book.meta(*id)["node"] == "two").unwrap();
    let is_failed = || redis.client().members("reeltime:streams:failed").contains(&mine.to_string());
    two.process().wait_until("it to be noted", DEADLINE, is_failed);
    // It is tried again with every scan.
    for name in ["p.mp4", "q.mp4", "r.mp4"] {
        let next = Synthetic::into(dir.join(name), Style::Append, PART + 7).start().wait();
        two.wait_event_of("completed", &next.path, DEADLINE);
    }
    assert!(!site.out().join("z.mp4").exists(), "that is no name of it any more");
    site.assert_identical(&theirs);
}

#[test]
fn what_is_inherited_has_the_names_that_it_has_here() {
    let (site, redis) = (Site::new(), Redis::start());
    let moved = site.beside("moved");
    let owner = site.start_as("owner", "rec", &redis.url());
    let finished = site.record_whole();
    owner.wait_event_of("completed", &finished.path, DEADLINE);
    owner.terminate(DEADLINE);
    fs::rename(site.beside("rec"), &moved).unwrap(); // as if it were mounted there
    let here: PathBuf = moved.join("a.mp4");
    let mut heir = site.start_as("heir", "moved", &redis.url());
    heir.wait_answers("/readyz", DEADLINE);
    // Its file goes on, whether the heir knows by now that the owner is gone or not.
    let mut file = fs::OpenOptions::new().append(true).open(&here).unwrap();
    std::io::Write::write_all(&mut file, &vec![7; 2 * PART as usize]).unwrap();
    drop(file);
    heir.wait_event_of("completed", &here, DEADLINE);
    assert_eq!(sha256_of(site.out().join("a.mp4")), sha256_of(&here));
    let book = Book::of(&redis);
    let meta = book.meta(book.streams()[0]);
    assert_eq!((meta["node"].as_str(), meta["source"].as_str()), ("heir", moved.to_str().unwrap()));
    assert_eq!(meta["path"], here.to_str().unwrap());

    heir.restart();
    heir.wait_answers("/readyz", DEADLINE);
    let next = Synthetic::into(moved.join("b.mp4"), Style::Append, PART + 7).start().wait();
    heir.wait_event_of("completed", &next.path, DEADLINE);
    let begun = heir.events().into_iter().filter(|line| line.event() == Some("discovered")).collect::<Vec<_>>();
    assert!(begun.iter().all(|line| line.path() == Some(&next.path)), "{begun:?}");
}

/// As a node that is gone would have left it.
fn left_by_a_node_that_is_gone(site: &Site, dir: &Path, name: &str) -> StreamRecord {
    let path = dir.join(name);
    let found = path.symlink_metadata().unwrap();
    StreamRecord {
        node: "gone".to_owned(),
        source: dir.to_owned(),
        source_mark: mark_of(dir),
        destination: site.out().to_str().unwrap().to_owned(),
        key: reeltime_core::ObjectKey::from_bytes(name.as_bytes().to_vec()),
        upload: reeltime_core::UploadState::None,
        version: Some(version_of(&found)),
        size_bytes: found.len(),
        path,
        ..record(1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_that_is_gone_could_not_read_is_tried_here() {
    let (site, redis) = (Site::new(), Redis::start());
    let finished = site.record_whole();
    let failed = StreamRecord {
        state: State::Failed,
        reason: Some(Reason::SourceMissing), // its mount was away
        ..left_by_a_node_that_is_gone(&site, &site.beside("rec"), "a.mp4")
    };
    open(&redis.url()).await.create(&failed).await.unwrap();
    let heir = site.start_as("heir", "rec", &redis.url());
    heir.wait_event_of("completed", &finished.path, DEADLINE);
    site.assert_identical(&finished);
}

#[test]
fn what_a_node_that_is_gone_has_not_deleted_is_deleted() {
    let (site, redis) = (Site::new(), Redis::start());
    let owner = site.start_as("owner", "rec", &redis.url());
    let finished = site.record_whole();
    owner.wait_event_of("completed", &finished.path, DEADLINE);
    owner.terminate(DEADLINE);
    let heir = site.node("heir", "rec", "out", &redis.url()).args(["--after-upload", "delete"]).start();
    heir.process().wait_until("the file to be deleted", DEADLINE, || !finished.path.exists());
    site.assert_identical(&finished);
}

#[test]
fn what_a_lost_checkpoint_has_forgotten_of_a_dead_node_is_found_again() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &["heir"]);
    let [owner, heir] = &nodes[..] else { unreachable!() };
    owner.kill();
    redis.client().command(&["FLUSHALL"]);
    recording.go_on();
    let finished = recording.wait();
    heir.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(parts_of(heir, &path), (3..=21).collect::<Vec<_>>());
}

#[test]
fn why_nothing_can_be_inherited_is_said() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &["heir"]);
    let [owner, heir] = &nodes[..] else { unreachable!() };
    let key = format!("reeltime:stream:{}:meta", Book::of(&redis).streams()[0]);
    redis.client().command(&["HSET", &key, "size_bytes", "many"]);
    owner.kill();
    heir.wait_event(&key, DEADLINE, |line| line.text("error").is_some_and(|error| error.contains(&key)));
    redis.client().command(&["HSET", &key, "size_bytes", "0"]);
    recording.go_on();
    let finished = recording.wait();
    heir.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
}

#[test]
fn a_directory_that_its_node_does_not_watch_any_more_goes_on_at_another() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &["heir"]);
    let [owner, heir] = &nodes[..] else { unreachable!() };
    fs::create_dir(site.beside("elsewhere")).unwrap();
    owner.kill();
    let owner = site.start_as("owner", "elsewhere", &redis.url());
    owner.wait_answers("/readyz", DEADLINE);
    recording.go_on();
    let finished = recording.wait();
    heir.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
}

#[test]
fn a_recording_that_is_another_nodes_is_not_shown_as_one_that_waits_here() {
    let (site, redis) = (Site::new(), Redis::start());
    let [left, right] = ["left", "right"].map(|node| site.start_as(node, "rec", &redis.url()));
    for node in [&left, &right] {
        node.wait_answers("/readyz", DEADLINE);
    }
    let recording = record_at(&site.path());
    let yielded = |node: &Running| has_said(node, "belongs to node");
    left.process().wait_until("one to leave it", DEADLINE, || yielded(&left) || yielded(&right));
    let other = if yielded(&left) { &left } else { &right };
    let shown = || other.get("/metrics").text().lines().any(|line| line == "reeltime_streams{state=\"active\"} 1");
    other.process().wait_until("it not to be counted", DEADLINE, || !shown());
    drop(recording);
}

#[test]
fn an_object_that_stays_taken_is_not_tried_for_until_it_is_free() {
    let (site, redis) = (Site::new(), Redis::start());
    let one = site.start_as("one", "rec", &redis.url());
    let theirs = site.record_whole();
    one.wait_event_of("completed", &theirs.path, DEADLINE);
    let dir = site.beside("elsewhere");
    fs::create_dir(&dir).unwrap();
    let mine = Synthetic::into(dir.join("a.mp4"), Style::Append, 3 * PART + 7).seed(5).start().wait();
    let two = site.start_as("two", "elsewhere", &redis.url());
    wait_said(&two, "elsewhere/a.mp4 is not uploaded");
    let resumed = || two.events().iter().filter(|line| line.event() == Some("resumed")).count();
    let scans = || redis.client().calls("pexpire").carried_out; // a lease is renewed every other second
    let began = scans();
    two.process().wait_until("some scans", DEADLINE, || scans() >= began + 10);
    assert_eq!(resumed(), 0, "as long as the other one has it, that is known");

    let id = redis.client().hash("reeltime:objects").into_values().next().unwrap();
    let key = format!("reeltime:stream:{}:meta", id.split(' ').next().unwrap());
    redis.client().command(&["DEL", &key]);
    one.terminate(DEADLINE);
    two.wait_event_of("completed", &mine.path, DEADLINE);
    site.assert_identical(&mine);
}

#[test]
fn nothing_is_inherited_where_the_directory_is_away() {
    let (site, redis) = (Site::new(), Redis::start());
    let path = site.path();
    let (nodes, recording) = with_an_owner(&site, &redis, &path, &["heir"]);
    let [owner, heir] = &nodes[..] else { unreachable!() };
    // As if it were not mounted any more, on this machine.
    let (dir, away) = (site.beside("rec"), site.beside("away"));
    fs::rename(&dir, &away).unwrap();
    fs::create_dir(&dir).unwrap();
    owner.kill();
    let node = "reeltime:node:owner";
    heir.process().wait_until("its lease to end", DEADLINE, || redis.client().hash(node).is_empty());
    let asked = || redis.client().calls("hmget").carried_out;
    let began = asked();
    heir.process().wait_until("it to listen for a while", DEADLINE, || asked() >= began + 20);
    fs::remove_dir(&dir).unwrap();
    fs::rename(&away, &dir).unwrap();
    recording.go_on();
    let finished = recording.wait();
    heir.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_eq!(parts_of(heir, &path), (3..=21).collect::<Vec<_>>());
}
