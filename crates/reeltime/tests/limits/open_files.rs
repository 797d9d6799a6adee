//! Few open files, and many more recordings than that at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testkit::daemon::LogLine;

use crate::world::{DEADLINE, World, failures};

/// The hard limit on open files.
const LIMIT: usize = 256;

/// Recordings that grow at once.
const RECORDINGS: usize = 300;

/// Half of the files are for recordings: the others wait for one of those to end.
#[test]
fn many_more_recordings_than_files_may_be_open_are_all_completed() {
    let world = World::s3("open-files");
    let script = world.beside("limited");
    let program = env!("CARGO_BIN_EXE_reeltime");
    fs::write(&script, format!("#!/bin/sh\nulimit -n {LIMIT} && exec {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut recorders: Vec<_> =
        (0..RECORDINGS).map(|number| (number, File::create(world.path(&name(number))).unwrap())).collect();
    let mut grow = || {
        for (number, file) in &mut recorders {
            writeln!(file, "recording {number} goes on").unwrap();
        }
    };
    grow();
    let daemon = world.daemon_of(&script, "test").start();
    let waits = |line: &LogLine| line.text("error").is_some_and(|error| error.contains("too many open files"));
    let said = daemon.wait_events("the limit", RECORDINGS - LIMIT / 2, DEADLINE, waits).remove(0);
    assert_eq!((said.level(), said.text("of")), (Some("WARN"), Some("source")), "{said}");
    assert!(said.text("hint").unwrap().contains("LimitNOFILE="), "{said}");
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.process().pid())).unwrap().count();
    assert!(open <= LIMIT, "{open}");
    grow();
    drop(recorders);

    let completed = |line: &LogLine| line.event() == Some("completed");
    daemon.wait_events("completed", RECORDINGS, DEADLINE, completed);
    for number in 0..RECORDINGS {
        let (path, key) = (world.path(&name(number)), name(number));
        assert_eq!(world.bytes(&key).as_deref(), Some(fs::read(path).unwrap().as_slice()), "{key} is identical");
    }
    let mut told: BTreeMap<Option<PathBuf>, usize> = BTreeMap::new();
    for line in daemon.events().iter().filter(|line| waits(line)) {
        *told.entry(line.path().map(Into::into)).or_default() += 1;
    }
    assert!(told.values().all(|times| *times == 1), "each recording is told of once: {told:?}");
    let others: Vec<_> =
        daemon.events().into_iter().filter(|line| line.event() == Some("retrying") && !waits(line)).collect();
    assert!(others.is_empty(), "the other half is enough for all requests: {others:#?}");
    assert_eq!((failures(&daemon), world.leftovers()), (vec![], vec![]));
}

fn name(number: usize) -> String {
    format!("{number}.mp4")
}
