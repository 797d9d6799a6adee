//! What only a store behind a network does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reeltime::storage::s3::Patience;
use reeltime::storage::{ObjectStore, PartBody, S3Config, S3Store};
use reeltime_core::{ByteRange, Trouble};

use crate::moto::Moto;
use crate::world::{PART, config, key, new_bucket, noise, number, s3};

fn small(bytes: &'static [u8]) -> PartBody {
    PartBody::of_bytes(Bytes::from_static(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middle_part_that_is_too_small_is_an_invalid_part() {
    let world = s3().await;
    let upload = world.begin(&key("a.mp4"), "t").await;
    let parts = [world.put(&upload, 1, 0, &noise(1, PART - 1)).await, world.put(&upload, 2, PART - 1, b"tail").await];
    let whole = [noise(1, PART - 1), b"tail".to_vec()].concat();
    let error = world.complete(&upload, &parts, &whole).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
    assert!(error.cause.contains("EntityTooSmall"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_a_page_holds_are_listed_to_the_last() {
    let world = s3().await;
    let upload = world.begin(&key("a.mp4"), "t").await;
    for part in 1..=1_003 {
        world.store.put_part(&upload, number(part), 0, small(b"x")).await.unwrap();
    }
    let listed = world.store.list_parts(&upload).await.unwrap();
    let numbers: Vec<_> = listed.iter().map(|part| part.number.get()).collect();
    assert_eq!(numbers, (1..=1_003).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_has_the_media_type_of_its_name() {
    let moto = tokio::task::spawn_blocking(Moto::shared).await.unwrap();
    let bucket = new_bucket(&moto);
    let store = S3Store::connect(config(&moto.endpoint(), &bucket)).await.unwrap();
    let upload = store.create_upload(&key("a.mkv"), "t").await.unwrap();
    let upload = reeltime::storage::UploadRef { key: key("a.mkv"), id: upload.id };
    let stored = store.put_part(&upload, number(1), 0, small(b"x")).await.unwrap();
    let part = reeltime::storage::CompletedPart { number: number(1), etag: stored.etag, crc: None };
    store.complete(&upload, &[part], None, 1).await.unwrap();
    let (head, _) = moto.get(&bucket, "some/prefix/a.mkv").unwrap();
    assert!(head.to_ascii_lowercase().contains("content-type: video/x-matroska"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-amz-meta-reeltime-token: t\r"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_denied_with_the_way_to_create_it() {
    let moto = tokio::task::spawn_blocking(Moto::shared).await.unwrap();
    let store = S3Store::connect(config(&moto.endpoint(), "no-such-bucket")).await.unwrap();
    let error = store.preflight().await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.cause.contains("NoSuchBucket"), "{error}");
    assert!(error.hint.contains("aws s3 mb s3://no-such-bucket"), "{}", error.hint);

    let upload = reeltime::storage::UploadRef { key: key("a.mp4"), id: "x".into() };
    let large = PartBody::of_bytes(noise(1, 2 * PART).into());
    for error in [
        store.create_upload(&key("a.mp4"), "t").await.unwrap_err(),
        store.head(&key("a.mp4")).await.unwrap_err(),
        store.put_object(&key("a.mp4"), None, "video/mp4", large.clone()).await.unwrap_err(),
        store.put_part(&upload, number(1), 0, large).await.unwrap_err(),
        store.list_uploads(&key("a.mp4")).await.unwrap_err(),
    ] {
        assert_eq!(error.trouble, Trouble::Denied, "{error}");
        assert!(error.cause.contains("NoSuchBucket"), "{error}");
        assert!(!error.hint.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_an_outage_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = S3Store::connect(config(&format!("http://127.0.0.1:{port}"), "bucket")).await.unwrap();
    let began = Instant::now();
    for error in [
        store.preflight().await.unwrap_err(),
        store.head(&key("a.mp4")).await.unwrap_err(),
        store.put_object(&key("a.mp4"), None, "video/mp4", small(b"x")).await.unwrap_err(),
    ] {
        assert_eq!(error.trouble, Trouble::Outage, "{error}");
        assert!(error.cause.to_lowercase().contains("connect"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_freezes_is_an_outage_in_bounded_time_and_usable_afterwards() {
    let moto = tokio::task::spawn_blocking(Moto::start).await.unwrap();
    let bucket = new_bucket(&moto);
    let patience =
        Patience { stall: Duration::from_millis(400), answer: Duration::from_millis(400), ..Patience::default() };
    let store = S3Store::connect(S3Config { patience, ..config(&moto.endpoint(), &bucket) }).await.unwrap();
    let recording = tempfile::tempfile().unwrap();
    recording.set_len(64 << 20).unwrap();
    let range = ByteRange { offset: 0, len: 64 << 20 };
    let large = PartBody::of_file(Arc::new(recording), range).await.unwrap();

    moto.signal("STOP");
    for (body, words) in [(small(b"x"), "no answer"), (large, "took no bytes")] {
        let began = Instant::now();
        let error = store.put_object(&key("a.mp4"), None, "video/mp4", body).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Outage, "{error}");
        assert!(error.cause.contains(words), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    let error = store.head(&key("a.mp4")).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Outage, "{error}");

    moto.signal("CONT");
    let patient = S3Store::connect(config(&moto.endpoint(), &bucket)).await.unwrap();
    patient.put_object(&key("b.mp4"), Some("t"), "video/mp4", small(b"x")).await.unwrap();
    assert_eq!(patient.head(&key("b.mp4")).await.unwrap().unwrap().token.as_deref(), Some("t"));
}

/// What the test below does as its own child: use a bucket with nothing but the environment to
/// go by.
async fn with_the_environment_only(bucket: &str) {
    let store = S3Store::connect(S3Config::new(bucket, "")).await.unwrap();
    if std::env::var_os("AWS_EC2_METADATA_DISABLED").is_some() {
        let error = store.preflight().await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Denied, "{error}");
        assert!(error.cause.contains("no credentials"), "{error}");
        assert!(error.hint.contains("AWS_ACCESS_KEY_ID"), "{}", error.hint);
        return;
    }
    store.preflight().await.unwrap();
    store.put_object(&key("a.mp4"), Some("t"), "video/mp4", small(b"x")).await.unwrap();
    assert_eq!(store.head(&key("a.mp4")).await.unwrap().unwrap().token.as_deref(), Some("t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_and_credentials_are_found_where_aws_tools_find_them() {
    const CHILD: &str = "REELTIME_TEST_BUCKET";
    if let Ok(bucket) = std::env::var(CHILD) {
        return with_the_environment_only(&bucket).await;
    }
    let moto = tokio::task::spawn_blocking(Moto::shared).await.unwrap();
    let bucket = new_bucket(&moto);
    let home = tempfile::tempdir().unwrap();
    let profiles = home.path().join("credentials");
    std::fs::write(&profiles, "[cameras]\naws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    let profiles = profiles.to_str().unwrap();
    let endpoint = moto.endpoint();
    for environment in [
        vec![("AWS_ENDPOINT_URL_S3", &*endpoint), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")],
        vec![
            ("AWS_ENDPOINT_URL", &*endpoint),
            ("AWS_PROFILE", "cameras"),
            ("AWS_SHARED_CREDENTIALS_FILE", profiles),
            ("AWS_REGION", "eu-west-1"),
        ],
        vec![("AWS_ENDPOINT_URL", &*endpoint), ("AWS_EC2_METADATA_DISABLED", "true")],
    ] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "s3_only::endpoint_and_credentials_are_found_where_aws_tools_find_them", "--nocapture"])
            .env_clear()
            .env("HOME", home.path())
            .env(CHILD, &bucket)
            .envs(environment.clone())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{environment:?}\n{said}");
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{environment:?}\n{said}");
    }
}
