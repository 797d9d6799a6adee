//! A server that speaks enough S3 to accept and forget uploads, so that the client is what is
//! measured.
//!
//! - It remembers what is asked for again (sizes, checksums, tokens, the parts of uploads), and
//!   no bytes: over plain TCP those are not even copied out of the kernel.
//! - One thread for each connection, blocking: it does the least that can be done per byte.
//! - It believes every signature, and counts what it gets: `GET /_sink` answers those counts,
//!   `POST /_sink/forget` makes it forget everything.
//! - With a rate it takes bytes no faster than that, over all connections: a thin link.

mod answers;
mod link;
mod memory;
mod tls;
mod wire;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Failure, Outcome};
use answers::Sink;
use link::Link;
use wire::{Stream, Wire};

pub(crate) use tls::{CA_FILE, certificates};

/// A sink to be run.
#[derive(Debug, clap::Args)]
pub(crate) struct SinkArgs {
    /// Port on 127.0.0.1 for HTTP
    #[arg(long)]
    port: u16,
    /// Port on 127.0.0.1 for HTTPS
    #[arg(long, requires = "certificates")]
    tls_port: Option<u16>,
    /// Directory with the server's certificate
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// Bytes per second that are taken, over all connections [default: no limit]
    #[arg(long)]
    rate: Option<u64>,
}

/// Serves until it is killed.
pub(crate) fn serve(args: &SinkArgs) -> Outcome<()> {
    let sink = Arc::new(Sink::new(args.rate.map(Link::of)));
    if let (Some(port), Some(dir)) = (args.tls_port, &args.certificates) {
        let config = tls::server_config(dir)?;
        let listener = bind(port)?;
        let sink = Arc::clone(&sink);
        std::thread::spawn(move || {
            accept(&listener, &sink, &|tcp| tls::accepted(tcp, &config).map(Stream::Tls));
        });
    }
    accept(&bind(args.port)?, &sink, &|tcp| Ok(Stream::Plain(tcp)));
    Ok(())
}

fn bind(port: u16) -> Outcome<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| Failure(format!("cannot listen on port {port}: {error}")))
}

fn accept(listener: &TcpListener, sink: &Arc<Sink>, begin: &dyn Fn(TcpStream) -> Outcome<Stream>) {
    for tcp in listener.incoming() {
        let accepted = tcp.map_err(|error| Failure(format!("cannot accept: {error}"))).and_then(|tcp| {
            tcp.set_nodelay(true).map_err(|error| Failure(format!("cannot set up a connection: {error}")))?;
            begin(tcp)
        });
        match accepted {
            Ok(stream) => {
                let sink = Arc::clone(sink);
                std::thread::spawn(move || {
                    // A client that goes away is nothing to speak of.
                    if let Err(error) = sink.converse(&mut Wire::new(stream))
                        && error.kind() == std::io::ErrorKind::InvalidData
                    {
                        eprintln!("sink: {error}");
                    }
                });
            }
            Err(error) => eprintln!("sink: {error}"),
        }
    }
}
