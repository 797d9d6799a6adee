//! A proxy that knows nothing of what it carries: for Redis, or for a store over TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::cut::{Cut, Moment};
use super::listener::{Ending, Listener, end};

/// What is done to all connections, open and new.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TcpMode {
    /// Nothing.
    Pass,
    /// Everything is delivered, in both directions, this much later (and not faster than one
    /// block per delay).
    Delay(Duration),
    /// Each direction of each connection goes no faster than this.
    Throttle {
        /// The rate.
        bytes_per_second: u64,
    },
    /// Connections are accepted and stay open, and nothing comes through any more. What was
    /// under way is delivered when the mode changes, as after a network's hiccup.
    BlackHole,
    /// What clients send is delivered; what the server answers is not, until the mode changes.
    HoldAnswers,
    /// Each connection is reset in the middle of the next answer: after this many bytes of it.
    CutAnswers {
        /// How many bytes of the answer the client gets.
        after_bytes: usize,
    },
}

/// A TCP proxy before one server. Stops when dropped.
#[derive(Debug)]
pub struct TcpProxy {
    listener: Listener,
    mode: watch::Sender<TcpMode>,
    bytes: Arc<Counted>,
    cuts: Cuts,
}

type Cuts = Arc<Mutex<Vec<Cut>>>;

#[derive(Debug, Default)]
struct Counted {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl TcpProxy {
    /// Starts a proxy before the server at `upstream` (`host:port`), passing everything.
    pub fn before(upstream: &str) -> Self {
        Self::before_at(upstream, Ipv4Addr::LOCALHOST.into())
    }

    /// The same at another address of this machine.
    pub fn before_at(upstream: &str, host: IpAddr) -> Self {
        let mode = watch::Sender::new(TcpMode::Pass);
        let bytes = Arc::new(Counted::default());
        let cuts = Cuts::default();
        let (upstream, modes) = (Arc::<str>::from(upstream), mode.subscribe());
        let (counted, watched) = (Arc::clone(&bytes), Arc::clone(&cuts));
        let listener = Listener::start_at(host, move |client| {
            carry(client, Arc::clone(&upstream), modes.clone(), Arc::clone(&counted), Arc::clone(&watched))
        });
        Self { listener, mode, bytes, cuts }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.listener.address()
    }

    /// Changes what is done, at once and to open connections too.
    pub fn set(&self, mode: TcpMode) {
        self.mode.send_replace(mode);
    }

    /// Refuses connections and resets those that are open.
    pub fn go_down(&self) {
        self.listener.go_down();
    }

    /// Accepts connections again, at the same address.
    pub fn come_up(&self) {
        self.listener.come_up();
    }

    /// Resets the connections that are open; new ones are accepted.
    pub fn reset_connections(&self) {
        self.listener.reset_connections();
    }

    /// Ends the connection of the next request that contains `needle`, at this moment of it.
    pub fn cut_at(&self, needle: impl Into<Vec<u8>>, moment: Moment) -> Cut {
        self.add(Cut::new(needle.into(), moment, false))
    }

    /// Keeps every request that contains `needle` from the server, until that is lifted.
    pub fn cut_each(&self, needle: impl Into<Vec<u8>>) -> Cut {
        self.add(Cut::new(needle.into(), Moment::Before, true))
    }

    fn add(&self, cut: Cut) -> Cut {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).push(cut.clone());
        cut
    }

    /// Bytes delivered to the server.
    pub fn bytes_to_server(&self) -> u64 {
        self.bytes.to_server.load(Ordering::SeqCst)
    }

    /// Bytes delivered to clients.
    pub fn bytes_to_client(&self) -> u64 {
        self.bytes.to_client.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut client: TcpStream,
    upstream: Arc<str>,
    modes: watch::Receiver<TcpMode>,
    counted: Arc<Counted>,
    cuts: Cuts,
) {
    let Ok(mut server) = TcpStream::connect(&*upstream).await else { return }; // dropped: a reset
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let held = watch::Sender::new(None);
    let (there_lane, back_lane) = (Lane::Requests { cuts, held: &held }, Lane::Answers { held: held.subscribe() });
    let there = pump(&mut from_client, &mut to_server, modes.clone(), there_lane, &counted.to_server);
    let back = pump(&mut from_server, &mut to_client, modes, back_lane, &counted.to_client);
    if tokio::try_join!(there, back).is_ok() {
        end(&client, Ending::Close);
    }
}

/// One direction of a connection.
enum Lane<'a> {
    /// To the server.
    Requests {
        cuts: Cuts,
        /// Told of the request whose answer is to be held.
        held: &'a watch::Sender<Option<Cut>>,
    },
    /// To the client.
    Answers { held: watch::Receiver<Option<Cut>> },
}

impl Lane<'_> {
    /// How many of these bytes are passed on, and whether that is the connection's end.
    fn inspect(&self, bytes: &[u8]) -> (usize, bool) {
        let Self::Requests { cuts, held } = self else { return (bytes.len(), false) };
        let cuts = cuts.lock().unwrap_or_else(PoisonError::into_inner);
        for cut in cuts.iter() {
            let Some(at) = cut.inner.claim(bytes) else { continue };
            match cut.inner.moment {
                Moment::Before => return (0, true),
                Moment::During => return (at, true),
                Moment::After => {
                    held.send_replace(Some(cut.clone()));
                }
            }
        }
        (bytes.len(), false)
    }

    /// Returns when this direction is free: at once, unless its answers are held; never, if they
    /// are cut off then.
    async fn pass(&self) -> std::io::Result<()> {
        let Self::Answers { held } = self else { return Ok(()) };
        let held = held.borrow().clone();
        if let Some(cut) = held {
            cut.inner.until_over().await;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut modes: watch::Receiver<TcpMode>,
    lane: Lane<'_>,
    counted: &AtomicU64,
) -> std::io::Result<()> {
    let answers = matches!(lane, Lane::Answers { .. });
    let mut block = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut block).await?;
        let (passed, is_end) = lane.inspect(&block[..read]);
        lane.pass().await?;
        let blocked = |mode: &TcpMode| *mode == TcpMode::BlackHole || (answers && *mode == TcpMode::HoldAnswers);
        if modes.wait_for(|mode| !blocked(mode)).await.is_err() {
            return Ok(()); // the proxy is gone
        }
        let mode = *modes.borrow();
        match mode {
            TcpMode::Delay(time) => tokio::time::sleep(time).await,
            TcpMode::Throttle { bytes_per_second } => {
                let seconds = read as f64 / bytes_per_second.max(1) as f64;
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
            TcpMode::CutAnswers { after_bytes } if answers && read > 0 => {
                to.write_all(&block[..read.min(after_bytes)]).await?;
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            TcpMode::Pass | TcpMode::BlackHole | TcpMode::HoldAnswers | TcpMode::CutAnswers { .. } => {}
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&block[..passed]).await?;
        counted.fetch_add(passed as u64, Ordering::SeqCst);
        if is_end {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
    }
}
