//! Garage: a cluster of one node, which keeps its data over kills and restarts.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::process::find_program;
use super::{Credentials, Launch, Port, Process, S3};

const START_DEADLINE: Duration = Duration::from_mins(2);

/// A running Garage.
#[derive(Debug)]
pub(super) struct Garage {
    pub(super) process: Process,
    pub(super) port: Port,
    program: PathBuf,
    /// Held for as long as the server may use it.
    _rpc: Port,
}

impl Garage {
    /// Starts one and returns when it serves. The program is `$REELTIME_GARAGE`, or what
    /// `scripts/install-test-tools` installed, or the one in `PATH`.
    pub(super) fn start(credentials: &Credentials) -> Self {
        let program = find_program("REELTIME_GARAGE", "garage-2.5.0/bin/garage", "garage");
        let rpc = Port::reserve();
        let launch = |port: &Port| {
            let launch = Launch::new(&program);
            let config = launch.home().join("garage.toml");
            fs::write(&config, configuration(&launch, port, &rpc, credentials)).expect("its home can be written");
            // What the arguments do beyond running it, they do once: layout, key and its rights.
            launch
                .arg("-c")
                .arg(config)
                .args(["server", "--single-node", "--default-access-key"])
                .env("GARAGE_DEFAULT_ACCESS_KEY", &credentials.access_key_id)
                .env("GARAGE_DEFAULT_SECRET_KEY", &credentials.secret_access_key)
                .env("NO_COLOR", "1")
        };
        let serves = |port: &Port| S3::new(&format!("http://{}", port.address()), credentials.clone()).serves();
        let (process, port) = Process::serve(launch, START_DEADLINE, serves);
        Self { process, port, program, _rpc: rpc }
    }

    /// Creates a bucket that every key sees by this name. One that a key creates by S3 is
    /// known to that key alone.
    pub(super) fn create_bucket(&self, bucket: &str, credentials: &Credentials) {
        self.run(&["bucket", "create", bucket]);
        self.allow(bucket, credentials);
    }

    /// Lets other credentials use the bucket and deletes the old ones, while it runs.
    pub(super) fn replace_key(&self, old: &Credentials, new: &Credentials, bucket: &str) {
        self.run(&["key", "import", "--yes", &new.access_key_id, &new.secret_access_key]);
        self.allow(bucket, new);
        self.run(&["key", "delete", "--yes", &old.access_key_id]);
    }

    fn allow(&self, bucket: &str, credentials: &Credentials) {
        self.run(&["bucket", "allow", "--read", "--write", "--owner", bucket, "--key", &credentials.access_key_id]);
    }

    /// Runs its command line.
    fn run(&self, args: &[&str]) {
        let config = self.process.home().join("garage.toml");
        let output = Command::new(&self.program).arg("-c").arg(config).args(args).output();
        let output = output.unwrap_or_else(|error| panic!("garage {args:?} cannot be run: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "garage {args:?}: {}: {said}", output.status);
    }
}

fn configuration(launch: &Launch, port: &Port, rpc: &Port, credentials: &Credentials) -> String {
    let home = launch.home().display();
    let (api, rpc) = (port.address(), rpc.address());
    let (region, secret) = (&credentials.region, "5e".repeat(32));
    format!(
        r#"metadata_dir = "{home}/meta"
data_dir = "{home}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "{rpc}"
rpc_public_addr = "{rpc}"
rpc_secret = "{secret}"

[s3_api]
s3_region = "{region}"
api_bind_addr = "{api}"
"#
    )
}
