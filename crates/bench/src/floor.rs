//! The floor: what it costs at least to read files and to send them. A plain loop on one
//! connection, which does nothing else; over TLS with the library that reeltime uses.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use testkit::servers::Credentials;
use testkit::servers::sigv4::{ToSign, encode, sign};

use crate::files::recordings_below;
use crate::{Failure, Outcome};

/// As large as a block of reeltime's.
const BLOCK_BYTES: usize = 256 << 10;

/// A plain loop to be run.
#[derive(Debug, clap::Args)]
pub(crate) struct FloorArgs {
    /// A recording, or a directory with recordings
    files: PathBuf,
    /// http://host:port/bucket or https://…
    to: String,
}

/// Sends every file in one request; credentials are those of the environment.
pub(crate) fn send(args: &FloorArgs) -> Outcome<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let credentials = Credentials {
        access_key_id: variable("AWS_ACCESS_KEY_ID"),
        secret_access_key: variable("AWS_SECRET_ACCESS_KEY"),
        region: variable("AWS_REGION"),
    };
    let (is_tls, rest) = match args.to.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(Failure(format!("{} is no address of a bucket", args.to))),
    };
    let (host, bucket) = rest.split_once('/').ok_or_else(|| Failure(format!("no bucket in {}", args.to)))?;
    let failed = |error: io::Error| Failure(format!("sending to {}: {error}", args.to));
    let mut connection = BufReader::new(connect(host, is_tls).map_err(failed)?);
    let mut block = vec![0; BLOCK_BYTES];
    for path in recordings_below(&args.files)? {
        let name = path.strip_prefix(&args.files).unwrap_or(&path).to_string_lossy().into_owned();
        let target = format!("/{bucket}/floor/{}", encode(&name, true));
        put(&mut connection, host, &target, &path, &credentials, &mut block)
            .map_err(|error| Failure::of("send", &path, &error))?;
    }
    Ok(())
}

trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

fn connect(host: &str, is_tls: bool) -> io::Result<Box<dyn Connection>> {
    let address =
        if host.contains(':') { host.to_owned() } else { format!("{host}:{}", if is_tls { 443 } else { 80 }) };
    let address = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the host has no address"))?;
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    if !is_tls {
        return Ok(Box::new(tcp));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    let name = host.split(':').next().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(Box::new(StreamOwned::new(connection, tcp)))
}

fn put(
    connection: &mut BufReader<Box<dyn Connection>>,
    host: &str,
    target: &str,
    path: &Path,
    credentials: &Credentials,
    block: &mut [u8],
) -> io::Result<()> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let request = ToSign { method: "PUT", host, path: target, query: &[], headers: &[] };
    let mut head = format!("PUT {target} HTTP/1.1\r\ncontent-length: {len}\r\n");
    for (name, value) in sign(&request, credentials, SystemTime::now()) {
        head.push_str(&name);
        head.push_str(": ");
        head.push_str(&value);
        head.push_str("\r\n");
    }
    let stream = connection.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    loop {
        let read = file.read(block)?;
        if read == 0 {
            break;
        }
        stream.write_all(&block[..read])?;
    }
    stream.flush()?;
    answered(connection)
}

/// Reads an answer, which must be a success.
fn answered(connection: &mut impl BufRead) -> io::Result<()> {
    let mut status = String::new();
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if status.is_empty() {
            status.clone_from(&line);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_bytes = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    io::copy(&mut connection.take(body_bytes), &mut io::sink())?;
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(io::Error::other(status.trim().to_owned())) }
}
