//! moto's S3 server: AWS' semantics (minimum part size, idempotent completion), no installation.
//!
//! It keeps everything **in memory only**: after a kill or restart all buckets are gone. For an
//! outage that loses nothing, freeze it, or put a [`crate::proxy::Proxy`] before it.

use std::time::Duration;

use super::process::find_program;
use super::{Credentials, Launch, Port, Process, S3};

/// Python starts slowly, more so on a busy machine.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Where moto is unlike all other stores, read by Python before anything else: it says of every
/// upload that it was begun in 2010, and answers 500 to parts and completions of an upload that
/// does not exist. With this it says when that really was, and `NoSuchUpload`.
const CORRECTIONS: &str = r#"
import datetime
import moto.s3.models
import moto.s3.responses

begun = {}
init = moto.s3.models.FakeMultipart.__init__
answer = moto.s3.responses.ActionResult

def dated_init(self, *args, **kwargs):
    init(self, *args, **kwargs)
    begun[self.id] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

def dated_answer(result):
    uploads = result.get("Uploads") if isinstance(result, dict) else None
    for upload in uploads or []:
        upload["Initiated"] = begun[upload["UploadId"]]
    return answer(result)

def guarded(method):
    def call(self, bucket_name, multipart_id, *args, **kwargs):
        if multipart_id not in self.get_bucket(bucket_name).multiparts:
            raise moto.s3.models.NoSuchUpload(upload_id=multipart_id)
        return method(self, bucket_name, multipart_id, *args, **kwargs)
    return call

backend = moto.s3.models.S3Backend
backend.upload_part = guarded(backend.upload_part)
backend.complete_multipart_upload = guarded(backend.complete_multipart_upload)
moto.s3.models.FakeMultipart.__init__ = dated_init
moto.s3.responses.ActionResult = dated_answer
"#;

/// A running moto server. Two limits of its own: keys with a line break are not found (404),
/// and names of buckets need three characters.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    port: Port,
}

impl Moto {
    /// Starts a server and returns when it answers. The program is `$REELTIME_MOTO_SERVER`, or
    /// what `scripts/install-test-tools` installed, or the one in `PATH`.
    pub fn start() -> Self {
        let program = find_program("REELTIME_MOTO_SERVER", "moto/bin/moto_server", "moto_server");
        let launch = |port: &Port| {
            let launch = Launch::new(&program);
            let corrections = launch.home().to_path_buf();
            std::fs::write(corrections.join("sitecustomize.py"), CORRECTIONS).expect("its home can be written");
            launch
                .env("PYTHONPATH", corrections)
                .args(["-H", "127.0.0.1", "-p"])
                .arg(port.number().to_string())
                .env("PYTHONUNBUFFERED", "1")
        };
        let answers = |port: &Port| S3::new(&format!("http://{}", port.address()), Credentials::default()).answers();
        let (process, port) = Process::serve(launch, START_DEADLINE, answers);
        Self { process, port }
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// A client to look inside with.
    pub fn s3(&self) -> S3 {
        S3::new(&self.endpoint(), Credentials::default())
    }

    /// Creates a bucket and gives a client.
    pub fn with_bucket(&self, bucket: &str) -> S3 {
        let s3 = self.s3();
        s3.create_bucket(bucket);
        s3
    }

    /// The environment that makes a child process use this server.
    pub fn env(&self) -> Vec<(String, String)> {
        aws_env(&self.endpoint(), &Credentials::default())
    }

    /// The process: to freeze, thaw, kill. See the module on what a restart means.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again at the same address, **empty**, and returns when it answers.
    pub fn restart(&self) {
        self.process.restart();
        let s3 = self.s3();
        self.process.wait_until("moto to answer", START_DEADLINE, || s3.answers());
    }
}

/// The environment that makes AWS clients use a store at `endpoint`, and nothing of the
/// machine's or the user's own configuration.
pub fn aws_env(endpoint: &str, credentials: &Credentials) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", &credentials.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
        ("AWS_REGION", &credentials.region),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
