//! A blocking HTTP/1.1 client for checks: one request per connection, no TLS, no redirects.
//!
//! It is deliberately not the client that reeltime uses.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one read or write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty if it was handed to a sink.
    pub body: Vec<u8>,
}

impl Response {
    /// A header field by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks `address` (`host:port`) with GET.
pub fn get(address: &str, target: &str) -> io::Result<Response> {
    request(address, "GET", target, &[("host", address)], &[])
}

/// Sends a request and collects the answer. `headers` must contain `host`; the length is added.
pub fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut collected = Vec::new();
    let mut response = request_into(address, method, target, headers, body, &mut |piece| {
        collected.extend_from_slice(piece);
    })?;
    response.body = collected;
    Ok(response)
}

/// As [`request`], but hands the body of the answer out in pieces.
pub fn request_into(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    sink: &mut dyn FnMut(&[u8]),
) -> io::Result<Response> {
    let socket = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("no address: {address}")))?;
    let mut stream = TcpStream::connect_timeout(&socket, IO_TIMEOUT)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;

    let mut reader = BufReader::new(stream);
    loop {
        let (status, headers) = read_head(&mut reader)?;
        if (100..200).contains(&status) {
            continue;
        }
        let response = Response { status, headers, body: Vec::new() };
        if method != "HEAD" && status != 204 && status != 304 {
            read_body(&mut reader, &response, sink)?;
        }
        return Ok(response);
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(reader)?;
    let status = first.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

fn read_body(reader: &mut impl BufRead, response: &Response, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(reader)?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16);
            let size = size.map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
            if size == 0 {
                while !read_line(reader)?.is_empty() {}
                return Ok(());
            }
            copy_exactly(reader, size, sink)?;
            read_line(reader)?;
        }
    }
    match response.header("content-length").and_then(|value| value.parse().ok()) {
        Some(length) => copy_exactly(reader, length, sink),
        None => loop {
            let block = reader.fill_buf()?;
            if block.is_empty() {
                return Ok(());
            }
            sink(block);
            let read = block.len();
            reader.consume(read);
        },
    }
}

fn copy_exactly(reader: &mut impl Read, mut left: u64, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    while left > 0 {
        let want = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        reader.read_exact(&mut block[..want])?;
        sink(&block[..want]);
        left -= want as u64;
    }
    Ok(())
}
