//! Small finished recordings of many kinds, made by ffmpeg once and kept below `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::recorders::ffmpeg::program;

/// Part of the directory's name: raised when what the samples are made of changes.
const EDITION: u32 = 2;

/// A kind of sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sample {
    /// MP4, H.264 and AAC, 320 × 240, 2 s.
    H264Aac,
    /// MP4, H.264 alone, 1 s.
    H264NoAudio,
    /// MP4, H.265 and AAC, 640 × 360, 1 s.
    HevcAac,
    /// MP4, MPEG-4 part 2, 720 × 576, 30000/1001 frames per second, 3 s.
    Mpeg4,
    /// MP4, AV1, 160 × 120, half a second.
    Av1,
    /// MP4 with sound only.
    AudioOnly,
    /// MP4, H.264, with title, comment (both not ASCII) and a creation time.
    Tagged,
    /// MP4, H.264, with `moov` before the content.
    Faststart,
    /// MP4, H.264, fragmented.
    Fragmented,
    /// MP4, H.264, turned by a quarter.
    Rotated,
    /// MP4, H.264, two sound tracks of different language.
    TwoAudioTracks,
    /// Matroska, VP9 and Opus, 1 s.
    MatroskaVp9Opus,
    /// [`Sample::H264Aac`] without its last third: there is no `moov`.
    DamagedCutOff,
    /// [`Sample::Faststart`] with nonsense in its `moov`: ffprobe finds no stream and says so
    /// without an error.
    DamagedMoov,
    /// [`Sample::Faststart`] without its `moov`: whole otherwise.
    DamagedNoMoov,
    /// MP4, H.264, 160 × 120, 2 frames per second, 90 s.
    Long,
    /// Bytes that are no recording at all, under the name of one.
    NotARecording,
    /// A file of no bytes.
    Empty,
}

impl Sample {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::H264Aac,
        Self::H264NoAudio,
        Self::HevcAac,
        Self::Mpeg4,
        Self::Av1,
        Self::AudioOnly,
        Self::Tagged,
        Self::Faststart,
        Self::Fragmented,
        Self::Rotated,
        Self::TwoAudioTracks,
        Self::MatroskaVp9Opus,
        Self::DamagedCutOff,
        Self::DamagedMoov,
        Self::DamagedNoMoov,
        Self::Long,
        Self::NotARecording,
        Self::Empty,
    ];

    /// The sample's file, made now if it is not there yet. Not to be changed: copy it.
    pub fn path(self) -> PathBuf {
        let directory = crate::workspace_root().join(format!("target/test-samples/{EDITION}"));
        std::fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
        let extension = if self == Self::MatroskaVp9Opus { "mkv" } else { "mp4" };
        let path = directory.join(format!("{self:?}.{extension}").to_lowercase());
        if !path.exists() {
            // Made beside and renamed: several tests may want it at once.
            let temp = tempfile::Builder::new().suffix(&format!(".{extension}")).tempfile_in(&directory);
            let temp = temp.expect("a file can be created").into_temp_path();
            self.make(&temp);
            temp.persist(&path).unwrap_or_else(|error| panic!("cannot store {}: {error}", path.display()));
        }
        path
    }

    /// Copies the sample to `destination`.
    pub fn copy_to(self, destination: impl AsRef<Path>) {
        let destination = destination.as_ref();
        std::fs::copy(self.path(), destination)
            .unwrap_or_else(|error| panic!("cannot copy a sample to {}: {error}", destination.display()));
    }

    fn make(self, path: &Path) {
        const H264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];
        const AAC: &[&str] = &["-c:a", "aac"];
        let picture =
            |size: &str, rate: &str, seconds: &str| format!("testsrc2=size={size}:rate={rate}:duration={seconds}");
        let tone = |seconds: &str| format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
        let h264 = |options: &[&str]| encode(path, &[&picture("320x240", "25", "1")], &[H264, options].concat());
        match self {
            Self::H264Aac => encode(path, &[&picture("320x240", "25", "2"), &tone("2")], &[H264, AAC].concat()),
            Self::H264NoAudio => h264(&[]),
            Self::HevcAac => encode(
                path,
                &[&picture("640x360", "30", "1"), &tone("1")],
                &[
                    &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-tag:v", "hvc1"],
                    AAC,
                ]
                .concat(),
            ),
            Self::Mpeg4 => encode(path, &[&picture("720x576", "30000/1001", "3")], &["-c:v", "mpeg4"]),
            Self::Av1 => encode(
                path,
                &[&picture("160x120", "10", "0.5")],
                &["-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "40"],
            ),
            Self::AudioOnly => encode(path, &[&tone("1")], AAC),
            Self::Tagged => h264(&[
                "-metadata",
                "title=Große Prüfung – 試験",
                "-metadata",
                "comment=with \"quotes\" & <angles>",
                "-metadata",
                "creation_time=2026-01-31T12:34:56.000000Z",
            ]),
            Self::Faststart => h264(&["-movflags", "+faststart"]),
            Self::Fragmented => h264(&["-g", "5", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]),
            Self::Rotated => {
                let straight = Self::H264NoAudio.path();
                let straight = straight.to_str().expect("the workspace's path is UTF-8");
                run(&["-i", straight, "-c", "copy", "-metadata:s:v:0", "rotate=90"], path);
            }
            Self::TwoAudioTracks => encode(
                path,
                &[&picture("320x240", "25", "1"), &tone("1"), "anullsrc=duration=1"],
                &[
                    H264,
                    AAC,
                    &["-map", "0", "-map", "1", "-map", "2", "-t", "1"],
                    &["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"],
                ]
                .concat(),
            ),
            Self::MatroskaVp9Opus => encode(
                path,
                &[&picture("320x240", "25", "1"), &tone("1")],
                &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"],
            ),
            Self::DamagedCutOff => {
                let bytes = std::fs::read(Self::H264Aac.path()).expect("the sample can be read");
                std::fs::write(path, &bytes[..bytes.len() * 2 / 3]).expect("the sample can be written");
            }
            Self::DamagedMoov => {
                let mut bytes = std::fs::read(Self::Faststart.path()).expect("the sample can be read");
                let moov = bytes.windows(4).position(|name| name == b"moov").expect("there is a moov");
                crate::recorders::synthetic::fill(7, 0, &mut bytes[moov + 4..moov + 400]);
                std::fs::write(path, bytes).expect("the sample can be written");
            }
            Self::DamagedNoMoov => {
                let mut bytes = std::fs::read(Self::Faststart.path()).expect("the sample can be read");
                let moov = bytes.windows(4).position(|name| name == b"moov").expect("there is a moov");
                let begins = moov - 4; // with its size
                let size: [u8; 4] = bytes[begins..moov].try_into().expect("these are four");
                bytes.drain(begins..begins + u32::from_be_bytes(size) as usize);
                std::fs::write(path, bytes).expect("the sample can be written");
            }
            Self::Long => encode(path, &[&picture("160x120", "2", "90")], H264),
            Self::NotARecording => std::fs::write(path, "not a recording\n".repeat(1000)).expect("it can be written"),
            Self::Empty => std::fs::write(path, "").expect("it can be written"),
        }
    }
}

fn encode(path: &Path, inputs: &[&str], options: &[&str]) {
    let mut args = Vec::new();
    for input in inputs {
        args.extend(["-f", "lavfi", "-i", input]);
    }
    args.extend(options);
    run(&args, path);
}

fn run(args: &[&str], path: &Path) {
    let output = Command::new(program())
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(args)
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("cannot run ffmpeg: {error}"));
    assert!(output.status.success(), "ffmpeg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
