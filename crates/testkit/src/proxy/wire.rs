//! HTTP/1.1 on the wire: heads, and where bodies end. Everything is kept as it came.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// More than any client or server of ours sends.
const HEAD_LIMIT_BYTES: usize = 1024 * 1024;

/// Bytes of a body that are passed on at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The head of a request or a response.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// As it came, with the empty line.
    pub(super) raw: Vec<u8>,
    first_line: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` if the connection ends before it begins.
    pub(super) async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        loop {
            let begin = raw.len();
            if reader.read_until(b'\n', &mut raw).await? == 0 {
                return if raw.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if raw.len() > HEAD_LIMIT_BYTES {
                return Err(io::Error::other("the head never ends"));
            }
            if matches!(&raw[begin..], b"\r\n" | b"\n") && begin > 0 {
                return Self::parse(raw).map(Some);
            }
        }
    }

    pub(super) fn parse(raw: Vec<u8>) -> io::Result<Self> {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.lines();
        let first_line = lines.next().unwrap_or("").to_owned();
        if first_line.split(' ').count() < 2 {
            return Err(io::Error::other(format!("not HTTP: {first_line:?}")));
        }
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self { raw, first_line, headers })
    }

    /// Method and target.
    pub(super) fn request_line(&self) -> (&str, &str) {
        let mut words = self.first_line.split(' ');
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }

    /// The status code of a response.
    pub(super) fn status(&self) -> io::Result<u16> {
        let code = self.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.ok_or_else(|| io::Error::other(format!("not a status line: {:?}", self.first_line)))
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.headers.iter().any(|(key, found)| key == name && found.to_ascii_lowercase().contains(value))
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.has("expect", "100-continue")
    }

    /// Whether whoever sent this closes the connection after it.
    pub(super) fn closes(&self) -> bool {
        self.has("connection", "close")
            || (self.first_line.contains("HTTP/1.0") && !self.has("connection", "keep-alive"))
    }

    fn framing(&self, without: Framing) -> Framing {
        if self.has("transfer-encoding", "chunked") {
            return Framing::ChunkSize;
        }
        let length = self.headers.iter().find(|(name, _)| name == "content-length");
        length.and_then(|(_, value)| value.parse().ok()).map_or(without, Framing::Left)
    }

    /// The body of a request with this head.
    pub(super) fn request_body(&self) -> Body {
        Body { framing: self.framing(Framing::Left(0)) }
    }

    /// The body of a response with this head to a request of this method.
    pub(super) fn response_body(&self, method: &str, status: u16) -> Body {
        let none = method == "HEAD" || status == 204 || status == 304 || (100..200).contains(&status);
        Body { framing: if none { Framing::Left(0) } else { self.framing(Framing::UntilClose) } }
    }
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// This many bytes are left.
    Left(u64),
    /// Until the connection is closed.
    UntilClose,
    /// In chunks; a line with a size comes next.
    ChunkSize,
    /// In chunks; this much is left of one, with its line end.
    InChunk(u64),
    /// In chunks; lines come until an empty one.
    Trailer,
}

impl Body {
    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// The next piece as it came, at most `limit` bytes of it where that makes sense; `None` at
    /// the end.
    pub(super) async fn next(
        &mut self,
        reader: &mut (impl AsyncBufRead + Unpin),
        limit: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Left(0) => Ok(None),
            Framing::Left(left) => {
                let piece = some(reader, left, limit).await?;
                self.framing = Framing::Left(left - piece.len() as u64);
                if piece.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(piece)) }
            }
            Framing::UntilClose => {
                let piece = some(reader, u64::MAX, limit).await?;
                Ok((!piece.is_empty()).then_some(piece))
            }
            Framing::ChunkSize => {
                let line = line(reader).await?;
                let text = String::from_utf8_lossy(&line);
                let size = u64::from_str_radix(text.split(';').next().unwrap_or("").trim(), 16);
                let size = size.map_err(|_| io::Error::other(format!("not a chunk size: {text:?}")))?;
                self.framing = if size == 0 { Framing::Trailer } else { Framing::InChunk(size + 2) };
                Ok(Some(line))
            }
            Framing::InChunk(left) => {
                let piece = some(reader, left, limit).await?;
                if piece.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let left = left - piece.len() as u64;
                self.framing = if left == 0 { Framing::ChunkSize } else { Framing::InChunk(left) };
                Ok(Some(piece))
            }
            Framing::Trailer => {
                let line = line(reader).await?;
                if matches!(line.as_slice(), b"\r\n" | b"\n") {
                    self.framing = Framing::Left(0);
                }
                Ok(Some(line))
            }
        }
    }
}

async fn some(reader: &mut (impl AsyncBufRead + Unpin), left: u64, limit: usize) -> io::Result<Vec<u8>> {
    let block = reader.fill_buf().await?;
    let take = block.len().min(PIECE_BYTES).min(limit.max(1)).min(usize::try_from(left).unwrap_or(usize::MAX));
    let piece = block[..take].to_vec();
    reader.consume(take);
    Ok(piece)
}

async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
