//! moto's S3 server, started for the tests and stopped with the last of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A running server.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    /// The server that all running tests share.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let moto = Arc::new(Self::start());
            *shared = Arc::downgrade(&moto);
            moto
        })
    }

    /// A server of one's own.
    pub fn start() -> Self {
        let program = program();
        let mut child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("moto_server cannot be started as {}: {error}\n{MISSING}", program.display())
            });
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.kill();
                panic!("moto_server ended before it listened:\n{}", said.join("\n"));
            };
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop)); // so that it never waits for a reader
        Self { child, address }
    }

    /// Its address as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, bucket: &str) {
        let (head, body) = self.request("PUT", &format!("/{bucket}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{}", String::from_utf8_lossy(&body));
    }

    /// Head and bytes of an object, by a request that is made without the code under test.
    pub fn get(&self, bucket: &str, key: &str) -> Option<(String, Vec<u8>)> {
        let key = key.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let (head, body) = self.request("GET", &format!("/{bucket}/{key}"));
        head.starts_with("HTTP/1.1 200").then_some((head, body))
    }

    fn request(&self, method: &str, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {ANYBODY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP answer");
        let body = answer.split_off(end + 4);
        (String::from_utf8_lossy(&answer).into_owned(), body)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server does not check signatures, only that there is one.
const ANYBODY: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

const MISSING: &str = "run the tests with scripts/test, which installs it, or name it in REELTIME_MOTO_SERVER";

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("REELTIME_MOTO_SERVER") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("moto_server"));
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/moto/bin/moto_server");
    let found = on_path.chain([installed]).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("moto_server is not on PATH and not in target/test-tools\n{MISSING}"))
}
