//! `reeltime salvage`: completes what a lost machine left behind.

use std::collections::BTreeSet;
use std::ffi::OsString;

use reeltime_core::{StreamId, StreamRecord};
use serde::Serialize;

use super::Failure;
use super::places::{
    DestinationArgs, destination_of, open_store, open_to_mend, print, running, store_failure, unreadable,
};
use crate::asking::patiently;
use crate::checkpoint::Presence;
use crate::config::{Settings, node_name, state_url};
use crate::lease::LEASE;
use crate::printable::printable;
use crate::salvaging::{SalvageError, Salvaged, Salvager, select};

/// Complete what a lost machine had uploaded, without its files
///
/// For a machine that does not come back. What the store has of its unfinished recordings, from
/// the first byte to the first gap, becomes their objects, with metadata documents that say so.
/// The end that was not uploaded yet is missing, at most what --tail-flush allows; it is said how
/// much is known of it. A recorder that writes its index at the end leaves a file that players
/// have to repair.
///
/// A recording whose file is on this machine is refused: `reeltime run` goes on with it and loses
/// nothing. This command ends that node's ownership. Should its machine come back with the file,
/// it is uploaded whole and replaces the object.
///
/// Exit codes: 0 all were completed, 1 otherwise, 2 usage or configuration.
#[derive(Debug, clap::Args)]
#[command(override_usage = "reeltime salvage [OPTIONS] --to <URL> <ID>...\n       \
                            reeltime salvage [OPTIONS] --to <URL> --node <NAME>")]
#[allow(clippy::doc_markdown, reason = "it is help text")]
pub struct SalvageArgs {
    /// Streams, by the id that `reeltime status --json` shows
    #[arg(value_name = "ID", required_unless_present = "lost")]
    ids: Vec<StreamId>,

    /// All unfinished streams of this node, the lost one
    #[arg(long = "node", value_name = "NAME", conflicts_with = "ids")]
    lost: Option<String>,

    /// Name of this node, which becomes the owner [default: the host name]
    #[arg(long = "as", value_name = "NAME", env = "REELTIME_NODE", hide_env = true)]
    own: Option<String>,

    #[command(flatten)]
    destination: DestinationArgs,

    /// Where the state is kept [default: state.db in the user's state directory]
    #[arg(long, value_name = "URL", env = "REELTIME_STATE", hide_env = true)]
    state: Option<OsString>,

    /// The node is lost, whatever its lease says [default: the lease decides]
    ///
    /// If it runs all the same, it loses these streams and ends, and the end of its recordings is
    /// uploaded only when it is started again.
    #[arg(long)]
    yes: bool,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Salvages.
pub async fn salvage(args: SalvageArgs) -> Result<(), Failure> {
    let given = Settings { state: args.state, node: args.own, ..Settings::default() };
    let settings = given.or(args.destination.settings()?);
    let (to, s3) = destination_of(&settings)?;
    let state = state_url(settings.state, |name| std::env::var_os(name))?;
    let node = node_name(settings.node)?;
    let store = open_store(&to, &s3).await?;
    let checkpoint = open_to_mend(&state, &node).await?;
    let records = checkpoint.load().await.map_err(|error| unreadable(&error))?;
    let chosen = select(records, &args.ids, args.lost.as_deref());
    if let Some(unknown) = args.ids.iter().find(|id| !chosen.iter().any(|record| record.id == **id)) {
        return Err(Failure::failed(
            format!("{} does not have stream {unknown}", checkpoint.location()),
            "`reeltime status --json` shows the ids; nothing was changed",
        ));
    }
    for node in nodes(&chosen) {
        if !args.yes
            && let Some(Presence { pid, host, .. }) = running(&*checkpoint, &node).await?
        {
            return Err(Failure::failed(
                format!("node {node} is not lost: it runs, by its lease, as process {pid} on {host}"),
                format!(
                    "if its machine has just been lost, its lease ends within {} s; or say so with --yes; nothing was changed",
                    LEASE.as_secs()
                ),
            ));
        }
    }
    patiently(|| store.preflight()).await.map_err(|error| store_failure(&error))?;
    let salvager = Salvager { store, checkpoint, node };
    let (all, mut bad, mut hint) = (chosen.len(), 0, String::new());
    for record in chosen {
        let (key, id) = (salvager.store.full_key(&record.key), record.id);
        let outcome = salvager.salvage(record).await;
        if !matches!(outcome, Ok(Salvaged::Completed { .. })) {
            bad += 1;
        }
        if let Err(error) = &outcome {
            hint = error.hint();
        }
        print(&line(id, &key, &outcome, args.json))?;
    }
    if !args.json {
        print(&format!("\n{} of {all} streams completed\n", all - bad))?;
    }
    if bad == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!("{bad} of {all} streams were not completed"), hint))
}

/// The nodes of streams, each once.
fn nodes(records: &[StreamRecord]) -> BTreeSet<String> {
    records.iter().map(|record| record.node.clone()).collect()
}

fn line(id: StreamId, key: &str, outcome: &Result<Salvaged, SalvageError>, json: bool) -> String {
    let (word, size, missing, why) = match outcome {
        Ok(Salvaged::Completed { size_bytes, missing_bytes }) => {
            ("completed", Some(*size_bytes), Some(*missing_bytes), None)
        }
        Ok(Salvaged::Nothing { missing_bytes }) => ("failed", Some(0), Some(*missing_bytes), None),
        Err(error @ SalvageError::Refused { .. }) => ("refused", None, None, Some(error.to_string())),
        Err(error) => ("error", None, None, Some(error.to_string())),
    };
    if json {
        #[derive(Serialize)]
        struct Line<'a> {
            id: String,
            key: &'a str,
            outcome: &'a str,
            size_bytes: Option<u64>,
            missing_bytes: Option<u64>,
            error: Option<String>,
        }
        let line =
            Line { id: id.to_string(), key, outcome: word, size_bytes: size, missing_bytes: missing, error: why };
        return serde_json::to_string(&line).unwrap_or_default() + "\n"; // text and numbers are always JSON
    }
    let said = match (why, size, missing) {
        (Some(why), ..) => why,
        (None, Some(0), missing) => {
            format!("nothing of it was stored; it had {} bytes at least, and is marked as failed", missing.unwrap_or(0))
        }
        (None, size, Some(missing @ 1..)) => {
            format!("{} bytes; {missing} bytes at least are missing at its end", size.unwrap_or(0))
        }
        (None, size, _) => format!("{} bytes; nothing is known to be missing", size.unwrap_or(0)),
    };
    format!("{word:<9}  {}  {}: {}\n", id, printable(key), printable(&said))
}
