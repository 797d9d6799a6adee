//! Scans of directories, one after the other, beside everything else.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::watch::Selection;
use crate::watch::scan::{Seen, scan};

/// What one scan saw.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) source: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) seen: Vec<Seen>,
    pub(super) took: Duration,
}

/// Runs the scans that are asked for; one that is waiting is not asked for twice.
#[derive(Debug)]
pub(super) struct Scanner {
    selection: Arc<Selection>,
    waiting: VecDeque<(PathBuf, PathBuf)>,
    running: JoinSet<Report>,
}

impl Scanner {
    pub(super) fn new(selection: Arc<Selection>) -> Self {
        Self { selection, waiting: VecDeque::new(), running: JoinSet::new() }
    }

    /// Asks for a scan of `dir` in `source`.
    pub(super) fn ask(&mut self, source: PathBuf, dir: PathBuf) {
        let covered = self.waiting.iter().any(|(_, waiting)| dir.starts_with(waiting));
        if !covered {
            self.waiting.push_back((source, dir));
        }
        self.begin();
    }

    /// Whether none is running or waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// The next report; waits for ever if no scan is running.
    pub(super) async fn next(&mut self) -> Option<Report> {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let report = self.running.join_next().await;
        self.begin();
        report.and_then(Result::ok)
    }

    fn begin(&mut self) {
        if !self.running.is_empty() {
            return;
        }
        let Some((source, dir)) = self.waiting.pop_front() else { return };
        let selection = Arc::clone(&self.selection);
        self.running.spawn_blocking(move || {
            let began = Instant::now();
            let mut seen = Vec::new();
            scan(&selection, &source, &dir, &mut |one| seen.push(one));
            Report { source, dir, seen, took: began.elapsed() }
        });
    }
}
