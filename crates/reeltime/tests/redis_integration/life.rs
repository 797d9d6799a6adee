//! The life of a stream, step by step.

use reeltime_core::{Reason, State, StreamRecord};
use testkit::servers::{Redis, RedisCluster};

use crate::book::Book;
use crate::common::{moved, nth, part, record};
use crate::{Store, note, open};

/// From its beginning to the end; `book` looks after every step.
async fn a_life(store: &Store, book: &Book<'_>) {
    let one = record(1);
    assert_eq!(book.state(one.id), None);

    store.create(&one).await.unwrap();
    assert_eq!(book.state(one.id).as_deref(), Some("active"));
    let meta = book.meta(one.id);
    let id = one.id.to_string();
    for (field, value) in [
        ("id", id.as_str()),
        ("node", "recorder-1"),
        ("epoch", "3"),
        ("state", "active"),
        ("generation", "1"),
        ("source", "/recordings"),
        ("path", "/recordings/1 \u{fffd}.mp4"), // the client shows what is no UTF-8 so
        ("object_key", "1 \u{fffd}.mp4"),
        ("upload", "creating"),
        ("upload_asked_at_ms", "1767225600000"),
        ("plan_kind", "growing"),
        ("plan_first_bytes", "8388608"),
        ("size_bytes", "1"),
        ("started_at_ms", "1767225600123"),
    ] {
        assert_eq!(meta.get(field).map(String::as_str), Some(value), "{field} in {meta:?}");
    }
    for absent in ["reason", "upload_id", "etag", "crc64nvme", "completed_at_ms", "version_inode"] {
        assert!(!meta.contains_key(absent), "{absent} in {meta:?}");
    }
    assert!(book.parts(one.id).is_empty());

    let mut bytes = 0;
    for number in 1..=3 {
        note(store, &one, number).await.unwrap();
        bytes += part(number).size_bytes;
        assert_eq!(book.part_bytes(one.id), bytes);
        let line = &book.parts(one.id)[&number];
        assert_eq!(line["etag"], part(number).etag, "{line}");
        assert_eq!((line["generation"].as_u64(), line["uploads"].as_u64()), (Some(1), Some(1)), "{line}");
        assert_eq!(book.state(one.id).as_deref(), Some("active"), "parts do not move a stream");
    }
    let uploading = StreamRecord { size_bytes: bytes, ..moved(&one, State::Active) };
    store.transition(State::Active, &uploading).await.unwrap();
    let meta = book.meta(one.id);
    assert_eq!(
        (meta["upload"].as_str(), meta["upload_id"].as_str(), meta["size_bytes"].as_str()),
        ("open", "upload/1", bytes.to_string().as_str())
    );
    assert!(!meta.contains_key("upload_asked_at_ms"), "what has no value any more is gone: {meta:?}");

    let mut from = State::Active;
    for to in [State::PendingCompletion, State::Completed] {
        store.transition(from, &moved(&one, to)).await.unwrap();
        assert_eq!(book.state(one.id).as_deref(), Some(to.as_str()));
        assert_eq!(book.parts(one.id).len(), 3, "its parts stay with it");
        from = to;
    }
    let meta = book.meta(one.id);
    for (field, value) in [
        ("etag", "\"whole-2\""),
        ("crc64nvme", "AAAAAAAAAAc="),
        ("completed_at_ms", "1767225700000"),
        ("version_inode", "18446744073709551615"),
    ] {
        assert_eq!(meta[field], value, "{field}");
    }

    store.forget(one.id, one.epoch).await.unwrap();
    assert_eq!(book.state(one.id), None);
    assert_eq!(book.keys(), [].into(), "nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_from_active_to_completed_leaves_nothing_behind() {
    let redis = Redis::start();
    a_life(&open(&redis.url()).await, &Book::of(&redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_in_a_cluster_is_the_same_in_its_shard() {
    let cluster = RedisCluster::start();
    a_life(&open(&cluster.url()).await, &Book::of_cluster(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_stream_says_why_until_it_goes_on() {
    let redis = Redis::start();
    let (store, book, one) = (open(&redis.url()).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    for (reason, name) in Reason::ALL.map(|reason| (reason, reason.as_str())) {
        let failed = StreamRecord { reason: Some(reason), ..moved(&one, State::Failed) };
        store.transition(State::Active, &failed).await.unwrap();
        assert_eq!(book.state(one.id).as_deref(), Some("failed"));
        assert_eq!(book.meta(one.id)["reason"], name);
        store.transition(State::Failed, &moved(&one, State::Active)).await.unwrap();
        assert_eq!(book.state(one.id).as_deref(), Some("active"));
        assert!(!book.meta(one.id).contains_key("reason"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_sent_again_is_counted_once() {
    let redis = Redis::start();
    let (store, book, one) = (open(&redis.url()).await, Book::of(&redis), record(1));
    store.create(&one).await.unwrap();
    note(&store, &one, 1).await.unwrap();
    note(&store, &one, 2).await.unwrap();
    let again = reeltime_core::Part { size_bytes: 5, etag: "\"new\"".to_owned(), uploads: 2, ..part(1) };
    store.record_part(one.id, one.epoch, 1, nth(1), &again).await.unwrap();
    assert_eq!(book.part_bytes(one.id), 5 + part(2).size_bytes);
    let line = &book.parts(one.id)[&1];
    assert_eq!((line["etag"].as_str(), line["uploads"].as_u64()), (Some("\"new\""), Some(2)), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_leaves_no_key_behind_whatever_the_state() {
    let redis = Redis::start();
    let (store, book) = (open(&redis.url()).await, Book::of(&redis));
    for (number, state) in (1..).zip(State::ALL) {
        store.create(&moved(&record(number), state)).await.unwrap();
        note(&store, &record(number), 1).await.unwrap();
        assert_eq!(book.state(record(number).id).as_deref(), Some(state.as_str()));
    }
    assert_eq!(book.keys().len(), 4 + 4 + 4 + 2, "a set, a meta and parts for each; objects and directory");
    for number in 1..=4 {
        store.forget(record(number).id, 3).await.unwrap();
        assert_eq!(book.state(record(number).id), None);
        assert_eq!(book.faults(), Vec::<String>::new());
        let common = usize::from(number < 3) + usize::from(number < 4);
        assert_eq!(book.keys().len(), 12 - 3 * number as usize + common, "those of the others stay");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_prefix_is_another_place() {
    let redis = Redis::start();
    let (store, other) = (open(&redis.url()).await, open(&format!("{}?prefix=studio:", redis.url())).await);
    store.create(&record(1)).await.unwrap();
    other.create(&moved(&record(1), State::Completed)).await.unwrap();
    assert_eq!(Book::of(&redis).state(record(1).id).as_deref(), Some("active"));
    assert_eq!(redis.client().members("studio:streams:completed"), [record(1).id.to_string()].into());
    other.forget(record(1).id, 3).await.unwrap();
    assert_eq!(store.load().await.unwrap(), [record(1)]);
    assert!(redis.client().keys("studio:*").is_empty());
}
