//! The settings as they are given: on the command line, in variables, in a file.
//!
//! One struct for all three. clap fills it from flags and variables, flags first; the file
//! fills what is still empty. What is empty after that gets its default when the settings
//! become a [`super::Config`].

// The documentation of a flag is its help text, where markup is only noise.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use serde::{Deserialize, Deserializer};

use super::after_upload::AfterUpload;
use super::choices::{LogFormat, OnDeleteChoice, PartPlanChoice, S3Checksums};
use super::listen::Listen;
use super::rate::Rate;
use super::size::ByteSize;
use super::span::Span;
use super::tail_flush::TailFlush;
use crate::watch::WatchMode;

/// Settings, each given or not.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Directories to watch, with everything below them
    ///
    /// A recording's path below its DIR becomes its object key. Directories must not lie inside one
    /// another. REELTIME_DIRS takes several, separated by ':'; the key in the file is dirs.
    #[arg(value_name = "DIR", env = "REELTIME_DIRS", hide_env = true,
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub dirs: Option<Vec<PathBuf>>,

    /// Files that are recordings [default: **/*.mp4]
    ///
    /// Repeatable; given once, it replaces the default. It is compared with the path below DIR,
    /// less the temporary suffix. Too wide a pattern uploads files that are no recordings; one that
    /// does not match leaves recordings on this machine alone.
    #[arg(long, value_name = "GLOB", env = "REELTIME_INCLUDE", hide_env = true, help_heading = RECORDINGS)]
    pub include: Option<Vec<String>>,

    /// Files to leave out, even if they are included [default: none]
    ///
    /// Repeatable. What is left out stays on this machine alone.
    #[arg(long, value_name = "GLOB", env = "REELTIME_EXCLUDE", hide_env = true, help_heading = RECORDINGS)]
    pub exclude: Option<Vec<String>>,

    /// Endings of names of unfinished files [default: .part .tmp]
    ///
    /// Repeatable; given once, it replaces the defaults, and '' clears them. foo.mp4.part is
    /// uploaded under the key foo.mp4 while it grows, and the rename says that it has ended. A
    /// suffix that is missing here makes such files invisible until they are renamed.
    #[arg(long, value_name = "SUFFIX", env = "REELTIME_TEMP_SUFFIX", hide_env = true, help_heading = RECORDINGS)]
    pub temp_suffix: Option<Vec<String>>,

    /// Where recordings go: s3://BUCKET[/PREFIX], file:///DIR or a path
    ///
    /// A directory gets the same files under the same names as a bucket would.
    #[arg(long, value_name = "URL", env = "REELTIME_TO", hide_env = true, help_heading = DESTINATION)]
    #[serde(deserialize_with = "os_text")]
    pub to: Option<OsString>,

    /// Address of an S3-compatible store [default: AWS]
    ///
    /// http:// or https://. AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL work too. Credentials come
    /// from AWS's standard chain: variables, profiles, web identity, instance role.
    #[arg(long, value_name = "URL", env = "REELTIME_S3_ENDPOINT", hide_env = true, help_heading = DESTINATION)]
    pub s3_endpoint: Option<String>,

    /// Region of the bucket [default: AWS's standard chain]
    ///
    /// Most S3-compatible stores accept any. A wrong one is refused by AWS.
    #[arg(long, value_name = "NAME", env = "REELTIME_S3_REGION", hide_env = true, help_heading = DESTINATION)]
    pub s3_region: Option<String>,

    /// Checksums on parts and objects: auto or off [default: auto]
    ///
    /// auto sends CRC64NVME and, where a store refuses it, Content-MD5 from then on. off begins with
    /// Content-MD5, for which every part is read once more.
    #[arg(long, value_name = "MODE", env = "REELTIME_S3_CHECKSUMS", hide_env = true, help_heading = DESTINATION)]
    pub s3_checksums: Option<S3Checksums>,

    /// Then keep, delete or move=DIR the local file [default: keep]
    ///
    /// Only ever after the object was verified, completed and announced. With keep, the disk fills
    /// unless something else cleans it. DIR must be outside of the watched directories.
    #[arg(long, value_name = "ACTION", env = "REELTIME_AFTER_UPLOAD", hide_env = true, help_heading = DESTINATION,
          value_parser = OsStringValueParser::new().try_map(|text| AfterUpload::parse(&text)))]
    pub after_upload: Option<AfterUpload>,

    /// If a file is deleted while it is uploaded: finish or abort [default: finish]
    ///
    /// finish uploads it to its end, from the file that reeltime holds open; its disk space is free
    /// only then. abort drops what was uploaded, and the recording is lost, as whoever deleted it
    /// may have meant; a file that is moved to another file system is deleted, too. An object that
    /// is complete stays in any case.
    #[arg(long, value_name = "ACTION", env = "REELTIME_ON_DELETE", hide_env = true, help_heading = DESTINATION)]
    pub on_delete: Option<OnDeleteChoice>,

    /// Size of the first part [default: 8MiB]
    ///
    /// At least 5MiB on S3. Parts grow with the recording, so that it never meets the store's limit
    /// of 10,000 parts. Larger: fewer requests, but more of a recording waits for its part to fill,
    /// and more is sent again when a recorder rewrites the head of its file.
    #[arg(long, value_name = "SIZE", env = "REELTIME_PART_SIZE", hide_env = true, help_heading = TRANSFER)]
    pub part_size: Option<ByteSize>,

    /// How part sizes develop: growing or uniform [default: growing]
    ///
    /// uniform makes all parts but the last equal, as Cloudflare R2 wants it. A recording that
    /// outgrows 10,000 of them (78 GiB at 8MiB) is started again with larger parts.
    #[arg(long, value_name = "PLAN", env = "REELTIME_PART_PLAN", hide_env = true, help_heading = TRANSFER)]
    pub part_plan: Option<PartPlanChoice>,

    /// Parts in flight, over all streams [default: 8]
    ///
    /// More fills a link with a long round trip, and uses more connections and some memory each.
    /// Fewer leaves more of a thin link to others.
    #[arg(long, value_name = "N", env = "REELTIME_MAX_UPLOADS", hide_env = true, help_heading = TRANSFER)]
    pub max_uploads: Option<u32>,

    /// Limit of all sending, such as 100Mbit/s [default: none]
    ///
    /// Recordings go before a backlog (files that nobody has written to for a minute), the oldest
    /// bytes first; a quarter goes in turns, so that nothing waits for ever. Below what the
    /// recorders write together, uploads fall behind and the disk is the buffer; they catch up
    /// when recorders pause.
    #[arg(long, value_name = "RATE", env = "REELTIME_BANDWIDTH", hide_env = true, help_heading = TRANSFER)]
    pub bandwidth: Option<Rate>,

    /// Finalize this long after the file was closed [default: 2s]
    ///
    /// For recorders that close and open again. Longer delays every object by as much; shorter
    /// completes such a file early, and uploads it again when it goes on.
    #[arg(long, value_name = "TIME", env = "REELTIME_CLOSE_GRACE", hide_env = true, help_heading = TIMING)]
    pub close_grace: Option<Span>,

    /// Finalize after this long without change [default: 30s]
    ///
    /// And without a writer; it decides alone where writers cannot be seen, as on NFS. Shorter than
    /// a recorder's pauses, it completes a recording early, and uploads it again when it goes on.
    #[arg(long, value_name = "TIME", env = "REELTIME_IDLE_TIMEOUT", hide_env = true, help_heading = TIMING)]
    pub idle_timeout: Option<Span>,

    /// At most this much is lost with a machine, or off [default: 30s]
    ///
    /// The bytes behind the last full part are sent this often. Shorter: more requests and more
    /// bytes sent again. off: they are sent at the end of the recording only.
    #[arg(long, value_name = "TIME", env = "REELTIME_TAIL_FLUSH", hide_env = true, help_heading = TIMING)]
    pub tail_flush: Option<TailFlush>,

    /// How changes are noticed: auto, native or poll [default: auto]
    ///
    /// auto uses the system's notifications and polls where they do not work (NFS, SMB, some FUSE
    /// mounts). poll is for mounts that deliver none without saying so.
    #[arg(long, value_name = "MODE", env = "REELTIME_WATCH", hide_env = true, help_heading = TIMING)]
    pub watch: Option<WatchMode>,

    /// Time between scans [default: 10s; without notifications 1s]
    ///
    /// A scan looks through all directories and finds what notifications have missed. Shorter costs
    /// a stat of every file; longer delays what was missed, and with poll everything.
    #[arg(long, value_name = "TIME", env = "REELTIME_SCAN_INTERVAL", hide_env = true, help_heading = TIMING)]
    pub scan_interval: Option<Span>,

    /// Upload what is there, wait until it is completed, and exit
    ///
    /// Exit code 0 when everything is completed, 1 otherwise. For cron jobs and for cleaning up
    /// after a recorder.
    #[arg(long, value_name = "true|false", env = "REELTIME_ONCE", hide_env = true, help_heading = TIMING,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub once: Option<bool>,

    /// Where the state is kept [default: state.db in the user's state directory]
    ///
    /// sqlite:///FILE or a path; or, for several nodes, redis://[USER:PASSWORD@]HOST[:PORT],
    /// redis+sentinel://SENTINEL,.../MASTER or redis+cluster://HOST,..., encrypted with rediss,
    /// with ?prefix=NAME: and &ca=FILE behind. A URL with a password belongs into the variable:
    /// flags can be seen by all users of the machine. It remembers what was sent and completed:
    /// without it every recording that is still there is uploaded once more.
    #[arg(long, value_name = "URL", env = "REELTIME_STATE", hide_env = true, help_heading = NODE)]
    #[serde(deserialize_with = "os_text")]
    pub state: Option<OsString>,

    /// Name of this node in state, documents and API [default: the host name]
    ///
    /// It must not change between runs, and no two nodes that share a state may have the same: a
    /// node takes up again the streams that bear its name.
    #[arg(long, value_name = "NAME", env = "REELTIME_NODE", hide_env = true, help_heading = NODE)]
    pub node: Option<String>,

    /// Where HTTP is served, or off [default: 127.0.0.1:8420]
    ///
    /// Dashboard, API, metrics and health. Whoever can reach it can see names and progress of all
    /// recordings; there is no password. 0.0.0.0:8420 makes it reachable from everywhere.
    #[arg(long, value_name = "ADDR", env = "REELTIME_LISTEN", hide_env = true, help_heading = NODE)]
    pub listen: Option<Listen>,

    /// How log lines are written on stderr: text or json [default: text]
    ///
    /// REELTIME_LOG sets how much: error, warn, info (the default), debug or trace.
    #[arg(long, value_name = "FORMAT", env = "REELTIME_LOG_FORMAT", hide_env = true, help_heading = NODE)]
    pub log_format: Option<LogFormat>,

    /// The ffprobe program [default: ffprobe, found in PATH]
    ///
    /// It describes recordings in their metadata documents. Without it they are uploaded all the
    /// same, and described by what reeltime reads itself.
    #[arg(long, value_name = "PATH", env = "REELTIME_FFPROBE", hide_env = true, help_heading = NODE)]
    pub ffprobe: Option<PathBuf>,
}

const RECORDINGS: &str = "Recordings";
const DESTINATION: &str = "Destination";
const TRANSFER: &str = "Transfer";
const TIMING: &str = "Timing";
const NODE: &str = "This node";

/// What separates several values in one variable, as in `PATH`.
const LIST_SEPARATOR: u8 = b':';

macro_rules! first_given {
    ($over:ident, $under:ident, $($field:ident),+ $(,)?) => {
        // A struct literal: a field that is missing here does not compile.
        Settings { $($field: $over.$field.or($under.$field)),+ }
    };
}

impl Settings {
    /// These settings, and where they have none, those of `under`.
    #[must_use]
    pub fn or(self, under: Self) -> Self {
        first_given!(
            self,
            under,
            dirs,
            include,
            exclude,
            temp_suffix,
            to,
            s3_endpoint,
            s3_region,
            s3_checksums,
            after_upload,
            on_delete,
            part_size,
            part_plan,
            max_uploads,
            bandwidth,
            close_grace,
            idle_timeout,
            tail_flush,
            watch,
            scan_interval,
            once,
            state,
            node,
            listen,
            log_format,
            ffprobe,
        )
    }

    /// Takes apart the lists that came from variables: clap gives each as one value.
    pub fn split_variables(&mut self, matches: &ArgMatches) {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};

        let from_variable = |id: &str| matches.value_source(id) == Some(ValueSource::EnvVariable);
        if let (true, Some(dirs)) = (from_variable("dirs"), &mut self.dirs) {
            let pieces = dirs.iter().flat_map(|dirs| dirs.as_os_str().as_bytes().split(|byte| *byte == LIST_SEPARATOR));
            *dirs = pieces
                .filter(|dir| !dir.is_empty())
                .map(|dir| PathBuf::from(OsString::from_vec(dir.to_vec())))
                .collect();
        }
        let texts =
            [("include", &mut self.include), ("exclude", &mut self.exclude), ("temp_suffix", &mut self.temp_suffix)];
        for (id, list) in texts {
            if let (true, Some(list)) = (from_variable(id), list) {
                let pieces = list.iter().flat_map(|text| text.split(char::from(LIST_SEPARATOR)));
                *list = pieces.map(str::to_owned).collect();
            }
        }
    }

    /// The keys of the file, in the order of the help text.
    pub fn keys() -> Vec<String> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("keys"));
        command.get_arguments().map(|arg| arg.get_id().as_str().replace('_', "-")).collect()
    }
}

/// Text in a file as an argument would give it.
fn os_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OsString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(text.into()))
}
