//! Credentials that are replaced, or end, in the middle of an upload.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use testkit::daemon::Daemon;
use testkit::proxy::Op;
use testkit::recorders::synthetic::Style;
use testkit::servers::{Credentials, Provider};

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    new_keys_in_the_credentials_file_are_used_in_the_middle_of_an_upload
    credentials_that_expire_are_fetched_again_in_the_middle_of_an_upload
    expired_credentials_are_not_sent_again
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
    directory: PathBuf,
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

fn write_profile(file: &Path, credentials: &Credentials) {
    let Credentials { access_key_id, secret_access_key, .. } = credentials;
    let lines =
        format!("[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}\n");
    let new = file.with_extension("new");
    fs::write(&new, lines).unwrap();
    fs::rename(new, file).unwrap();
}
