//! The real binary, given what it must refuse: message, hint and exit code.
//!
//! Where a value comes from is told by giving one that is refused after all are laid over each
//! other: the refusal names it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A directory with `rec` and `other` in it, and a clean environment.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rec/cam")).unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeltime"));
        command.env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path()).args(args.split_whitespace());
        command
    }

    fn run(&self, args: &str) -> Answer {
        self.command(&format!("run {args}")).output().unwrap().into()
    }

    /// Refused as a configuration, with exactly these two lines.
    #[track_caller]
    fn refuses(&self, args: &str, message: &str, hint: &str) {
        refused(&self.run(args), args, message, hint);
    }
}

#[track_caller]
fn refused(answer: &Answer, what: &str, message: &str, hint: &str) {
    let lines: Vec<_> = answer.stderr.lines().collect();
    assert_eq!(answer.code, Some(2), "{what}: {lines:#?}");
    assert_eq!(lines.len(), 2, "{what}: {lines:#?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(message), "{what}: {lines:#?}");
    assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{what}: {lines:#?}");
    assert_eq!(answer.stdout, "");
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    for args in [
        "--help",
        "run --help",
        "run -h",
        "status --help",
        "verify --help",
        "sweep --help",
        "salvage --help",
        "--version",
    ] {
        let answer = Answer::from(place.command(args).output().unwrap());
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{args}");
        assert!(!answer.stdout.is_empty());
    }
}

#[test]
fn a_command_line_that_means_nothing_is_a_usage_error() {
    let place = Place::new();
    for args in ["", "upload", "run --no-such-flag", "run rec --to other --once=maybe"] {
        let answer = Answer::from(place.command(args).output().unwrap());
        assert_eq!(answer.code, Some(2), "{args}: {}", answer.stderr);
        assert!(!answer.stderr.is_empty());
    }
}

#[test]
fn what_is_missing_is_asked_for() {
    let place = Place::new();
    place.refuses("--to other", "no directory to watch", "reeltime run DIR... --to URL");
    place.refuses("rec", "no destination", "--to s3://BUCKET");
    let nothing = place.command("run --to other").env("REELTIME_DIRS", "").output().unwrap();
    refused(&nothing.into(), "empty variable", "no directory to watch", "DIR");
    let mut homeless = place.command("run rec --to other");
    refused(&homeless.env_remove("HOME").output().unwrap().into(), "no HOME", "no place for the state", "--state /");
}

#[test]
fn a_source_must_be_a_directory_that_can_be_read() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    place.refuses("rek --to other", "the source rek does not exist", "check the path");
    place.refuses("rec/cam/../gone --to other", "the source rec/cam/../gone does not exist", "check the path");
    place.refuses("file --to other", "the source file is not a directory", "--include");
    place.refuses("file/x --to other", "the source file/x is not a directory", "--include");
}

#[test]
fn a_source_that_may_not_be_listed_is_refused() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.path("rec"), fs::Permissions::from_mode(0o311)).unwrap();
    // Root may list everything: the binary is copied to where another user can run it.
    let binary = place.path("reeltime");
    // By a process of its own: what this one has open for writing, a test beside it that starts a
    // process would keep open for a moment, and the copy would be busy.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_reeltime")).arg(&binary).status().unwrap().success());
    let mut command = Command::new(binary);
    command.env_clear().env("HOME", place.dir.path()).current_dir(place.dir.path());
    command.args(["run", "rec", "--to", "other"]);
    if fs::read_dir(place.path("rec")).is_ok() {
        command.uid(65_534).gid(65_534);
    }
    let answer = command.output().unwrap().into();
    refused(&answer, "unreadable", "the source rec cannot be read: Permission denied", "chmod");
}

#[test]
fn sources_must_be_apart() {
    let place = Place::new();
    symlink(place.path("rec"), place.path("link")).unwrap();
    place.refuses("rec rec --to other", "the sources rec and rec are the same directory", "once");
    place.refuses("rec link --to other", "the sources rec and link are the same directory", "once");
    place.refuses("rec rec/cam --to other", "the source rec/cam is inside the source rec", "name rec alone");
    place.refuses("link/cam rec --to other", "the source link/cam is inside the source rec", "name rec alone");
}

#[test]
fn a_destination_must_be_apart_from_the_sources() {
    let place = Place::new();
    symlink(place.path("rec"), place.path("link")).unwrap();
    let hint = "apart from all sources";
    place.refuses("rec --to rec", "the destination rec is the source rec itself", hint);
    place.refuses("rec --to link", "the destination link is the source rec itself", hint);
    place.refuses("rec --to rec/new/deep", "the destination rec/new/deep is inside the source rec", hint);
    place.refuses("rec --to link/cam", "the destination link/cam is inside the source rec", hint);
    place.refuses("other rec/cam --to rec", "the source rec/cam is inside the destination rec", hint);
    place.refuses("rec --to .", "the source rec is inside the destination .", hint);
    fs::write(place.path("file"), "").unwrap();
    place.refuses("rec --to file", "the destination file cannot be used: not a directory", "name a directory");
    place.refuses("rec --to ftp://x/y", "ftp://x/y", "s3://");
}

#[test]
fn an_archive_must_be_outside_of_the_sources() {
    let place = Place::new();
    let message = "--after-upload moves to rec/done, inside the source rec";
    place.refuses("rec --to other --after-upload move=rec/done", message, "move them out");
    place.refuses("rec --to other --after-upload move=", "\"move=\" names no directory", "keep or delete or move=DIR");
}

#[test]
fn numbers_must_be_possible() {
    let place = Place::new();
    place.refuses(
        "rec --to s3://b --part-size 5MB",
        "--part-size 5MB is too small: S3 refuses parts under 5MiB",
        "5MiB or more",
    );
    place.refuses("rec --to other --part-size 0", "--part-size 0 bytes is too small", "or more");
    place.refuses("rec --to other --part-size 6GiB", "--part-size 6GiB is too large", "5GiB or less");
    place.refuses("rec --to other --max-uploads 0", "--max-uploads 0", "the default is 8");
    place.refuses("rec --to other --bandwidth 0B/s", "--bandwidth 0", "for no limit");
    place.refuses("rec --to other --idle-timeout 0s", "--idle-timeout is 0", "the default is 30s");
}

#[test]
fn a_value_that_is_none_is_said_with_its_place() {
    let place = Place::new();
    place.refuses(
        "rec --to other --part-size 8apples",
        "--part-size: \"8apples\" is not a size",
        "write a size such as 8MiB",
    );
    place.refuses("rec --to other --close-grace=2", "--close-grace: \"2\" has no unit", "2s");
    place.refuses(
        "rec --to other --watch never",
        "--watch: \"never\" is not one of the choices",
        "auto or native or poll",
    );
    place.refuses("rec --to other --tail-flush 0s", "--tail-flush: \"0s\" would send the tail without end", "off");
    place.refuses("rec --to other --listen 8420", "--listen: \"8420\" is not an address", "127.0.0.1:8420");
    place.refuses("rec --to other --bandwidth 5Mb/s", "--bandwidth: \"5Mb/s\" may mean bits or bytes", "100Mbit/s");
    place.refuses("rec --to other --max-uploads many", "--max-uploads: \"many\": invalid digit", "--help");
    place.refuses("rec --to other --include a[", "--include a[: ", "glob");

    let from_variable = place.command("run rec --to other").env("REELTIME_PART_SIZE", "huge").output().unwrap();
    refused(&from_variable.into(), "variable", "REELTIME_PART_SIZE: \"huge\" is not a size", "8MiB");
    let level = place.command("run rec --to other").env("REELTIME_LOG", "loud").output().unwrap();
    refused(&level.into(), "level", "REELTIME_LOG: \"loud\" is not a level", "debug");
}

fn with_file(place: &Place, text: &str, args: &str) -> Command {
    fs::write(place.path("reeltime.toml"), text).unwrap();
    place.command(&format!("run --config reeltime.toml {args}"))
}

#[test]
fn flags_come_before_variables_before_the_file_before_the_default() {
    let place = Place::new();
    let file = "dirs = ['rec']\nto = 's3://b'\npart-size = '1MiB'\n";
    let part_size_of = |command: &mut Command| {
        let answer = Answer::from(command.output().unwrap());
        let size = answer.stderr.split("--part-size ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert!(answer.stderr.contains("is too small"), "{}", answer.stderr);
        size
    };
    assert_eq!(part_size_of(&mut with_file(&place, file, "")), "1MiB");
    assert_eq!(part_size_of(with_file(&place, file, "").env("REELTIME_PART_SIZE", "2MiB")), "2MiB");
    assert_eq!(part_size_of(&mut with_file(&place, file, "--part-size 3MiB")), "3MiB");
    assert_eq!(part_size_of(with_file(&place, file, "--part-size 3MiB").env("REELTIME_PART_SIZE", "2MiB")), "3MiB");

    // Without any of them the default is in force, which nothing refuses.
    let answer = Answer::from(with_file(&place, "dirs = ['rek']\nto = 's3://b'\n", "").output().unwrap());
    assert!(answer.stderr.contains("the source rek does not exist"), "{}", answer.stderr);
}

#[test]
fn lists_replace_each_other_and_variables_hold_several() {
    let place = Place::new();
    let file = "dirs = ['a', 'b']\nto = 'other'\n";
    let first_missing = |command: &mut Command| {
        let answer = Answer::from(command.output().unwrap());
        answer.stderr.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_missing(&mut with_file(&place, file, "")), "error: the source a does not exist");
    let mut variable = with_file(&place, file, "");
    assert_eq!(first_missing(variable.env("REELTIME_DIRS", "rec:c")), "error: the source c does not exist");
    let mut flag = with_file(&place, file, "rec x:y");
    assert_eq!(first_missing(flag.env("REELTIME_DIRS", "c")), "error: the source x:y does not exist");
    let mut globs = with_file(&place, file, "rec");
    let globs = globs.env("REELTIME_INCLUDE", "**/*.{mp4,mkv}:b[");
    assert!(first_missing(globs).starts_with("error: --include b[: "));
    let mut suffixes = place.command("run rec --to other");
    assert_eq!(
        first_missing(suffixes.env("REELTIME_TEMP_SUFFIX", ".part:a/b")),
        "error: --temp-suffix a/b: contains a slash"
    );
}

#[test]
fn a_file_is_refused_with_line_column_and_key() {
    let place = Place::new();
    let table = [
        (
            "to = 's3://b'\npart_size = '8MiB'\n",
            "reeltime.toml:2:1: unknown key \"part_size\"",
            "did you mean part-size?",
        ),
        ("\npart-size = 'x'\n", "reeltime.toml:2:13: part-size: \"x\" is not a size", "write a size such as 8MiB"),
        ("watch = 'x'", "reeltime.toml:1:9: watch: \"x\" is not one of the choices", "auto or native or poll"),
        ("max-uploads = 'x'", "reeltime.toml:1:15: max-uploads: invalid type: string \"x\"", "--help"),
        ("to = \n", "reeltime.toml:1:", "TOML"),
    ];
    for (text, message, hint) in table {
        refused(&with_file(&place, text, "").output().unwrap().into(), text, message, hint);
    }
    place.refuses("--config gone.toml", "cannot read the configuration file gone.toml: No such file", "--config");
    let variable = place.command("run").env("REELTIME_CONFIG", "gone.toml").output().unwrap();
    refused(&variable.into(), "variable", "cannot read the configuration file gone.toml", "REELTIME_CONFIG");
}

#[test]
fn a_name_cannot_reach_the_terminal() {
    let place = Place::new();
    let output = place.command("run --to other").arg(Path::new("a\x1b[2J\nerror: forged")).output().unwrap();
    refused(&output.into(), "escape", "the source a\\u{1b}[2J\\nerror: forged does not exist", "check");
}

#[test]
fn status_needs_a_state_that_it_can_read() {
    let place = Place::new();
    let answer = Answer::from(place.command("status --state gone.db").output().unwrap());
    assert_ne!(answer.code, Some(0), "{}", answer.stdout);
    assert!(answer.stderr.starts_with("error: ") && answer.stderr.contains("gone.db"), "{}", answer.stderr);
    assert!(!place.path("gone.db").exists(), "looking creates nothing");
    let answer = Answer::from(place.command("status --state ftp://x").output().unwrap());
    refused(&answer, "scheme", "--state: ", "--state /");
}

#[test]
fn a_configuration_that_holds_is_accepted_and_a_port_in_use_is_said() {
    let place = Place::new();
    let accepted = place.run("rec --to other --once --listen 127.0.0.1:0 --log-format json");
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    let first: serde_json::Value = serde_json::from_str(accepted.stderr.lines().next().unwrap()).unwrap();
    assert_eq!((&first["message"], &first["to"]), (&"reeltime starts".into(), &"other".into()));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let answer = place.run(&format!("rec --to other --listen {address}"));
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains(&format!("error: cannot listen on {address}: ")), "{}", answer.stderr);
    assert!(answer.stderr.contains("\nhint: ") && answer.stderr.contains("--listen"), "{}", answer.stderr);
}
