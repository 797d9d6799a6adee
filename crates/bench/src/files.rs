//! The recordings that are sent.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use testkit::recorders::synthetic::fill;

use crate::{Failure, Outcome};

/// Since a recording of a backlog has ended.
const ENDED: Duration = Duration::from_hours(1);

/// Files of one size below a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) files: usize,
    pub(crate) file_bytes: u64,
}

impl Load {
    pub(crate) fn total_bytes(self) -> u64 {
        self.files as u64 * self.file_bytes
    }

    /// Writes the files, `a000/000042.mp4`, a hundred to a directory, with bytes that do not
    /// repeat. They look as if they had ended an hour ago: what has changed just now may be live.
    pub(crate) fn write(self, dir: &Path) -> Outcome<()> {
        let mut block = vec![0; 1 << 20];
        for file in 0..self.files {
            let path = dir.join(format!("a{:03}/{file:06}.mp4", file / 100));
            let failed = |error: std::io::Error| Failure::of("write", &path, &error);
            fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(failed)?;
            let mut output = File::create(&path).map_err(failed)?;
            let mut at = 0;
            while at < self.file_bytes {
                let take = (self.file_bytes - at).min(block.len() as u64) as usize;
                fill(file as u64, at, &mut block[..take]);
                output.write_all(&block[..take]).map_err(failed)?;
                at += take as u64;
            }
            output.set_modified(SystemTime::now() - ENDED).map_err(failed)?;
        }
        Ok(())
    }
}

/// Waits until a recording that was just written counts as finished, so that no client waits for
/// that while it is measured; and until the disk has taken what was written.
pub(crate) fn let_settle(dir: &Path) -> Outcome<()> {
    const AGE: Duration = Duration::from_secs(5);
    let failed = |error: std::io::Error| Failure::of("read", dir, &error);
    let newest = recordings_below(dir)?
        .iter()
        .filter_map(|path| fs::metadata(path).map(|data| data.ctime()).ok())
        .max()
        .unwrap_or(0);
    let newest = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(newest).unwrap_or(0));
    let status = std::process::Command::new("sync").arg("-f").arg(dir).status().map_err(failed)?;
    if !status.success() {
        return Err(Failure(format!("sync of {} failed", dir.display())));
    }
    std::thread::sleep(AGE.saturating_sub(newest.elapsed().unwrap_or_default()));
    Ok(())
}

/// A file, or the recordings below a directory, in order.
pub(crate) fn recordings_below(path: &Path) -> Outcome<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Failure::of("read", path, &error);
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if entry.is_dir() {
            found.extend(recordings_below(&entry)?);
        } else if entry.extension().is_some_and(|end| end == "mp4") {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
