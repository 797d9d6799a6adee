//! State in a real redis-server: one for all tests, with a prefix for each, looked at past the
//! proxy through which reeltime comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use testkit::proxy::TcpProxy;
use testkit::servers::{Redis, RedisClient, Reply, Shared};

use super::{Told, ToldPart};

const STATES: [&str; 4] = ["active", "pending_completion", "completed", "failed"];

/// Everything under a prefix at one moment: key, kind, content.
const DUMP: &str = r"
local all = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local read = ({set = 'SMEMBERS', hash = 'HGETALL'})[kind]
  all[#all + 1] = {key, kind, read and redis.call(read, key) or {}}
end
return all";

/// Deletes everything under a prefix, at one moment.
const DELETE: &str = r"
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', key) end";

/// The keys of one test, which are deleted in the end.
pub(crate) struct RedisState {
    server: Arc<Redis>,
    prefix: String,
    /// Between reeltime and the server.
    pub(crate) proxy: Arc<TcpProxy>,
}

/// A server that is away, until this is dropped.
pub(crate) struct Down(Arc<TcpProxy>);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.come_up();
    }
}

/// What the keys of a test hold.
#[derive(Debug, Default)]
struct Dump {
    sets: BTreeMap<String, BTreeSet<String>>,
    hashes: BTreeMap<String, BTreeMap<String, String>>,
    in_sources: BTreeSet<String>,
}

impl RedisState {
    pub(super) fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// One that reeltime comes to by this address of the machine.
    pub(crate) fn at(host: IpAddr) -> Self {
        static SERVER: Shared<Redis> = Shared::new();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let server = SERVER.get_or_make(Redis::start);
        let prefix = format!("test-{}:", NEXT.fetch_add(1, Ordering::Relaxed));
        let proxy = Arc::new(TcpProxy::before_at(&server.address(), host));
        Self { server, prefix, proxy }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}?prefix={}", self.proxy.address(), self.prefix)
    }

    /// A key of this test's, without its prefix.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A client to look inside with.
    pub(crate) fn client(&self) -> RedisClient {
        self.server.client()
    }

    /// The sets of states that have a stream, by their names.
    pub(crate) fn sets_with(&self, stream: &str) -> Vec<String> {
        let sets = self.dump().sets.into_iter();
        sets.filter(|(_, ids)| ids.contains(stream)).map(|(name, _)| name).collect()
    }

    /// The fields of a stream's `meta`, as they are written.
    pub(crate) fn meta(&self, stream: &str) -> BTreeMap<String, String> {
        self.client().hash(&self.key(&format!("stream:{stream}:meta")))
    }

    /// The server loses everything, also while reeltime runs.
    pub(crate) fn lose_everything(&self) {
        self.client().command(&["EVAL", DELETE, "0", &self.prefix]);
    }

    /// Refuses connections, and resets those that are open, until the guard is dropped.
    #[must_use]
    pub(crate) fn go_down(&self) -> Down {
        self.proxy.go_down();
        Down(Arc::clone(&self.proxy))
    }

    pub(super) fn forget_upload_id(&self, stream: &str) {
        let key = self.key(&format!("stream:{stream}:meta"));
        let started_at = self.meta(stream).remove("started_at_ms").expect("the stream is there");
        let client = self.client();
        client.command(&["HSET", &key, "upload", "creating", "upload_asked_at_ms", &started_at]);
        client.command(&["HDEL", &key, "upload_id"]);
    }

    fn dump(&self) -> Dump {
        let Reply::Array(keys) = self.client().command(&["EVAL", DUMP, "0", &self.prefix]) else {
            panic!("the dump is a list");
        };
        let mut dump = Dump::default();
        for key in keys {
            let Reply::Array(mut entry) = key else { panic!("{key:?} is no entry") };
            let content = entry.pop().expect("there are three").into_texts();
            let (kind, key) = (entry.pop().expect("there are three").text(), entry.pop().expect("three").text());
            let name = key.strip_prefix(&self.prefix).expect("only those were asked for").to_owned();
            // Who is alive, and whose an object is, is no stream.
            if name == "nodes" || name.starts_with("node:") || name == "objects" {
                continue;
            }
            if name.starts_with("source:") {
                dump.in_sources.extend(content);
                continue;
            }
            match kind.as_str() {
                "set" => drop(dump.sets.insert(name, content.into_iter().collect())),
                "hash" => {
                    let fields = content.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                    dump.hashes.insert(name, fields.collect());
                }
                other => panic!("{key} is a {other}"),
            }
        }
        dump
    }

    /// All streams. At every moment a stream is in exactly one set, the one that its `meta`
    /// names, and nothing else is there.
    pub(super) fn streams(&self) -> Vec<Told> {
        let mut dump = self.dump();
        let names = STATES.map(|state| format!("streams:{state}"));
        assert!(dump.sets.keys().all(|set| names.contains(set)), "{dump:#?}");
        let metas = dump.hashes.keys().filter_map(|key| key.strip_prefix("stream:")?.strip_suffix(":meta"));
        let ids: Vec<String> = metas.map(str::to_owned).collect();
        let in_sets: usize = dump.sets.values().map(BTreeSet::len).sum();
        assert_eq!(in_sets, ids.len(), "a stream is in one set, and has its meta: {dump:#?}");
        assert_eq!(dump.in_sources, ids.iter().cloned().collect(), "a stream is in its directory");
        let streams = ids.iter().map(|id| {
            let meta = dump.hashes.remove(&format!("stream:{id}:meta")).expect("it was just there");
            let parts = dump.hashes.remove(&format!("stream:{id}:parts")).unwrap_or_default();
            let set = format!("streams:{}", meta["state"]);
            assert!(dump.sets.get(&set).is_some_and(|ids| ids.contains(id)), "{id} is in {set}: {meta:#?}");
            assert_eq!(meta["id"], *id, "{meta:#?}");
            told(&meta, &parts)
        });
        let streams = streams.collect();
        assert!(dump.hashes.is_empty(), "every part belongs to a stream: {:#?}", dump.hashes);
        streams
    }
}

impl Drop for RedisState {
    fn drop(&mut self) {
        // The server may be what the test failed by; it ends with the process in any case.
        let _ = self.client().try_command(&["EVAL", DELETE, "0", &self.prefix]);
    }
}

fn told(meta: &BTreeMap<String, String>, parts: &BTreeMap<String, String>) -> Told {
    let text = |name: &str| meta.get(name).cloned();
    let must = |name: &str| text(name).unwrap_or_else(|| panic!("no {name} in {meta:#?}"));
    let number = |name: &str| must(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {meta:#?}"));
    let generation: u64 = number("generation");
    let parts = parts.iter().filter_map(|(number, line)| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let etag = line["etag"].as_str().expect("a part has an ETag").trim_matches('"').to_owned();
        let part = ToldPart { size_bytes: line["size_bytes"].as_u64().expect("a part has a size"), etag };
        (line["generation"] == generation).then(|| (number.parse().expect("a part has a number"), part))
    });
    Told {
        id: must("id"),
        path: must("path"),
        key: must("object_key"),
        node: must("node"),
        state: must("state"),
        reason: text("reason"),
        upload: must("upload"),
        upload_id: text("upload_id"),
        size_bytes: number("size_bytes"),
        first_part_bytes: number("plan_first_bytes"),
        parts: parts.collect(),
    }
}
