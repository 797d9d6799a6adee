//! A clock on the wall that a test sets while a program runs, by libfaketime. The other clock, that
//! never runs backwards, and the times of files are left as they are.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// What a program takes for the time of day.
#[derive(Debug)]
pub struct WallClock {
    dir: TempDir,
    library: PathBuf,
}

impl WallClock {
    /// One that is right. Panics if libfaketime is not there.
    pub fn right() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let clock = Self { dir, library: library() };
        clock.set(0);
        clock
    }

    /// The variables of a program that is to go by it.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// It is ahead of the true time by this much from now on, or behind it.
    pub fn set(&self, ahead_seconds: i64) {
        // At once wholly: a program may be reading it.
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{ahead_seconds:+}\n")).expect("the file can be written");
        fs::rename(new, self.file()).expect("a file can be replaced");
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clock")
    }
}

fn library() -> PathBuf {
    let places = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut candidates = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    candidates
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("libfaketime is not there: run scripts/test, or scripts/install-test-tools once"))
}
