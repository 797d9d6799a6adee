//! What every checkpoint store does. A backend is one line at the end.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use common::{moved, nth, part, record};
use reeltime::checkpoint::{CheckpointError, CheckpointStore};
use reeltime_core::{Part, PartTable, Reason, State, StreamRecord, UploadState};
use testkit::servers::{Redis, RedisCertificates, RedisCluster, RedisOptions, RedisProgram, RedisSentinels};
use tokio::task::JoinSet;

type Store = Arc<dyn CheckpointStore>;

/// A place for checkpoints that is empty at first. Every call opens it anew; the store that was
/// opened before is dropped by then.
#[async_trait]
trait Backend: Sync {
    async fn open(&self) -> Store;
}

async fn all(store: &Store) -> Vec<StreamRecord> {
    let mut all = store.load().await.unwrap();
    all.sort_by_key(|record| record.id);
    all
}

async fn parts(store: &Store, record: &StreamRecord) -> Vec<(u32, Part)> {
    let table = store.load_parts(record.id, record.generation).await.unwrap();
    table.iter().map(|(number, part)| (number.get(), part.clone())).collect()
}

/// The answer is that the stream is another's, and what was found.
fn stale(answer: Result<(), CheckpointError>) -> String {
    match answer {
        Err(CheckpointError::Stale { found, .. }) => found,
        other => panic!("expected Stale, not {other:?}"),
    }
}

/// The answer is that there is no such stream.
fn unknown<T: std::fmt::Debug>(answer: Result<T, CheckpointError>) {
    match answer {
        Err(CheckpointError::Unknown { .. }) => {}
        other => panic!("expected Unknown, not {other:?}"),
    }
}

mod bodies {
    use super::*;

    pub(super) async fn what_was_created_is_loaded(backend: &impl Backend) {
        let store = backend.open().await;
        assert_eq!(all(&store).await, []);
        let records = [record(1), moved(&record(2), State::Completed), record(3)];
        for record in &records {
            store.create(record).await.unwrap();
        }
        assert_eq!(all(&store).await, records);
    }

    pub(super) async fn a_stream_may_be_created_twice_but_not_by_two(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        store.record_part(record(1).id, 3, 1, nth(1), &part(1)).await.unwrap();
        store.create(&record(1)).await.expect("the same again");
        let grown = StreamRecord { size_bytes: 99, ..record(1) };
        store.create(&grown).await.expect("the answer to the first got lost, and the stream went on");
        assert_eq!(all(&store).await, std::slice::from_ref(&grown));
        assert_eq!(parts(&store, &grown).await, [(1, part(1))], "its parts are still there");

        let found = stale(store.create(&StreamRecord { epoch: 4, ..record(1) }).await);
        assert!(found.contains('3') && found.contains("active"), "{found}");
        stale(store.create(&StreamRecord { epoch: 2, ..record(1) }).await);
        stale(store.create(&moved(&record(1), State::PendingCompletion)).await);
        assert_eq!(all(&store).await, [grown]);
    }

    pub(super) async fn a_stream_moves_from_state_to_state(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        store.create(&record(2)).await.unwrap();
        let mut from = State::Active;
        for to in [
            State::Active, // saved in place
            State::PendingCompletion,
            State::Completed,
            State::Active,
            State::Failed,
            State::Active,
            State::PendingCompletion,
            State::Active,
        ] {
            let mut next = moved(&record(1), to);
            next.reason = (to == State::Failed).then_some(Reason::SourceMissing);
            store.transition(from, &next).await.unwrap();
            assert_eq!(all(&store).await, [next.clone(), record(2)], "{from} to {to}");
            store.transition(from, &next).await.expect("a repetition is a success");
            assert_eq!(all(&store).await, [next, record(2)]);
            from = to;
        }
    }

    pub(super) async fn a_transition_from_elsewhere_is_refused(backend: &impl Backend) {
        let store = backend.open().await;
        let pending = moved(&record(1), State::PendingCompletion);
        unknown(store.transition(State::Active, &pending).await);
        assert_eq!(all(&store).await, [], "a transition creates nothing");

        store.create(&record(1)).await.unwrap();
        for from in [State::PendingCompletion, State::Completed, State::Failed] {
            let found = stale(store.transition(from, &pending).await);
            assert!(found.contains("active"), "{found}");
        }
        for epoch in [2, 4] {
            let found = stale(store.transition(State::Active, &StreamRecord { epoch, ..pending.clone() }).await);
            assert!(found.contains('3'), "{found}");
        }
        assert_eq!(all(&store).await, [record(1)]);
    }

    pub(super) async fn what_only_looks_like_a_repetition_is_refused(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        let pending = moved(&record(1), State::PendingCompletion);
        store.transition(State::Active, &pending).await.unwrap();
        let other = StreamRecord { upload: UploadState::Open { id: "upload/2".to_owned() }, ..pending.clone() };
        stale(store.transition(State::Active, &other).await);
        stale(store.transition(State::Completed, &other).await);
        assert_eq!(all(&store).await, [pending]);
    }

    pub(super) async fn a_part_replaces_the_one_with_its_number(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        store.create(&record(2)).await.unwrap();
        for number in [10_000, 3, 1, 2, 30] {
            store.record_part(record(1).id, 3, 1, nth(number), &part(number)).await.unwrap();
        }
        store.record_part(record(2).id, 3, 1, nth(1), &part(77)).await.unwrap();
        let again = Part { uploads: 2, ..part(15) };
        for _ in 0..2 {
            store.record_part(record(1).id, 3, 1, nth(3), &again).await.unwrap();
        }
        let expected = [(1, part(1)), (2, part(2)), (3, again), (30, part(30)), (10_000, part(10_000))];
        assert_eq!(parts(&store, &record(1)).await, expected);
        assert_eq!(parts(&store, &record(2)).await, [(1, part(77))]);
    }

    pub(super) async fn parts_of_another_generation_are_not_loaded(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        for number in 1..=3 {
            store.record_part(record(1).id, 3, 1, nth(number), &part(number)).await.unwrap();
        }
        let second = StreamRecord { generation: 2, ..record(1) };
        store.transition(State::Active, &second).await.unwrap();
        assert_eq!(parts(&store, &second).await, []);
        store.record_part(second.id, 3, 2, nth(1), &part(8)).await.unwrap();
        assert_eq!(parts(&store, &second).await, [(1, part(8))]);
        assert_eq!(parts(&store, &record(1)).await, [(2, part(2)), (3, part(3))]);
    }

    pub(super) async fn who_claims_a_stream_is_its_only_owner(backend: &impl Backend) {
        let store = backend.open().await;
        unknown(store.claim(record(1).id, 3, "b").await);
        store.create(&record(1)).await.unwrap();
        store.record_part(record(1).id, 3, 1, nth(1), &part(1)).await.unwrap();
        assert_eq!(store.claim(record(1).id, 3, "b").await.unwrap(), 4);
        let claimed = StreamRecord { epoch: 4, node: "b".to_owned(), ..record(1) };
        assert_eq!(all(&store).await, std::slice::from_ref(&claimed), "nothing else has changed");
        assert_eq!(parts(&store, &claimed).await, [(1, part(1))]);

        let pending = moved(&record(1), State::PendingCompletion);
        for answer in [
            store.claim(record(1).id, 3, "c").await.map(drop),
            store.claim(record(1).id, 5, "c").await.map(drop),
            store.create(&record(1)).await,
            store.transition(State::Active, &pending).await,
            store.record_part(record(1).id, 3, 1, nth(2), &part(2)).await,
            store.forget(record(1).id, 3).await,
        ] {
            let found = stale(answer);
            assert!(found.contains("epoch 4") && found.contains("node b"), "{found}");
        }
        assert_eq!(all(&store).await, std::slice::from_ref(&claimed), "the old owner changes nothing");
        assert_eq!(parts(&store, &claimed).await, [(1, part(1))]);
        store.transition(State::Active, &moved(&claimed, State::PendingCompletion)).await.unwrap();
        store.record_part(record(1).id, 4, 1, nth(2), &part(2)).await.unwrap();
    }

    pub(super) async fn a_part_of_a_stranger_is_refused(backend: &impl Backend) {
        let store = backend.open().await;
        unknown(store.record_part(record(1).id, 3, 1, nth(1), &part(1)).await);
        store.create(&record(1)).await.unwrap();
        for epoch in [2, 4] {
            let found = stale(store.record_part(record(1).id, epoch, 1, nth(1), &part(1)).await);
            assert!(found.contains('3'), "{found}");
        }
        assert_eq!(parts(&store, &record(1)).await, []);
        assert_eq!(store.load_parts(record(2).id, 1).await.unwrap(), PartTable::default());
    }

    pub(super) async fn a_forgotten_stream_is_gone_with_its_parts(backend: &impl Backend) {
        let store = backend.open().await;
        store.forget(record(1).id, 3).await.expect("there is nothing to forget");
        for number in 1..=2 {
            store.create(&record(number)).await.unwrap();
            store.record_part(record(number).id, 3, 1, nth(1), &part(1)).await.unwrap();
        }
        for epoch in [2, 4] {
            let found = stale(store.forget(record(1).id, epoch).await);
            assert!(found.contains('3'), "{found}");
        }
        assert_eq!(all(&store).await, [record(1), record(2)]);
        for _ in 0..2 {
            store.forget(record(1).id, 3).await.unwrap();
            assert_eq!(all(&store).await, [record(2)]);
        }
        store.create(&record(1)).await.unwrap();
        assert_eq!(parts(&store, &record(1)).await, [], "a stream of this id begins without parts");
        assert_eq!(parts(&store, &record(2)).await, [(1, part(1))]);
    }

    pub(super) async fn reopening_sees_everything(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        store.create(&record(2)).await.unwrap();
        store.create(&record(3)).await.unwrap();
        store.record_part(record(1).id, 3, 1, nth(1), &part(1)).await.unwrap();
        store.record_part(record(1).id, 3, 1, nth(1), &part(2)).await.unwrap();
        let pending = moved(&record(1), State::PendingCompletion);
        store.transition(State::Active, &pending).await.unwrap();
        store.forget(record(3).id, 3).await.unwrap();
        drop(store);
        let store = backend.open().await;
        assert_eq!(all(&store).await, [pending.clone(), record(2)]);
        assert_eq!(parts(&store, &pending).await, [(1, part(2))]);
        stale(store.create(&record(1)).await);
    }

    /// 200 streams, each with two tasks: one moves it on and saves it over and over, one
    /// records its parts. Meanwhile loading shows each stream once.
    pub(super) async fn many_streams_at_once_lose_no_update(backend: &impl Backend) {
        const STREAMS: u32 = 200;
        const PARTS: u32 = 5;
        let store = backend.open().await;
        for number in 1..=STREAMS {
            store.create(&record(number)).await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for number in 1..=STREAMS {
            let mover = Arc::clone(&store);
            tasks.spawn(async move {
                let mut from = State::Active;
                for (size_bytes, to) in
                    (1..).zip([State::Active, State::PendingCompletion, State::Active, State::PendingCompletion])
                {
                    mover.transition(from, &StreamRecord { size_bytes, ..moved(&record(number), to) }).await.unwrap();
                    from = to;
                }
                mover.transition(from, &moved(&record(number), State::Completed)).await.unwrap();
            });
            let sender = Arc::clone(&store);
            tasks.spawn(async move {
                for at in 1..=PARTS {
                    sender.record_part(record(number).id, 3, 1, nth(at), &part(number + at)).await.unwrap();
                }
            });
        }
        let mut ended = 0;
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
            ended += 1;
            if ended % 40 == 0 {
                let seen = all(&store).await;
                assert_eq!(seen.len(), STREAMS as usize);
                assert!(seen.windows(2).all(|pair| pair[0].id != pair[1].id), "a stream is there once");
            }
        }
        let completed: Vec<_> = (1..=STREAMS).map(|number| moved(&record(number), State::Completed)).collect();
        assert_eq!(all(&store).await, completed);
        for number in 1..=STREAMS {
            let expected: Vec<_> = (1..=PARTS).map(|at| (at, part(number + at))).collect();
            assert_eq!(parts(&store, &record(number)).await, expected);
        }
    }

    /// Only one of many who build upon the same state gets through.
    pub(super) async fn of_those_who_race_one_wins(backend: &impl Backend) {
        let store = backend.open().await;
        store.create(&record(1)).await.unwrap();
        let mut racers = JoinSet::new();
        for size_bytes in 100..150 {
            let store = Arc::clone(&store);
            let mine = StreamRecord { size_bytes, ..moved(&record(1), State::PendingCompletion) };
            racers.spawn(async move { store.transition(State::Active, &mine).await.is_ok().then_some(mine) });
        }
        let winners: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(all(&store).await, winners);
    }
}

/// Runs all bodies against a backend; `$backend` makes a new, empty place for each, or none if
/// this machine has none.
macro_rules! conformance {
    ($name:ident, $backend:expr) => {
        conformance!($name, $backend;
            what_was_created_is_loaded
            a_stream_may_be_created_twice_but_not_by_two
            a_stream_moves_from_state_to_state
            a_transition_from_elsewhere_is_refused
            what_only_looks_like_a_repetition_is_refused
            a_part_replaces_the_one_with_its_number
            parts_of_another_generation_are_not_loaded
            who_claims_a_stream_is_its_only_owner
        a_part_of_a_stranger_is_refused
            a_forgotten_stream_is_gone_with_its_parts
            reopening_sees_everything
            many_streams_at_once_lose_no_update
            of_those_who_race_one_wins
        );
    };
    ($name:ident, $backend:expr; $($body:ident)+) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $body() {
                    if let Some(backend) = $backend {
                        super::bodies::$body(&backend).await;
                    }
                }
            )+
        }
    };
}

/// A state file in a directory of its own.
struct Sqlite(tempfile::TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self) -> Store {
        let url = format!("sqlite://{}/state.db", self.0.path().display());
        reeltime::checkpoint::url::open(&url.parse().unwrap(), "recorder-1").await.unwrap()
    }
}

conformance!(sqlite, Some(super::Sqlite::new()));

/// In Redis, under a prefix of its own: the servers are those of all tests.
struct OnRedis {
    url: String,
}

impl OnRedis {
    fn at(url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let sign = if url.contains('?') { '&' } else { '?' };
        Self { url: format!("{url}{sign}prefix=test-{}:", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    fn server() -> Self {
        static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);
        Self::at(&SERVER.url())
    }

    /// Encrypted, and with a user who may do no more than the documentation says he must.
    fn tls_and_login() -> Self {
        static CERTIFICATES: LazyLock<Arc<RedisCertificates>> = LazyLock::new(Arc::default);
        static SERVER: LazyLock<Redis> = LazyLock::new(|| {
            let options = RedisOptions { certificates: Some(Arc::clone(&CERTIFICATES)), ..RedisOptions::default() };
            Redis::start_with(&options.with_user("reel@time", "p@ss/word?#%", rules("test-*")))
        });
        let ca = CERTIFICATES.ca();
        let url = SERVER.url().replace("://", "://reel%40time:p%40ss%2Fword%3F%23%25@");
        Self::at(&format!("{url}?ca={}", ca.display()))
    }

    fn sentinel() -> Self {
        static SENTINELS: LazyLock<RedisSentinels> = LazyLock::new(RedisSentinels::start);
        Self::at(&SENTINELS.url())
    }

    fn cluster() -> Self {
        static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);
        Self::at(&CLUSTER.url())
    }

    /// A server of another version; `None`, loudly, if the test is to be skipped.
    fn version(program: RedisProgram) -> Option<Self> {
        static SERVERS: Mutex<Vec<(RedisProgram, Redis)>> = Mutex::new(Vec::new());
        let program = program.or_skip()?;
        let mut servers = SERVERS.lock().unwrap();
        if !servers.iter().any(|(its, _)| *its == program) {
            servers.push((program, Redis::start_with(&RedisOptions { program, ..RedisOptions::default() })));
        }
        let (_, server) = servers.iter().find(|(its, _)| *its == program).unwrap();
        Some(Self::at(&server.url()))
    }
}

/// The rules of docs/CHECKPOINTS.md for a user, for keys that begin so.
fn rules(keys: &str) -> Vec<String> {
    let document = include_str!("../../../docs/CHECKPOINTS.md");
    let line = document.lines().find_map(|line| line.strip_prefix("ACL SETUSER reeltime on >PASSWORD "));
    let rules = line.expect("the document has the rules");
    assert!(rules.contains("~reeltime:*"), "{rules}");
    rules.replace("~reeltime:*", &format!("~{keys}")).split_whitespace().map(str::to_owned).collect()
}

#[async_trait]
impl Backend for OnRedis {
    async fn open(&self) -> Store {
        reeltime::checkpoint::url::open(&self.url.parse().unwrap(), "recorder-1").await.unwrap()
    }
}

conformance!(redis, Some(super::OnRedis::server()));
conformance!(redis_tls_and_login, Some(super::OnRedis::tls_and_login()));
conformance!(redis_sentinel, Some(super::OnRedis::sentinel()));
conformance!(redis_cluster, Some(super::OnRedis::cluster()));
conformance!(redis_6_2, super::OnRedis::version(testkit::servers::RedisProgram::Redis62));
conformance!(redis_8, super::OnRedis::version(testkit::servers::RedisProgram::Redis8));
conformance!(valkey, super::OnRedis::version(testkit::servers::RedisProgram::Valkey));
