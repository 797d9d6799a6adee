//! `reeltime status`: what the state says of the streams, whether or not reeltime runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Failure;
use super::places::{open_to_look, print, unreadable};
use crate::checkpoint::{CheckpointError, CheckpointStore, NodeState, Presence};
use crate::config::{destination, file, state_url};
use crate::listing::{FullKey, view_of};
use crate::printable::printable;
use crate::storage::url::Destination;
use crate::text_table::table;
use crate::view::{StreamView, rfc3339};

/// Show the streams that the state remembers
///
/// Works whether or not reeltime runs, and changes nothing. The progress is that of the last
/// stored part.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Where the state is kept [default: state.db in the user's state directory]
    #[arg(long, value_name = "URL", env = "REELTIME_STATE", hide_env = true)]
    state: Option<OsString>,

    /// Where recordings go: to show keys with the destination's prefix
    #[arg(long, value_name = "URL", env = "REELTIME_TO", hide_env = true)]
    to: Option<OsString>,

    /// Read --state and --to from this file of `reeltime run`
    #[arg(long, value_name = "FILE", env = "REELTIME_CONFIG", hide_env = true)]
    config: Option<PathBuf>,

    /// Print a JSON array, with the fields of /api/streams
    #[arg(long)]
    json: bool,
}

/// Prints the streams.
pub async fn status(args: StatusArgs) -> Result<(), Failure> {
    let from_file = args.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
    let to = args.to.or(from_file.to).map(|to| destination(&to)).transpose()?;
    let state = state_url(args.state.or(from_file.state), |name| std::env::var_os(name))?;
    let checkpoint = open_to_look(&state).await?;
    let streams = streams(checkpoint.as_ref(), &full_key(to)).await.map_err(|error| unreadable(&error))?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&streams);
        json.map_err(|error| Failure::failed(format!("cannot write JSON: {error}"), ""))? + "\n"
    } else {
        let nodes = checkpoint.nodes().await.map_err(|error| unreadable(&error))?;
        let streams = if streams.is_empty() {
            format!("no streams in {}\n", printable(&checkpoint.location()))
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
            table(&streams, i64::try_from(now).unwrap_or(i64::MAX))
        };
        streams + &fleet(&nodes)
    };
    print(&text)
}

/// All remembered streams, the newest last.
async fn streams(checkpoint: &dyn CheckpointStore, full_key: &FullKey) -> Result<Vec<StreamView>, CheckpointError> {
    let mut records = checkpoint.load().await?;
    records.sort_by_key(|record| (record.started_at, record.id));
    let mut views = Vec::with_capacity(records.len());
    for record in &records {
        views.push(view_of(record, checkpoint, full_key).await?);
    }
    Ok(views)
}

/// A line a node, behind an empty one.
fn fleet(nodes: &[NodeState]) -> String {
    let line = |NodeState { node, alive }: &NodeState| {
        let state = match alive {
            Some(Presence { pid, host, since, .. }) => {
                format!("runs: process {pid} on {host}, since {}", rfc3339(*since))
            }
            None => "does not run".to_owned(),
        };
        printable(&format!("node {node} {state}")).into_owned() + "\n"
    };
    let lines: String = nodes.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn full_key(to: Option<Destination>) -> FullKey {
    match to {
        Some(Destination::S3 { prefix, .. }) if !prefix.is_empty() => Arc::new(move |key| format!("{prefix}/{key}")),
        _ => Arc::new(ToString::to_string),
    }
}
