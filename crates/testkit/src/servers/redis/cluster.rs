//! A Redis Cluster of real servers: masters, and a replica of each if wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Redis, RedisClient, RedisOptions};
use crate::servers::Port;

/// The slots of every cluster.
const SLOTS: usize = 16_384;

/// Until all nodes know all others and have agreed.
const FORM_DEADLINE: Duration = Duration::from_mins(2);

/// A running cluster.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Redis>,
    replicas: Vec<Redis>,
    buses: Vec<Port>,
}

impl RedisCluster {
    /// Three masters, without replicas: one that is away takes its slots along.
    pub fn start() -> Self {
        Self::form(3, false)
    }

    /// Three masters with a replica each, which takes over when its master is away.
    pub fn start_with_replicas() -> Self {
        Self::form(3, true)
    }

    fn form(count: usize, with_replicas: bool) -> Self {
        let mut buses = Vec::new();
        let mut start = || {
            let bus = Port::reserve();
            let options = RedisOptions::default()
                .with(["--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--cluster-port"])
                .with([bus.number().to_string()]);
            buses.push(bus);
            Redis::start_with(&options)
        };
        let masters: Vec<_> = (0..count).map(|_| start()).collect();
        let replicas: Vec<_> = if with_replicas { (0..count).map(|_| start()).collect() } else { Vec::new() };
        let cluster = Self { masters, replicas, buses };
        cluster.assign_slots();
        cluster.introduce();
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = master.client().command(&["CLUSTER", "MYID"]).text();
            wait_until("a replica to know its master", || {
                let answer = replica.client().try_command(&["CLUSTER", "REPLICATE", &id]);
                answer.is_ok_and(|reply| !matches!(reply, super::Reply::Error(_)))
            });
            wait_until("a replica to follow its master", || {
                replica.client().info("master_link_status").as_deref() == Some("up")
            });
        }
        cluster.wait_until_it_serves();
        cluster
    }

    fn assign_slots(&self) {
        let count = self.masters.len();
        for (at, master) in self.masters.iter().enumerate() {
            let (first, last) = (SLOTS * at / count, SLOTS * (at + 1) / count - 1);
            let epoch = (at + 1).to_string();
            master.client().command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            master.client().command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
    }

    fn introduce(&self) {
        let first = self.masters[0].client();
        for (node, bus) in self.nodes().zip(&self.buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.number().to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        wait_until("all nodes to know each other", || {
            let count = self.nodes().count().to_string();
            self.nodes().all(|node| cluster_info(&node.client(), "cluster_known_nodes").as_ref() == Some(&count))
        });
    }

    /// Returns when every running node says that all slots are served.
    pub fn wait_until_it_serves(&self) {
        wait_until("the cluster to serve all slots", || {
            let running = self.nodes().filter(|node| node.process().exited().is_none());
            running.map(Redis::client).all(|node| cluster_info(&node, "cluster_state").as_deref() == Some("ok"))
        });
    }

    /// All nodes, the masters first.
    pub fn nodes(&self) -> impl Iterator<Item = &Redis> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Those that were started as masters.
    pub fn masters(&self) -> &[Redis] {
        &self.masters
    }

    /// `redis+cluster://` with all masters.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.masters.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// A client that goes to the node that has the key.
    pub fn client(&self) -> RedisClient {
        let running = self.nodes().find(|node| node.process().exited().is_none());
        running.expect("a node of the cluster runs").client()
    }

    /// The keys that match a pattern, by the address of the master that has them.
    pub fn keys(&self, pattern: &str) -> BTreeMap<String, BTreeSet<String>> {
        let running = self.nodes().filter(|node| node.process().exited().is_none());
        let masters = running.filter(|node| node.client().info("role").as_deref() == Some("master"));
        masters.map(|node| (node.address(), node.client().keys(pattern))).collect()
    }
}

/// A field of `CLUSTER INFO`.
fn cluster_info(client: &RedisClient, field: &str) -> Option<String> {
    let text = client.command(&["CLUSTER", "INFO"]).text();
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + FORM_DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
