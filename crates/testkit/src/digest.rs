//! SHA-256, the testkit's own opinion on whether bytes are the same. reeltime does not use it,
//! so it cannot share a mistake with it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of a file's content in lower-case hex.
pub fn sha256_of(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let digest = File::open(path).and_then(sha256_of_reader);
    digest.unwrap_or_else(|error| panic!("cannot read {} for its SHA-256: {error}", path.display()))
}

/// SHA-256 of bytes in lower-case hex.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of everything that a reader gives.
pub fn sha256_of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut running = RunningSha256::default();
    let mut block = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut block)? {
            0 => return Ok(running.finish()),
            read => running.update(&block[..read]),
        }
    }
}

/// A SHA-256 that is fed piece by piece.
#[derive(Clone, Debug, Default)]
pub struct RunningSha256(Sha256);

impl RunningSha256 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in lower-case hex.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
