//! `reeltime verify`: what it says of recordings whose objects are right, wrong and missing, and
//! what it reads for that.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use testkit::proxy::{Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use world::{Destination, KIB, LOCAL_PART, MIB, S3_PART, World, record_until};

testkit::on_every_store! {
    a_byte_that_was_flipped_in_the_middle_is_found
    what_the_store_can_tell_is_not_read_for
}

/// Without a place for the state, and without a home to make one in.
fn verify(world: &World, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
    command.env_clear().current_dir(world.beside("")).arg("verify").arg(world.recordings());
    command.env("REELTIME_PART_SIZE", world.part_bytes().to_string()).args(["--to", &world.to()]).args(more);
    if let Destination::S3 { proxy, env, .. } = &world.destination {
        command.envs(proxy.env_of(env.clone()));
    }
    command.output().unwrap()
}

/// The lines of `--json` by the names of the recordings, the summary, and the exit code.
struct Told {
    lines: Vec<Value>,
    summary: Value,
    code: Option<i32>,
    stderr: String,
}

impl Told {
    fn of(world: &World, more: &[&str]) -> Self {
        let output = verify(world, &[&["--json"], more].concat());
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        println!("{stdout}{stderr}");
        let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = lines.pop().unwrap_or_else(|| panic!("nothing is said: {stderr}"))["summary"].take();
        Self { lines, summary, code: output.status.code(), stderr }
    }

    #[track_caller]
    fn line(&self, name: &str) -> &Value {
        let named = |line: &&Value| Path::new(line["path"].as_str().unwrap()).ends_with(name);
        self.lines.iter().find(named).unwrap_or_else(|| panic!("nothing is said of {name}"))
    }

    #[track_caller]
    fn verdict(&self, name: &str) -> &str {
        self.line(name)["verdict"].as_str().unwrap()
    }
}

fn record(world: &World, name: &str, bytes: u64) {
    fs::create_dir_all(world.path(name).parent().unwrap()).unwrap();
    Synthetic::into(world.path(name), Style::Append, bytes).seed(bytes).start().wait();
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn a_byte_that_was_flipped_in_the_middle_is_found(provider: Provider) {
    let world = World::at(provider);
    let large = 4 * S3_PART + 3 * MIB;
    for (name, bytes) in [("empty.mp4", 0), ("small.mp4", 999), ("cam/large.mp4", large)] {
        record(&world, name, bytes);
    }
    assert_eq!(world.once(), Some(0));
    let state = world.state.streams();
    let told = Told::of(&world, &[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    assert_eq!(told.summary["ok"], 3);
    assert_eq!(told.line("cam/large.mp4")["read_bytes"], large);

    flip(&world.path("cam/large.mp4"), large / 2);
    let told = Told::of(&world, &[]);
    assert_eq!(told.verdict("cam/large.mp4"), "differs");
    assert_eq!((told.code, told.summary["ok"].as_u64(), told.summary["differs"].as_u64()), (Some(1), Some(2), Some(1)));
    flip(&world.path("cam/large.mp4"), large / 2);
    assert_eq!(Told::of(&world, &[]).code, Some(0), "flipped back");
    assert_eq!(world.state.streams(), state, "the state is not touched");
}

fn what_the_store_can_tell_is_not_read_for(provider: Provider) {
    let world = World::at(provider);
    for name in ["shorter.mp4", "gone.mp4", "same.mp4", "left out.mp4"] {
        record(&world, name, S3_PART + 77);
    }
    assert_eq!(world.once(), Some(0));
    fs::OpenOptions::new().write(true).open(world.path("shorter.mp4")).unwrap().set_len(S3_PART).unwrap();
    world.bucket().delete(world.bucket_name(), "gone.mp4");
    let writing = record_until(world.path("new.mp4.part"), Style::Append, 2 * MIB, MIB);
    world.proxy().clear_log();

    let told = Told::of(&world, &["--exclude", "left*"]);
    assert_eq!(told.verdict("shorter.mp4"), "differs");
    assert_eq!(told.verdict("gone.mp4"), "missing");
    assert_eq!(told.verdict("new.mp4.part"), "recording");
    assert_eq!(told.verdict("same.mp4"), "ok");
    assert_eq!((told.lines.len(), told.code), (4, Some(1)));
    for name in ["shorter.mp4", "gone.mp4", "new.mp4.part"] {
        assert_eq!(told.line(name)["read_bytes"], 0, "{name}");
    }
    assert_eq!(told.line("shorter.mp4")["object_size_bytes"], S3_PART + 77);
    assert!(told.stderr.contains("2 of 4 recordings") && told.stderr.contains("hint: "), "{}", told.stderr);
    assert_eq!(world.proxy().count(Op::GetObject) + world.writes(), 0, "the store is only asked");

    for name in ["shorter.mp4", "gone.mp4"] {
        fs::remove_file(world.path(name)).unwrap();
    }
    let told = Told::of(&world, &[]);
    assert_eq!((told.code, told.verdict("new.mp4.part")), (Some(0), "recording"), "to be recorded is no failure");
    drop(writing);
}

#[test]
fn a_store_without_checksums_is_believed_only_as_far_as_its_etags_go() {
    let world = World::s3("verify-etags");
    record(&world, "parts.mp4", 2 * S3_PART + 5);
    record(&world, "whole.mp4", 5 * KIB);
    assert_eq!(world.once(), Some(0));
    let told = Told::of(&world, &[]);
    assert_eq!((told.verdict("parts.mp4"), told.verdict("whole.mp4"), told.code), ("ok", "ok", Some(0)));

    // As two parts instead of three.
    let told = Told::of(&world, &["--part-size", "8MiB"]);
    assert_eq!((told.verdict("parts.mp4"), told.verdict("whole.mp4"), told.code), ("unknown", "ok", Some(1)));
    assert_eq!(told.line("parts.mp4")["read_bytes"], 0, "nothing could come of it");
    assert!(told.line("parts.mp4")["detail"].as_str().unwrap().contains("--part-size"));

    flip(&world.path("parts.mp4"), S3_PART);
    flip(&world.path("whole.mp4"), 0);
    let told = Told::of(&world, &[]);
    // Their ETags would be others, too, if the objects were encrypted: nobody knows.
    assert_eq!((told.verdict("parts.mp4"), told.verdict("whole.mp4"), told.code), ("unknown", "unknown", Some(1)));
    assert!(told.line("whole.mp4")["detail"].as_str().unwrap().contains("the object differs, or"));
}

#[test]
fn a_directory_is_verified_as_a_bucket_is_and_lines_are_for_people() {
    let world = World::local();
    for name in ["a.mp4", "b\x1b[2J.mp4", "c.mp4"] {
        record(&world, name, 3 * LOCAL_PART + 1);
    }
    assert_eq!(world.once(), Some(0));
    flip(&world.path("b\x1b[2J.mp4"), LOCAL_PART);
    fs::remove_file(world.beside("out/c.mp4")).unwrap();
    let output = verify(&world, &[]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = stdout.lines().collect();
    lines[..3].sort_unstable();
    let rec = world.recordings().canonicalize().unwrap();
    let rec = rec.display();
    assert_eq!(
        lines,
        [
            format!("differs    {rec}/b\\u{{1b}}[2J.mp4  (the checksum is another)"),
            format!("missing    {rec}/c.mp4"),
            format!("ok         {rec}/a.mp4"),
            String::new(),
            "1 ok, 1 missing, 1 differs, 0 unknown, 0 recording, 0 error".to_owned(),
        ]
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_store_that_stumbles_is_asked_again_and_one_that_refuses_is_told() {
    let world = World::s3("verify-troubles");
    record(&world, "a.mp4", 99);
    record(&world, "b.mp4", 99);
    assert_eq!(world.once(), Some(0));
    let once = world.proxy().inject(When::op(Op::HeadObject).key("a.mp4"), Fault::slow_down()).times(1);
    world.proxy().inject(When::op(Op::HeadObject).key("b.mp4"), Fault::access_denied());
    let told = Told::of(&world, &[]);
    assert_eq!((told.verdict("a.mp4"), told.verdict("b.mp4"), told.code), ("ok", "error", Some(1)));
    assert_eq!(once.hits(), 1);
    assert!(told.line("b.mp4")["detail"].as_str().unwrap().contains("HeadObject"));

    world.proxy().go_down();
    let output = verify(&world, &[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
}

#[test]
fn what_is_missing_on_the_command_line_is_asked_for() {
    let world = World::local();
    for (args, message) in [
        (&["verify", "--to", "out"][..], "no directory to verify"),
        (&["verify", "rec"], "no destination"),
        (&["verify", "nowhere", "--to", "out"], "the source nowhere does not exist"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
        let output = command.env_clear().current_dir(world.beside("")).args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(message) && stderr.contains("\nhint: "), "{stderr}");
    }
}
