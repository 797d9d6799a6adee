//! A real `redis-server`: with its own port and directory, to stop, kill, freeze and restart;
//! and a client to look inside with that is not reeltime's.

pub mod client;
pub mod cluster;

use std::time::Duration;

use super::process::find_program;
use super::{Launch, Port, Process};

pub use client::{RedisClient, Reply};
pub use cluster::RedisCluster;

/// On a busy machine, with a data set to load.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Nothing is kept over a restart; otherwise every write is on the disk when it is answered.
    pub volatile: bool,
    /// Further lines of its configuration as arguments: `["--maxmemory", "20mb"]`.
    pub args: Vec<String>,
}

impl RedisOptions {
    /// Adds arguments.
    #[must_use]
    pub fn with<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
}

impl Redis {
    /// Starts a server that keeps its data over a restart, and returns when it answers. The
    /// program is `$REELTIME_REDIS_SERVER`, or the one in `PATH`: Redis 7 or newer, or Valkey.
    pub fn start() -> Self {
        Self::start_with(&RedisOptions::default())
    }

    /// Starts a server as told, and returns when it answers.
    pub fn start_with(options: &RedisOptions) -> Self {
        let program = find_program("REELTIME_REDIS_SERVER", "target/test-tools/bin/redis-server", "redis-server");
        let launch = |port: &Port| {
            let launch = Launch::new(&program);
            let home = launch.home().to_path_buf();
            let append = if options.volatile { "no" } else { "yes" };
            launch
                .args(["--bind", "127.0.0.1", "--save", "", "--appendfsync", "always", "--appendonly", append, "--dir"])
                .arg(home)
                .args(["--port", &port.number().to_string()])
                .args(&options.args)
        };
        let (process, port) = Process::serve(launch, START_DEADLINE, |port| RedisClient::new(port.address()).answers());
        Self { process, port }
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The number of its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A client to look inside with; it works again after a restart.
    pub fn client(&self) -> RedisClient {
        RedisClient::new(self.address())
    }

    /// The process: to freeze, thaw, kill and stop.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again at the same address (killing it first if it runs), with the data that it
    /// keeps, and returns when it answers.
    pub fn restart(&self) {
        self.process.restart();
        self.wait_until_it_answers();
    }

    /// Returns when it answers.
    pub fn wait_until_it_answers(&self) {
        let client = self.client();
        self.process.wait_until("redis to answer", START_DEADLINE, || client.answers());
    }
}
