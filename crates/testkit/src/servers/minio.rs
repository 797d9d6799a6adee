//! `MinIO`: one server on one directory, which keeps its data over kills and restarts.
//!
//! What it is unlike others in: unfinished uploads are listed only for an exact key as prefix,
//! and not all of them after a restart; so what is unfinished is read from its directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::process::find_program;
use super::{Credentials, Launch, Port, Process, S3};
use crate::digest::sha256_of_bytes;

const START_DEADLINE: Duration = Duration::from_mins(2);

/// Its user and password, read at each start.
const CREDENTIALS_FILE: &str = "credentials.env";

/// A running `MinIO`.
#[derive(Debug)]
pub(super) struct Minio {
    pub(super) process: Process,
    pub(super) port: Port,
}

impl Minio {
    /// Starts one and returns when it serves. The program is `$REELTIME_MINIO`, or what
    /// `scripts/install-test-tools` installed, or the one in `PATH`.
    pub(super) fn start(credentials: &Credentials) -> Self {
        let program = find_program("REELTIME_MINIO", "bin/minio", "minio");
        let launch = |port: &Port| {
            let launch = Launch::new(&program);
            let home = launch.home().to_path_buf();
            write_credentials(&home, credentials);
            launch
                .args(["server", "--quiet", "--address"])
                .arg(port.address())
                .arg("--certs-dir")
                .arg(home.join("certs"))
                .arg(home.join("data"))
                .env("MINIO_CONFIG_ENV_FILE", home.join(CREDENTIALS_FILE))
                .env("MINIO_REGION", &credentials.region)
                .env("MINIO_BROWSER", "off")
                .env("MINIO_UPDATE", "off")
                .env("HOME", &home)
                .env_remove("MINIO_ROOT_USER")
                .env_remove("MINIO_ROOT_PASSWORD")
        };
        let serves = |port: &Port| S3::new(&format!("http://{}", port.address()), credentials.clone()).serves();
        let (process, port) = Process::serve(launch, START_DEADLINE, serves);
        Self { process, port }
    }

    /// Starts again with other credentials; the old ones are unknown from then on.
    pub(super) fn restart_with(&self, credentials: &Credentials) {
        self.process.kill();
        write_credentials(self.process.home(), credentials);
        self.process.restart();
    }

    /// The unfinished uploads of a key by what is on its disk: `BUCKET/KEY: UPLOAD`.
    pub(super) fn unfinished(&self, bucket: &str, key: &str) -> Vec<String> {
        // It names the directory so: the listing of its S3 interface is not to be relied on.
        let directory = sha256_of_bytes(format!("{bucket}/{key}").as_bytes());
        let uploads = self.process.home().join("data/.minio.sys/multipart").join(directory);
        subdirectories(&uploads).into_iter().map(|id| format!("{bucket}/{key}: {id}")).collect()
    }
}

fn write_credentials(home: &Path, credentials: &Credentials) {
    let Credentials { access_key_id, secret_access_key, .. } = credentials;
    let lines = format!("MINIO_ROOT_USER={access_key_id}\nMINIO_ROOT_PASSWORD={secret_access_key}\n");
    fs::write(home.join(CREDENTIALS_FILE), lines).expect("its home can be written");
}

/// The names of directories in a directory; none if it is not there.
fn subdirectories(path: &Path) -> Vec<String> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    };
    let entries = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
