//! Too few watches of the kernel: what it does not tell is found by scans.
//!
//! The limits belong to a user name space, so the binary runs in one of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::daemon::Daemon;
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::settings::skip;

use crate::world::{DEADLINE, LOCAL_PART, World, failures, wait_completed};

/// A reeltime for which `/proc/sys/user/NAME` has this value. `None`, loudly, where there are no user
/// name spaces.
fn limited(world: &World, name: &str, value: usize) -> Option<Daemon> {
    let script = world.beside("limited");
    let program = env!("CARGO_BIN_EXE_reeltime");
    let lines = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user sh -c \
         'echo {value} >/proc/sys/user/{name} && exec \"$@\"' sh {program} \"$@\"\n"
    );
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let probe = std::process::Command::new(&script).arg("--version").output().unwrap();
    if !probe.status.success() {
        skip("user name space", String::from_utf8_lossy(&probe.stderr).trim());
        return None;
    }
    Some(world.daemon_of(Path::new(&script), "test"))
}

fn is_scanned_instead(name: &str, value: usize, setting: &str) {
    let world = World::local();
    let dirs: Vec<_> = (0..20).map(|number| world.path(&number.to_string())).collect();
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
    }
    let Some(daemon) = limited(&world, name, value) else { return };
    let daemon = daemon.start();
    daemon.wait_answers("/readyz", DEADLINE);
    for (seed, dir) in dirs.iter().enumerate() {
        let recording = Synthetic::into(dir.join("a.mp4"), Style::Append, 2 * LOCAL_PART + 1).seed(seed as u64);
        let finished = recording.start().wait();
        wait_completed(&daemon, &finished.path);
        world.assert_identical(&finished);
    }
    // In a new directory, too.
    fs::create_dir(world.path("new")).unwrap();
    let finished = Synthetic::into(world.path("new/a.mp4"), Style::Append, LOCAL_PART).start().wait();
    wait_completed(&daemon, &finished.path);
    world.assert_identical(&finished);

    let notices: Vec<_> = daemon.events().into_iter().filter(|line| line.event() == Some("notice")).collect();
    let [said] = &notices[..] else { panic!("it is said once: {notices:#?}") };
    assert!(said.message().unwrap().contains("is scanned instead of watched"), "{said}");
    assert!(said.text("hint").unwrap().contains(&format!("sysctl {setting}=")), "{said}");
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

#[test]
fn a_source_with_more_directories_than_may_be_watched_is_scanned() {
    is_scanned_instead("max_inotify_watches", 5, "fs.inotify.max_user_watches");
}

#[test]
fn a_source_for_which_there_is_no_watcher_left_is_scanned() {
    is_scanned_instead("max_inotify_instances", 0, "fs.inotify.max_user_instances");
}
