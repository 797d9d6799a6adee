//! The other nodes that record in the same directories, and what becomes of their streams when
//! they are gone.
//!
//! Of a stream that another node has, this one knows the file, and leaves it alone as long as
//! that node is there. When it has left, or has been silent for longer than its lease, its
//! streams go on here: all that lie in directories which are watched here too, the same ones by
//! their marks. The same if it was started again without that directory. Of several nodes that
//! try, the epoch lets one.
//!
//! Not where the directory is away here, as if it were not mounted: another node may see it.
//!
//! A checkpoint that was away may have let leases end that nobody could renew. So silence counts
//! only when it has been heard for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reeltime_core::StreamRecord;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checkpoint::{CheckpointError, CheckpointStore, Liveness};
use crate::storage::body::blocking;
use crate::watch::mark_of;

/// From one question to the next.
const ROUND: Duration = Duration::from_secs(1);

/// The same, when what nodes have left could not be read.
const ROUND_IN_TROUBLE: Duration = Duration::from_secs(8);

/// A node that did not renew its lease in this time, with the checkpoint there, is dead.
const SILENCE: Duration = Duration::from_secs(3);

/// What a node that is gone has left in a directory.
#[derive(Debug)]
pub(super) struct Estate {
    /// Its name.
    pub(super) node: String,
    /// The mark of the directory.
    pub(super) source: String,
    /// Its streams there.
    pub(super) streams: Vec<StreamRecord>,
}

/// A node, and the mark of a directory in which it has streams.
type Neighbour = (String, String);

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Nothing yet, or it could not be asked for.
    None,
    OfLife,
    SilentSince(Instant),
}

/// Listens for the nodes whose streams are known here.
pub(super) struct Fleet {
    checkpoint: Arc<dyn CheckpointStore>,
    /// The name of this one.
    node: String,
    /// The directories that are watched here, by their marks.
    sources: Arc<HashMap<String, PathBuf>>,
    neighbours: BTreeMap<Neighbour, Sign>,
    asking: JoinSet<Heard>,
    /// What nodes have left could not be read.
    in_trouble: bool,
}

/// What was heard in one round.
struct Heard {
    /// `None` of one that could not be asked for.
    liveness: Vec<(Neighbour, Option<Liveness>)>,
    estates: Result<Vec<Estate>, CheckpointError>,
}

impl Fleet {
    pub(super) fn new(checkpoint: Arc<dyn CheckpointStore>, node: String, marks: &HashMap<PathBuf, String>) -> Self {
        let sources = Arc::new(marks.iter().map(|(source, mark)| (mark.clone(), source.clone())).collect());
        Self { checkpoint, node, sources, neighbours: BTreeMap::new(), asking: JoinSet::new(), in_trouble: false }
    }

    /// Has the node of this stream listened for from now on, where it is.
    pub(super) fn listen_for(&mut self, stream: &StreamRecord) {
        self.neighbours.entry((stream.node.clone(), stream.source_mark.clone())).or_insert(Sign::None);
    }

    /// Whether all nodes whose streams are known here are there.
    pub(super) fn is_all_alive(&self) -> bool {
        self.neighbours.values().all(|sign| *sign == Sign::OfLife)
    }

    /// What nodes have left that are gone since; waits for ever where there are none to listen for.
    pub(super) async fn next(&mut self) -> Result<Vec<Estate>, CheckpointError> {
        if self.asking.is_empty() {
            if self.neighbours.is_empty() {
                return std::future::pending().await;
            }
            self.ask();
        }
        let Some(Ok(heard)) = self.asking.join_next().await else { return Ok(Vec::new()) };
        for (neighbour, liveness) in heard.liveness {
            if let Some(sign) = self.neighbours.get_mut(&neighbour) {
                *sign = sign.after(liveness);
            }
        }
        self.in_trouble = heard.estates.is_err();
        let estates = heard.estates?;
        for estate in &estates {
            self.neighbours.remove(&(estate.node.clone(), estate.source.clone()));
        }
        Ok(estates)
    }

    fn ask(&mut self) {
        let signs = self.neighbours.iter();
        let neighbours: Vec<_> = signs.map(|(neighbour, sign)| (neighbour.clone(), sign.is_long_silence())).collect();
        let (checkpoint, own, sources) = (Arc::clone(&self.checkpoint), self.node.clone(), Arc::clone(&self.sources));
        let pause = if self.in_trouble { ROUND_IN_TROUBLE } else { ROUND };
        self.asking.spawn(async move {
            tokio::time::sleep(pause).await;
            let (mut liveness, mut gone) = (Vec::new(), Vec::new());
            for (neighbour, is_silent_for_long) in neighbours {
                let (node, source) = &neighbour;
                // One that cannot be asked for now is asked for again, and that is told elsewhere.
                let heard = checkpoint.liveness(node, source).await.ok();
                let is_gone = heard == Some(Liveness::Left) || heard == Some(Liveness::Silent) && is_silent_for_long;
                if is_gone && is_there(sources.get(source), source).await {
                    gone.push(neighbour.clone());
                }
                liveness.push((neighbour, heard));
            }
            let estates = if gone.is_empty() { Ok(Vec::new()) } else { estates(&*checkpoint, &own, gone).await };
            Heard { liveness, estates }
        });
    }
}

impl Sign {
    fn after(self, heard: Option<Liveness>) -> Self {
        match (heard, self) {
            (Some(Liveness::Alive), _) => Self::OfLife,
            (Some(Liveness::Silent), Self::SilentSince(since)) => Self::SilentSince(since),
            (Some(Liveness::Silent), _) => Self::SilentSince(Instant::now()),
            (Some(Liveness::Left) | None, _) => Self::None,
        }
    }

    /// Whether it will have been silent for long enough when it is asked for next.
    fn is_long_silence(self) -> bool {
        matches!(self, Self::SilentSince(since) if since.elapsed() + ROUND >= SILENCE)
    }
}

/// Whether a directory is the one that it was when this process began.
async fn is_there(source: Option<&PathBuf>, mark: &str) -> bool {
    let Some(source) = source.cloned() else { return false };
    blocking(move || Ok(mark_of(&source))).await.is_ok_and(|now| now == mark)
}

/// What these have left.
async fn estates(
    checkpoint: &dyn CheckpointStore,
    own: &str,
    gone: Vec<Neighbour>,
) -> Result<Vec<Estate>, CheckpointError> {
    let sources: BTreeSet<_> = gone.iter().map(|(_, source)| source.clone()).collect();
    let sources: Vec<_> = sources.into_iter().collect();
    let mut estates: Vec<_> =
        gone.into_iter().map(|(node, source)| Estate { node, source, streams: Vec::new() }).collect();
    for record in checkpoint.load_near(own, &sources).await? {
        let is_of = |estate: &&mut Estate| estate.node == record.node && estate.source == record.source_mark;
        if let Some(estate) = estates.iter_mut().find(is_of) {
            estate.streams.push(record);
        }
    }
    Ok(estates)
}
