//! Real servers, real recorders and the means to disturb both: for reeltime's tests only.
//!
//! Everything here is blocking and keeps its own threads, so that it serves synchronous and
//! asynchronous tests alike. In an asynchronous test whose code under test shares the runtime,
//! call what waits (`wait_…`, `stop`) through `spawn_blocking`, or use a multi-threaded
//! runtime.
//!
//! What goes wrong here panics with all that is known: a test has nothing better to do with an
//! error. What waits takes a deadline and waits on a condition, never for a length of time.
//!
//! The library does not know reeltime: what it says about an object or a log line is what an
//! outsider sees.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]
#![allow(clippy::format_push_string, clippy::format_collect, reason = "short texts, and nothing here is hot")]

pub mod daemon;
pub mod digest;
pub mod disk;
pub mod http;
pub mod island;
pub mod proxy;
pub mod recorders;
pub mod samples;
pub mod servers;
pub mod settings;
pub mod wall_clock;

use std::path::{Path, PathBuf};

/// The root of the workspace that the testkit was built in.
pub fn workspace_root() -> PathBuf {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the testkit lies two levels below the root").to_path_buf()
}
