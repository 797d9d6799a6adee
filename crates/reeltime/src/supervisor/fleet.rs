//! The other nodes that record in the same directories, and what becomes of their streams when
//! they are gone.
//!
//! Of a stream that another node has, this one knows the file, and leaves it alone as long as
//! that node is there. When it has left, or has been silent for longer than its lease, its
//! streams go on here: all that lie in directories which are watched here too, the same ones by
//! their marks. Of several nodes that try, the epoch lets one.
//!
//! A checkpoint that was away may have let leases end that nobody could renew. So silence counts
//! only when it has been heard for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reeltime_core::StreamRecord;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checkpoint::{CheckpointError, CheckpointStore, Liveness};

/// From one question to the next.
const ROUND: Duration = Duration::from_secs(1);

/// A node that did not renew its lease in this time, with the checkpoint there, is dead.
const SILENCE: Duration = Duration::from_secs(3);

/// What a node that is gone has left.
#[derive(Debug)]
pub(super) struct Estate {
    /// Its name.
    pub(super) node: String,
    /// Its streams in directories that are watched here.
    pub(super) streams: Vec<StreamRecord>,
}

/// Listens for the nodes whose streams are known here.
pub(super) struct Fleet {
    checkpoint: Arc<dyn CheckpointStore>,
    /// The name of this one.
    node: String,
    /// The marks of the directories that are watched here.
    marks: Arc<BTreeSet<String>>,
    neighbours: BTreeMap<String, Neighbour>,
    asking: JoinSet<Heard>,
}

/// What is known of a node.
#[derive(Default)]
struct Neighbour {
    /// It was there when it was last asked for.
    is_alive: bool,
    silent_since: Option<Instant>,
}

/// What was heard in one round.
#[derive(Default)]
struct Heard {
    liveness: Vec<(String, Option<Liveness>)>,
    estates: Vec<Estate>,
}

impl Fleet {
    pub(super) fn new(checkpoint: Arc<dyn CheckpointStore>, node: String, marks: impl Iterator<Item = String>) -> Self {
        let marks = Arc::new(marks.filter(|mark| !mark.is_empty()).collect());
        Self { checkpoint, node, marks, neighbours: BTreeMap::new(), asking: JoinSet::new() }
    }

    /// Has this node listened for from now on.
    pub(super) fn listen_for(&mut self, node: &str) {
        if !self.neighbours.contains_key(node) {
            self.neighbours.insert(node.to_owned(), Neighbour::default());
        }
    }

    /// Whether streams may come here soon, of nodes that are not known to be there.
    pub(super) fn is_unsure(&self) -> bool {
        self.neighbours.values().any(|neighbour| !neighbour.is_alive)
    }

    /// What nodes have left that are gone since; waits for ever where there are none to listen for.
    pub(super) async fn next(&mut self) -> Vec<Estate> {
        if self.asking.is_empty() {
            if self.neighbours.is_empty() {
                return std::future::pending().await;
            }
            self.ask();
        }
        let Some(Ok(heard)) = self.asking.join_next().await else { return Vec::new() };
        for (node, liveness) in heard.liveness {
            if let Some(neighbour) = self.neighbours.get_mut(&node) {
                let is_silent = liveness == Some(Liveness::Silent);
                neighbour.is_alive = liveness == Some(Liveness::Alive);
                neighbour.silent_since = is_silent.then(|| neighbour.silent_since.unwrap_or_else(Instant::now));
            }
        }
        for estate in &heard.estates {
            self.neighbours.remove(&estate.node);
        }
        heard.estates
    }

    fn ask(&mut self) {
        let is_long =
            |neighbour: &Neighbour| neighbour.silent_since.is_some_and(|since| since.elapsed() + ROUND >= SILENCE);
        let nodes: Vec<_> = self.neighbours.iter().map(|(node, known)| (node.clone(), is_long(known))).collect();
        let (checkpoint, own, marks) = (Arc::clone(&self.checkpoint), self.node.clone(), Arc::clone(&self.marks));
        self.asking.spawn(async move {
            tokio::time::sleep(ROUND).await;
            let mut heard = Heard::default();
            let mut gone = Vec::new();
            for (node, is_silent_for_long) in nodes {
                // One that cannot be asked for now is asked for again, and that is told elsewhere.
                let liveness = checkpoint.liveness(&node).await.ok();
                if liveness == Some(Liveness::Left) || liveness == Some(Liveness::Silent) && is_silent_for_long {
                    gone.push(node.clone());
                }
                heard.liveness.push((node, liveness));
            }
            if !gone.is_empty() {
                heard.estates = estates(&*checkpoint, &own, &marks, gone).await.unwrap_or_default(); // asked again
            }
            heard
        });
    }
}

/// What these nodes have left.
async fn estates(
    checkpoint: &dyn CheckpointStore,
    node: &str,
    marks: &BTreeSet<String>,
    gone: Vec<String>,
) -> Result<Vec<Estate>, CheckpointError> {
    let mut estates: Vec<_> = gone.into_iter().map(|node| Estate { node, streams: Vec::new() }).collect();
    let marks: Vec<_> = marks.iter().cloned().collect();
    for record in checkpoint.load_near(node, &marks).await? {
        if marks.contains(&record.source_mark)
            && let Some(estate) = estates.iter_mut().find(|estate| estate.node == record.node)
        {
            estate.streams.push(record);
        }
    }
    Ok(estates)
}
