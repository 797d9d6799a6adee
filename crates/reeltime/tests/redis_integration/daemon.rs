//! The built binary with its checkpoint in Redis, from a live recording to the object.

use std::fs;
use std::path::{Path, PathBuf};

use reeltime_core::StreamId;
use tempfile::TempDir;
use testkit::daemon::{Daemon, LogLine, Running};
use testkit::digest::sha256_of;
use testkit::recorders::synthetic::{Finished, Recording, Style, Synthetic};
use testkit::servers::{Redis, RedisClient, RedisOptions, RedisSentinels};

use crate::DEADLINE;
use crate::book::Book;

pub(crate) const PART: u64 = 128 * 1024;

/// A directory of recordings, and one that they go to.
pub(crate) struct Site(TempDir);

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rec")).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("rec/a.mp4")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    /// Beside the directory of recordings.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn start(&self, state: &str) -> Running {
        self.start_as("recorder-1", "rec", state)
    }

    /// A node, which watches this directory.
    pub(crate) fn start_as(&self, node: &str, dir: &str, state: &str) -> Running {
        self.start_to(node, dir, "out", state)
    }

    /// A node, which watches this directory and uploads into that one.
    pub(crate) fn start_to(&self, node: &str, dir: &str, to: &str, state: &str) -> Running {
        self.node(node, dir, to, state).start()
    }

    /// The same, before it is started.
    pub(crate) fn node(&self, node: &str, dir: &str, to: &str, state: &str) -> Daemon {
        Daemon::run(env!("CARGO_BIN_EXE_reeltime"))
            .arg(self.0.path().join(dir))
            .arg("--to")
            .arg(self.0.path().join(to))
            .args(["--state", state, "--part-size", &PART.to_string()])
            .args(["--close-grace", "300ms", "--scan-interval", "1s", "--node", node])
            .env("REELTIME_FFPROBE", "/bin/false") // what is recorded here is no video
            .env("REELTIME_TAIL_FLUSH", "off")
            .env("REELTIME_LOG", "debug")
    }

    pub(crate) fn record(&self) -> Recording {
        record_at(&self.path())
    }

    /// A short one, from its beginning to its end.
    pub(crate) fn record_whole(&self) -> Finished {
        Synthetic::into(self.path(), Style::Append, 3 * PART + 7).start().wait()
    }

    /// Another one beside it.
    pub(crate) fn record_other(&self) -> Finished {
        Synthetic::into(self.path().with_file_name("b.mp4"), Style::Append, 3 * PART + 9).seed(2).start().wait()
    }

    pub(crate) fn assert_identical(&self, finished: &Finished) {
        assert_eq!(sha256_of(self.out().join("a.mp4")), finished.sha256);
        assert!(self.out().join("a.mp4.metadata.json").exists());
    }
}

/// A recording of 20 parts and something, which stands still after two and a half.
pub(crate) fn record_at(path: &Path) -> Recording {
    let recording = Synthetic::into(path, Style::Append, 20 * PART + 7).hold_at(2 * PART + PART / 2).start();
    recording.wait_held(DEADLINE);
    recording
}

/// The parts of a recording that a node has sent so far.
pub(crate) fn parts_of(node: &Running, path: &Path) -> Vec<u64> {
    let is_part = |line: &LogLine| line.event() == Some("part_stored") && line.path() == Some(path);
    let mut parts: Vec<_> =
        node.events().iter().filter(|line| is_part(line)).filter_map(|line| line.number("part")).collect();
    parts.sort_unstable();
    parts
}

fn is_said(line: &LogLine, text: &str) -> bool {
    line.message().is_some_and(|message| message.contains(text))
}

/// Whether a node has said this so far.
pub(crate) fn has_said(node: &Running, text: &str) -> bool {
    node.events().iter().any(|line| is_said(line, text))
}

/// Waits until a node says this.
pub(crate) fn wait_said(node: &Running, text: &str) {
    node.wait_event(text, DEADLINE, |line| is_said(line, text));
}

/// The one stream that there is.
fn only_stream(redis: &RedisClient) -> Option<StreamId> {
    let keys = redis.keys("reeltime:stream:*:meta");
    assert!(keys.len() < 2, "there is one recording: {keys:?}");
    Some(keys.first()?.split(':').nth(2)?.parse().unwrap())
}

pub(crate) fn wait_part(daemon: &Running, path: &Path, number: u64) {
    daemon.wait_event(&format!("part {number}"), DEADLINE, |line| {
        line.event() == Some("part_stored") && line.path() == Some(path) && line.number("part") == Some(number)
    });
}

/// Redis has everything of a stream that was completed.
fn assert_complete(redis: &Redis, finished: &Finished) {
    let (book, id) = (Book::of(redis), assert_completed(redis, finished));
    assert_eq!(book.part_bytes(id), finished.size_bytes, "{:#?}", book.parts(id));
}

/// The same after a failover, which may have lost parts that were acknowledged: replication is
/// asynchronous.
fn assert_completed(redis: &Redis, finished: &Finished) -> StreamId {
    let (book, id) = (Book::of(redis), only_stream(&redis.client()).expect("there is a stream"));
    assert_eq!(book.faults(), Vec::<String>::new());
    assert_eq!(book.state(id).as_deref(), Some("completed"));
    let meta = book.meta(id);
    assert_eq!(meta["size_bytes"], finished.size_bytes.to_string(), "{meta:?}");
    assert_eq!(meta["version_size_bytes"], finished.size_bytes.to_string(), "{meta:?}");
    assert_eq!((meta["node"].as_str(), meta["path"].as_str()), ("recorder-1", finished.path.to_str().unwrap()));
    assert!(meta.contains_key("completed_at_ms") && meta.contains_key("etag"), "{meta:?}");
    let keys: Vec<_> = book.keys().into_iter().filter(|key| !key.contains(":node")).collect();
    assert_eq!(keys.len(), 5, "its sets, its hashes, and its object: {keys:?}");
    id
}

fn metric(daemon: &Running, name: &str) -> u64 {
    let text = daemon.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

fn wait_error(daemon: &Running, what: &str) {
    daemon.wait_event(what, DEADLINE, |line| line.text("error").is_some_and(|error| error.contains(what)));
}

/// The object is there, and the checkpoint was to be told of it again and again.
fn wait_object_and_attempts_to_say_so(site: &Site, daemon: &Running) {
    daemon.process().wait_until("the object", DEADLINE, || site.out().join("a.mp4").exists());
    let is_retry = |line: &LogLine| line.event() == Some("retrying");
    let before = daemon.events().iter().filter(|line| is_retry(line)).count();
    daemon.wait_events("attempts", before + 5, DEADLINE, is_retry);
}

fn assert_nothing_failed(daemon: &Running) {
    let failed: Vec<_> = daemon.events().into_iter().filter(|line| line.event() == Some("failed")).collect();
    assert_eq!(failed, []);
    assert_eq!(daemon.process().exited().map(|exited| exited.status), None, "it still runs");
}

#[test]
fn a_recording_goes_on_while_redis_is_killed_and_everything_is_in_it_afterwards() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let daemon = site.start(&redis.url());
    let path = site.path();
    wait_part(&daemon, &path, 2);
    let book = Book::of(&redis);
    let id = only_stream(&redis.client()).expect("it was begun");
    daemon.process().wait_until("two parts in Redis", DEADLINE, || book.parts(id).len() == 2);
    assert_eq!(book.state(id).as_deref(), Some("active"));
    assert_eq!(book.meta(id)["upload"], "open");

    redis.process().kill();
    recording.go_on_until(12 * PART + 1);
    wait_part(&daemon, &path, 12);
    redis.restart();
    let connected = || redis.client().info("connected_clients").as_deref() == Some("2"); // one is this
    daemon.process().wait_until("it to reconnect", DEADLINE, connected);
    let mut part = 12;
    while !book.parts(id).contains_key(&part) {
        part += 1;
        assert!(part < 20, "parts are noted again as soon as they can be: {:?}", book.parts(id).keys());
        recording.go_on_until(u64::from(part) * PART + 1);
        wait_part(&daemon, &path, part.into());
    }
    recording.go_on();
    let finished = recording.wait();
    daemon.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_nothing_failed(&daemon);
    let sent: Vec<_> = daemon.events().iter().filter(|line| line.event() == Some("part_stored")).cloned().collect();
    assert_eq!(sent.len(), 21, "nothing was sent twice");
}

/// A former owner may write it, too, where everything was lost.
#[test]
fn a_redis_that_becomes_the_copy_of_an_earlier_owner_is_told_everything_again() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let mut daemon = site.start(&redis.url());
    let path = site.path();
    wait_part(&daemon, &path, 2);
    let (book, client) = (Book::of(&redis), redis.client());
    let id = only_stream(&client).expect("it was begun");
    let epoch = || book.meta(id)["epoch"].clone();
    let (first, mut later) = (epoch(), epoch());
    for _ in 0..2 {
        daemon.kill();
        daemon.restart();
        daemon.process().wait_until("it to be the next owner", DEADLINE, || epoch() != later);
        later = epoch();
    }

    client.command(&["DEL", &format!("reeltime:stream:{id}:parts")]);
    client.command(&["HSET", &format!("reeltime:stream:{id}:meta"), "epoch", &first]);
    recording.go_on();
    let finished = recording.wait();
    daemon.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_eq!(epoch(), later, "no epoch is given to two");
    assert_nothing_failed(&daemon);
}

#[test]
fn a_recording_that_ends_while_redis_is_away_is_completed_when_it_is_back() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let daemon = site.start(&redis.url());
    let path = site.path();
    wait_part(&daemon, &path, 2);
    redis.process().kill();
    recording.go_on();
    let finished = recording.wait();
    wait_part(&daemon, &path, 21);
    wait_object_and_attempts_to_say_so(&site, &daemon);
    assert!(!daemon.events().iter().any(|line| line.event() == Some("completed")), "not before it is durable");
    redis.restart();
    daemon.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_nothing_failed(&daemon);
}

#[test]
fn a_recording_goes_on_while_redis_is_frozen() {
    let (site, redis) = (Site::new(), Redis::start());
    let recording = site.record();
    let daemon = site.start(&redis.url());
    let path = site.path();
    wait_part(&daemon, &path, 2);
    redis.process().freeze();
    recording.go_on_until(19 * PART + 1);
    wait_part(&daemon, &path, 19);
    redis.process().thaw();
    recording.go_on();
    let finished = recording.wait();
    daemon.wait_event_of("completed", &path, DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_nothing_failed(&daemon);
}

#[test]
fn attempts_that_failed_are_in_the_metrics_one_by_one() {
    let (site, redis) = (Site::new(), Redis::start());
    let daemon = site.start(&redis.url());
    daemon.wait_answers("/readyz", DEADLINE);
    redis.client().config_set("maxmemory", "1");
    let finished = Synthetic::into(site.path(), Style::Append, 3 * PART).start().wait();
    let failed = || redis.client().errors("OOM");
    daemon.process().wait_until("some attempts", DEADLINE, || failed() >= 4);
    daemon.process().wait_until("all of them to be counted", DEADLINE, || {
        let before = failed();
        let counted = metric(&daemon, "reeltime_retries_total{of=\"checkpoint\"}");
        counted == before && failed() == before
    });
    redis.client().config_set("maxmemory", "0");
    daemon.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_eq!(metric(&daemon, "reeltime_retries_total{of=\"checkpoint\"}"), failed());
    for of in ["store", "source"] {
        assert_eq!(metric(&daemon, &format!("reeltime_retries_total{{of=\"{of}\"}}")), 0, "{of}");
    }
    let said = daemon.events();
    let said: Vec<_> = said.iter().filter(|line| line.event() == Some("retrying")).collect();
    assert_eq!(said.len() as u64, failed());
    assert!(said.iter().all(|line| line.text("of") == Some("checkpoint")), "{said:?}");
}

/// A user `reeltime`, and the URL with a password.
fn with_password(password: &str) -> (Redis, impl Fn(&str) -> String) {
    let redis = Redis::start_with(&RedisOptions::default().with_user("reeltime", password, ["~*", "&*", "+@all"]));
    let url = redis.url();
    (redis, move |password: &str| url.replace("://", &format!("://reeltime:{password}@")))
}

/// The password becomes another, and connections made with the old one are ended.
fn rotate(redis: &Redis, password: &str) {
    redis.client().command(&["ACL", "SETUSER", "reeltime", "resetpass", &format!(">{password}")]);
    redis.client().command(&["CLIENT", "KILL", "USER", "reeltime"]);
}

#[test]
fn a_password_that_is_changed_while_it_runs_stops_nothing_and_the_old_one_need_not_come_back() {
    let (site, (redis, url)) = (Site::new(), with_password("one-secret"));
    let recording = site.record();
    let daemon = site.start(&url("one-secret"));
    wait_part(&daemon, &site.path(), 2);
    rotate(&redis, "another-secret");
    recording.go_on();
    let finished = recording.wait();
    wait_part(&daemon, &site.path(), 20);
    wait_error(&daemon, "check user and password of --state");
    wait_object_and_attempts_to_say_so(&site, &daemon);
    assert_nothing_failed(&daemon);
    assert!(daemon.answers("/healthz"));
    daemon.terminate(DEADLINE);

    let after = site.start(&url("another-secret"));
    after.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    let log = fs::read_to_string(daemon.log()).unwrap();
    assert!(!log.contains("-secret"), "no secrets are logged");
}

#[test]
fn a_password_that_is_put_back_is_enough() {
    let (site, (redis, url)) = (Site::new(), with_password("one-secret"));
    let recording = site.record();
    let daemon = site.start(&url("one-secret"));
    wait_part(&daemon, &site.path(), 2);
    rotate(&redis, "another-secret");
    recording.go_on();
    let finished = recording.wait();
    wait_error(&daemon, "check user and password of --state");
    rotate(&redis, "one-secret");
    daemon.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
    assert_nothing_failed(&daemon);
}

#[test]
fn a_password_that_is_wrong_from_the_start_ends_it_with_what_to_do() {
    let (site, (_redis, url)) = (Site::new(), with_password("right"));
    let daemon = site.start(&url("not-that-one"));
    assert_eq!(daemon.wait_exit(DEADLINE).code(), Some(1));
    let log = fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("check user and password of --state"), "{log}");
    assert!(!log.contains("not-that-one"), "{log}");
}

#[test]
fn a_redis_that_is_away_at_the_start_is_waited_for() {
    let (site, redis) = (Site::new(), Redis::start());
    redis.process().kill();
    let finished = Synthetic::into(site.path(), Style::Append, 3 * PART).start().wait();
    let daemon = site.start(&redis.url());
    daemon.wait_event("the outage to be said", DEADLINE, |line| {
        line.event() == Some("notice") && line.message().is_some_and(|message| message.contains(&redis.address()))
    });
    assert!(daemon.answers("/healthz"), "waiting is no reason to restart it");
    redis.restart();
    daemon.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    assert_complete(&redis, &finished);
}

#[test]
fn a_recording_goes_on_through_a_failover() {
    let (site, all) = (Site::new(), RedisSentinels::start());
    let recording = site.record();
    let daemon = site.start(&all.url());
    wait_part(&daemon, &site.path(), 2);
    let (master, replica) = (all.master(), all.replica());
    all.wait_until_in_step();
    master.process().kill();
    recording.go_on();
    let finished = recording.wait();
    daemon.wait_event_of("completed", site.path(), DEADLINE);
    site.assert_identical(&finished);
    all.wait_until_master_is(replica);
    assert_completed(replica, &finished);
    assert_nothing_failed(&daemon);
}
