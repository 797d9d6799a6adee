//! The URLs of Redis: one server, one that Sentinel finds, or a cluster.
//!
//! - `redis://[user[:password]@]host[:port][/db]`
//! - `redis+sentinel://[user[:password]@]sentinel[:port],…/master[/db]`
//! - `redis+cluster://[user[:password]@]host[:port],…`
//!
//! With `rediss` everything is encrypted. `?prefix=…` stands before all keys. User and password
//! are percent-encoded where they have other signs than letters and digits.

use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsMode};

use super::layout::{DEFAULT_PREFIX, Layout};
use super::link::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// What a URL of Redis names.
#[derive(Clone)]
pub(in crate::checkpoint) struct Address {
    place: Place,
    prefix: String,
}

#[derive(Clone)]
enum Place {
    Server(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, server: ConnectionInfo },
    Cluster(Vec<ConnectionInfo>),
}

/// Who connects.
pub(super) enum Connector {
    Server(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

impl Address {
    /// Reads a URL. The error says what is wrong, without the credentials.
    pub(in crate::checkpoint) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("there is no :// in it")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        if login.contains(['/', '@', '?', '#']) {
            return Err("user and password must be percent-encoded: write %2F for /, %40 for @".to_owned());
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() {
            return Err("it names no host".to_owned());
        }
        let mut prefix = DEFAULT_PREFIX.to_owned();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("prefix", value)) if !value.is_empty() && !value.contains(['{', '}', '%']) => {
                    value.clone_into(&mut prefix);
                }
                Some(("prefix", _)) => return Err("the prefix is empty, or has one of { } %".to_owned()),
                // The value may be a secret.
                _ => return Err("the only option is ?prefix=".to_owned()),
            }
        }
        let (secure, kind) = match scheme.to_ascii_lowercase().as_str() {
            "redis" => ("redis", ""),
            "rediss" => ("rediss", ""),
            "redis+sentinel" | "redis-sentinel" => ("redis", "sentinel"),
            "rediss+sentinel" | "rediss-sentinel" => ("rediss", "sentinel"),
            "redis+cluster" | "redis-cluster" => ("redis", "cluster"),
            "rediss+cluster" | "rediss-cluster" => ("rediss", "cluster"),
            _ => return Err("the scheme is unknown".to_owned()),
        };
        let at = if login.is_empty() { String::new() } else { format!("{login}@") };
        let one = |login: &str, host: &str, db: &str| {
            let info = format!("{secure}://{login}{host}/{db}").into_connection_info();
            info.map_err(|_| "a host, a port, the database or the login cannot be read".to_owned())
        };
        let place = match kind {
            "sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("it names no master: redis+sentinel://sentinel:26379/master".to_owned());
                }
                let sentinels = hosts.split(',').map(|host| {
                    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                    one("", &if has_port { host.to_owned() } else { format!("{host}:26379") }, "")
                });
                let server = one(&at, "localhost", db)?;
                Place::Sentinel { sentinels: sentinels.collect::<Result<_, _>>()?, master: master.to_owned(), server }
            }
            "cluster" if !matches!(path, "" | "0") => return Err("a cluster has database 0 only".to_owned()),
            "cluster" => {
                Place::Cluster(hosts.split(',').map(|host| one(&at, host, "")).collect::<Result<_, String>>()?)
            }
            _ if hosts.contains(',') => {
                return Err("several hosts are those of redis+sentinel:// or redis+cluster://".to_owned());
            }
            _ => Place::Server(one(&at, hosts, path)?),
        };
        Ok(Self { place, prefix })
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(self.prefix.clone(), matches!(self.place, Place::Cluster(_)))
    }

    pub(super) fn connector(&self) -> Result<Connector, RedisError> {
        Ok(match &self.place {
            Place::Server(server) => Connector::Server(Box::new(Client::open(server.clone())?)),
            Place::Cluster(nodes) => {
                let client = ClusterClient::builder(nodes.iter().cloned())
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(RESPONSE_TIMEOUT)
                    .retries(4)
                    .build()?;
                Connector::Cluster(Box::new(client))
            }
            Place::Sentinel { sentinels, master, server } => {
                let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
                let mut builder = SentinelClientBuilder::new(addresses, master.as_str(), SentinelServerType::Master)?
                    .set_client_to_redis_db(server.redis_settings().db());
                if let Some(user) = server.redis_settings().username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = server.redis_settings().password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if matches!(server.addr(), redis::ConnectionAddr::TcpTls { .. }) {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure);
                }
                Connector::Sentinel(Box::new(builder.build()?))
            }
        })
    }
}
