//! Checkpoints in Redis, for a fleet of nodes: a server, one behind Sentinel, or a cluster.
//!
//! # The keys
//!
//! A stream is in one of the sets `streams:active`, `streams:pending_completion`,
//! `streams:completed` and `streams:failed`; hash `stream:{id}:meta` is its record, hash
//! `stream:{id}:parts` has a field for each part that was sent. Set `source:{mark}:streams` has the
//! streams of a directory: a node that starts reads those of its own, not of the whole fleet.
//! See [`presence`] for the nodes and [`objects`] for whose an object is; [`layout`] for what
//! stands before these names, and [`fields`] for what is in them.
//!
//! # Invariants
//!
//! - Every change is one script, so that it is done wholly or not at all, also when Redis is
//!   killed in it. Its keys are in one slot of a cluster.
//! - Every change checks the epoch of the owner, so that one who was replaced cannot write.
//! - A change whose answer was lost may be asked for again.
//! - What "durable" means is up to Redis: `appendonly` and `appendfsync` for a restart, replicas
//!   for a failover. What it loses is found again from the files and the parts in the store.

mod address;
mod failure;
mod fields;
mod layout;
mod link;
mod objects;
mod presence;
mod scripts;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Value, cmd, pipe};
use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};
use uuid::Uuid;

pub(super) use self::address::Address;
use self::failure::Failure;
use self::fields::Fields;
use self::layout::{Layout, place_of};
use self::link::Link;
use self::scripts::Call;
use super::{CheckpointError, CheckpointStore, Liveness, NodeState, Presence};

/// Records that are asked for in one round trip.
const AT_ONCE: usize = 256;

/// Checkpoints in Redis.
pub struct RedisStore {
    /// Without credentials.
    location: String,
    layout: Layout,
    link: Link,
    /// Nothing is changed.
    read_only: bool,
}

impl RedisStore {
    /// A store at `address`, shown as `location`. Begins to connect, and does not wait for that:
    /// until there is a connection, requests fail with [`CheckpointError::Outage`]. Must be
    /// called within a runtime.
    pub(super) fn open(address: &Address, location: String, read_only: bool) -> Result<Self, CheckpointError> {
        let connector = address.connector().map_err(|failure| failure.of("open", &location))?;
        Ok(Self { layout: address.layout(), link: Link::open(connector), location, read_only })
    }

    /// Calls a script that changes a stream.
    async fn change(&self, op: &'static str, id: StreamId, call: Call) -> Result<(), CheckpointError> {
        if self.read_only {
            return Err(Failure::lasting("it was opened to be read only").of(op, &self.location));
        }
        match self.link.call(&call).await.map_err(|failure| failure.of(op, &self.location))? {
            Value::Int(1) => Ok(()),
            Value::Array(found) if found.is_empty() => {
                Err(CheckpointError::Unknown { op, target: self.location.clone(), id })
            }
            found => Err(CheckpointError::Stale { op, id, found: found_text(found) }),
        }
    }

    /// Reserves the object of a stream that is to become one.
    async fn reserve_for(&self, op: &'static str, record: &StreamRecord) -> Result<(), CheckpointError> {
        if self.read_only || record.state == State::Failed {
            return Ok(());
        }
        match self.reserve(record).await.map_err(|failure| failure.of(op, &self.location))? {
            Some(by) => Err(CheckpointError::Taken { by }),
            None => Ok(()),
        }
    }

    /// The directories that a node knows: these, and others where it has recorded before.
    async fn sources_of(&self, node: &str, marks: &[String]) -> Result<Vec<String>, Failure> {
        let key = self.layout.sources_of(node);
        if !marks.is_empty() && !self.read_only {
            self.link.command::<()>(cmd("SADD").arg(&key).arg(marks)).await?;
        }
        let mut sources: Vec<String> = self.link.command(cmd("SUNION").arg(&key)).await?;
        sources.extend(marks.iter().cloned());
        sources.push(String::new()); // where it could not be told
        Ok(sources)
    }

    /// The records of the streams of a shard that are in any of these sets.
    async fn load_sets(&self, shard: &str, sets: &[String]) -> Result<Vec<StreamRecord>, Failure> {
        let mut union = cmd("SUNION");
        union.arg(sets);
        let ids: Vec<String> = self.link.command(&union).await?;
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_ONCE) {
            let keys: Vec<_> = ids.iter().map(|id| format!("{shard}stream:{id}:meta")).collect();
            let mut all = pipe();
            for key in &keys {
                all.cmd("HGETALL").arg(key);
            }
            let found: Vec<HashMap<String, Vec<u8>>> = self.link.pipeline(&all).await?;
            for (key, fields) in keys.iter().zip(found) {
                // One that was forgotten meanwhile has none.
                if !fields.is_empty() {
                    records.push(fields::record_of(fields).map_err(|what| Failure::damaged(key, &what))?);
                }
            }
        }
        Ok(records)
    }

    async fn find_one(&self, id: StreamId) -> Result<Option<StreamRecord>, Failure> {
        let key = self.layout.meta(id);
        let found: HashMap<String, Vec<u8>> = self.link.command(cmd("HGETALL").arg(&key)).await?;
        if found.is_empty() {
            return Ok(None);
        }
        fields::record_of(found).map(Some).map_err(|what| Failure::damaged(&key, &what))
    }

    async fn parts_of(&self, id: StreamId, generation: u32) -> Result<PartTable, Failure> {
        let key = self.layout.parts(id);
        let found: HashMap<String, Vec<u8>> = self.link.command(cmd("HGETALL").arg(&key)).await?;
        let mut table = PartTable::default();
        for (number, line) in found {
            let (its_generation, number, part) =
                fields::part_of(&number, &line).map_err(|what| Failure::damaged(&key, &what))?;
            if its_generation == generation {
                table.insert(number, part);
            }
        }
        Ok(table)
    }
}

#[async_trait]
impl CheckpointStore for RedisStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn heartbeat(
        &self,
        presence: &Presence,
        replaced: Option<Uuid>,
        lease: Duration,
    ) -> Result<Option<Presence>, CheckpointError> {
        let said = self.say_alive(presence, replaced, lease).await;
        said.map_err(|failure| failure.of("renew the lease of this node", &self.location))
    }

    async fn leave(&self, presence: &Presence) -> Result<(), CheckpointError> {
        self.end_lease(presence).await.map_err(|failure| failure.of("end the lease of this node", &self.location))
    }

    async fn liveness(&self, node: &str, source: &str) -> Result<Liveness, CheckpointError> {
        self.liveness_of(node, source).await.map_err(|failure| failure.of("look for a node", &self.location))
    }

    async fn nodes(&self) -> Result<Vec<NodeState>, CheckpointError> {
        self.all_nodes().await.map_err(|failure| failure.of("load nodes", &self.location))
    }

    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        let mut records = Vec::new();
        for shard in self.layout.shards() {
            let found = self.load_sets(&shard, &Layout::sets(&shard)).await;
            records.extend(found.map_err(|failure| failure.of("load streams", &self.location))?);
        }
        Ok(records)
    }

    async fn load_near(&self, node: &str, marks: &[String]) -> Result<Vec<StreamRecord>, CheckpointError> {
        let failed = |failure: Failure| failure.of("load streams", &self.location);
        let sources = self.sources_of(node, marks).await.map_err(failed)?;
        let mut records = Vec::new();
        for shard in self.layout.shards() {
            let sets: Vec<_> = sources.iter().map(|mark| Layout::in_source(&shard, mark)).collect();
            records.extend(self.load_sets(&shard, &sets).await.map_err(failed)?);
        }
        records.retain(|record| record.node == node || marks.contains(&record.source_mark));
        Ok(records)
    }

    async fn find(&self, id: StreamId) -> Result<Option<StreamRecord>, CheckpointError> {
        self.find_one(id).await.map_err(|failure| failure.of("find a stream", &self.location))
    }

    async fn load_parts(&self, id: StreamId, generation: u32) -> Result<PartTable, CheckpointError> {
        self.parts_of(id, generation).await.map_err(|failure| failure.of("load parts", &self.location))
    }

    async fn create(&self, record: &StreamRecord) -> Result<(), CheckpointError> {
        self.reserve_for("create stream", record).await?;
        let keys = [self.layout.meta(record.id), self.layout.parts(record.id)];
        let in_source = self.layout.in_source_of(record.id, &record.source_mark);
        let sets = self.layout.sets_of(record.id).into_iter().chain([in_source]);
        let call = scripts::CREATE.on(keys.into_iter().chain(sets));
        let call = call.arg(record.state.as_str()).arg(place_of(record.state).to_string());
        self.change("create stream", record.id, with_record(call, record)).await
    }

    async fn record_part(
        &self,
        id: StreamId,
        epoch: u64,
        generation: u32,
        number: PartNumber,
        part: &Part,
    ) -> Result<(), CheckpointError> {
        let call = scripts::RECORD_PART.on([self.layout.meta(id), self.layout.parts(id)]);
        let call = call.arg(epoch.to_string()).arg(number.to_string()).arg(fields::line_of(generation, part));
        self.change("record part", id, call).await
    }

    async fn transition(&self, from: State, record: &StreamRecord) -> Result<(), CheckpointError> {
        if record.state == State::Active {
            // It may be called otherwise now.
            self.reserve_for("update stream", record).await?;
        }
        let meta = std::iter::once(self.layout.meta(record.id));
        let call = scripts::TRANSITION.on(meta.chain(self.layout.sets_of(record.id)));
        let call = call.arg(from.as_str()).arg(place_of(record.state).to_string());
        self.change("update stream", record.id, with_record(call, record)).await
    }

    async fn claim(&self, id: StreamId, epoch: u64, node: &str) -> Result<u64, CheckpointError> {
        let next = epoch.wrapping_add(1);
        let call = scripts::CLAIM.on([self.layout.meta(id)]);
        let call = call.arg(epoch.to_string()).arg(next.to_string()).arg(node);
        self.change("claim stream", id, call).await.map(|()| next)
    }

    async fn forget(&self, id: StreamId, epoch: u64) -> Result<(), CheckpointError> {
        let known = self.find(id).await?;
        let mark = known.as_ref().map_or("", |record| record.source_mark.as_str());
        let keys = [self.layout.meta(id), self.layout.parts(id), self.layout.in_source_of(id, mark)];
        // First of all: whose word is left without its stream is waited for.
        if let Some(record) = known.filter(|record| record.epoch == epoch && !self.read_only) {
            self.release(&record).await.map_err(|failure| failure.of("forget stream", &self.location))?;
        }
        let call = scripts::FORGET.on(keys.into_iter().chain(self.layout.sets_of(id)));
        self.change("forget stream", id, call.arg(epoch.to_string()).arg(id.to_string())).await
    }
}

/// Adds epoch, the number of values, the values, and the fields without a value.
fn with_record(call: Call, record: &StreamRecord) -> Call {
    let (present, absent): (Fields, Fields) =
        fields::fields_of(record).into_iter().partition(|(_, value)| value.is_some());
    let values: Vec<_> =
        present.into_iter().flat_map(|(field, value)| [field.as_bytes().to_vec(), value.unwrap_or_default()]).collect();
    call.arg(record.epoch.to_string())
        .arg(values.len().to_string())
        .args(values)
        .args(absent.into_iter().map(|(field, _)| field.as_bytes().to_vec()))
}

/// What a script found in the place of what it was to find.
fn found_text(found: Value) -> String {
    match redis::from_redis_value::<Vec<String>>(found).as_deref() {
        Ok([state, epoch, node]) => format!("state {state}, epoch {epoch}, node {node}"),
        _ => "something else".to_owned(),
    }
}
