//! A Redis Cluster of real servers: masters, and a replica of each if wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Redis, RedisClient, RedisOptions, Reply, in_step, wait_until};
use crate::servers::Port;

/// The slots of every cluster.
const SLOTS: usize = 16_384;

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
        Self::form(&RedisOptions::default(), false)
    }

    /// The same, of servers that are started as told.
    pub fn start_as(options: &RedisOptions) -> Self {
        Self::form(options, false)
    }

    /// Three masters with a replica each, which takes over when its master is away.
    pub fn start_with_replicas() -> Self {
        Self::form(&RedisOptions::default(), true)
    }

    fn form(options: &RedisOptions, with_replicas: bool) -> Self {
        let count = 3;
        let encrypted = if options.certificates.is_some() { "yes" } else { "no" };
        let mut buses = Vec::new();
        let mut start = || {
            let bus = Port::reserve();
            let options = options
                .among_others()
                .with(["--tls-cluster", encrypted])
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
                answer.is_ok_and(|reply| !matches!(reply, Reply::Error(_)))
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

    /// Returns when the replica of a master that was killed has taken its slots over, and all
    /// nodes know.
    pub fn wait_until_taken_over(&self, master: &Redis) {
        let replica = self.partner(master).client();
        wait_until("the replica to take over", || replica.info("role").as_deref() == Some("master"));
        self.wait_until_it_serves();
    }

    /// All nodes, the masters first.
    pub fn nodes(&self) -> impl Iterator<Item = &Redis> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Those that were started as masters.
    pub fn masters(&self) -> &[Redis] {
        &self.masters
    }

    /// The replica of a server that was started as a master, and the other way round.
    ///
    /// Panics in a cluster without replicas.
    pub fn partner(&self, node: &Redis) -> &Redis {
        let pairs = self.masters.iter().zip(&self.replicas);
        let partner = pairs.into_iter().find_map(|(master, replica)| {
            (master.port() == node.port()).then_some(replica).or((replica.port() == node.port()).then_some(master))
        });
        partner.expect("it is a node of this cluster, which has replicas")
    }

    /// Returns when the replicas have everything that their masters have at this moment. Before
    /// a failover.
    pub fn wait_until_in_step(&self) {
        self.masters.iter().zip(&self.replicas).for_each(|(master, replica)| in_step(master, replica));
    }

    /// `redis+cluster://` with all masters; `rediss` with certificates.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.masters.iter().map(Redis::address).collect();
        let scheme = if self.masters[0].url().starts_with("rediss") { "rediss" } else { "redis" };
        format!("{scheme}+cluster://{}", addresses.join(","))
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

/// A field of `CLUSTER INFO`; `None` also while there is no answer.
fn cluster_info(client: &RedisClient, field: &str) -> Option<String> {
    let Ok(Reply::Text(text)) = client.try_command(&["CLUSTER", "INFO"]) else { return None };
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}
