//! The configuration held against the disk, before anything begins.
//!
//! What would make an upload loop (a destination or an archive inside a source), double one
//! (a source inside another) or watch nothing is refused here.

use std::io;
use std::path::{Path, PathBuf};

use reeltime_core::Limits;

use super::place::Place;
use super::{AfterUpload, ByteSize, Config, Problem};
use crate::storage::url::Destination;

impl Config {
    /// Checks the configuration; gives it back with the directories absolute and free of
    /// symbolic links, so that a recording keeps its path however its directory is written.
    pub fn check(mut self) -> Result<Self, Problem> {
        check_numbers(&self)?;
        let sources = self.dirs.iter().map(|dir| source(dir)).collect::<Result<Vec<_>, _>>()?;
        check_apart(&self.dirs, &sources)?;
        if let Destination::Local(dir) = &self.to {
            let destination = looked_up("the destination", dir)?;
            for (dir, source) in self.dirs.iter().zip(&sources) {
                check_destination(dir, source, &self.to, &destination)?;
            }
        }
        if let AfterUpload::Move(archive) = &self.after_upload {
            let place = looked_up("--after-upload's directory", archive)?;
            if let Some((dir, _)) = self.dirs.iter().zip(&sources).find(|(_, source)| place.is_within(source)) {
                return Err(Problem::new(
                    format!("--after-upload moves to {}, inside the source {}", archive.display(), dir.display()),
                    "recordings would be found and uploaded again: move them out of the watched directories",
                ));
            }
        }
        self.dirs = sources.into_iter().map(|source| source.canonical).collect();
        Ok(self)
    }
}

fn check_numbers(config: &Config) -> Result<(), Problem> {
    let (limits, store) = match &config.to {
        Destination::S3 { .. } => (Limits::S3, "S3"),
        Destination::Local(_) => (Limits::LOCAL, "reeltime"),
    };
    let part_size = ByteSize(config.part_size_bytes);
    if part_size.0 < limits.min_part_bytes {
        let least = ByteSize(limits.min_part_bytes);
        return Err(Problem::new(
            format!("--part-size {part_size} is too small: {store} refuses parts under {least}"),
            format!("choose {least} or more; the default is 8MiB"),
        ));
    }
    if part_size.0 > limits.max_part_bytes {
        let most = ByteSize(limits.max_part_bytes);
        return Err(Problem::new(
            format!("--part-size {part_size} is too large: a part has at most {most}"),
            format!("choose {most} or less; parts grow by themselves as a recording does"),
        ));
    }
    if config.max_uploads == 0 {
        return Err(Problem::new("--max-uploads 0 would upload nothing", "choose 1 or more; the default is 8"));
    }
    if config.bandwidth.is_some_and(|rate| rate.bytes_per_second == 0) {
        return Err(Problem::new(
            "--bandwidth 0 would upload nothing",
            "choose a rate such as 20MiB/s, or leave it out for no limit",
        ));
    }
    Ok(())
}

/// A source that can be read now.
fn source(dir: &Path) -> Result<Place, Problem> {
    let place = Place::of(dir).map_err(|error| source_problem(dir, &error))?;
    if !place.exists {
        return Err(source_problem(dir, &io::ErrorKind::NotFound.into()));
    }
    std::fs::read_dir(&place.canonical).map_err(|error| source_problem(dir, &error))?;
    Ok(place)
}

fn source_problem(dir: &Path, error: &io::Error) -> Problem {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::NotFound => Problem::new(
            format!("the source {dir} does not exist"),
            "check the path; create the directory, or mount it, before reeltime starts",
        ),
        io::ErrorKind::NotADirectory => Problem::new(
            format!("the source {dir} is not a directory"),
            "name the directory that the recorder writes to, and choose files with --include",
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            format!("the source {dir} cannot be read: {error}"),
            "let the user that runs reeltime list and enter it (chmod, chown, or its group)",
        ),
        _ => Problem::new(format!("the source {dir} cannot be read: {error}"), "check the disk or the mount"),
    }
}

fn check_apart(dirs: &[PathBuf], sources: &[Place]) -> Result<(), Problem> {
    for (at, (dir, source)) in dirs.iter().zip(sources).enumerate() {
        for (other_dir, other) in dirs.iter().zip(sources).take(at) {
            let (dir, other_dir) = (dir.display(), other_dir.display());
            if source.is(other) {
                return Err(Problem::new(
                    format!("the sources {other_dir} and {dir} are the same directory"),
                    "name it once",
                ));
            }
            let (inner, outer) = if source.is_within(other) {
                (dir, other_dir)
            } else if other.is_within(source) {
                (other_dir, dir)
            } else {
                continue;
            };
            return Err(Problem::new(
                format!("the source {inner} is inside the source {outer}"),
                format!("its recordings would be uploaded twice: name {outer} alone, it is watched with all below it"),
            ));
        }
    }
    Ok(())
}

fn check_destination(dir: &Path, source: &Place, to: &Destination, destination: &Place) -> Result<(), Problem> {
    let dir = dir.display();
    let problem = if destination.is(source) {
        format!("the destination {to} is the source {dir} itself")
    } else if destination.is_within(source) {
        format!("the destination {to} is inside the source {dir}")
    } else if source.is_within(destination) {
        format!("the source {dir} is inside the destination {to}")
    } else {
        return Ok(());
    };
    Err(Problem::new(problem, "uploads would be found and uploaded again: choose a destination apart from all sources"))
}

fn looked_up(what: &str, dir: &Path) -> Result<Place, Problem> {
    Place::of(dir).map_err(|error| {
        Problem::new(
            format!("{what} {} cannot be used: {error}", dir.display()),
            "name a directory, existing or to be created, that the user that runs reeltime may enter",
        )
    })
}
