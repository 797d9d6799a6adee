//! `reeltime sweep`: aborts orphaned uploads that reeltime started, and no others.

use std::ffi::OsString;

use serde::Serialize;

use super::Failure;
use super::places::{
    DestinationArgs, destination_of, open_store, open_to_look, open_to_mend, print, running, store_failure, unreadable,
};
use crate::asking::patiently;
use crate::config::{Settings, node_name, state_url};
use crate::printable::printable;
use crate::sweeping::{Fate, Sweeper, Swept};

/// Abort orphaned uploads that reeltime started, and no others
///
/// Unfinished uploads are invisible and cost money. reeltime aborts its own; what it could not (a
/// recording deleted while reeltime was down, an abort that came too early, an upload that only a
/// later listing shows) is found by what the state remembers of this node's streams: an upload is
/// aborted if its stream
/// names it, or if it has a stream's key, was begun after it and is divided into parts as it is;
/// and if that stream is completed, has failed, or is unfinished while its file is gone. What was
/// uploaded of a recording that is gone is lost with it: see `reeltime salvage`.
///
/// Left alone is everything of streams that go on, of other nodes, of keys that no stream has, and
/// of streams whose directory is missing or empty, because it may not be mounted.
///
/// A running reeltime owns a state file: stop it first. With a Redis it may run; then unfinished
/// streams are left to it.
///
/// Exit codes: 0 done, 1 something failed, 2 usage or configuration.
#[derive(Debug, clap::Args)]
#[allow(clippy::doc_markdown, reason = "it is help text")]
pub struct SweepArgs {
    #[command(flatten)]
    destination: DestinationArgs,

    /// Where the state is kept [default: state.db in the user's state directory]
    #[arg(long, value_name = "URL", env = "REELTIME_STATE", hide_env = true)]
    state: Option<OsString>,

    /// The node whose streams are looked at [default: the host name]
    ///
    /// As for `reeltime run`. Files are looked for on this machine: unfinished streams of a node
    /// that ran elsewhere are left alone.
    #[arg(long, value_name = "NAME", env = "REELTIME_NODE", hide_env = true)]
    node: Option<String>,

    /// Say what would be aborted, and abort nothing
    ///
    /// Works while reeltime runs, and then says what would be aborted if it did not.
    #[arg(long)]
    dry_run: bool,

    /// No reeltime of this node runs, whatever its lease says [default: the lease decides]
    ///
    /// Then what an unfinished stream has uploaded of a file that is gone is aborted, too. With a
    /// Redis a lease lasts for 8 s after its reeltime has died. If one runs all the same, it loses
    /// that stream and ends.
    #[arg(long)]
    yes: bool,

    /// List what is left alone, too, and why
    #[arg(long)]
    verbose: bool,

    /// Print a JSON object for each upload, whatever becomes of it, the last one a summary
    #[arg(long)]
    json: bool,
}

/// Sweeps.
pub async fn sweep(args: SweepArgs) -> Result<(), Failure> {
    let given = Settings { state: args.state, node: args.node, ..Settings::default() };
    let settings = given.or(args.destination.settings()?);
    let (to, s3) = destination_of(&settings)?;
    let state = state_url(settings.state, |name| std::env::var_os(name))?;
    let node = node_name(settings.node)?;
    let store = open_store(&to, &s3).await?;
    let checkpoint = if args.dry_run { open_to_look(&state).await? } else { open_to_mend(&state, &node).await? };
    patiently(|| store.preflight()).await.map_err(|error| store_failure(&error))?;
    // Whoever has the lock of a state file knows that nobody else runs; a shared one has leases.
    let may_be_running = !args.yes && running(&*checkpoint, &node).await?.is_some();
    let sweeper =
        Sweeper { store, checkpoint, node, may_be_running, dry_run: args.dry_run, tell_all: args.json || args.verbose };
    let mut counts = [0_u64; Fate::ALL.len()];
    let mut printed = Ok(());
    let mut tell = |swept: Swept| {
        counts[swept.fate as usize] += 1;
        let is_quiet = matches!(swept.fate, Fate::Kept | Fate::Foreign) && !args.verbose;
        if printed.is_ok() && (args.json || !is_quiet) {
            printed = print(&line(&swept, args.json));
        }
    };
    sweeper.sweep(&mut tell).await.map_err(|error| unreadable(&error))?;
    printed?;
    print(&summary(counts, args.json))?;
    match counts[Fate::Failed as usize] {
        0 => Ok(()),
        failed => Err(Failure::failed(
            format!("{failed} uploads or keys could not be dealt with"),
            "see the lines above; sweep again when that is mended, what was aborted is gone",
        )),
    }
}

fn line(swept: &Swept, json: bool) -> String {
    if json {
        #[derive(Serialize)]
        struct Line<'a> {
            key: &'a str,
            upload_id: Option<&'a str>,
            stream: Option<String>,
            fate: &'a str,
            why: &'a str,
            size_bytes: Option<u64>,
        }
        let line = Line {
            key: &swept.key,
            upload_id: swept.upload_id.as_deref(),
            stream: swept.stream.map(|id| id.to_string()),
            fate: swept.fate.as_str(),
            why: &swept.why,
            size_bytes: swept.size_bytes,
        };
        return serde_json::to_string(&line).unwrap_or_default() + "\n"; // text and numbers are always JSON
    }
    let upload = swept.upload_id.as_deref().map_or(String::new(), |id| format!("  upload {id}"));
    let size = swept.size_bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
    let text = format!("{}{upload}{size}  ({})", swept.key, swept.why);
    format!("{:<11}  {}\n", swept.fate.as_str().replace('_', " "), printable(&text))
}

fn summary(counts: [u64; Fate::ALL.len()], json: bool) -> String {
    let counts = Fate::ALL.map(|fate| (fate.as_str(), counts[fate as usize]));
    if json {
        let counts: serde_json::Map<_, _> = counts.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        return serde_json::json!({ "summary": counts }).to_string() + "\n";
    }
    let counts: Vec<_> = counts.into_iter().map(|(name, n)| format!("{n} {}", name.replace('_', " "))).collect();
    format!("\n{}\n", counts.join(", "))
}
