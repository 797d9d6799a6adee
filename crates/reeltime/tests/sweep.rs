//! `reeltime sweep`: what reeltime left behind is aborted, and what is somebody else's, or will be
//! gone on with, is not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{Destination, LOCAL_PART, MIB, S3_PART, StateStore, World, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    orphans_are_aborted_and_nothing_else
    beside_a_running_reeltime_only_what_it_cannot_need_is_aborted
}

/// Begins an upload with parts of these sizes, as somebody else would.
fn begin(world: &World, key: &str, sizes: &[u64]) -> String {
    let (s3, bucket) = (world.bucket(), world.bucket_name());
    let id = s3.create_upload(bucket, key);
    for (number, size) in (1..).zip(sizes) {
        s3.upload_part(bucket, key, &id, number, &vec![7; *size as usize]);
    }
    id
}

fn is_there(world: &World, key: &str, id: &str) -> bool {
    world.stored_parts(key, id).is_some()
}

/// What `sweep --json` says of each upload: its fate and why; and the exit code.
struct Told {
    fates: BTreeMap<String, (String, String)>,
    code: Option<i32>,
    stderr: String,
}

fn sweep(world: &World, args: &[&str]) -> Told {
    let output = world.mend(&[&["sweep", "--json"], args].concat());
    let mut fates = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(id) = line["upload_id"].as_str() {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            fates.insert(id.to_owned(), (text("fate"), text("why")));
        }
    }
    Told { fates, code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}

impl Told {
    #[track_caller]
    fn assert(&self, id: &str, fate: &str, why: &str) {
        let told = self.fates.get(id).unwrap_or_else(|| panic!("{id} is to be {fate}: {:#?}", self.fates));
        assert!(told.0 == fate && told.1.contains(why), "{fate}, {why}: {told:?}");
    }
}

fn orphans_are_aborted_and_nothing_else(provider: Provider) {
    let world = World::at(provider);
    let done = Synthetic::into(world.path("done.mp4"), Style::Append, S3_PART + 9).start().wait();
    let mut daemon = world.start();
    wait_completed(&daemon, &done.path);
    let live = record_until(world.path("live.mp4"), Style::Append, 2 * S3_PART, S3_PART + MIB);
    wait_part(&daemon, live.path(), 1);
    let gone = record_until(world.path("gone.mp4"), Style::Append, 3 * S3_PART, 2 * S3_PART);
    wait_part(&daemon, gone.path(), 1);
    wait_part(&daemon, gone.path(), 2);
    daemon.kill();
    let id_of = |name: &str| world.told_of(&world.path(name)).unwrap().upload_id.unwrap();
    let (live_id, gone_id) = (id_of("live.mp4"), id_of("gone.mp4"));
    fs::remove_file(world.path("gone.mp4")).unwrap();

    let orphan = begin(&world, "done.mp4", &[S3_PART, S3_PART, MIB]);
    let other_layout = begin(&world, "done.mp4", &[6 * MIB, 6 * MIB]);
    let empty = begin(&world, "done.mp4", &[]);
    let other_key = begin(&world, "other.mp4", &[S3_PART, MIB]);
    let beside_live = begin(&world, "live.mp4", &[S3_PART, MIB]);
    let all = [
        ("done.mp4", &orphan),
        ("done.mp4", &other_layout),
        ("done.mp4", &empty),
        ("other.mp4", &other_key),
        ("live.mp4", &beside_live),
        ("live.mp4", &live_id),
        ("gone.mp4", &gone_id),
    ];

    let streams = world.state.streams();
    let told = sweep(&world, &["--yes", "--dry-run"]);
    told.assert(&orphan, "would_abort", "its stream is completed");
    told.assert(&gone_id, "would_abort", "its file is gone");
    assert!(all.iter().all(|(key, id)| is_there(&world, key, id)), "a dry run aborts nothing");
    assert_eq!(world.state.streams(), streams, "and changes nothing");

    let elsewhere = sweep(&world, &["--yes", "--node", "elsewhere"]);
    assert_eq!(elsewhere.code, Some(0));
    let fates: Vec<_> = elsewhere.fates.values().map(|(fate, _)| fate.as_str()).collect();
    assert!(fates.iter().all(|fate| *fate == "foreign"), "another node has no streams here: {fates:?}");

    let told = sweep(&world, &["--yes"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    told.assert(&orphan, "aborted", "its stream is completed");
    told.assert(&gone_id, "aborted", "its file is gone");
    told.assert(&live_id, "kept", "goes on when reeltime runs");
    told.assert(&beside_live, "kept", "goes on when reeltime runs");
    told.assert(&other_layout, "foreign", "not divided as reeltime");
    told.assert(&empty, "foreign", "no parts");
    if provider != Provider::Minio {
        told.assert(&other_key, "foreign", "no stream has its key"); // it does not list them reliably
    }
    for (key, id) in all {
        let is_orphan = [&orphan, &gone_id].contains(&id);
        assert_eq!(is_there(&world, key, id), !is_orphan, "{key} {id}");
    }
    let told = world.told_of(&world.path("gone.mp4")).unwrap();
    assert_eq!((told.state.as_str(), told.reason.as_deref()), ("failed", Some("source_missing")));
    assert_eq!((told.upload.as_str(), told.upload_id), ("none", None));
    assert!(sweep(&world, &["--yes"]).fates.values().all(|(fate, _)| fate != "aborted"), "once is enough");

    live.go_on();
    let finished = live.wait();
    daemon.restart();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    world.assert_identical(&done);
    assert_eq!(world.uploads_used("live.mp4"), [live_id].into());
    for (key, id) in
        [("done.mp4", other_layout), ("done.mp4", empty), ("other.mp4", other_key), ("live.mp4", beside_live)]
    {
        if is_there(&world, key, &id) {
            world.bucket().abort(world.bucket_name(), key, &id);
        }
    }
}

fn beside_a_running_reeltime_only_what_it_cannot_need_is_aborted(provider: Provider) {
    let world = World::at(provider);
    let done = Synthetic::into(world.path("done.mp4"), Style::Append, S3_PART + 9).start().wait();
    let live = record_until(world.path("live.mp4"), Style::Append, 2 * S3_PART, S3_PART + MIB);
    let deleted = record_until(world.path("deleted.mp4"), Style::Append, 2 * S3_PART, S3_PART + MIB);
    let daemon = world.start();
    wait_completed(&daemon, &done.path);
    wait_part(&daemon, live.path(), 1);
    wait_part(&daemon, deleted.path(), 1);
    fs::remove_file(deleted.path()).unwrap();
    let orphan = begin(&world, "done.mp4", &[S3_PART, MIB]);

    let told = sweep(&world, &[]);
    if let StateStore::Sqlite(_) = world.state {
        assert_eq!(told.code, Some(1));
        assert!(told.stderr.contains("is held by") && told.stderr.contains("stop it first"), "{}", told.stderr);
        sweep(&world, &["--dry-run"]).assert(&orphan, "would_abort", "its stream is completed");
        assert!(is_there(&world, "done.mp4", &orphan));
        world.bucket().abort(world.bucket_name(), "done.mp4", &orphan);
    } else {
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        told.assert(&orphan, "aborted", "its stream is completed");
        assert!(!is_there(&world, "done.mp4", &orphan));
        let kept = |name: &str| world.told_of(&world.path(name)).unwrap().upload_id.unwrap();
        told.assert(&kept("live.mp4"), "kept", "goes on");
        told.assert(&kept("deleted.mp4"), "kept", "may finish from its open file");
    }
    live.go_on();
    deleted.go_on();
    for recording in [live, deleted] {
        let finished = recording.wait();
        wait_completed(&daemon, &finished.path);
        let key = finished.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(world.sha256(key), Some(finished.sha256), "{key}");
    }
    assert_eq!(world.proxy().count(Op::CreateMultipartUpload), 3, "nothing was begun anew");
}

/// With the state in a file: a completed stream of `done.mp4`, and no reeltime that runs.
fn with_done(bucket: &str) -> World {
    let world = World::s3(bucket);
    Synthetic::into(world.path("done.mp4"), Style::Append, S3_PART + 9).start().wait();
    assert_eq!(world.once(), Some(0));
    world
}

#[test]
fn a_destination_that_is_a_directory_is_swept_as_a_bucket_is() {
    let world = World::local();
    let gone = record_until(world.path("gone.mp4"), Style::Append, 3 * LOCAL_PART, 2 * LOCAL_PART);
    let live = record_until(world.path("live.mp4"), Style::Append, 3 * LOCAL_PART, 2 * LOCAL_PART);
    let mut daemon = world.start();
    wait_part(&daemon, gone.path(), 2);
    wait_part(&daemon, live.path(), 2);
    daemon.kill();
    fs::remove_file(gone.path()).unwrap();
    let id_of = |name: &str| world.told_of(&world.path(name)).unwrap().upload_id.unwrap();
    let (gone_id, live_id) = (id_of("gone.mp4"), id_of("live.mp4"));
    let told = sweep(&world, &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    told.assert(&gone_id, "aborted", "its file is gone");
    told.assert(&live_id, "kept", "goes on");
    assert!(!world.leftovers().iter().any(|name| name.contains("gone")), "{:?}", world.leftovers());
    live.go_on();
    let finished = live.wait();
    daemon.restart();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_upload_is_aborted_until_it_is_gone() {
    let world = with_done("sweep-again");
    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    // As if a part had been on its way: the upload is there all the same.
    let nothing = Answer { status: 204, headers: Vec::new(), body: Vec::new() };
    let lost = world.proxy().inject(When::op(Op::AbortMultipartUpload), Fault::Answer(nothing)).times(2);
    let told = sweep(&world, &[]);
    assert_eq!((told.code, lost.hits()), (Some(0), 2), "{}", told.stderr);
    told.assert(&orphan, "aborted", "");
    assert!(!is_there(&world, "done.mp4", &orphan));

    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    world.proxy().inject(When::op(Op::AbortMultipartUpload), Fault::access_denied());
    let told = sweep(&world, &[]);
    assert_eq!(told.code, Some(1));
    told.assert(&orphan, "failed", "AbortMultipartUpload");
    assert!(told.stderr.contains("hint: "), "{}", told.stderr);
}

#[test]
fn what_was_begun_before_the_stream_is_somebody_elses() {
    let world = with_done("sweep-before");
    let before = begin(&world, "done.mp4", &[S3_PART, MIB]);
    // The stream was begun a minute later.
    let state = rusqlite::Connection::open(world.beside("state.db")).unwrap();
    state.execute("UPDATE streams SET started_at_ms = started_at_ms + 60000", []).unwrap();
    drop(state);
    let told = sweep(&world, &[]);
    told.assert(&before, "foreign", "before any stream");
    assert!(is_there(&world, "done.mp4", &before));
}

#[test]
fn a_stream_that_is_taken_up_meanwhile_is_left_to_its_owner() {
    let world = with_done("sweep-meanwhile");
    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    let held = world.proxy().inject(When::op(Op::ListParts), Fault::Hold);
    let told = std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| sweep(&world, &[]));
        held.wait_hits(1, world::DEADLINE);
        let state = rusqlite::Connection::open(world.beside("state.db")).unwrap();
        state.execute("UPDATE streams SET epoch = epoch + 1", []).unwrap();
        held.lift();
        sweeping.join().unwrap()
    });
    told.assert(&orphan, "kept", "taken up meanwhile");
    assert_eq!(told.code, Some(0));
    assert!(is_there(&world, "done.mp4", &orphan));
}

#[test]
fn lines_are_for_people_and_tell_what_is_left_alone_only_when_asked() {
    let world = with_done("sweep-lines");
    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    let other = begin(&world, "other.mp4", &[MIB]);
    let lines = |args: &[&str]| String::from_utf8(world.mend(&[&["sweep"], args].concat()).stdout).unwrap();
    assert_eq!(
        lines(&["--verbose", "--dry-run"]),
        format!(
            "would abort  done.mp4  upload {orphan}, 5242880 bytes  (its stream is completed)\n\
             foreign      other.mp4  upload {other}  (no stream has its key)\n\n\
             0 aborted, 1 would abort, 0 kept, 1 foreign, 0 failed\n"
        )
    );
    assert_eq!(
        lines(&[]),
        format!(
            "aborted      done.mp4  upload {orphan}, 5242880 bytes  (its stream is completed)\n\n\
             1 aborted, 0 would abort, 0 kept, 0 foreign, 0 failed\n"
        )
    );
    assert!(is_there(&world, "other.mp4", &other));
}

#[test]
fn a_key_that_another_node_has_too_is_left_alone() {
    let world = with_done("sweep-other-node");
    let state = rusqlite::Connection::open(world.beside("state.db")).unwrap();
    state
        .execute_batch(
            "CREATE TEMP TABLE other AS SELECT * FROM streams;
             UPDATE other SET node = 'other', id = '01990000-0000-7000-8000-000000000000';
             INSERT INTO streams SELECT * FROM other",
        )
        .unwrap();
    drop(state);
    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    sweep(&world, &[]).assert(&orphan, "kept", "a stream of node other");
    assert!(is_there(&world, "done.mp4", &orphan));
}

#[test]
fn recordings_that_are_not_mounted_are_not_gone() {
    let world = World::s3("sweep-away");
    let live = record_until(world.path("live.mp4"), Style::Append, 2 * S3_PART, S3_PART);
    let daemon = world.start();
    wait_part(&daemon, live.path(), 1);
    daemon.kill();
    let id = world.told_of(live.path()).unwrap().upload_id.unwrap();
    fs::rename(world.recordings(), world.beside("elsewhere")).unwrap();
    sweep(&world, &["--yes"]).assert(&id, "kept", "is it mounted?");
    fs::create_dir(world.recordings()).unwrap(); // the mount point
    sweep(&world, &["--yes"]).assert(&id, "kept", "is it mounted?");
    assert!(is_there(&world, "live.mp4", &id));
    drop(live);
}

#[test]
fn a_recording_that_got_its_final_name_meanwhile_is_not_gone() {
    let world = World::s3("sweep-renamed");
    let live = record_until(world.path("live.mp4.part"), Style::Append, S3_PART + 1, S3_PART);
    let daemon = world.start();
    wait_part(&daemon, live.path(), 1);
    daemon.kill();
    let id = world.told_of(live.path()).unwrap().upload_id.unwrap();
    live.go_on();
    fs::rename(live.wait().path, world.path("live.mp4")).unwrap();
    sweep(&world, &[]).assert(&id, "kept", "goes on");
    assert!(is_there(&world, "live.mp4", &id));
}

#[test]
fn the_file_of_run_says_where_everything_is() {
    let world = with_done("sweep-config");
    let orphan = begin(&world, "done.mp4", &[S3_PART]);
    let Destination::S3 { proxy, env, .. } = &world.destination else { panic!("it is a bucket") };
    let config = format!(
        "to = '{}'\nstate = 'state.db'\nnode = 'test'\ns3-endpoint = '{}'\nmax-uploads = 3\n",
        world.to(),
        proxy.endpoint()
    );
    fs::write(world.beside("r.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
    command.env_clear().current_dir(world.beside("")).args(["sweep", "--config", "r.toml"]);
    command.envs(env.iter().filter(|(name, _)| !name.contains("ENDPOINT")).cloned());
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("aborted ") && stdout.contains(&orphan), "{stdout}");

    let nowhere = Command::new(env!("CARGO_BIN_EXE_reeltime")).env_clear().arg("sweep").output().unwrap();
    let stderr = String::from_utf8(nowhere.stderr).unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no destination") && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn a_state_that_is_not_there_is_not_created() {
    let world = World::s3("sweep-nothing");
    let output = world.mend(&["sweep"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("state.db") && stderr.contains("hint: name with --state"), "{stderr}");
    assert!(!world.beside("state.db").exists());
}
