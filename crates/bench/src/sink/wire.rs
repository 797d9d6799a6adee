//! HTTP/1.1 as far as a sink needs it: requests with a stated length, answers, connections that
//! are kept.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::{ServerConnection, StreamOwned};

use crate::sys;

/// More than any client's head of a request.
const HEAD_BYTES: usize = 64 << 10;

/// How much of a body is thrown away at once.
const PIECE_BYTES: usize = 256 << 10;

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    fn inner(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls,
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// The path, decoded, without the first slash.
    pub(super) path: String,
    /// The query, decoded.
    pub(super) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header field by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All header fields.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A parameter of the query.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body comes in chunks (RFC 9112, 7.1), without its length in the head.
    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some()
    }

    /// The length of a body that is not in chunks.
    fn length(&self) -> io::Result<u64> {
        let length = self.header("content-length").unwrap_or("0");
        length.parse().map_err(|_| invalid("the length of the body is no number"))
    }
}

/// A connection with what was received and not used yet.
pub(super) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let bytes = if matches!(stream, Stream::Tls(_)) { PIECE_BYTES } else { HEAD_BYTES };
        Self { stream, buffer: vec![0; bytes], begin: 0, end: 0 }
    }

    /// The head of the next request; `None` if the client has no more.
    pub(super) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let held = &self.buffer[self.begin..self.end];
            if let Some(len) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = parse(&held[..len])?;
                self.begin += len + 4;
                return Ok(Some(head));
            }
            let is_between_requests = held.is_empty();
            match self.receive() {
                Err(error) if is_between_requests && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                received => received?,
            }
        }
    }

    /// Throws the body of a request away, telling how many bytes came at a time; answers how many
    /// they were.
    pub(super) fn forget_body(&mut self, head: &Head, mut got: impl FnMut(u64)) -> io::Result<u64> {
        if !head.is_chunked() {
            let length = head.length()?;
            return self.forget(length, got).map(|()| length);
        }
        let mut total = 0;
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| invalid("the size of a chunk is no number"))?;
            if size == 0 {
                while !self.line()?.is_empty() {} // trailers
                return Ok(total);
            }
            self.forget(size, &mut got)?;
            self.line()?;
            total += size;
        }
    }

    /// The body of a request, which is small.
    pub(super) fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        if head.is_chunked() {
            return Err(invalid("a small body does not come in chunks"));
        }
        self.collect(head.length()?)
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<String> {
        loop {
            let held = &self.buffer[self.begin..self.end];
            if let Some(len) = held.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&held[..len]).into_owned();
                self.begin += len + 2;
                return Ok(line);
            }
            self.receive()?;
        }
    }

    /// Receives more, behind what is held.
    fn receive(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        if self.end == self.buffer.len() {
            return Err(invalid("the head of a request, or a line of it, is too long"));
        }
        match self.stream.inner().read(&mut self.buffer[self.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                self.end += got;
                Ok(())
            }
        }
    }

    fn forget(&mut self, len: u64, mut got: impl FnMut(u64)) -> io::Result<()> {
        let kept = ((self.end - self.begin) as u64).min(len);
        self.begin += kept as usize;
        let mut left = len - kept;
        if kept > 0 {
            got(kept);
        }
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let received = match &mut self.stream {
                Stream::Plain(tcp) => sys::receive_and_forget(tcp, &mut self.buffer, want)?,
                Stream::Tls(tls) => {
                    let room = want.min(self.buffer.len());
                    tls.read(&mut self.buffer[..room])?
                }
            };
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if matches!(self.stream, Stream::Tls(_)) {
                (self.begin, self.end) = (0, 0); // it was read into the buffer
            }
            left -= received as u64;
            got(received as u64);
        }
        Ok(())
    }

    fn collect(&mut self, len: u64) -> io::Result<Vec<u8>> {
        let mut body = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let kept = (self.end - self.begin).min(body.len());
        body[..kept].copy_from_slice(&self.buffer[self.begin..self.begin + kept]);
        self.begin += kept;
        self.stream.inner().read_exact(&mut body[kept..])?;
        Ok(body)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.inner().write_all(bytes)?;
        self.stream.inner().flush()
    }
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| invalid("the head of a request is no text"))?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        return Err(invalid("there is no request in the first line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    Ok(Head {
        method: method.to_owned(),
        path: decoded(path.trim_start_matches('/')),
        query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
    })
}

/// What percent-encoded text stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_apart() {
        let head =
            parse(b"PUT /b/a%20b/c?partNumber=2&uploadId=x%2F HTTP/1.1\r\nHost: h\r\nContent-Length: 12").unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("PUT", "b/a b/c"));
        assert_eq!((head.param("partNumber"), head.param("uploadId")), (Some("2"), Some("x/")));
        assert_eq!((head.header("host"), head.length().unwrap()), (Some("h"), 12));
    }
}
