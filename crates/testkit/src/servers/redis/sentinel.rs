//! A master with a replica, and three Sentinels that watch over both.

use std::fs;

use super::{Redis, RedisClient, RedisOptions, RedisProgram, START_DEADLINE, in_step, wait_until};
use crate::servers::{Launch, Port, Process};

/// The name under which the Sentinels know the master.
const MASTER: &str = "reels";

/// Two servers and three Sentinels. Two of them are enough to decide that a master is away, after
/// a second and a half.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [Redis; 2],
    sentinels: Vec<(Process, Port)>,
}

impl RedisSentinels {
    /// Starts all, and returns when a failover would work.
    pub fn start() -> Self {
        let master = Redis::start();
        let replica =
            Redis::start_with(&RedisOptions::default().with(["--replicaof", "127.0.0.1", &master.port().to_string()]));
        wait_until("the replica to follow", || replica.client().info("master_link_status").as_deref() == Some("up"));
        let sentinels = (0..3).map(|_| start_sentinel(master.port())).collect();
        let all = Self { servers: [master, replica], sentinels };
        wait_until("the Sentinels to know each other and the replica", || {
            all.sentinels.iter().all(|(_, port)| {
                let known = master_fields(port);
                let has = |field: &str, value: &str| known.iter().any(|(name, found)| name == field && found == value);
                has("num-other-sentinels", "2") && has("num-slaves", "1") && has("flags", "master")
            })
        });
        all
    }

    /// `redis+sentinel://` with all Sentinels and the name of the master.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(|(_, port)| port.address()).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// The server that is the master, as the Sentinels say.
    pub fn master(&self) -> &Redis {
        let address = self.master_address();
        let named = self.servers.iter().find(|server| server.address() == address);
        named.unwrap_or_else(|| panic!("the Sentinels name {address}, which is none of the servers"))
    }

    /// The other server.
    pub fn replica(&self) -> &Redis {
        let address = self.master_address();
        self.servers.iter().find(|server| server.address() != address).expect("there are two")
    }

    /// Returns when the replica has everything that the master has at this moment.
    pub fn wait_until_in_step(&self) {
        in_step(self.master(), self.replica());
    }

    /// Returns when all Sentinels name this server as the master, and it agrees.
    pub fn wait_until_master_is(&self, server: &Redis) {
        wait_until("the failover", || {
            let named = self.sentinels.iter().all(|(_, port)| master_address(port) == Some(server.address()));
            named && server.client().info("role").as_deref() == Some("master")
        });
    }

    /// Returns when a server that was restarted follows the master.
    pub fn wait_until_it_follows(&self, server: &Redis) {
        wait_until("the old master to follow the new one", || {
            let client = server.client();
            client.info("role").as_deref() == Some("slave")
                && client.info("master_link_status").as_deref() == Some("up")
        });
    }

    fn master_address(&self) -> String {
        master_address(&self.sentinels[0].1).expect("the Sentinels know a master")
    }
}

/// A Sentinel keeps what it learns in its configuration file.
fn start_sentinel(master: u16) -> (Process, Port) {
    let program = RedisProgram::Installed.path();
    let launch = |port: &Port| {
        let launch = Launch::new(&program);
        let (home, port) = (launch.home().to_path_buf(), port.number());
        let configuration = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n\
             sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} 1500\n\
             sentinel failover-timeout {MASTER} 6000\n",
            home.display()
        );
        let file = home.join("sentinel.conf");
        fs::write(&file, configuration).expect("its home can be written");
        launch.arg(file).arg("--sentinel")
    };
    Process::serve(launch, START_DEADLINE, |port| RedisClient::new(port.address()).answers())
}

fn master_address(sentinel: &Port) -> Option<String> {
    let client = RedisClient::new(sentinel.address());
    let reply = client.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok()?;
    let address = reply.into_texts();
    Some(format!("{}:{}", address[0], address[1]))
}

/// What a Sentinel knows of the master.
fn master_fields(sentinel: &Port) -> Vec<(String, String)> {
    let texts = RedisClient::new(sentinel.address()).command(&["SENTINEL", "MASTER", MASTER]).into_texts();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
