//! `reeltime verify`: compares every local recording with its object.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use clap::builder::{OsStringValueParser, TypedValueParser};
use reeltime_core::PartPlan;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Failure;
use super::places::{DestinationArgs, open_store, print, store_failure};
use crate::asking::patiently;
use crate::config::{ByteSize, Config, PartPlanChoice, Settings};
use crate::printable::printable;
use crate::verifying::{Checked, Verdict, Verifier};
use crate::watch::Selection;
use crate::watch::scan::{Seen, scan};

/// Compare every local recording with its object
///
/// Asks the store for size and checksum, and reads a recording only if these can decide: once for
/// its CRC64NVME or, where the store tells none, its MD5, which is compared with the object's
/// ETag. Changes nothing, and neither needs nor touches the state.
///
/// A line for each recording, in no particular order:
/// ok; missing (no object); differs (in size or checksum); unknown (the same size, but what the
/// store tells is not that of this recording, and may have another reason than that they differ);
/// recording (somebody is writing it: it has no final object yet, which is no failure); error (the
/// recording or its directory cannot be read, or the store does not answer for it).
///
/// Exit codes: 0 all are ok or being recorded, 1 otherwise, 2 usage or configuration.
#[derive(Debug, clap::Args)]
#[command(override_usage = "reeltime verify [OPTIONS] --to <URL> <DIR>...")]
#[allow(clippy::doc_markdown, reason = "it is help text")]
pub struct VerifyArgs {
    /// Directories of recordings, as for `reeltime run`
    #[arg(value_name = "DIR", env = "REELTIME_DIRS", hide_env = true,
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    dirs: Option<Vec<PathBuf>>,

    /// Files that are recordings [default: **/*.mp4]
    ///
    /// As for `reeltime run`: what it does not match is not looked at.
    #[arg(long, value_name = "GLOB", env = "REELTIME_INCLUDE", hide_env = true, help_heading = RECORDINGS)]
    include: Option<Vec<String>>,

    /// Files to leave out, even if they are included [default: none]
    #[arg(long, value_name = "GLOB", env = "REELTIME_EXCLUDE", hide_env = true, help_heading = RECORDINGS)]
    exclude: Option<Vec<String>>,

    /// Endings of names of unfinished files [default: .part .tmp]
    ///
    /// foo.mp4.part is compared with the object foo.mp4.
    #[arg(long, value_name = "SUFFIX", env = "REELTIME_TEMP_SUFFIX", hide_env = true, help_heading = RECORDINGS)]
    temp_suffix: Option<Vec<String>>,

    /// The size of the first part that the recordings were uploaded with [default: 8MiB]
    ///
    /// Needed only where the store tells no CRC64NVME: an object's ETag depends on how it was
    /// divided. With another size such objects are unknown.
    #[arg(long, value_name = "SIZE", env = "REELTIME_PART_SIZE", hide_env = true, help_heading = RECORDINGS)]
    part_size: Option<ByteSize>,

    /// How part sizes developed: growing or uniform [default: growing]
    ///
    /// Needed where --part-size is.
    #[arg(long, value_name = "PLAN", env = "REELTIME_PART_PLAN", hide_env = true, help_heading = RECORDINGS)]
    part_plan: Option<PartPlanChoice>,

    #[command(flatten)]
    destination: DestinationArgs,

    /// Print a JSON object a line, the last one a summary
    #[arg(long)]
    json: bool,
}

const RECORDINGS: &str = "Recordings";

impl VerifyArgs {
    /// Takes apart the lists that came from variables.
    pub(super) fn split_variables(&mut self, matches: &ArgMatches) {
        let mut lists = Settings {
            dirs: self.dirs.take(),
            include: self.include.take(),
            exclude: self.exclude.take(),
            temp_suffix: self.temp_suffix.take(),
            ..Settings::default()
        };
        lists.split_variables(matches);
        Settings { dirs: self.dirs, include: self.include, exclude: self.exclude, temp_suffix: self.temp_suffix, .. } =
            lists;
    }

    fn config(self) -> Result<Config, Failure> {
        let given = Settings {
            dirs: self.dirs,
            include: self.include,
            exclude: self.exclude,
            temp_suffix: self.temp_suffix,
            part_size: self.part_size,
            part_plan: self.part_plan,
            ..Settings::default()
        };
        let mut settings = given.or(self.destination.settings()?);
        if settings.dirs.as_ref().is_none_or(Vec::is_empty) {
            let hint = "name those of `reeltime run`: reeltime verify DIR... --to URL";
            return Err(Failure::usage("no directory to verify", hint));
        }
        // A machine without a place for the state, or without a name, can verify all the same.
        settings.state = Some("state.db".into());
        settings.node = Some("verify".into());
        settings.after_upload = None;
        Ok(settings.resolve(|_| None)?.check()?)
    }
}

/// Verifies everything.
pub async fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let json = args.json;
    let config = args.config()?;
    let store = open_store(&config.to, &config.s3).await?;
    patiently(|| store.preflight()).await.map_err(|error| store_failure(&error))?;
    let plan = PartPlan::new(config.part_plan, config.part_size_bytes, store.limits())
        .ok_or_else(|| Failure::usage("--part-size does not fit this store", "its parts are larger or smaller"))?;
    let selection = Selection::new(&config.include, &config.exclude, &config.temp_suffixes)
        .map_err(|error| Failure::usage(error.to_string(), "mend the pattern or the suffix"))?;
    let verifier = Verifier { store, plan, readers: Arc::new(Semaphore::new(READERS)) };

    let mut found = find(config.dirs, selection);
    let mut running = JoinSet::new();
    let mut counts = Counts::default();
    let mut is_all_found = false;
    while !(is_all_found && running.is_empty()) {
        tokio::select! {
            seen = found.recv(), if !is_all_found && running.len() < AT_ONCE => match seen {
                Some(seen) => {
                    running.spawn(check(verifier.clone(), seen));
                }
                None => is_all_found = true,
            },
            Some(checked) = running.join_next() => {
                let checked = checked.map_err(|error| Failure::failed(format!("a check died: {error}"), "this is a bug"))?;
                if let Some(checked) = checked {
                    counts.add(checked.verdict);
                    print(&line(&checked, json))?;
                }
            }
        }
    }
    print(&counts.summary(json))?;
    counts.outcome()
}

/// Scans beside the comparison, never far ahead of it.
fn find(dirs: Vec<PathBuf>, selection: Selection) -> mpsc::Receiver<Seen> {
    let (sender, receiver) = mpsc::channel(AT_ONCE);
    tokio::task::spawn_blocking(move || {
        for dir in dirs {
            scan(&selection, &dir, &dir, &mut |seen| {
                let _ = sender.blocking_send(seen); // nobody listens any more after an error
            });
        }
    });
    receiver
}

/// `None`: it is no recording, or is none any more.
async fn check(verifier: Verifier, seen: Seen) -> Option<Checked> {
    match seen {
        Seen::Recording(found) => verifier.check(found.path, found.key).await,
        Seen::Oddity { .. } => None,
        Seen::Trouble { path, error } => Some(Checked::unreadable(path, &error)),
    }
}

fn line(checked: &Checked, json: bool) -> String {
    if json {
        #[derive(Serialize)]
        struct Line<'a> {
            path: &'a str,
            key: Option<&'a str>,
            verdict: &'a str,
            detail: &'a str,
            size_bytes: Option<u64>,
            object_size_bytes: Option<u64>,
            read_bytes: u64,
        }
        let line = Line {
            path: &lossy(&checked.path),
            key: checked.key.as_deref(),
            verdict: checked.verdict.as_str(),
            detail: &checked.detail,
            size_bytes: checked.size_bytes,
            object_size_bytes: checked.object_size_bytes,
            read_bytes: checked.read_bytes,
        };
        return serde_json::to_string(&line).unwrap_or_default() + "\n"; // text and numbers are always JSON
    }
    let mut line = format!("{:<9}  {}", checked.verdict.as_str(), printable(&lossy(&checked.path)));
    if !checked.detail.is_empty() {
        let _ = write!(line, "  ({})", printable(&checked.detail)); // writing to a String cannot fail
    }
    line + "\n"
}

fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How many recordings got which verdict.
#[derive(Default)]
struct Counts([u64; Verdict::ALL.len()]);

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    fn summary(&self, json: bool) -> String {
        let counts = Verdict::ALL.map(|verdict| (verdict.as_str(), self.of(verdict)));
        if json {
            let counts: serde_json::Map<_, _> =
                counts.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
            return serde_json::json!({ "summary": counts }).to_string() + "\n";
        }
        let counts: Vec<_> = counts.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!("\n{}\n", counts.join(", "))
    }

    fn outcome(&self) -> Result<(), Failure> {
        let all: u64 = self.0.iter().sum();
        let bad = all - self.of(Verdict::Ok) - self.of(Verdict::Recording);
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::failed(
            format!("{bad} of {all} recordings are not known to be stored as they are here"),
            "what is missing or differs is uploaded by `reeltime run`; nothing was changed",
        ))
    }
}

/// Recordings that the store is asked for at the same time.
const AT_ONCE: usize = 16;

/// Recordings that are read at the same time: a disk reads two files faster than twenty.
const READERS: usize = 2;
