//! What an error of Redis means for whoever asked, and what an operator can do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::checkpoint::CheckpointError;

const LOGIN_NEEDED: &str = "check user and password of --state";

const NOT_PERMITTED: &str = "the user of --state needs more rights, to commands or to the keys of the prefix: \
                             ACL SETUSER with the rules in docs/CHECKPOINTS.md";

/// A request that Redis did not fulfil. Nothing of it was done or, if the answer was lost,
/// perhaps everything.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Waiting does not help.
    lasting: bool,
    /// The connection is of no more use.
    pub(super) ends_connection: bool,
    cause: String,
}

impl Failure {
    /// One that waiting does not mend. `cause` says what to do.
    pub(super) fn lasting(cause: impl Into<String>) -> Self {
        Self { lasting: true, ends_connection: false, cause: cause.into() }
    }

    /// One that passes.
    pub(super) fn passing(cause: impl Into<String>) -> Self {
        Self { lasting: false, ends_connection: false, cause: cause.into() }
    }

    /// One that passes, with the connection lost.
    pub(super) fn disconnected(cause: impl Into<String>) -> Self {
        Self { lasting: false, ends_connection: true, cause: cause.into() }
    }

    /// The data is damaged in this way.
    pub(super) fn damaged(key: &str, what: &str) -> Self {
        Self::lasting(format!(
            "{key} was changed by hand, or by another program ({what}): delete it with redis-cli, and its id from the \
             sets; nothing is lost, the recording is found again"
        ))
    }

    /// The error that `op` on `target` ends with.
    pub(super) fn of(self, op: &'static str, target: &str) -> CheckpointError {
        let target = target.to_owned();
        if self.lasting {
            CheckpointError::Unusable { target, cause: self.cause }
        } else {
            CheckpointError::Outage { op, target, cause: self.cause }
        }
    }

    /// While connecting.
    pub(super) fn of_connecting(error: &RedisError, is_cluster: bool) -> Self {
        let is_no_answer = error.is_connection_dropped() || error.is_timeout();
        let mut failure = Self::of_request(error, is_cluster);
        if is_no_answer && !failure.lasting {
            failure.cause.push_str(
                ": it does not answer as Redis would; see its log, and whether it wants TLS (rediss://) or not (redis://)",
            );
        }
        failure
    }

    /// In the answer to a request to a server, or to a cluster.
    pub(super) fn of_request(error: &RedisError, is_cluster: bool) -> Self {
        let said = error.to_string();
        let lasting = |hint: &str| Self::lasting(format!("{said}: {hint}"));
        let passing = |hint: &str| Self { lasting: false, ends_connection: false, cause: format!("{said}{hint}") };
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::NoPerm => lasting(NOT_PERMITTED),
                // It was pointed to a node that is away, or to a slot that is on its way: who has
                // the slots is asked again.
                ServerErrorKind::Moved | ServerErrorKind::Ask if is_cluster => {
                    Self::disconnected(format!("{said}: that node does not answer; its slots are looked for"))
                }
                ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot => {
                    lasting("this is a Redis Cluster: write redis+cluster:// in the place of redis://")
                }
                // A replica: after a failover the master is elsewhere, so it is looked for again.
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown => Self {
                    ends_connection: true,
                    ..passing(": this server is a replica now; work goes on when its master is found")
                },
                ServerErrorKind::BusyLoading => passing(": it has just been started; work goes on by itself"),
                ServerErrorKind::ClusterDown => passing(": work goes on when all slots are served again"),
                _ => of_text(&said).unwrap_or_else(|| passing("")),
            },
            ErrorKind::AuthenticationFailed => lasting(LOGIN_NEEDED),
            ErrorKind::InvalidClientConfig => lasting("check --state"),
            ErrorKind::Io if said.contains("certificate") || said.contains("Certificate") => Self {
                ends_connection: true,
                ..lasting(
                    "the server's certificate is not trusted: name its CA with ?ca=FILE, or use rediss:// with the name that is in the certificate",
                )
            },
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => Self::disconnected(said),
            ErrorKind::MasterNameNotFoundBySentinel => {
                Self::disconnected(format!("{said}: no Sentinel that answers knows a master of this name"))
            }
            _ => of_text(&said).unwrap_or_else(|| passing("")),
        }
    }
}

fn contains_any(said: &str, signs: &[&str]) -> bool {
    signs.iter().any(|sign| said.contains(sign))
}

/// The errors that have no kind of their own; within scripts all errors of servers before
/// Redis 7 are such.
fn of_text(said: &str) -> Option<Failure> {
    let lasting = |hint: &str| Some(Failure::lasting(format!("{said}: {hint}")));
    let passing =
        |hint: &str| Some(Failure { lasting: false, ends_connection: false, cause: format!("{said}: {hint}") });
    if said.contains("OOM") {
        passing("raise maxmemory of Redis or make room; work goes on by itself")
    } else if said.contains("MISCONF") || said.contains("NOREPLICAS") || said.contains("BUSY") {
        passing("see the log of Redis; work goes on by itself")
    } else if said.contains("READONLY") {
        Some(Failure::disconnected(format!("{said}: this server is a replica; its master is looked for")))
    } else if said.contains("unauthenticated") {
        // Of a command with many arguments, instead of NOAUTH; then the server hangs up.
        Some(Failure { ends_connection: true, ..Failure::lasting(format!("{said}: {LOGIN_NEEDED}")) })
    } else if contains_any(said, &["NOAUTH", "WRONGPASS", "invalid username-password", "invalid password"]) {
        lasting(LOGIN_NEEDED)
    } else if contains_any(said, &["can't run this command", "can't access at least one", "ACL failure"]) {
        lasting(NOT_PERMITTED)
    } else if said.contains("WRONGTYPE") {
        lasting("a key of reeltime's is used by another program: give reeltime its own with ?prefix=")
    } else if said.contains("unknown command") || said.contains("DB index") {
        lasting("this server cannot do what is needed: Redis 6.2 or newer, or Valkey, with scripts and this database")
    } else {
        None
    }
}
