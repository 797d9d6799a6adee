//! A real ffmpeg that records in real time.
//!
//! The picture is noise, so that the encoder cannot make it small: a recording of the standard
//! size grows by some 7 MB every second and reaches several parts within a few.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::servers::process::find_program;
use crate::servers::{Exited, Launch, Process};

/// How the file is written; see the table of writers in the project's notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// MP4: at the end the `mdat` size near the head is rewritten and `moov` appended.
    Mp4,
    /// MP4 with `+faststart`: at the end everything behind the header is shifted.
    Mp4Faststart,
    /// MP4 with this much space at the head, into which `moov` is written at the end.
    Mp4MoovAtHead {
        /// Bytes reserved.
        reserved_bytes: u64,
    },
    /// Fragmented MP4: append-only.
    Mp4Fragmented,
    /// Matroska: head and duration are rewritten at the end.
    Matroska,
}

impl Container {
    fn args(&self) -> Vec<String> {
        let fragmented = "frag_keyframe+empty_moov+default_base_moof";
        let reserved;
        let args: &[&str] = match self {
            Self::Mp4 => &["-f", "mp4"],
            Self::Mp4Faststart => &["-f", "mp4", "-movflags", "+faststart"],
            Self::Mp4MoovAtHead { reserved_bytes } => {
                reserved = reserved_bytes.to_string();
                &["-f", "mp4", "-moov_size", &reserved]
            }
            Self::Mp4Fragmented => &["-f", "mp4", "-movflags", fragmented],
            Self::Matroska => &["-f", "matroska"],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }
}

/// A recording to be made.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    path: PathBuf,
    container: Container,
    size: (u32, u32),
    duration: Option<Duration>,
    audio: bool,
    extra: Vec<String>,
}

impl Ffmpeg {
    /// Records MP4 into `path`, picture only, until it is stopped.
    pub fn into(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            container: Container::Mp4,
            size: (640, 360),
            duration: None,
            audio: false,
            extra: Vec::new(),
        }
    }

    /// Writes this kind of file.
    #[must_use]
    pub fn container(mut self, container: Container) -> Self {
        self.container = container;
        self
    }

    /// The picture's size. The rate goes with its area: 320 × 180 makes some 2 MB/s, 640 × 360
    /// some 7 MB/s.
    #[must_use]
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }

    /// Ends by itself after this time.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Records a tone too.
    #[must_use]
    pub fn audio(mut self) -> Self {
        self.audio = true;
        self
    }

    /// Further options for the output.
    #[must_use]
    pub fn options(mut self, options: &[&str]) -> Self {
        self.extra.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Starts recording; returns when the file is there.
    pub fn start(self) -> FfmpegRecording {
        let picture = format!("testsrc2=size={}x{}:rate=25,noise=alls=60:allf=t", self.size.0, self.size.1);
        let mut launch = Launch::new(program())
            .with_stdin()
            .args(["-hide_banner", "-nostats", "-loglevel", "warning", "-y", "-re", "-f", "lavfi", "-i"])
            .arg(picture);
        if self.audio {
            launch = launch.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:a", "aac"]);
        }
        launch = launch.args(["-c:v", "mpeg4", "-q:v", "2", "-g", "25"]);
        if let Some(duration) = self.duration {
            launch = launch.arg("-t").arg(duration.as_secs_f64().to_string());
        }
        // A leading ./ keeps names like `a:b` from being taken for a protocol.
        let output = std::path::absolute(&self.path).expect("the path is not empty");
        let launch = launch.args(self.container.args()).args(&self.extra).arg(&output);
        let process = Process::start(launch);
        process.wait_until("the recording to begin", Duration::from_mins(1), || output.exists());
        FfmpegRecording { process, path: output }
    }
}

/// The ffmpeg in `PATH`.
pub(crate) fn program() -> PathBuf {
    find_program("REELTIME_FFMPEG", "bin/ffmpeg", "ffmpeg")
}

/// A recording under way. Dropping it kills ffmpeg, which leaves the file unfinished.
#[derive(Debug)]
pub struct FfmpegRecording {
    process: Process,
    path: PathBuf,
}

impl FfmpegRecording {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file now; 0 if it is not there.
    pub fn size_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |data| data.len())
    }

    /// Waits until the file has this size.
    pub fn wait_size(&self, bytes: u64, within: Duration) {
        self.process.wait_until(&format!("{bytes} bytes"), within, || self.size_bytes() >= bytes);
    }

    /// Ends the recording as a person does, with `q`, and waits until the file is finished.
    pub fn stop(&self) -> Exited {
        self.process.write_stdin(b"q");
        self.wait()
    }

    /// Waits until the recording ends by itself, and panics if it does not end well.
    pub fn wait(&self) -> Exited {
        let exited = self.process.wait_exit(Duration::from_mins(2));
        if !exited.status.success() {
            self.process.fail(&format!("has not recorded {}: {}", self.path.display(), exited.status));
        }
        exited
    }

    /// Stops the recorder from running, with its file open, as a hung machine does.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it run on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// The recorder crashes: the file stays as it is.
    pub fn kill(&self) -> Exited {
        self.process.kill()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
