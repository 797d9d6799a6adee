//! A master with a replica, and three Sentinels that watch over both.

use std::fs;
use std::net::TcpStream;

use super::{Redis, RedisClient, RedisOptions, START_DEADLINE, TESTER, in_step, socket_in, wait_until};
use crate::servers::{Launch, Port, Process};

/// The name under which the Sentinels know the master.
const MASTER: &str = "reels";

/// Two servers and three Sentinels. Two of them are enough to decide that a master is away, after
/// a second and a half.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
    is_encrypted: bool,
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    port: Port,
    client: RedisClient,
}

impl RedisSentinels {
    /// Starts all, and returns when a failover would work.
    pub fn start() -> Self {
        Self::start_as(&RedisOptions::default())
    }

    /// The same, with servers that are started as told. The Sentinels are encrypted if the
    /// servers are, and ask nobody for a login.
    pub fn start_as(options: &RedisOptions) -> Self {
        let options = options.among_others();
        let master = Redis::start_with(&options);
        let replica =
            Redis::start_with(&options.clone().with(["--replicaof", "127.0.0.1", &master.port().to_string()]));
        wait_until("the replica to follow", || replica.client().info("master_link_status").as_deref() == Some("up"));
        let sentinels = (0..3).map(|_| Sentinel::start(master.port(), &options)).collect();
        let all = Self { servers: [master, replica], sentinels, is_encrypted: options.certificates.is_some() };
        wait_until("the Sentinels to know each other and the replica", || {
            all.sentinels.iter().all(|sentinel| {
                let known = sentinel.fields();
                let has = |field: &str, value: &str| known.iter().any(|(name, found)| name == field && found == value);
                has("num-other-sentinels", "2") && has("num-slaves", "1") && has("flags", "master")
            })
        });
        all
    }

    /// `redis+sentinel://` with all Sentinels and the name of the master; `rediss` with certificates.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.port.address()).collect();
        let scheme = if self.is_encrypted { "rediss" } else { "redis" };
        format!("{scheme}+sentinel://{}/{MASTER}", addresses.join(","))
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
            let mut running = self.running();
            let named = running.all(|sentinel| sentinel.names().as_ref() == Some(&server.address()));
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

    /// Has the Sentinels make the replica the master, although nothing is wrong.
    pub fn ask_for_failover(&self) {
        let sentinel = self.running().next().expect("a Sentinel runs");
        sentinel.client.command(&["SENTINEL", "FAILOVER", MASTER]);
    }

    /// Kills the `at`th Sentinel, from 0.
    pub fn kill_sentinel(&self, at: usize) {
        self.sentinels[at].process.kill();
    }

    fn running(&self) -> impl Iterator<Item = &Sentinel> {
        self.sentinels.iter().filter(|sentinel| sentinel.process.exited().is_none())
    }

    fn master_address(&self) -> String {
        let named = self.running().find_map(Sentinel::names);
        named.expect("the Sentinels know a master")
    }
}

impl Sentinel {
    /// It keeps what it learns in its configuration file.
    fn start(master: u16, options: &RedisOptions) -> Self {
        let launch = |port: &Port| {
            let launch = Launch::new(options.program.path());
            let (home, port) = (launch.home().to_path_buf(), port.number());
            let listen = match &options.certificates {
                None => format!("port {port}\n"),
                Some(files) => format!(
                    "port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n\
                     tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n",
                    files.certificate().display(),
                    files.key().display(),
                    files.ca().display()
                ),
            };
            let (name, password) = TESTER;
            let login = format!("sentinel auth-user {MASTER} {name}\nsentinel auth-pass {MASTER} {password}\n");
            let login = if options.users.is_empty() { "" } else { login.as_str() };
            let configuration = format!(
                "bind 127.0.0.1\n{listen}unixsocket {}\ndir {}\n\
                 sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {MASTER} 1500\n\
                 sentinel failover-timeout {MASTER} 6000\n{login}",
                socket_in(&home),
                home.display()
            );
            let file = home.join("sentinel.conf");
            fs::write(&file, configuration).expect("its home can be written");
            launch.arg(file).arg("--sentinel")
        };
        // Ready is who answers at the socket, but where that is, is known only afterwards.
        let (process, port) = Process::serve(launch, START_DEADLINE, |port| TcpStream::connect(port.address()).is_ok());
        let client = RedisClient::new(socket_in(process.home()));
        process.wait_until("the Sentinel to answer", START_DEADLINE, || client.answers());
        Self { process, port, client }
    }

    /// The address of the master that it names.
    fn names(&self) -> Option<String> {
        let reply = self.client.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok()?;
        let address = reply.into_texts();
        Some(format!("{}:{}", address[0], address[1]))
    }

    /// What it knows of the master.
    fn fields(&self) -> Vec<(String, String)> {
        let texts = self.client.command(&["SENTINEL", "MASTER", MASTER]).into_texts();
        texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }
}
