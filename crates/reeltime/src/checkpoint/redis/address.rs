//! The URLs of Redis: one server, one that Sentinel finds, or a cluster.
//!
//! - `redis://[user[:password]@]host[:port][/db]`
//! - `redis+sentinel://[user[:password]@]sentinel[:port],…/master[/db]`
//! - `redis+cluster://[user[:password]@]host[:port],…`
//!
//! With `rediss` everything is encrypted. User and password are percent-encoded where they have
//! other signs than letters and digits.
//!
//! Options stand behind a `?`, with `&` between them: `prefix=…` stands before all keys; `ca=…`
//! is a file with the certificates of the CAs that are trusted, instead of those of the system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, TlsMode};

use super::failure::Failure;
use super::layout::{DEFAULT_PREFIX, Layout};
use super::link::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// What a URL of Redis names.
#[derive(Clone)]
pub(in crate::checkpoint) struct Address {
    place: Place,
    prefix: String,
    /// Of the CAs that are trusted instead of those of the system.
    ca: Option<PathBuf>,
}

#[derive(Clone)]
enum Place {
    Server(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, server: ConnectionInfo },
    Cluster(Vec<ConnectionInfo>),
}

/// With what a certificate begins.
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

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
        let (prefix, ca) = options_of(query)?;
        let (secure, kind) = match scheme.to_ascii_lowercase().as_str() {
            "redis" => ("redis", ""),
            "rediss" => ("rediss", ""),
            "redis+sentinel" | "redis-sentinel" => ("redis", "sentinel"),
            "rediss+sentinel" | "rediss-sentinel" => ("rediss", "sentinel"),
            "redis+cluster" | "redis-cluster" => ("redis", "cluster"),
            "rediss+cluster" | "rediss-cluster" => ("rediss", "cluster"),
            _ => return Err("the scheme is unknown".to_owned()),
        };
        if ca.is_some() && secure == "redis" {
            return Err(format!("ca= is for what is encrypted: write rediss in the place of {secure}"));
        }
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
        Ok(Self { place, prefix, ca })
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(self.prefix.clone(), matches!(self.place, Place::Cluster(_)))
    }

    pub(super) fn connector(&self) -> Result<Connector, Failure> {
        let certificates = self.certificates()?;
        self.connector_with(certificates).map_err(|error| Failure::lasting(format!("{error}: check --state")))
    }

    fn connector_with(&self, certificates: Option<TlsCertificates>) -> Result<Connector, RedisError> {
        Ok(match &self.place {
            Place::Server(server) => Connector::Server(Box::new(match certificates {
                None => Client::open(server.clone())?,
                Some(certificates) => Client::build_with_tls(server.clone(), certificates)?,
            })),
            Place::Cluster(nodes) => {
                let mut builder = ClusterClient::builder(nodes.iter().cloned())
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(RESPONSE_TIMEOUT)
                    .retries(4);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Connector::Cluster(Box::new(builder.build()?))
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
                if let Some(certificates) = certificates {
                    builder = builder
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                Connector::Sentinel(Box::new(builder.build()?))
            }
        })
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>, Failure> {
        let Some(path) = &self.ca else { return Ok(None) };
        let unusable = |why: String| Failure::lasting(format!("ca={}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        if !pem.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            return Err(unusable("there is no certificate in PEM in it".to_owned()));
        }
        Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }))
    }
}

/// Reads what stands behind the `?`: the prefix and the file of the CA.
fn options_of(query: &str) -> Result<(String, Option<PathBuf>), String> {
    let (mut prefix, mut ca) = (DEFAULT_PREFIX.to_owned(), None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("prefix", value)) if !value.is_empty() && !value.contains(['{', '}', '%']) => {
                value.clone_into(&mut prefix);
            }
            Some(("prefix", _)) => return Err("the prefix is empty, or has one of { } %".to_owned()),
            Some(("ca", value)) if !value.is_empty() => {
                let decoded = percent_decoded(value).ok_or("in ca=, a % must be written %25")?;
                ca = Some(PathBuf::from(OsString::from_vec(decoded)));
            }
            // The value may be a secret.
            _ => return Err("the options are ?prefix=NAME: and ?ca=FILE".to_owned()),
        }
    }
    Ok((prefix, ca))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        decoded.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        decoded.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_behind_the_question_mark() {
        let address = Address::parse("rediss://host?prefix=a:&ca=/etc/my%20ca%25.pem").unwrap();
        assert_eq!(address.prefix, "a:");
        assert_eq!(address.ca, Some("/etc/my ca%.pem".into()));
        assert_eq!(Address::parse("redis://host").unwrap().ca, None);
        let refused = |url: &str| Address::parse(url).err().expect(url);
        assert!(refused("redis://host?ca=/x").contains("write rediss"), "{}", refused("redis://host?ca=/x"));
        for odd in ["rediss://host?ca=%2", "rediss://host?ca=%zz", "rediss://host?ca=a%"] {
            assert!(refused(odd).contains("%25"), "{}", refused(odd));
        }
        for odd in ["redis://host?password=secret", "redis://host?prefix", "rediss://host?ca="] {
            assert_eq!(refused(odd), "the options are ?prefix=NAME: and ?ca=FILE");
        }
    }

    #[test]
    fn a_ca_that_cannot_be_read_or_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let said = |file: &std::path::Path| {
            let address = Address::parse(&format!("rediss://host?ca={}", file.display())).unwrap();
            address.connector().err().expect("there is no CA").of("open", "x").to_string()
        };
        assert!(said(&file).contains("ca.pem: No such file"), "{}", said(&file));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(said(&file).contains("no certificate in PEM"), "{}", said(&file));
    }
}
