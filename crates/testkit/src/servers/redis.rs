//! A real `redis-server`: with its own port and directory, to stop, kill, freeze and restart;
//! and a client to look inside with that is not reeltime's.

pub mod client;
pub mod cluster;
pub mod program;
pub mod sentinel;
pub mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Launch, Port, Process};

pub use client::{CommandCalls, RedisClient, Reply};
pub use cluster::RedisCluster;
pub use program::RedisProgram;
pub use sentinel::RedisSentinels;
pub use tls::RedisCertificates;

/// On a busy machine, with a data set to load.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Until several servers have agreed on something: who they are, or who is the master.
const AGREE_DEADLINE: Duration = Duration::from_mins(2);

/// The user with which tests look inside a server that has users.
const TESTER: (&str, &str) = ("testkit", "of-the-tests");

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Which server.
    pub program: RedisProgram,
    /// Nothing is kept over a restart; otherwise every write is on the disk when it is answered.
    pub volatile: bool,
    /// It is reached with TLS only.
    pub certificates: Option<Arc<RedisCertificates>>,
    /// Nobody gets in without a login: besides the tests' own, these users with their password
    /// and rules (`["+@all", "~*"]`).
    pub users: Vec<(String, String, Vec<String>)>,
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

    /// Adds a user.
    #[must_use]
    pub fn with_user<S: Into<String>>(
        mut self,
        name: &str,
        password: &str,
        rules: impl IntoIterator<Item = S>,
    ) -> Self {
        self.users.push((name.to_owned(), password.to_owned(), rules.into_iter().map(Into::into).collect()));
        self
    }

    /// The same for a server that talks to others of its kind: in the same way as clients.
    fn among_others(&self) -> Self {
        let mut options = self.clone();
        if !self.users.is_empty() {
            options = options.with(["--masteruser", TESTER.0, "--masterauth", TESTER.1]);
        }
        if self.certificates.is_some() {
            options = options.with(["--tls-replication", "yes"]);
        }
        options
    }

    fn launch(&self, port: &Port) -> Launch {
        let launch = Launch::new(self.program.path());
        let home = launch.home().to_path_buf();
        let append = if self.volatile { "no" } else { "yes" };
        let number = port.number().to_string();
        let mut launch = launch
            .args(["--bind", "127.0.0.1", "--save", "", "--appendfsync", "always", "--appendonly", append, "--dir"])
            .arg(&home)
            .args(["--repl-diskless-sync-delay", "0"]); // else five seconds until a replica follows
        launch = match &self.certificates {
            None => launch.args(["--port", &number]),
            Some(files) => launch
                .args(["--port", "0", "--tls-port", &number, "--tls-auth-clients", "no", "--tls-cert-file"])
                .arg(files.certificate())
                .arg("--tls-key-file")
                .arg(files.key())
                .arg("--tls-ca-cert-file")
                .arg(files.ca())
                // For the tests, whose client knows no TLS.
                .arg("--unixsocket")
                .arg(socket_in(&home)),
        };
        if !self.users.is_empty() {
            let (name, password) = TESTER;
            launch = launch.args(["--user", "default", "off"]);
            launch = launch.args(["--user", name, "on", &secret(password), "~*", "&*", "+@all"]);
        }
        for (name, password, rules) in &self.users {
            launch = launch.args(["--user", name, "on", &secret(password)]).args(rules);
        }
        launch.args(&self.args)
    }

    fn client(&self, port: &Port, home: &Path) -> RedisClient {
        let client = match self.certificates {
            None => RedisClient::new(port.address()),
            Some(_) => RedisClient::new(socket_in(home)),
        };
        if self.users.is_empty() { client } else { client.with_login(TESTER.0, TESTER.1) }
    }
}

/// A password among the rules of a user, without the signs that lines of a configuration have
/// their own use for.
fn secret(password: &str) -> String {
    let digest = crate::digest::sha256_of_reader(&mut password.as_bytes()).expect("memory can be read");
    format!("#{digest}")
}

fn socket_in(home: &Path) -> String {
    home.join("redis.sock").display().to_string()
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
    options: RedisOptions,
}

impl Redis {
    /// Starts a server that keeps its data over a restart, and returns when it answers.
    pub fn start() -> Self {
        Self::start_with(&RedisOptions::default())
    }

    /// Starts a server as told, and returns when it answers.
    pub fn start_with(options: &RedisOptions) -> Self {
        // The home, where a socket may be, is known only from here.
        let home = std::cell::RefCell::new(std::path::PathBuf::new());
        let launch = |port: &Port| {
            let launch = options.launch(port);
            *home.borrow_mut() = launch.home().to_path_buf();
            launch
        };
        let answers = |port: &Port| options.client(port, &home.borrow()).answers();
        let (process, port) = Process::serve(launch, START_DEADLINE, answers);
        Self { process, port, options: options.clone() }
    }

    /// `redis://127.0.0.1:port`, or `rediss://` for one with certificates.
    pub fn url(&self) -> String {
        let scheme = if self.options.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
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
        self.options.client(&self.port, self.process.home())
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

/// Returns when a replica has everything that its master has at this moment.
fn in_step(master: &Redis, replica: &Redis) {
    let offset = |server: &Redis, field: &str| server.client().info(field)?.parse::<u64>().ok();
    let written = offset(master, "master_repl_offset").expect("a master has an offset");
    wait_until("the replica to be in step", || {
        offset(replica, "slave_repl_offset").is_some_and(|read| read >= written)
    });
}

/// Waits for servers to agree.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + AGREE_DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    }
}
