//! The least of a Redis client: one connection a command, so that nothing is to be mended
//! after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks a server, and the other nodes of its cluster where it points to them.
#[derive(Clone, Debug)]
pub struct RedisClient {
    address: String,
    /// Sent before every command, if any.
    auth: Option<(String, String)>,
}

/// What a server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing is there.
    Nil,
    /// A number.
    Integer(i64),
    /// A status or a value.
    Text(Vec<u8>),
    /// Several.
    Array(Vec<Reply>),
    /// A refusal.
    Error(String),
}

/// How often a command was called.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CommandCalls {
    /// With whatever result.
    pub carried_out: u64,
    /// Of those, the ones that ended with an error.
    pub failed: u64,
    /// Refused before they were begun; not among the others.
    pub rejected: u64,
}

impl RedisClient {
    /// A client for the server at `host:port`, or at a socket of this path.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), auth: None }
    }

    /// Logs in as `user` before every command.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Whether it answers to PING; one that loads its data or wants a password does too.
    pub fn answers(&self) -> bool {
        match self.try_command(&["PING"]) {
            Ok(Reply::Error(error)) => !error.starts_with("LOADING"),
            answer => answer.is_ok(),
        }
    }

    /// Carries out a command, `["SMEMBERS", "key"]`. Panics if there is no answer, or a refusal.
    pub fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> Reply {
        let shown = || command.iter().map(|arg| String::from_utf8_lossy(arg.as_ref())).collect::<Vec<_>>().join(" ");
        match self.try_command(command) {
            Ok(Reply::Error(error)) => panic!("redis at {} refuses {}: {error}", self.address, shown()),
            Ok(reply) => reply,
            Err(error) => panic!("redis at {} does not answer {}: {error}", self.address, shown()),
        }
    }

    /// Carries out a command, on the node of the cluster that has the key.
    pub fn try_command<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Reply> {
        match self.ask(&self.address, command)? {
            Reply::Error(error) if error.starts_with("MOVED ") => {
                let node = error.rsplit(' ').next().unwrap_or_default();
                self.ask(node, command)
            }
            reply => Ok(reply),
        }
    }

    fn ask<A: AsRef<[u8]>>(&self, address: &str, command: &[A]) -> io::Result<Reply> {
        let mut stream = BufReader::new(connect(address)?);
        if let Some((user, password)) = &self.auth {
            stream.get_mut().write_all(&encode(&["AUTH", user, password]))?;
            if let refused @ Reply::Error(_) = read_reply(&mut stream)? {
                return Ok(refused);
            }
        }
        stream.get_mut().write_all(&encode(command))?;
        read_reply(&mut stream)
    }

    /// The members of a set, in order.
    pub fn members(&self, key: &str) -> BTreeSet<String> {
        self.command(&["SMEMBERS", key]).into_texts().into_iter().collect()
    }

    /// The fields of a hash; empty if there is none. What is not UTF-8 shows replaced.
    pub fn hash(&self, key: &str) -> BTreeMap<String, String> {
        let texts = self.command(&["HGETALL", key]).into_texts();
        texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// The keys that match a pattern, on this node, in order.
    pub fn keys(&self, pattern: &str) -> BTreeSet<String> {
        self.command(&["KEYS", pattern]).into_texts().into_iter().collect()
    }

    /// Forgets everything.
    pub fn flush_all(&self) {
        self.command(&["FLUSHALL"]);
    }

    /// Changes its configuration while it runs.
    pub fn config_set(&self, name: &str, value: &str) {
        self.command(&["CONFIG", "SET", name, value]);
    }

    /// How often a command has been called, since the start or [`RedisClient::reset_calls`].
    pub fn calls(&self, command: &str) -> CommandCalls {
        let text = self.command(&["INFO", "commandstats"]).text();
        let prefix = format!("cmdstat_{}:", command.to_lowercase());
        let Some(line) = text.lines().find_map(|line| line.strip_prefix(&prefix)) else {
            return CommandCalls::default();
        };
        let field = |name: &str| {
            let value = line.trim().split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        CommandCalls { carried_out: field("calls"), failed: field("failed_calls"), rejected: field("rejected_calls") }
    }

    /// How often it has answered with an error of this kind, `OOM`; since Redis 6.2.
    pub fn errors(&self, kind: &str) -> u64 {
        let text = self.command(&["INFO", "errorstats"]).text();
        let prefix = format!("errorstat_{kind}:count=");
        let count = text.lines().find_map(|line| line.trim().strip_prefix(&prefix));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Counts calls and errors from 0.
    pub fn reset_calls(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// A field of `INFO`; `None` also while there is no answer, as from a server that changes its
    /// part and ends all connections.
    pub fn info(&self, field: &str) -> Option<String> {
        let Ok(Reply::Text(text)) = self.try_command(&["INFO"]) else { return None };
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }
}

impl Reply {
    /// Its text; panics if it is something else.
    pub fn text(self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            other => panic!("{other:?} where a text was expected"),
        }
    }

    /// Its texts; panics if it is something else.
    pub fn into_texts(self) -> Vec<String> {
        match self {
            Self::Array(replies) => replies.into_iter().map(Self::text).collect(),
            other => panic!("{other:?} where an array was expected"),
        }
    }
}

/// A connection, over TCP or within the machine.
trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

fn connect(address: &str) -> io::Result<Box<dyn Connection>> {
    if address.starts_with('/') {
        let stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(Box::new(stream))
}

fn encode<A: AsRef<[u8]>>(command: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for arg in command {
        request.extend(format!("${}\r\n", arg.as_ref().len()).into_bytes());
        request.extend_from_slice(arg.as_ref());
        request.extend_from_slice(b"\r\n");
    }
    request
}

fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some(rest) = line.trim_end().get(1..) else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let number = || rest.parse::<i64>().map_err(|_| io::Error::other(format!("{line:?} is no answer of redis")));
    Ok(match line.as_bytes()[0] {
        b'+' => Reply::Text(rest.as_bytes().to_vec()),
        b'-' => Reply::Error(rest.to_owned()),
        b':' => Reply::Integer(number()?),
        b'$' | b'*' if number()? < 0 => Reply::Nil,
        b'$' => {
            let mut value = vec![0; usize::try_from(number()?).unwrap_or(0) + 2];
            stream.read_exact(&mut value)?;
            value.truncate(value.len() - 2);
            Reply::Text(value)
        }
        b'*' => Reply::Array((0..number()?).map(|_| read_reply(stream)).collect::<io::Result<_>>()?),
        _ => return Err(io::Error::other(format!("{line:?} is no answer of redis"))),
    })
}
