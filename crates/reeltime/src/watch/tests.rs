#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;
use tokio::sync::broadcast;

use super::*;
use crate::events::{Event, What};

/// A watched directory. The periodic scan is an hour away unless a test wants it.
struct Watched {
    dir: TempDir,
    watcher: Watcher,
    events: mpsc::Receiver<FileEvent>,
    notices: broadcast::Receiver<Event>,
}

const NEVER: Duration = Duration::from_hours(1);

fn options(mode: WatchMode, scan_interval: Duration) -> WatchOptions {
    let selection = Selection::new(&[], &["trash".to_owned()], &[".part".to_owned()]).unwrap();
    WatchOptions { mode, scan_interval: Some(scan_interval), selection: Arc::new(selection) }
}

impl Watched {
    async fn new() -> Self {
        Self::with(options(WatchMode::Native, NEVER), CHANNEL_EVENTS, |_| {}).await
    }

    async fn with(options: WatchOptions, room: usize, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let bus = EventBus::default();
        let notices = bus.listen();
        let sources = vec![dir.path().to_owned()];
        let (watcher, events) = Watcher::start_with_room(sources, options, bus, room).await.unwrap();
        let mut watched = Self { dir, watcher, events, notices };
        assert_eq!(watched.next().await, FileEvent::Rescan(watched.dir.path().to_owned()), "which comes first");
        watched
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn next(&mut self) -> FileEvent {
        let next = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        next.expect("an event within 20 s").expect("the watcher lives")
    }

    /// Waits for an event; answers all that came before it.
    async fn until(&mut self, wanted: &FileEvent) -> Vec<FileEvent> {
        let mut before = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
            match next {
                Ok(Some(event)) if event == *wanted => return before,
                Ok(Some(event)) => before.push(event),
                other => panic!("{other:?} instead of {wanted:?}, after {before:?}"),
            }
        }
    }

    /// Everything that was told up to now: a file made now is the last to be told.
    async fn so_far(&mut self) -> Vec<FileEvent> {
        let fence = self.at("fence");
        fs::write(&fence, b"x").unwrap();
        self.until(&FileEvent::Closed(fence.clone())).await.into_iter().filter(|event| !is_of(event, &fence)).collect()
    }
}

fn is_of(event: &FileEvent, path: &Path) -> bool {
    matches!(event, FileEvent::Touched(p) | FileEvent::Closed(p) | FileEvent::Removed(p) if p == path)
}

fn notice(notices: &mut broadcast::Receiver<Event>) -> Option<(String, String)> {
    match notices.try_recv().ok()?.what {
        What::Notice { message, hint } => Some((message, hint)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_recording_is_touched_while_written_and_closed_at_its_end() {
    let mut watched = Watched::new().await;
    let path = watched.at("x.mp4");
    let mut file = fs::File::create(&path).unwrap();
    watched.until(&FileEvent::Touched(path.clone())).await;
    file.write_all(b"film").unwrap();
    watched.until(&FileEvent::Touched(path.clone())).await;
    drop(file);
    watched.until(&FileEvent::Closed(path.clone())).await;
    let closed = watched.so_far().await;
    assert_eq!(closed, [], "nothing more to tell");
    fs::read(&path).unwrap();
    assert_eq!(watched.so_far().await, [], "reading is no event");
    fs::remove_file(&path).unwrap();
    watched.until(&FileEvent::Removed(path)).await;
}

#[tokio::test]
async fn names_of_any_bytes_are_told_as_they_are() {
    let mut watched = Watched::new().await;
    for name in [&b"caf\xe9\xff.mp4"[..], b"two\nlines.mp4"] {
        let path = watched.dir.path().join(OsStr::from_bytes(name));
        fs::write(&path, b"film").unwrap();
        watched.until(&FileEvent::Closed(path)).await;
    }
}

#[tokio::test]
async fn a_recording_that_gets_its_final_name_is_renamed() {
    let mut watched = Watched::new().await;
    fs::write(watched.at("x.mp4.part"), b"film").unwrap();
    fs::rename(watched.at("x.mp4.part"), watched.at("x.mp4")).unwrap();
    let renamed = FileEvent::Renamed { from: watched.at("x.mp4.part"), to: watched.at("x.mp4") };
    let before = watched.until(&renamed).await;
    assert!(before.contains(&FileEvent::Closed(watched.at("x.mp4.part"))), "{before:?}");
    let after = watched.so_far().await;
    assert!(!after.iter().any(|event| matches!(event, FileEvent::Removed(_))), "{after:?}");
}

#[tokio::test]
async fn moved_out_is_removed_and_moved_in_is_complete() {
    let mut watched = Watched::new().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("in.mp4"), b"film").unwrap();
    fs::rename(outside.path().join("in.mp4"), watched.at("in.mp4")).unwrap();
    let before = watched.until(&FileEvent::Closed(watched.at("in.mp4"))).await;
    assert_eq!(before, [FileEvent::Touched(watched.at("in.mp4"))]);
    fs::rename(watched.at("in.mp4"), outside.path().join("out.mp4")).unwrap();
    watched.until(&FileEvent::Removed(watched.at("in.mp4"))).await;
}

#[tokio::test]
async fn no_file_in_a_new_tree_is_missed() {
    let mut watched = Watched::new().await;
    for round in 0..50 {
        let top = watched.at(&format!("day{round}"));
        let file = top.join("cam/front/x.mp4");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, b"film").unwrap();
        // Either the scan of a directory above it finds the file, or an event tells of it.
        loop {
            match watched.next().await {
                FileEvent::Rescan(dir) if file.starts_with(&dir) && file.exists() => break,
                FileEvent::Touched(path) if path == file => break,
                _ => {}
            }
        }
        // From the Rescan on, everything in it is told.
        watched.until_watched(&file).await;
    }
}

impl Watched {
    /// Writes to a file until an event tells of it.
    async fn until_watched(&mut self, path: &Path) {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
        drop(file);
        self.until(&FileEvent::Closed(path.to_owned())).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_moved_keeps_being_watched_by_its_new_name() {
    let mut watched = Watched::with(options(WatchMode::Native, NEVER), CHANNEL_EVENTS, |dir| {
        fs::create_dir_all(dir.join("a/sub")).unwrap();
        fs::write(dir.join("a/sub/x.mp4"), b"film").unwrap();
    })
    .await;
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let (from, to) = (watched.at(from), watched.at(to));
        fs::rename(&from, &to).unwrap();
        watched.until(&FileEvent::Renamed { from, to: to.clone() }).await;
        watched.until(&FileEvent::Rescan(to.clone())).await;
        watched.until_watched(&to.join("sub/x.mp4")).await;
    }
    let outside = tempfile::tempdir().unwrap();
    fs::rename(watched.at("a"), outside.path().join("a")).unwrap();
    watched.until(&FileEvent::Removed(watched.at("a"))).await;
    fs::write(outside.path().join("a/sub/x.mp4"), b"film").unwrap();
    assert_eq!(watched.so_far().await, [], "it is not ours any more");
}

#[tokio::test]
async fn a_directory_that_is_replaced_while_somebody_is_in_it_is_watched() {
    let mut watched = Watched::with(options(WatchMode::Native, NEVER), CHANNEL_EVENTS, |dir| {
        fs::create_dir(dir.join("cam")).unwrap();
    })
    .await;
    let cam = watched.at("cam");
    let held = fs::File::open(&cam).unwrap();
    fs::remove_dir(&cam).unwrap();
    watched.until(&FileEvent::Removed(cam.clone())).await;
    fs::create_dir(&cam).unwrap();
    watched.until(&FileEvent::Rescan(cam.clone())).await;
    drop(held); // only now the old directory is gone
    fs::write(cam.join("x.mp4"), b"film").unwrap();
    watched.until(&FileEvent::Closed(cam.join("x.mp4"))).await;
}

#[tokio::test]
async fn excluded_and_linked_directories_are_not_watched() {
    let outside = tempfile::tempdir().unwrap();
    let mut watched = Watched::with(options(WatchMode::Native, NEVER), CHANNEL_EVENTS, |dir| {
        fs::create_dir(dir.join("trash")).unwrap();
        symlink(outside.path(), dir.join("linked")).unwrap();
    })
    .await;
    symlink(outside.path(), watched.at("linked later")).unwrap();
    watched.until(&FileEvent::Touched(watched.at("linked later"))).await;
    fs::write(watched.at("trash/x.mp4"), b"film").unwrap();
    fs::write(outside.path().join("x.mp4"), b"film").unwrap();
    assert_eq!(watched.so_far().await, []);
}

#[tokio::test]
async fn what_a_full_channel_cannot_take_becomes_a_rescan() {
    let mut watched = Watched::with(options(WatchMode::Native, NEVER), 2, |_| {}).await;
    for at in 0..500 {
        fs::write(watched.at(&format!("{at}.mp4")), b"film").unwrap();
    }
    let source = watched.dir.path().to_owned();
    let before = watched.until(&FileEvent::Rescan(source)).await;
    assert!(before.len() < 500, "there was no room for that many");
    // Events come as before.
    let path = watched.at("later.mp4");
    loop {
        fs::write(&path, b"film").unwrap();
        if is_of(&watched.next().await, &path) {
            break;
        }
    }
}

#[tokio::test]
async fn a_source_that_goes_and_comes_back_is_watched_again() {
    let parent = tempfile::tempdir().unwrap();
    let source = parent.path().join("mount");
    fs::create_dir(&source).unwrap();
    let bus = EventBus::default();
    let mut notices = bus.listen();
    let options = WatchOptions { scan_interval: None, ..options(WatchMode::Auto, NEVER) };
    let (watcher, events) = Watcher::start(vec![source.clone()], options, bus).await.unwrap();
    let mut watched = Watched { dir: parent, watcher, events, notices: notices.resubscribe() };
    watched.until(&FileEvent::Rescan(source.clone())).await;
    fs::remove_dir(&source).unwrap();
    watched.until(&FileEvent::Rescan(source.clone())).await;
    fs::create_dir(&source).unwrap();
    let path = source.join("x.mp4");
    loop {
        fs::write(&path, b"film").unwrap();
        match watched.next().await {
            FileEvent::Closed(closed) if closed == path => break, // by an event, not by a scan
            _ => {}
        }
    }
    let (message, hint) = notice(&mut notices).unwrap();
    assert!(message.contains("no such directory") && hint.contains("mount"), "{message}: {hint}");
    assert_eq!(notice(&mut notices), None, "once");
}

#[tokio::test]
async fn polling_scans_again_and_again_and_tells_nothing_else() {
    let mut watched = Watched::with(options(WatchMode::Poll, Duration::from_millis(20)), CHANNEL_EVENTS, |_| {}).await;
    fs::write(watched.at("x.mp4"), b"film").unwrap();
    let source = watched.dir.path().to_owned();
    for _ in 0..5 {
        assert_eq!(watched.next().await, FileEvent::Rescan(source.clone()));
    }
    assert_eq!(notice(&mut watched.notices), None, "it was asked for");
}

#[tokio::test]
async fn scans_take_at_most_a_tenth_of_the_time() {
    let mut watched = Watched::with(options(WatchMode::Poll, Duration::from_millis(1)), CHANNEL_EVENTS, |_| {}).await;
    watched.watcher.scanned(watched.dir.path(), Duration::from_millis(60));
    // What had been asked for before may still be waiting.
    tokio::time::timeout(Duration::from_millis(300), async { while watched.events.recv().await.is_some() {} })
        .await
        .expect_err("the watcher lives");
    let source = watched.dir.path().to_owned();
    watched.until(&FileEvent::Rescan(source.clone())).await;
    let before = std::time::Instant::now();
    watched.until(&FileEvent::Rescan(source)).await;
    assert!(before.elapsed() >= Duration::from_millis(550), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_missing_source_is_an_error_where_events_are_demanded() {
    let dir = tempfile::tempdir().unwrap();
    let sources = vec![dir.path().join("missing")];
    let started = Watcher::start(sources, options(WatchMode::Native, NEVER), EventBus::default()).await;
    let error = started.map(|_| ()).unwrap_err();
    assert!(matches!(&error, WatchError::Source { .. }), "{error:?}");
    assert!(error.to_string().contains("missing: there is no such directory"), "{error}");
}

#[tokio::test]
async fn the_watcher_stops_when_dropped() {
    let Watched { dir, watcher, mut events, .. } = Watched::new().await;
    drop(watcher);
    let ended = tokio::time::timeout(Duration::from_secs(20), async { while events.recv().await.is_some() {} });
    ended.await.expect("every sender is gone");
    drop(dir);
}

/// Limits belong to a user name space: this test runs itself again in one of its own.
#[test]
fn a_limit_on_watches_leads_to_polling_and_says_what_to_raise() {
    const INSIDE: &str = "REELTIME_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let mut unshare = Command::new("unshare");
        let script = "echo 3 > /proc/sys/user/max_inotify_watches || exit 77; exec \"$@\"";
        unshare.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]).arg(std::env::current_exe().unwrap());
        let name = "watch::tests::a_limit_on_watches_leads_to_polling_and_says_what_to_raise";
        let output = unshare.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let many = |dir: &Path| (0..10).for_each(|at| fs::create_dir(dir.join(at.to_string())).unwrap());
        let dir = tempfile::tempdir().unwrap();
        many(dir.path());
        let sources = vec![dir.path().to_owned()];
        let demanded = Watcher::start(sources, options(WatchMode::Native, NEVER), EventBus::default()).await;
        let error = demanded.map(|_| ()).unwrap_err();
        assert!(matches!(error, WatchError::Limit { .. }), "{error:?}");

        let auto = options(WatchMode::Auto, Duration::from_millis(50));
        let mut watched = Watched::with(auto, CHANNEL_EVENTS, many).await;
        let (message, hint) = notice(&mut watched.notices).unwrap();
        assert!(message.contains("fs.inotify.max_user_watches"), "{message}");
        assert!(hint.contains("sysctl fs.inotify.max_user_watches"), "{hint}");
        watched.until(&FileEvent::Rescan(watched.dir.path().to_owned())).await;
        watched.until(&FileEvent::Rescan(watched.dir.path().to_owned())).await;
        assert_eq!(notice(&mut watched.notices), None, "once");
    });
}
