//! Where everybody sends to: the sink, in a process of its own, or a store that runs already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::http;
use testkit::servers::{Launch, Process};

use crate::sink::{CA_FILE, certificates};
use crate::{Failure, Outcome};

/// A store, and how clients get to it.
pub(crate) struct Target {
    /// `http://host:port`
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    /// What clients are told by their environment.
    env: Vec<(&'static str, String)>,
    sink: Option<Sink>,
}

/// The running sink.
struct Sink {
    _process: Process,
    _certificates: Option<TempDir>,
    address: String,
}

/// What a sink has to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SinkOptions {
    /// Clients come over TLS.
    pub(crate) tls: bool,
    /// A thin link of this many bytes per second.
    pub(crate) rate: Option<u64>,
}

/// What the sink has got.
#[derive(Debug)]
pub(crate) struct Received(Value);

impl Received {
    pub(crate) fn body_bytes(&self) -> u64 {
        self.0["body_bytes"].as_u64().unwrap_or(0)
    }

    /// Of keys that begin with this directory.
    pub(crate) fn bytes_below(&self, directory: &str) -> u64 {
        self.0["by_directory"][directory].as_u64().unwrap_or(0)
    }
}

impl Target {
    /// Starts a sink.
    pub(crate) fn sink(options: SinkOptions) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|error| Failure(format!("who am I: {error}")))?;
        let dir = if options.tls {
            let dir = tempfile::tempdir().map_err(|error| Failure(format!("no temporary directory: {error}")))?;
            certificates(dir.path())?;
            Some(dir)
        } else {
            None
        };
        let tls_port = testkit::servers::Port::reserve();
        let launch = |port: &testkit::servers::Port| {
            let mut launch = Launch::new(&program).arg("sink").arg("--port").arg(port.number().to_string());
            if let Some(dir) = &dir {
                launch = launch.arg("--certificates").arg(dir.path());
                launch = launch.arg("--tls-port").arg(tls_port.number().to_string());
            }
            match options.rate {
                Some(rate) => launch.arg("--rate").arg(rate.to_string()),
                None => launch,
            }
        };
        let answers = |port: &testkit::servers::Port| http::get(&port.address(), "/_sink").is_ok();
        let (process, port) = Process::serve(launch, Duration::from_secs(20), answers);
        let mut env = credentials("bench", "bench-secret", "us-east-1");
        let endpoint = match &dir {
            Some(dir) => {
                let ca = dir.path().join(CA_FILE).display().to_string();
                env.extend([("SSL_CERT_FILE", ca.clone()), ("AWS_CA_BUNDLE", ca)]);
                format!("https://localhost:{}", tls_port.number())
            }
            None => format!("http://{}", port.address()),
        };
        let sink = Sink { _process: process, _certificates: dir, address: port.address() };
        Ok(Self { endpoint, bucket: "bench".to_owned(), env, sink: Some(sink) })
    }

    /// A store that runs already, with the credentials of the environment.
    pub(crate) fn at(endpoint: &str, bucket: &str) -> Outcome<Self> {
        let variable = |name: &str| std::env::var(name).map_err(|_| Failure(format!("--against needs {name}")));
        let region = std::env::var("AWS_REGION").unwrap_or("us-east-1".to_owned());
        let env = credentials(&variable("AWS_ACCESS_KEY_ID")?, &variable("AWS_SECRET_ACCESS_KEY")?, &region);
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), bucket: bucket.to_owned(), env, sink: None })
    }

    /// Tells a client how to get there.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    /// What the sink has got since it has forgotten.
    pub(crate) fn received(&self) -> Outcome<Received> {
        self.ask("/_sink")
    }

    /// Makes the sink forget; a store that runs already keeps what it has.
    pub(crate) fn forget(&self) -> Outcome<()> {
        if self.sink.is_some() { self.ask("/_sink/forget").map(drop) } else { Ok(()) }
    }

    /// Whether the sink has this object.
    pub(crate) fn has(&self, key: &str) -> Outcome<bool> {
        let address = &self.own_sink()?.address;
        let target = format!("/{}/{key}", self.bucket);
        let answer = http::request(address, "HEAD", &target, &[("host", address)], &[]);
        answer.map(|answer| answer.status == 200).map_err(|error| Failure(format!("the sink does not answer: {error}")))
    }

    fn ask(&self, target: &str) -> Outcome<Received> {
        let answer = http::get(&self.own_sink()?.address, target);
        let answer = answer.map_err(|error| Failure(format!("the sink does not answer: {error}")))?;
        let counts = serde_json::from_slice(&answer.body);
        counts.map(Received).map_err(|error| Failure(format!("the sink answers {:?}: {error}", answer.text())))
    }

    fn own_sink(&self) -> Outcome<&Sink> {
        self.sink.as_ref().ok_or_else(|| Failure("this needs the sink".to_owned()))
    }
}

fn credentials(id: &str, secret: &str, region: &str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// A directory for recordings, on the disk that was asked for, gone when dropped.
pub(crate) fn work_dir(below: Option<&Path>) -> Outcome<TempDir> {
    let below: PathBuf = below.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let dir = tempfile::Builder::new().prefix("reeltime-bench-").tempdir_in(&below);
    dir.map_err(|error| Failure::of("make a directory in", &below, &error))
}
