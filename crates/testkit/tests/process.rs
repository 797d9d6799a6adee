//! A child process lives exactly as long as it may.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::servers::{Launch, Process};

const DEADLINE: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Launch {
    Launch::new("/bin/sh").args(["-c", script])
}

/// The state letter of a process; `None` if there is none of this number.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs one of the tests below that are marked as ignored, in a process of its own. Its child's
/// number is the first thing that it says.
#[allow(clippy::zombie_processes, reason = "the callers wait for it")]
fn in_a_process_of_its_own(test: &str) -> (std::process::Child, u32, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "{test} says nothing");
        if let Some((_, pid)) = line.trim().rsplit_once("child ") {
            return (child, pid.parse().unwrap(), lines);
        }
    }
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn helper_ends_with_a_child_in_a_static() {
    static PROCESS: std::sync::OnceLock<Process> = std::sync::OnceLock::new();
    let process = PROCESS.get_or_init(|| Process::start(shell("echo $$; sleep 1000")));
    println!("child {}", process.pid());
    println!("home {}", process.home().display());
}

#[test]
fn a_child_in_a_static_ends_with_the_tests_and_its_home_is_removed() {
    let (mut tests, child, lines) = in_a_process_of_its_own("helper_ends_with_a_child_in_a_static");
    let said: Vec<_> = lines.lines().map(Result::unwrap).collect();
    assert!(tests.wait().unwrap().success());
    assert_eq!(state(child), None, "it was reaped before the process ended");
    let home = said.iter().find_map(|line| line.strip_prefix("home ")).expect("it says where");
    assert!(!Path::new(home).exists(), "{home}");
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn helper_panics_with_a_child() {
    let process = Process::start(shell("echo this is its output; sleep 1000"));
    process.wait_until("output", DEADLINE, || process.log_tail().contains("its output"));
    println!("child {}", process.pid());
    panic!("on purpose");
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn helper_waits_with_a_child() {
    // Started by a thread that ends: that alone must not end the child.
    let process = std::thread::spawn(|| Process::start(shell("exec sleep 1000"))).join().unwrap();
    println!("child {}", process.pid());
    process.wait_exit(Duration::from_hours(1));
}

#[test]
fn a_panicking_test_takes_its_children_along_and_shows_their_output() {
    let (test, child, _lines) = in_a_process_of_its_own("helper_panics_with_a_child");
    let output = test.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert_eq!(state(child), None, "the child is gone and reaped");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("this is its output"), "{said}");
}

#[test]
fn a_killed_test_process_takes_its_children_along() {
    let (mut test, child, _lines) = in_a_process_of_its_own("helper_waits_with_a_child");
    assert!(matches!(state(child), Some('S' | 'R')), "it outlives the thread that started it");
    test.kill().unwrap();
    test.wait().unwrap();
    // An orphan is reaped by init, or stays a zombie where nobody is init.
    wait_until("the child to die", || matches!(state(child), None | Some('Z' | 'X')));
}

#[test]
fn dropping_kills_the_whole_group() {
    let process = Process::start(shell("sleep 1000 & echo $!; wait"));
    process.wait_until("the grandchild", DEADLINE, || !process.log_tail().is_empty());
    let grandchild: u32 = process.log_tail().trim().parse().unwrap();
    assert!(state(grandchild).is_some());
    drop(process);
    wait_until("the grandchild to die", || matches!(state(grandchild), None | Some('Z' | 'X')));
}

#[test]
fn a_frozen_process_stands_still_until_it_is_thawed() {
    let process = Process::start(shell("while :; do echo x; done"));
    let size = || std::fs::metadata(process.log()).unwrap().len();
    for _ in 0..3 {
        process.freeze();
        assert_eq!(state(process.pid()), Some('T'));
        let frozen = size();
        process.thaw();
        process.wait_until("it to go on", DEADLINE, || size() > frozen);
    }
}

#[test]
fn stopping_is_a_request_and_also_reaches_the_frozen() {
    let process = Process::start(shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
    process.wait_until("the trap", DEADLINE, || process.log_tail().contains("ready"));
    process.freeze();
    assert_eq!(process.stop(DEADLINE).code(), Some(7));
    assert_eq!(process.exited().unwrap().code(), Some(7));
    assert_eq!(process.kill().code(), Some(7), "killing what has ended changes nothing");
}

#[test]
fn a_restart_runs_the_same_again_in_the_same_home() {
    let launch = Launch::new("/bin/sh");
    let data = launch.home().join("data");
    let launch = launch.args(["-c", "echo $$ >> \"$0\"; exec sleep 1000"]).arg(&data);
    let process = Process::start(launch);
    let runs = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    process.wait_until("the first run", DEADLINE, || runs(&data) == 1);
    let first = process.pid();
    process.restart();
    process.wait_until("the second run", DEADLINE, || runs(&data) == 2);
    assert_ne!(process.pid(), first);
    assert_eq!(state(first), None);
    assert_eq!(process.kill().signal(), Some(9));
}

#[test]
fn a_server_that_ends_before_it_is_ready_is_tried_on_another_port() {
    let dir = tempfile::tempdir().unwrap();
    let tried: PathBuf = dir.path().join("tried");
    let script = "if [ -e \"$0\" ]; then echo ready; exec sleep 1000; else touch \"$0\"; exit 1; fi";
    let mut ports = Vec::new();
    let ports = std::sync::Mutex::new(&mut ports);
    let launch = |port: &testkit::servers::Port| {
        ports.lock().unwrap().push(port.number());
        Launch::new("/bin/sh").args(["-c", script]).arg(&tried)
    };
    let (process, port) = Process::serve(launch, DEADLINE, |_| {
        // Ready when it has been tried once already and runs.
        ports.lock().unwrap().len() == 2
    });
    let ports = ports.into_inner().unwrap();
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0], ports[1]);
    assert_eq!(port.number(), ports[1]);
    assert!(process.exited().is_none());
}

#[test]
#[should_panic(expected = "it has ended: exit status: 3")]
fn waiting_for_something_of_an_ended_process_fails_at_once() {
    let process = Process::start(shell("exit 3"));
    process.wait_until("a miracle", Duration::from_hours(1), || false);
}
