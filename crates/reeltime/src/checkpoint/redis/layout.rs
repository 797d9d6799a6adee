//! The names of the keys.
//!
//! On a server, and behind Sentinel: `reeltime:streams:active` and so on, and
//! `reeltime:stream:{id}:meta` and `:parts` (with the id in the place of `{id}`).
//!
//! In a cluster a stream's keys and the sets that it is in must be in one slot, and all streams
//! must not be in the same. So there are [`SHARDS`] times four sets, and a stream is in those
//! of the shard that its id gives: `reeltime:{5}:streams:active`, `reeltime:{5}:stream:ID:meta`.
//! The braces are part of the names; the slot is that of what stands in them.

use reeltime_core::{Crc64Nvme, State, StreamId};

/// How many slots of a cluster are used.
pub(super) const SHARDS: u8 = 16;

/// The prefix that is used when none is given.
pub(super) const DEFAULT_PREFIX: &str = "reeltime:";

/// How keys are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    prefix: String,
    is_sharded: bool,
}

impl Layout {
    pub(super) fn new(prefix: String, is_sharded: bool) -> Self {
        Self { prefix, is_sharded }
    }

    /// All shards, by what stands before their names.
    pub(super) fn shards(&self) -> Vec<String> {
        if self.is_sharded {
            (0..SHARDS).map(|shard| format!("{}{{{shard}}}:", self.prefix)).collect()
        } else {
            vec![self.prefix.clone()]
        }
    }

    /// The sets of a shard, in the order of [`State::ALL`].
    pub(super) fn sets(shard: &str) -> [String; 4] {
        State::ALL.map(|state| format!("{shard}streams:{state}"))
    }

    /// The sets that a stream moves through.
    pub(super) fn sets_of(&self, id: StreamId) -> [String; 4] {
        Self::sets(&self.shard_of(id))
    }

    /// The set of the streams of a shard that lie in one directory.
    pub(super) fn in_source(shard: &str, mark: &str) -> String {
        format!("{shard}source:{mark}:streams")
    }

    /// That of a stream.
    pub(super) fn in_source_of(&self, id: StreamId, mark: &str) -> String {
        Self::in_source(&self.shard_of(id), mark)
    }

    /// The set of the directories in which a node has recorded.
    pub(super) fn sources_of(&self, node: &str) -> String {
        format!("{}node:{node}:sources", self.prefix)
    }

    /// The set with the names of all nodes.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// The hash of a node, which ends with its lease.
    pub(super) fn node(&self, name: &str) -> String {
        format!("{}node:{name}", self.prefix)
    }

    /// The hash with the record of a stream.
    pub(super) fn meta(&self, id: StreamId) -> String {
        format!("{}stream:{id}:meta", self.shard_of(id))
    }

    /// The hash with the parts of a stream.
    pub(super) fn parts(&self, id: StreamId) -> String {
        format!("{}stream:{id}:parts", self.shard_of(id))
    }

    /// The hash that has an object, and whose it is.
    pub(super) fn objects(&self, object: &str) -> String {
        format!("{}objects", self.shard(Crc64Nvme::of(object.as_bytes()).0))
    }

    fn shard_of(&self, id: StreamId) -> String {
        // The end of an id is random, its beginning the time.
        self.shard(id.0.as_u64_pair().1)
    }

    fn shard(&self, number: u64) -> String {
        if self.is_sharded {
            format!("{}{{{}}}:", self.prefix, number % u64::from(SHARDS))
        } else {
            self.prefix.clone()
        }
    }
}

/// From 1: the place of a state's set among the four.
pub(super) fn place_of(state: State) -> usize {
    State::ALL.iter().position(|other| *other == state).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_server_has_plain_names_and_a_cluster_has_shards() {
        let id = StreamId(Uuid::from_u128(0x13));
        let plain = Layout::new("reeltime:".to_owned(), false);
        assert_eq!(plain.meta(id), "reeltime:stream:00000000-0000-0000-0000-000000000013:meta");
        assert_eq!(plain.sets_of(id)[1], "reeltime:streams:pending_completion");
        assert_eq!(plain.shards(), ["reeltime:"]);
        let sharded = Layout::new("r:".to_owned(), true);
        assert_eq!(sharded.parts(id), "r:{3}:stream:00000000-0000-0000-0000-000000000013:parts");
        assert_eq!(sharded.sets_of(id)[0], "r:{3}:streams:active");
        assert_eq!(sharded.shards().len(), 16);
        assert!(sharded.shards().contains(&"r:{3}:".to_owned()));
        assert_eq!(place_of(State::Completed), 3);
    }
}
