//! What is written in Redis, as somebody with `redis-cli` sees it.

use std::collections::{BTreeMap, BTreeSet};

use reeltime_core::{State, StreamId};
use serde_json::Value;
use testkit::servers::{Redis, RedisClient, RedisCluster};

/// The checkpoints below a prefix.
pub(crate) struct Book<'a> {
    client: RedisClient,
    keys: Box<dyn Fn() -> BTreeSet<String> + 'a>,
    /// Whether what belongs to one stream stands below `{0}:` to `{15}:`.
    is_sharded: bool,
}

/// Every key with everything in it, sorted.
pub(crate) type Snapshot = BTreeMap<String, BTreeSet<String>>;

const PREFIX: &str = "reeltime:";

/// Looks at everything in one step: one line for whatever is not as it should be.
const AUDIT: &str = "
    local wrong, states = {}, {'active', 'pending_completion', 'completed', 'failed'}
    local seen = {}
    for _, state in ipairs(states) do
      for _, id in ipairs(redis.call('SMEMBERS', 'reeltime:streams:' .. state)) do
        if seen[id] then table.insert(wrong, id .. ' is ' .. seen[id] .. ' and ' .. state) end
        seen[id] = state
        local meta = redis.call('HGET', 'reeltime:stream:' .. id .. ':meta', 'state')
        if meta ~= state then table.insert(wrong, id .. ' is in ' .. state .. ', its meta says ' .. tostring(meta)) end
      end
    end
    for _, key in ipairs(redis.call('KEYS', 'reeltime:stream:*')) do
      local id = string.match(key, '^reeltime:stream:([^:]+):')
      if not seen[id] then table.insert(wrong, key .. ' is of no stream') end
    end
    return wrong";

impl<'a> Book<'a> {
    /// On one server.
    pub(crate) fn of(redis: &'a Redis) -> Self {
        let client = redis.client();
        Self { client: client.clone(), keys: Box::new(move || client.keys("*")), is_sharded: false }
    }

    /// In a cluster.
    pub(crate) fn of_cluster(cluster: &'a RedisCluster) -> Self {
        let keys = || cluster.keys("*").into_values().flatten().collect();
        Self { client: cluster.client(), keys: Box::new(keys), is_sharded: true }
    }

    fn key(&self, id: StreamId, rest: &str) -> String {
        if self.is_sharded {
            let last = id.to_string().chars().last().unwrap().to_digit(16).unwrap();
            format!("{PREFIX}{{{last}}}:{rest}")
        } else {
            format!("{PREFIX}{rest}")
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        (self.keys)()
    }

    /// The streams that there are.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        let keys = self.keys();
        let ids = keys.iter().filter_map(|key| key.strip_suffix(":meta")?.rsplit(':').next());
        ids.map(|id| id.parse().unwrap()).collect()
    }

    /// The fields of `meta`.
    pub(crate) fn meta(&self, id: StreamId) -> BTreeMap<String, String> {
        self.client.hash(&self.key(id, &format!("stream:{id}:meta")))
    }

    /// The parts by number.
    pub(crate) fn parts(&self, id: StreamId) -> BTreeMap<u32, Value> {
        let lines = self.client.hash(&self.key(id, &format!("stream:{id}:parts")));
        lines.iter().map(|(number, line)| (number.parse().unwrap(), serde_json::from_str(line).unwrap())).collect()
    }

    /// The bytes of all parts.
    pub(crate) fn part_bytes(&self, id: StreamId) -> u64 {
        self.parts(id).values().map(|part| part["size_bytes"].as_u64().unwrap()).sum()
    }

    /// The set that a stream is in. Panics if it is in several, or if its meta says another.
    #[track_caller]
    pub(crate) fn state(&self, id: StreamId) -> Option<String> {
        let is_in = |state: &State| {
            let set = self.key(id, &format!("streams:{state}"));
            self.client.members(&set).contains(&id.to_string())
        };
        let found: Vec<_> = State::ALL.iter().filter(|state| is_in(state)).map(ToString::to_string).collect();
        assert!(found.len() < 2, "{id} is in several sets: {found:?}");
        let state = found.into_iter().next();
        assert_eq!(self.meta(id).get("state"), state.as_ref(), "{id} is in one set, and its meta says another");
        state
    }

    /// What is not as it should be, looked at in one step; on one server.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.client.command(&["EVAL", AUDIT, "0"]).into_texts()
    }

    /// Everything.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let content = |key: &String| {
            if key.contains("streams:") || key.ends_with(":streams") {
                self.client.members(key)
            } else {
                self.client.hash(key).into_iter().map(|(field, value)| format!("{field}={value}")).collect()
            }
        };
        self.keys().into_iter().map(|key| (key.clone(), content(&key))).collect()
    }
}
