//! The nodes of a fleet, each with its lease.
//!
//! Set `nodes` has the names of all that have ever been there. Hash `node:NAME` says who has the
//! name now, and which directories it watches; it expires with the lease, and is renewed before that.
//! Of a node that has left it says when.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Value, cmd};
use reeltime_core::WallTime;
use uuid::Uuid;

use super::failure::Failure;
use super::{RedisStore, scripts};
use crate::checkpoint::{Liveness, NodeState, Presence};

impl RedisStore {
    pub(super) async fn say_alive(
        &self,
        presence: &Presence,
        replaced: Option<Uuid>,
        lease: Duration,
    ) -> Result<Option<Presence>, Failure> {
        self.link.command::<()>(cmd("SADD").arg(self.layout.nodes()).arg(&presence.node)).await?;
        let key = self.layout.node(&presence.node);
        let call = scripts::HEARTBEAT
            .on([key.clone()])
            .arg(presence.incarnation.to_string())
            .arg(replaced.map_or_else(String::new, |replaced| replaced.to_string()))
            .arg(lease.as_millis().to_string())
            .args(fields_of(presence).into_iter().flat_map(|(field, value)| [field.as_bytes().to_vec(), value]));
        match self.link.call(&call).await? {
            Value::Int(1) => Ok(None),
            held => {
                let fields =
                    redis::from_redis_value(held).map_err(|error| Failure::damaged(&key, &error.to_string()))?;
                presence_of(&presence.node, &fields).map(Some).map_err(|what| Failure::damaged(&key, &what))
            }
        }
    }

    pub(super) async fn end_lease(&self, presence: &Presence) -> Result<(), Failure> {
        let call = scripts::LEAVE.on([self.layout.node(&presence.node)]).arg(presence.incarnation.to_string());
        let call = call.arg(crate::clock::wall().0.to_string());
        self.link.call(&call).await.map(drop)
    }

    /// Whether a node is there, in the directory with this mark; in any if that is empty.
    pub(super) async fn liveness_of(&self, node: &str, source: &str) -> Result<Liveness, Failure> {
        let fields = ["incarnation", "left_at_ms", "sources"];
        let said: (Option<String>, Option<String>, Option<String>) =
            self.link.command(cmd("HMGET").arg(self.layout.node(node)).arg(&fields)).await?;
        Ok(match said {
            (Some(_), _, Some(sources)) if !source.is_empty() && !sources.lines().any(|watched| watched == source) => {
                Liveness::Left
            }
            (Some(_), ..) => Liveness::Alive,
            (None, Some(_), _) => Liveness::Left,
            (None, None, _) => Liveness::Silent,
        })
    }

    pub(super) async fn all_nodes(&self) -> Result<Vec<NodeState>, Failure> {
        let mut names: Vec<String> = self.link.command(cmd("SUNION").arg(self.layout.nodes())).await?;
        names.sort();
        let mut nodes = Vec::with_capacity(names.len());
        for node in names {
            let key = self.layout.node(&node);
            let fields: HashMap<String, String> = self.link.command(cmd("HGETALL").arg(&key)).await?;
            let alive = if fields.contains_key("incarnation") {
                Some(presence_of(&node, &fields).map_err(|what| Failure::damaged(&key, &what))?)
            } else {
                None
            };
            nodes.push(NodeState { node, alive });
        }
        Ok(nodes)
    }
}

fn fields_of(presence: &Presence) -> [(&'static str, Vec<u8>); 6] {
    [
        ("incarnation", presence.incarnation.to_string().into_bytes()),
        ("pid", presence.pid.to_string().into_bytes()),
        ("host", presence.host.clone().into_bytes()),
        ("machine", presence.machine.clone().into_bytes()),
        ("since_ms", presence.since.0.to_string().into_bytes()),
        ("sources", presence.sources.join("\n").into_bytes()),
    ]
}

fn presence_of(node: &str, fields: &HashMap<String, String>) -> Result<Presence, String> {
    let text = |field: &str| fields.get(field).ok_or_else(|| format!("field {field} is missing"));
    let bad = |field: &str| format!("field {field} cannot be read");
    Ok(Presence {
        node: node.to_owned(),
        incarnation: text("incarnation")?.parse().map_err(|_| bad("incarnation"))?,
        pid: text("pid")?.parse().map_err(|_| bad("pid"))?,
        host: text("host")?.clone(),
        machine: text("machine")?.clone(),
        since: WallTime(text("since_ms")?.parse().map_err(|_| bad("since_ms"))?),
        sources: fields.get("sources").map_or("", String::as_str).lines().map(str::to_owned).collect(),
    })
}
