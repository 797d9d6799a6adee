//! The connection, which is made anew for as long as that takes.
//!
//! While there is none, requests fail at once with the reason: whoever asks has something
//! better to do than to wait. Only the first attempt after the opening is waited for.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, ServerErrorKind, Value,
};
use tokio::sync::watch;

use super::address::Connector;
use super::failure::Failure;
use super::scripts::Call;

/// How long a connection may take, login included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection that several requests use at the same time.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[derive(Clone)]
enum Status {
    /// The first attempt is under way.
    Connecting,
    /// Connected; the number tells this connection from others.
    Up(u64, Connection),
    Down(Failure),
}

/// Carries requests to Redis.
pub(super) struct Link {
    status: Arc<watch::Sender<Status>>,
    is_cluster: bool,
    keeper: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(connector: Connector) -> Self {
        let is_cluster = matches!(connector, Connector::Cluster(_));
        let status = Arc::new(watch::Sender::new(Status::Connecting));
        let keeper = tokio::spawn(keep(connector, Arc::clone(&status)));
        Self { status, is_cluster, keeper }
    }

    /// Carries out a command.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let (number, mut connection) = self.connection().await?;
        let answer = within(command.query_async(&mut connection)).await;
        self.judge(number, answer)
    }

    /// Carries out several commands, whose keys are in one slot, in one round trip.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure> {
        let (number, mut connection) = self.connection().await?;
        let answer = within(pipeline.query_async(&mut connection)).await;
        self.judge(number, answer)
    }

    /// Calls a script.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        let (number, mut connection) = self.connection().await?;
        let mut answer = within(call.by_digest().query_async(&mut connection)).await;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            answer = within(call.in_full().query_async(&mut connection)).await;
        }
        self.judge(number, answer)
    }

    async fn connection(&self) -> Result<(u64, Connection), Failure> {
        let mut status = self.status.subscribe();
        let known = status.wait_for(|status| !matches!(status, Status::Connecting)).await;
        match known.as_deref() {
            Ok(Status::Up(number, connection)) => Ok((*number, connection.clone())),
            Ok(Status::Down(failure)) => Err(failure.clone()),
            Ok(Status::Connecting) | Err(_) => Err(Failure::disconnected("not connected")),
        }
    }

    fn judge<T>(&self, number: u64, answer: Result<T, RedisError>) -> Result<T, Failure> {
        let failure = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => Failure::of_request(&error, self.is_cluster),
        };
        if failure.ends_connection {
            self.status.send_if_modified(|status| {
                let is_this = matches!(status, Status::Up(present, _) if *present == number);
                if is_this {
                    *status = Status::Down(failure.clone());
                }
                is_this
            });
        }
        Err(failure)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Connects whenever there is no connection.
async fn keep(mut connector: Connector, status: Arc<watch::Sender<Status>>) {
    let mut changes = status.subscribe();
    for number in 0_u64.. {
        match within(connect(&mut connector)).await {
            Ok(connection) => {
                status.send_replace(Status::Up(number, connection));
                if changes.wait_for(|status| matches!(status, Status::Down(_))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let is_cluster = matches!(connector, Connector::Cluster(_));
                status.send_replace(Status::Down(Failure::of_connecting(&error, is_cluster)));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connect(connector: &mut Connector) -> Result<Connection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    Ok(match connector {
        Connector::Server(client) => {
            Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
        }
        Connector::Sentinel(client) => Connection::One(client.get_async_connection_with_config(&config).await?),
        Connector::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
    })
}

/// Bounds what has no bound of its own, retries within a cluster above all.
async fn within<T>(request: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let bound = 2 * RESPONSE_TIMEOUT;
    let late = |_| {
        let message = format!("no answer within {} s", bound.as_secs());
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message).into())
    };
    tokio::time::timeout(bound, request).await.unwrap_or_else(late)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
