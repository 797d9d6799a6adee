//! Accepting connections on an address that can go down and come up again.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::servers::Port;

/// How a connection with a client is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Orderly.
    Close,
    /// With RST.
    Reset,
}

/// Accepts connections on a thread of its own until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    /// Kept from others as long as this lives.
    port: Port,
    host: IpAddr,
    /// Whether it listens, and how often open connections have been reset.
    wanted: watch::Sender<Wanted>,
    /// Whether the socket is open now.
    listening: watch::Receiver<bool>,
    runtime: Option<Runtime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    up: bool,
    resets: u64,
}

impl Listener {
    /// Listens on a port of its own and hands every connection to `serve`, which works on it
    /// until it is done or the connection is reset from outside.
    pub(super) fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), serve)
    }

    /// The same at another address of this machine.
    pub(super) fn start_at<S, F>(host: IpAddr, serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("testkit-proxy")
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let port = Port::reserve();
        let wanted = watch::Sender::new(Wanted { up: true, resets: 0 });
        let (open, listening) = watch::channel(false);
        let listener = Self { port, host, wanted, listening, runtime: Some(runtime) };
        let (address, wanted) = (listener.address(), listener.wanted.subscribe());
        let runtime = listener.runtime.as_ref().expect("it was just made");
        runtime.spawn(accept(address, wanted, open, Arc::new(serve)));
        listener.wait_listening(true);
        listener
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port.number())
    }

    pub(super) fn go_down(&self) {
        self.wanted.send_modify(|wanted| *wanted = Wanted { up: false, resets: wanted.resets + 1 });
        self.wait_listening(false);
    }

    pub(super) fn come_up(&self) {
        self.wanted.send_modify(|wanted| wanted.up = true);
        self.wait_listening(true);
    }

    pub(super) fn reset_connections(&self) {
        self.wanted.send_modify(|wanted| wanted.resets += 1);
    }

    fn wait_listening(&self, expected: bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while *self.listening.borrow() != expected {
            assert!(std::time::Instant::now() < deadline, "the proxy on {} cannot listen", self.address());
            std::thread::sleep(Duration::from_millis(1)); // poll: a test may call this inside a runtime
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept<S, F>(address: String, mut wanted: watch::Receiver<Wanted>, open: watch::Sender<bool>, serve: Arc<S>)
where
    S: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let listener = loop {
            match bind(&address) {
                Ok(listener) => break listener,
                // Whoever tries whether a port is free has it for a moment. Who waits for the
                // listener does not do so for ever.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("the proxy cannot listen on {address}: {error}"),
            }
        };
        open.send_replace(true);
        loop {
            let (client, _) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(_) => continue, // this connection is gone already
                },
                _ = wanted.wait_for(|wanted| !wanted.up) => break,
            };
            let resets = wanted.borrow().resets;
            let (serve, mut watched) = (Arc::clone(&serve), wanted.clone());
            tokio::spawn(async move {
                // Unless the connection is closed in an orderly way, its end is a reset.
                let _ = client.set_zero_linger();
                tokio::select! {
                    () = serve(client) => {}
                    _ = watched.wait_for(|wanted| wanted.resets != resets) => {}
                }
            });
        }
        drop(listener);
        open.send_replace(false);
        if wanted.wait_for(|wanted| wanted.up).await.is_err() {
            return;
        }
    }
}

fn bind(address: &str) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.parse().map_err(std::io::Error::other)?)?;
    socket.listen(1024)
}

/// Closes a connection as asked.
pub(super) fn end(stream: &TcpStream, ending: Ending) {
    let linger = match ending {
        Ending::Close => None,
        Ending::Reset => Some(Duration::ZERO),
    };
    // Deprecated because a linger above zero blocks; these two do not. An error means that
    // the connection is gone already.
    #[allow(deprecated)]
    let _ = stream.set_linger(linger);
}
