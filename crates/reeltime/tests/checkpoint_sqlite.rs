//! What the state file withstands: crashes, full disks, damage, other processes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::{moved, nth, part, record};
use reeltime::checkpoint::sqlite::SqliteStore;
use reeltime::checkpoint::{CheckpointError, CheckpointStore};
use reeltime_core::State;

/// Tells a child which state file to use; without it the children's tests do nothing.
const STATE: &str = "REELTIME_TEST_STATE";

fn state_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("state.db")
}

fn beside(state: &Path, suffix: &str) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn unusable(opened: Result<SqliteStore, CheckpointError>) -> String {
    match opened {
        Err(error @ CheckpointError::Unusable { .. }) => error.to_string(),
        other => panic!("expected Unusable, not {other:?}"),
    }
}

/// This test binary again, as the child that is called `test`.
fn child(test: &str, state: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(STATE, state).stdout(Stdio::piped());
    command
}

// ---- a process that writes, to be killed ----

/// Creates streams and sends parts with eight tasks, and says on a line of its own what was
/// acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child of other tests"]
async fn child_that_writes_until_it_is_killed() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let store = Arc::new(SqliteStore::open(Path::new(&state), "child").unwrap());
    println!("\nopened"); // what the test harness has begun to write ends here
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for number in (task..).step_by(8) {
                store.create(&record(number)).await.unwrap();
                say(&format!("created {number}"));
                for at in 1..=3 {
                    store.record_part(record(number).id, 3, 1, nth(at), &part(at)).await.unwrap();
                    say(&format!("part {number} {at}"));
                }
                let pending = moved(&record(number), State::PendingCompletion);
                store.transition(State::Active, &pending).await.unwrap();
                say(&format!("pending {number}"));
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Writes a line so that it is out of this process at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The writing child; killed when it is dropped.
struct Writing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writing {
    /// Starts it, and waits until it has acknowledged `acknowledged` writes.
    fn start(state: &Path, acknowledged: usize) -> (Self, Vec<String>) {
        let mut child = child("child_that_writes_until_it_is_killed", state).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut writing = Self { child, lines };
        while writing.line().expect("the child opens the file") != "opened" {}
        let told = (0..acknowledged).map(|_| writing.line().expect("the child goes on")).collect();
        (writing, told)
    }

    /// The next complete line; `None` when there is none any more.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// `kill -9`, and what it had said by then.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(libc::SIGKILL), "it was still writing");
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn after_kill_9_everything_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    let (writing, mut told) = Writing::start(&state, 500);
    told.extend(writing.kill());
    assert!(!told.is_empty());

    let store = SqliteStore::open(&state, "next").expect("the lock died with its owner");
    let found: HashMap<_, _> = store.load().await.unwrap().into_iter().map(|record| (record.id, record)).collect();
    for line in told {
        let words: Vec<_> = line.split(' ').collect();
        let number = words[1].parse().unwrap();
        let stream = found.get(&record(number).id).unwrap_or_else(|| panic!("{line}, but the stream is not there"));
        match words[0] {
            "created" => assert!(stream.state == State::PendingCompletion || *stream == record(number), "{stream:?}"),
            "pending" => assert_eq!(*stream, moved(&record(number), State::PendingCompletion)),
            "part" => {
                let at: u32 = words[2].parse().unwrap();
                let parts = store.load_parts(stream.id, 1).await.unwrap();
                assert_eq!(parts.get(nth(at)), Some(&part(at)), "{line}");
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_the_owner_is() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    let (writing, _) = Writing::start(&state, 1);
    let told = match SqliteStore::open(&state, "second") {
        Err(error @ CheckpointError::Held { .. }) => error.to_string(),
        other => panic!("expected Held, not {other:?}"),
    };
    assert!(told.contains(&format!("process {} (node child, since 20", writing.child.id())), "{told}");
    assert!(told.contains("state.db"), "{told}");

    // By another name, too.
    let alias = dir.path().join("alias.db");
    std::os::unix::fs::symlink(&state, &alias).unwrap();
    assert!(matches!(SqliteStore::open(&alias, "second"), Err(CheckpointError::Held { .. })));

    writing.kill();
    SqliteStore::open(&state, "second").expect("the lock died with its owner");
}

#[tokio::test]
async fn status_reads_while_the_owner_writes_and_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    let (mut writing, told) = Writing::start(&state, 50);
    let status = SqliteStore::open_read_only(&state).unwrap();
    let created = |lines: &[String]| lines.iter().filter(|line| line.starts_with("created")).count();
    let seen = status.load().await.unwrap().len();
    assert!(seen >= created(&told), "{seen}");
    let more: Vec<_> = (0..200).map(|_| writing.line().expect("the owner is not held up")).collect();
    let later = status.load().await.unwrap().len();
    assert!(later >= created(&told) + created(&more) && later > seen, "{later} after {seen}");

    let refused = status.create(&record(1)).await.unwrap_err().to_string();
    assert!(refused.contains("read only"), "{refused}");
    assert!(status.forget(record(1).id, 3).await.is_err());

    writing.kill();
    let after_crash = SqliteStore::open_read_only(&state).unwrap().load().await.unwrap().len();
    assert!(after_crash >= later);
    drop(SqliteStore::open(&state, "next").unwrap());
    assert_eq!(SqliteStore::open_read_only(&state).unwrap().load().await.unwrap().len(), after_crash);
}

// ---- a full disk ----

/// Lets no file of this process grow beyond `bytes`, as if the disk were full.
#[allow(unsafe_code)]
fn limit_file_size(bytes: u64) {
    // SAFETY: ignoring a signal installs no handler; the limit is a valid, live struct. Only the
    // soft limit is changed.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[tokio::test]
#[ignore = "a child of other tests"]
async fn child_whose_disk_is_full_for_a_while() {
    let Some(state) = std::env::var_os(STATE).map(PathBuf::from) else { return };
    let store = SqliteStore::open(&state, "child").unwrap();
    for number in 1..=20 {
        store.create(&record(number)).await.unwrap();
    }
    limit_file_size(std::fs::metadata(beside(&state, "-wal")).unwrap().len());
    for number in 21..=25 {
        let refused = store.create(&record(number)).await.expect_err("the log cannot grow");
        assert!(matches!(refused, CheckpointError::Outage { op: "create stream", .. }), "{refused:?}");
    }
    assert_eq!(store.load().await.unwrap().len(), 20, "what was acknowledged can still be read");
    limit_file_size(libc::RLIM_INFINITY);
    for number in 21..=25 {
        store.create(&record(number)).await.expect("there is room again");
    }
    drop(store);

    limit_file_size(0);
    let refused = SqliteStore::open(&state, "child").expect_err("nothing can be written");
    assert!(matches!(refused, CheckpointError::Outage { op: "open", .. }), "{refused:?}");
    limit_file_size(libc::RLIM_INFINITY);
    assert_eq!(SqliteStore::open(&state, "child").unwrap().load().await.unwrap().len(), 25);
    say("\nsurvived");
}

#[test]
fn a_full_disk_is_an_outage_that_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("child_whose_disk_is_full_for_a_while", &state_in(&dir)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("survived"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

// ---- files that are not what they should be ----

/// A state file with 300 streams that nobody has open.
async fn filled(dir: &tempfile::TempDir) -> PathBuf {
    let state = state_in(dir);
    let store = SqliteStore::open(&state, "n").unwrap();
    let creating = (1..=300).map(|number| {
        let store = &store;
        async move { store.create(&record(number)).await.unwrap() }
    });
    for created in creating {
        created.await;
    }
    drop(store);
    assert!(!beside(&state, "-wal").exists(), "the last one to close the file puts the log away");
    state
}

fn assert_says_how_to_go_on(told: &str) {
    assert!(told.contains("move it aside") && told.contains("nothing is lost"), "{told}");
}

#[test]
fn a_file_that_is_no_database_is_left_alone_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    let garbage = b"this is my shopping list. ".repeat(1000);
    std::fs::write(&state, &garbage).unwrap();
    assert_says_how_to_go_on(&unusable(SqliteStore::open(&state, "n")));
    assert_says_how_to_go_on(&unusable(SqliteStore::open_read_only(&state)));
    assert_eq!(std::fs::read(&state).unwrap(), garbage);
}

#[tokio::test]
async fn a_truncated_file_is_noticed_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(&dir).await;
    let whole = std::fs::metadata(&state).unwrap().len();
    for keep in [whole - 4096, whole / 2, 5000, 100] {
        let file = std::fs::OpenOptions::new().write(true).open(&state).unwrap();
        file.set_len(keep).unwrap();
        drop(file);
        assert_says_how_to_go_on(&unusable(SqliteStore::open(&state, "n")));
    }
}

#[tokio::test]
async fn a_page_of_rubbish_is_noticed_when_it_is_opened() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let state = filled(&dir).await;
    let pages = std::fs::metadata(&state).unwrap().len() / 4096;
    for page in 1..pages {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&state).unwrap();
        let mut before = [0; 4096];
        file.read_exact_at(&mut before, page * 4096).unwrap();
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
        assert_says_how_to_go_on(&unusable(SqliteStore::open(&state, "n")));
        file.write_all_at(&before, page * 4096).unwrap();
    }
    assert_eq!(SqliteStore::open(&state, "n").unwrap().load().await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_file_moved_aside_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(&dir).await;
    std::fs::rename(&state, dir.path().join("aside.db")).unwrap();
    assert_eq!(SqliteStore::open(&state, "n").unwrap().load().await.unwrap(), []);
    let aside = SqliteStore::open(&dir.path().join("aside.db"), "n").unwrap();
    assert_eq!(aside.load().await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(&dir).await;
    let shell = rusqlite::Connection::open(&state).unwrap();
    shell.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 7").unwrap();
    drop(shell);
    let before = std::fs::read(&state).unwrap();
    for told in [unusable(SqliteStore::open(&state, "n")), unusable(SqliteStore::open_read_only(&state))] {
        assert!(told.contains("written by a newer reeltime (schema 7, this one knows 2): upgrade"), "{told}");
        assert!(told.contains("--state"), "{told}");
    }
    assert!(std::fs::read(&state).unwrap() == before);
}

#[test]
fn the_database_of_another_program_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    rusqlite::Connection::open(&state).unwrap().execute_batch("CREATE TABLE streams (name)").unwrap();
    let before = std::fs::read(&state).unwrap();
    let told = unusable(SqliteStore::open(&state, "n"));
    assert!(told.contains("another program"), "{told}");
    assert!(std::fs::read(&state).unwrap() == before);
}

#[tokio::test]
async fn a_row_changed_by_hand_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(&dir).await;
    let shell = rusqlite::Connection::open(&state).unwrap();
    shell.execute("UPDATE streams SET state = 'done' WHERE id = ?1", [record(7).id.to_string()]).unwrap();
    drop(shell);
    let store = SqliteStore::open(&state, "n").unwrap();
    let told = store.load().await.unwrap_err();
    assert!(matches!(told, CheckpointError::Unusable { .. }), "{told:?}");
    let told = told.to_string();
    assert!(
        told.contains(&record(7).id.to_string()) && told.contains("column state") && told.contains("done"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_a_state_file_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let missing = unusable(SqliteStore::open_read_only(&dir.path().join("none.db")));
    assert!(missing.contains("does not exist") && missing.contains("none.db"), "{missing}");
    assert!(!dir.path().join("none.db").exists(), "looking creates nothing");
    let directory = unusable(SqliteStore::open(dir.path(), "n"));
    assert!(directory.contains("this is a directory"), "{directory}");
    let below_a_file = unusable(SqliteStore::open(Path::new("/etc/passwd/state.db"), "n"));
    assert!(below_a_file.contains("--state"), "{below_a_file}");
}

// ---- where it lies ----

#[tokio::test]
async fn a_path_that_is_not_utf8_is_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join(OsStr::from_bytes(b"caf\xe9 %20?x#y")).join(OsStr::from_bytes(b"\xff.db"));
    let store = SqliteStore::open(&state, "n").unwrap();
    store.create(&record(1)).await.unwrap();
    drop(store);
    assert!(state.exists() && beside(&state, ".lock").exists());
    assert_eq!(SqliteStore::open_read_only(&state).unwrap().load().await.unwrap(), [record(1)]);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only_and_the_shell_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("new/dir/state.db");
    let store = SqliteStore::open(&state, "n").unwrap();
    store.create(&record(1)).await.unwrap();
    store.record_part(record(1).id, 3, 1, nth(1), &part(1)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(state.parent().unwrap()), 0o700);
    for file in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(&state, file)), 0o600, "state.db{file}");
    }
    let query = "SELECT state, parts_sent, sent_bytes, started_at FROM overview";
    let shell = match Command::new("sqlite3").arg("-readonly").arg(&state).arg(query).output() {
        Ok(shell) => shell,
        Err(error) => panic!("this test needs the sqlite3 shell: {error}"),
    };
    let shown = String::from_utf8_lossy(&shell.stdout);
    let expected = "active|1|8388609|2026-01-01T00:00:00Z\n";
    assert_eq!(shown, expected, "{}", String::from_utf8_lossy(&shell.stderr));
}

/// How long 100,000 remembered streams take at a start: `cargo test --release -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_100_000_completed_streams() {
    const STREAMS: u32 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(&dir);
    let store = Arc::new(SqliteStore::open(&state, "n").unwrap());
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..500 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for number in (task..STREAMS).step_by(500) {
                store.create(&moved(&record(number), State::Completed)).await.unwrap();
                for at in 1..=5 {
                    store.record_part(record(number).id, 3, 1, nth(at), &part(at)).await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    println!("600,000 writes by 500 tasks: {:?}", began.elapsed());
    drop(store);
    let bytes = std::fs::metadata(&state).unwrap().len();
    let began = Instant::now();
    let store = SqliteStore::open(&state, "n").unwrap();
    println!("open, with the check of {} MiB: {:?}", bytes >> 20, began.elapsed());
    let began = Instant::now();
    let loaded = store.load().await.unwrap();
    println!("load {}: {:?}", loaded.len(), began.elapsed());
    assert_eq!(loaded.len(), STREAMS as usize);
}
