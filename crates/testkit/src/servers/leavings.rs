//! What guards leave behind that nobody drops: those in statics, which tests share.
//!
//! When the test process ends in an orderly way (passed or failed), their processes are killed
//! and their directories removed. When it is killed, the kernel kills the processes, and only
//! directories stay behind.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use super::process::Run;
use super::signals;

/// For all processes together to be gone.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Leavings {
    homes: Vec<PathBuf>,
    runs: Vec<Weak<Run>>,
}

static LEAVINGS: Mutex<Leavings> = Mutex::new(Leavings { homes: Vec::new(), runs: Vec::new() });

/// Removes a directory at the end, if it is there then.
pub(super) fn remove_at_exit(home: &Path) {
    note(|leavings| leavings.homes.push(home.to_path_buf()));
}

/// Kills a process at the end, if it runs then.
pub(super) fn kill_at_exit(run: &Arc<Run>) {
    note(|leavings| {
        leavings.runs.retain(|run| run.strong_count() > 0);
        leavings.runs.push(Arc::downgrade(run));
    });
}

fn note(change: impl FnOnce(&mut Leavings)) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| signals::at_exit(clear));
    change(&mut LEAVINGS.lock().unwrap_or_else(PoisonError::into_inner));
}

extern "C" fn clear() {
    // A panic must not leave a function that C calls.
    let _ = std::panic::catch_unwind(|| {
        let leavings = std::mem::take(&mut *LEAVINGS.lock().unwrap_or_else(PoisonError::into_inner));
        let runs: Vec<_> = leavings.runs.iter().filter_map(Weak::upgrade).collect();
        for run in &runs {
            run.signal(libc::SIGKILL);
        }
        for run in runs {
            run.wait(DEADLINE);
        }
        for home in leavings.homes {
            let _ = std::fs::remove_dir_all(home); // mostly gone already
        }
    });
}
