//! The built binary, and its store alone, before real S3 servers that verify signatures and keep
//! their data: every test runs on `MinIO` and on Garage, with a bucket of its own, and with a server
//! of its own where that is killed or changed. What the store holds is looked at with a client that is not reeltime's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reeltime::storage::{CompletedPart, ObjectStore, PartBody, S3Config, S3Store, UploadRef};
use reeltime_core::{Crc64Nvme, ObjectKey, PartNumber, Trouble};
use testkit::daemon::Daemon;
use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::{Credentials, Provider, Store};

use world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_recording_of_several_parts_becomes_its_object
    an_aborted_upload_leaves_neither_object_nor_parts
    twenty_four_recordings_at_once_are_all_right
    a_store_that_is_killed_in_the_middle_gets_the_rest_into_the_same_upload
    a_new_client_goes_on_with_a_stored_upload_id_and_etags
    a_part_that_is_replaced_before_completion_counts
    a_completion_that_is_answered_as_an_error_is_repeated
    a_completion_whose_answer_is_lost_is_found_out
    an_upload_that_vanishes_while_recording_is_begun_anew_from_the_file
    no_part_of_a_wrong_size_reaches_the_store
    new_keys_in_the_credentials_file_are_used_in_the_middle_of_an_upload
    credentials_that_expire_are_fetched_again_in_the_middle_of_an_upload
    expired_credentials_are_not_sent_again
}

fn a_recording_of_several_parts_becomes_its_object(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let style = Style::RewriteHead { head_bytes: 48, every_bytes: u64::MAX };
    let recording = record_until(path.clone(), style, 3 * S3_PART + MIB, 2 * S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 2);
    assert_eq!(world.sha256("a.mp4"), None, "there is no object while it is recorded");
    assert_eq!(world.leftovers().len(), 1);
    recording.go_on();
    let finished = recording.wait();
    let completed = wait_completed(&daemon, &path);
    world.assert_identical(&finished);

    let head = store.s3().head(store.bucket(), "a.mp4").unwrap();
    assert_eq!(head.size_bytes, 3 * S3_PART + MIB);
    assert_eq!(completed.number("size_bytes"), Some(head.size_bytes));
    assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
    assert!(head.metadata.contains_key("reeltime-token"), "{head:?}");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// A file that is renamed while it is recorded: the upload of the old name is aborted.
fn an_aborted_upload_leaves_neither_object_nor_parts(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    let upload = world.uploads_used("a.mp4").pop_first().unwrap();
    assert_eq!(store.s3().parts(store.bucket(), "a.mp4", &upload).unwrap().len(), 1);
    fs::rename(&path, world.path("b.mp4")).unwrap();
    world.proxy().wait_for("the abort", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.op == Op::AbortMultipartUpload && logged.server_status == Some(204))
    });
    assert_eq!(store.s3().parts(store.bucket(), "a.mp4", &upload), None, "nothing is left of the upload");
    recording.go_on();
    let mut finished = recording.wait();
    finished.path = world.path("b.mp4");
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(world.sha256("a.mp4"), None);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn twenty_four_recordings_at_once_are_all_right(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let daemon = world.start();
    let recordings: Vec<_> = (0..24)
        .map(|number| {
            let path = world.path(&format!("cam-{number}.mp4"));
            let total = S3_PART + 1000 * (number + 1);
            Synthetic::into(path, Style::Append, total).seed(number + 1).hold_at(S3_PART).start()
        })
        .collect();
    // None ends before all are under way.
    for (number, recording) in recordings.iter().enumerate() {
        recording.wait_held(DEADLINE);
        wait_part(&daemon, &world.path(&format!("cam-{number}.mp4")), 1);
    }
    assert_eq!(world.leftovers().len(), 24);
    recordings.iter().for_each(testkit::recorders::synthetic::Recording::go_on);
    for recording in recordings {
        let finished = recording.wait();
        wait_completed(&daemon, &finished.path);
        world.assert_identical(&finished);
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn a_store_that_is_killed_in_the_middle_gets_the_rest_into_the_same_upload(provider: Provider) {
    let store = provider.own_store();
    let Some(process) = store.process() else { return };
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 4 * S3_PART + MIB, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    // While it takes a part in.
    let slow = world.proxy().inject(When::op(Op::UploadPart).part(2), Fault::Throttle { bytes_per_second: MIB });
    recording.go_on_until(2 * S3_PART + MIB);
    world.proxy().wait_for("a piece of part 2", DEADLINE, |log| {
        log.iter().any(|logged| logged.request.part_number == Some(2) && logged.body_bytes > 100_000)
    });
    process.kill();
    slow.lift();
    daemon.wait_event_of("retrying", &path, DEADLINE);
    store.restart();
    wait_part(&daemon, &path, 2);
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.sent("a.mp4")[0], 1, "what the store had is not sent again");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// The store alone, as another process would have it after a restart.
fn a_new_client_goes_on_with_a_stored_upload_id_and_etags(provider: Provider) {
    let store = provider.store();
    let whole = noise(2 * S3_PART as usize + 4321);
    let (first, rest) = whole.split_at(S3_PART as usize);
    let (second, third) = rest.split_at(S3_PART as usize);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (id, etag) = runtime.block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id: client.create_upload(&key("a.mp4"), "t.1").await.unwrap().id };
        (upload.id.clone(), put(&client, &upload, 1, first).await.etag)
    });
    // Nothing but the id and the ETag is known from here on.
    runtime.block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id };
        let listed = client.list_parts(&upload).await.unwrap();
        assert_eq!(listed.iter().map(|part| (part.number.get(), part.size_bytes)).collect::<Vec<_>>(), [(1, S3_PART)]);
        assert_eq!(listed[0].etag, etag);
        let kept = CompletedPart { number: number(1), etag, crc: Some(Crc64Nvme::of(first)) };
        let parts = [kept, put(&client, &upload, 2, second).await, put(&client, &upload, 3, third).await];
        client.complete(&upload, &parts, Some(Crc64Nvme::of(&whole)), whole.len() as u64).await.unwrap();
        let facts = client.head(&key("a.mp4")).await.unwrap().unwrap();
        assert_eq!((facts.size_bytes, facts.token.as_deref()), (whole.len() as u64, Some("t.1")));
        let gone = client.list_parts(&upload).await.unwrap_err();
        assert_eq!(gone.trouble, Trouble::NoSuchUpload, "{gone}");
    });
    assert!(store.s3().get(store.bucket(), "a.mp4").unwrap() == whole);
    assert_eq!(store.unfinished(["a.mp4"]), Vec::<String>::new());
}

fn a_part_that_is_replaced_before_completion_counts(provider: Provider) {
    let store = provider.store();
    let mut whole = noise(S3_PART as usize + 99);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id: client.create_upload(&key("a.mp4"), "t").await.unwrap().id };
        let outdated = put(&client, &upload, 1, &whole[..S3_PART as usize]).await;
        let tail = put(&client, &upload, 2, &whole[S3_PART as usize..]).await;
        whole[40..48].copy_from_slice(b"mdatsize");
        let head = put(&client, &upload, 1, &whole[..S3_PART as usize]).await;
        assert_ne!(outdated.etag, head.etag);
        let crc = Some(Crc64Nvme::of(&whole));
        let error = client.complete(&upload, &[outdated, tail.clone()], crc, whole.len() as u64).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
        client.complete(&upload, &[head, tail], crc, whole.len() as u64).await.unwrap();
    });
    assert!(store.s3().get(store.bucket(), "a.mp4").unwrap() == whole);
    assert_eq!(store.unfinished(["a.mp4"]), Vec::<String>::new());
}

/// Twice: once nothing was done, once it was done nevertheless.
fn a_completion_that_is_answered_as_an_error_is_repeated(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let lie = Fault::AnswerInstead(Answer::error(200, "InternalError", "We encountered an internal error."));
    let truth = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::error_in_ok()).times(1);
    let lie = world.proxy().inject(When::op(Op::CompleteMultipartUpload), lie).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((truth.hits(), lie.hits(), world.sent("a.mp4")), (1, 1, vec![1, 1]));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Both servers forget an upload that was completed: the object decides.
fn a_completion_whose_answer_is_lost_is_found_out(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let lost = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::CutAnswer).times(1);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!((lost.hits(), world.sent("a.mp4")), (1, vec![1, 1]), "nothing is uploaded twice");
    assert_eq!(world.uploads_used("a.mp4").len(), 1);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn an_upload_that_vanishes_while_recording_is_begun_anew_from_the_file(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART, S3_PART + MIB);
    let daemon = world.start();
    wait_part(&daemon, &path, 1);
    let vanished = world.uploads_used("a.mp4").pop_first().unwrap();
    store.s3().abort(store.bucket(), "a.mp4", &vanished);
    recording.go_on_until(2 * S3_PART + MIB);
    world.proxy().wait_for("two parts in another upload", DEADLINE, |log| {
        let others = log.iter().filter(|logged| {
            logged.request.op == Op::UploadPart
                && logged.request.upload_id.as_ref() != Some(&vanished)
                && logged.server_status == Some(200)
        });
        others.count() >= 2
    });
    assert!(recording.written_bytes() < 3 * S3_PART, "it goes on while it is recorded");
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Garage would take a middle part that is too small, and `MinIO` would only say so at the end.
fn no_part_of_a_wrong_size_reaches_the_store(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let refused = Daemon::run(env!("CARGO_BIN_EXE_reeltime"))
        .arg(world.recordings())
        .args(["--to", &world.to(), "--part-size", "5242879"])
        .envs(world.proxy().env_of(store.env()))
        .start();
    assert_ne!(refused.wait_exit(DEADLINE).code(), Some(0));
    let said = fs::read_to_string(refused.log()).unwrap();
    assert!(said.contains("--part-size") && said.contains("5MiB"), "{said}");
    assert_eq!(world.writes(), 0);

    // A recorder that stops and goes on in the middle of parts: tails are sent and replaced.
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 3 * S3_PART + 1, 700_000);
    let daemon = world.daemon().args(["--tail-flush", "1s"]).start();
    wait_part(&daemon, &path, 1);
    for end in [S3_PART - 1, S3_PART + 1, 2 * S3_PART + 300_000] {
        recording.go_on_until(end);
        recording.wait_held(DEADLINE);
    }
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    let completed = world.uploads_used("a.mp4");
    assert_eq!(completed.len(), 1);
    // The last that was sent as each part is what the object consists of.
    let mut sizes = std::collections::BTreeMap::new();
    for sent in world.requests(Op::UploadPart, "a.mp4") {
        let length: u64 = sent.request.header("content-length").unwrap().parse().unwrap();
        assert!(length <= S3_PART, "{sent}");
        sizes.insert(sent.request.part_number.unwrap(), length);
    }
    let last = *sizes.keys().last().unwrap();
    assert!(sizes.iter().all(|(part, size)| *part == last || *size == S3_PART), "{sizes:?}");
    assert_eq!(sizes.values().sum::<u64>(), 3 * S3_PART + 1);
}

/// The old keys stop working while the recording goes on; new ones are put into the file.
fn new_keys_in_the_credentials_file_are_used_in_the_middle_of_an_upload(provider: Provider) {
    let store = provider.own_store();
    if store.process().is_none() {
        return;
    }
    let world = World::on(&store);
    let file = world.beside("credentials");
    write_profile(&file, &store.credentials());
    let daemon = world.daemon().env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let daemon = daemon.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = daemon.start();
    wait_part(&daemon, &path, 1);

    let new = store.replace_credentials();
    recording.go_on();
    let finished = recording.wait();
    world.proxy().wait_for("the old keys to be refused", DEADLINE, |log| {
        log.iter().any(|logged| logged.server_status == Some(403))
    });
    assert_eq!(failures(&daemon), Vec::<String>::new(), "it waits for new ones");
    write_profile(&file, &new);
    wait_completed(&daemon, &path);
    assert_eq!(store.s3().sha256(store.bucket(), "a.mp4").as_deref(), Some(finished.sha256.as_str()));
    assert_eq!(world.uploads_used("a.mp4").len(), 1, "it is the same upload");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

fn credentials_that_expire_are_fetched_again_in_the_middle_of_an_upload(provider: Provider) {
    let store = provider.own_store();
    if store.process().is_none() {
        return;
    }
    let world = World::on(&store);
    let source = Source::new(&world, &store.credentials(), Duration::from_secs(1));
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = source.set(world.daemon()).start();
    wait_part(&daemon, &path, 1);

    let old = store.credentials();
    let new = store.replace_credentials();
    source.give(&new, Duration::from_hours(1));
    let asked = source.asked();
    source.wait_expired();
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    assert_eq!(store.s3().sha256(store.bucket(), "a.mp4").as_deref(), Some(finished.sha256.as_str()));
    assert!(source.asked() > asked, "the source was asked again");
    assert_eq!(world.uploads_used("a.mp4").len(), 1, "it is the same upload");
    let signed_by = |part: u32, keys: &Credentials| {
        world.requests(Op::UploadPart, "a.mp4").iter().any(|sent| {
            sent.request.part_number == Some(part)
                && sent.request.header("authorization").unwrap_or_default().contains(&keys.access_key_id)
        })
    };
    assert!(signed_by(1, &old) && signed_by(2, &new) && signed_by(3, &new));
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// The keys stay good, so that no refusal tells of their end: the stated time alone does.
fn expired_credentials_are_not_sent_again(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let source = Source::new(&world, &store.credentials(), Duration::from_secs(1));
    let path = world.path("a.mp4");
    let recording = record_until(path.clone(), Style::Append, 2 * S3_PART + MIB, S3_PART + MIB);
    let daemon = source.set(world.daemon()).start();
    wait_part(&daemon, &path, 1);
    let asked = source.asked();
    assert!(asked >= 1);
    source.wait_expired();
    source.give(&store.credentials(), Duration::from_hours(1));
    recording.go_on();
    let finished = recording.wait();
    wait_completed(&daemon, &path);
    world.assert_identical(&finished);
    assert!(source.asked() > asked, "the source was asked again");
    assert!(world.proxy().log().iter().all(|logged| logged.server_status != Some(403)));
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// A program that hands out credentials with an end, and counts how often it is asked.
struct Source {
    directory: std::path::PathBuf,
    first_ends: SystemTime,
}

impl Source {
    fn new(world: &World, credentials: &Credentials, valid_for: Duration) -> Self {
        let directory = world.beside("source");
        fs::create_dir(&directory).unwrap();
        let shown = directory.display();
        let program = directory.join("program");
        fs::write(&program, format!("#!/bin/sh\necho asked >> {shown}/asked\ncat {shown}/answer.json\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("[default]\ncredential_process = {}\n", program.display());
        fs::write(directory.join("config"), config).unwrap();
        let source = Self { directory, first_ends: SystemTime::now() + valid_for };
        source.give(credentials, valid_for);
        source
    }

    /// Answers with these from now on.
    fn give(&self, credentials: &Credentials, valid_for: Duration) {
        let end = jiff::Timestamp::try_from(SystemTime::now() + valid_for).unwrap();
        let answer = format!(
            r#"{{"Version": 1, "AccessKeyId": "{}", "SecretAccessKey": "{}", "Expiration": "{end:.0}"}}"#,
            credentials.access_key_id, credentials.secret_access_key
        );
        let new = self.directory.join("answer.new");
        fs::write(&new, answer).unwrap();
        fs::rename(new, self.directory.join("answer.json")).unwrap();
    }

    /// Makes a reeltime ask it and nobody else.
    fn set(&self, daemon: Daemon) -> Daemon {
        daemon
            .env("AWS_CONFIG_FILE", self.directory.join("config"))
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.directory.join("asked")).unwrap_or_default().lines().count()
    }

    /// Returns when the first credentials are past their end.
    fn wait_expired(&self) {
        while let Ok(left) = self.first_ends.duration_since(SystemTime::now()) {
            thread::sleep(left + Duration::from_millis(1)); // the end is a time, and nothing else tells of it
        }
    }
}

fn write_profile(file: &std::path::Path, credentials: &Credentials) {
    let Credentials { access_key_id, secret_access_key, .. } = credentials;
    let lines =
        format!("[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}\n");
    let new = file.with_extension("new");
    fs::write(&new, lines).unwrap();
    fs::rename(new, file).unwrap();
}

async fn connect(store: &Store) -> S3Store {
    let keys = store.credentials();
    let given = aws_sdk_s3::config::Credentials::new(keys.access_key_id, keys.secret_access_key, None, None, "test");
    let config = S3Config {
        endpoint: Some(store.endpoint().to_owned()),
        region: Some(keys.region),
        credentials: Some(aws_sdk_s3::config::SharedCredentialsProvider::new(given)),
        ..S3Config::new(store.bucket(), "")
    };
    S3Store::connect(config).await.unwrap()
}

async fn put(client: &S3Store, upload: &UploadRef, part: u32, bytes: &[u8]) -> CompletedPart {
    let body = PartBody::of_bytes(Bytes::copy_from_slice(bytes));
    let offset = u64::from(part - 1) * S3_PART;
    let stored = client.put_part(upload, number(part), offset, body).await.unwrap();
    CompletedPart { number: number(part), etag: stored.etag, crc: Some(Crc64Nvme::of(bytes)) }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_relative(std::path::Path::new(name), &[]).unwrap()
}

fn number(part: u32) -> PartNumber {
    PartNumber::new(part).unwrap()
}

/// Bytes that differ from place to place.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(len)
    .collect()
}
