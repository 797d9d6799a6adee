//! The recorders do what their names promise.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::digest::{sha256_of, sha256_of_bytes};
use testkit::recorders::{Container, Ffmpeg, Style, Synthetic, synthetic};
use testkit::samples::Sample;

const DEADLINE: Duration = Duration::from_mins(1);
const TOTAL: u64 = 1_000_003;

fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    synthetic::fill(seed, 0, &mut bytes);
    bytes
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn bytes_do_not_depend_on_the_pieces_they_are_asked_for_in() {
    let whole = content(5, 10_000);
    let mut pieces = vec![0; 10_000];
    for (start, end) in [(0, 3), (3, 4_097), (4_097, 4_104), (4_104, 10_000)] {
        synthetic::fill(5, start as u64, &mut pieces[start..end]);
    }
    assert_eq!(whole, pieces);
    assert_ne!(whole, content(6, 10_000));
}

#[test]
fn every_style_gives_the_same_file_for_the_same_seed_and_reports_its_digest() {
    let styles = [
        Style::Append,
        Style::ShortOpens,
        Style::Preallocate { allocate: true, slack_bytes: 5000 },
        Style::Preallocate { allocate: false, slack_bytes: 0 },
        Style::TempThenRename { suffix: ".part".into() },
        Style::TruncateAndAgain { rounds: 2 },
        Style::RewriteHead { head_bytes: 4096, every_bytes: 200_000 },
        Style::ShiftAtEnd { inserted_bytes: 3333 },
    ];
    for style in styles {
        let dir = dir();
        let record = |name: &str, seed| {
            let path = dir.path().join(name);
            let finished = Synthetic::into(&path, style.clone(), TOTAL).seed(seed).start().wait();
            assert_eq!(finished.sha256, sha256_of(&path), "{style:?}");
            assert_eq!(finished.size_bytes, fs::metadata(&path).unwrap().len(), "{style:?}");
            finished.sha256
        };
        let first = record("a", 1);
        assert_eq!(first, record("b", 1), "{style:?}");
        assert_ne!(first, record("c", 2), "{style:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "{style:?} leaves nothing else behind");
    }
}

#[test]
fn plain_styles_give_the_plain_content() {
    let dir = dir();
    let expected = sha256_of_bytes(&content(9, TOTAL as usize));
    for style in [
        Style::Append,
        Style::ShortOpens,
        Style::Preallocate { allocate: true, slack_bytes: 1 },
        Style::TempThenRename { suffix: ".tmp".into() },
    ] {
        let finished = Synthetic::into(dir.path().join("r"), style.clone(), TOTAL).seed(9).start().wait();
        assert_eq!(finished.sha256, expected, "{style:?}");
    }
}

#[test]
fn a_preallocated_file_has_its_size_before_its_content() {
    let dir = dir();
    for allocate in [true, false] {
        let path = dir.path().join(format!("{allocate}"));
        let style = Style::Preallocate { allocate, slack_bytes: 7 };
        let recording = Synthetic::into(&path, style, 8 << 20).hold_at(1 << 20).start();
        recording.wait_held(DEADLINE);
        let data = fs::metadata(&path).unwrap();
        assert_eq!(data.len(), (8 << 20) + 7);
        assert_eq!(data.blocks() * 512 >= 8 << 20, allocate, "{} blocks", data.blocks());
        recording.go_on();
        assert_eq!(recording.wait().size_bytes, 8 << 20);
    }
}

#[test]
fn a_renaming_recorder_writes_under_the_temporary_name() {
    let dir = dir();
    let path = dir.path().join("x.mp4");
    let style = Style::TempThenRename { suffix: ".part".into() };
    let recording = Synthetic::into(&path, style, TOTAL).hold_at(500_000).start();
    recording.wait_held(DEADLINE);
    assert!(!path.exists());
    assert_eq!(fs::metadata(dir.path().join("x.mp4.part")).unwrap().len(), 500_000);
    recording.go_on();
    recording.wait();
    assert!(path.exists() && !dir.path().join("x.mp4.part").exists());
}

#[test]
fn a_second_round_begins_with_a_truncation_of_the_same_file() {
    let dir = dir();
    let path = dir.path().join("x.mp4");
    let recording = Synthetic::into(&path, Style::TruncateAndAgain { rounds: 2 }, TOTAL).hold_at(TOTAL).start();
    recording.wait_held(DEADLINE);
    let first = (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap());
    recording.go_on_until(TOTAL + 1000);
    recording.wait_held(DEADLINE);
    let second = (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap());
    assert_eq!(second.0, first.0, "the inode stays");
    assert_eq!(second.1.len(), 1000);
    assert_ne!(second.1, first.1[..1000]);
    recording.go_on();
    assert_eq!(recording.wait().size_bytes, TOTAL);
}

#[test]
fn the_head_is_rewritten_while_recording_and_at_the_end() {
    let dir = dir();
    let path = dir.path().join("x.mp4");
    let style = Style::RewriteHead { head_bytes: 100, every_bytes: 100_000 };
    let recording = Synthetic::into(&path, style, TOTAL).hold_at(150_000).start();
    recording.wait_held(DEADLINE);
    let early = fs::read(&path).unwrap();
    recording.go_on_until(TOTAL);
    recording.wait_held(DEADLINE);
    let late = fs::read(&path).unwrap();
    recording.go_on();
    recording.wait();
    let finished = fs::read(&path).unwrap();
    assert_ne!(early[..100], late[..100]);
    assert_ne!(late[..100], finished[..100]);
    let plain = content(1, TOTAL as usize);
    assert_eq!(finished[100..], plain[100..], "and nothing else");
}

#[test]
fn a_shift_moves_everything_behind_the_inserted_bytes() {
    let dir = dir();
    let path = dir.path().join("x.mp4");
    Synthetic::into(&path, Style::ShiftAtEnd { inserted_bytes: 12_345 }, TOTAL).start().wait();
    assert_eq!(fs::read(&path).unwrap()[12_345..], content(1, TOTAL as usize));
}

#[test]
fn a_rate_is_kept() {
    let dir = dir();
    let began = Instant::now();
    Synthetic::into(dir.path().join("r"), Style::Append, 500_000).rate(1_000_000).block(10_000).start().wait();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(490), "{took:?}");
}

fn ffprobe_reads(path: &Path) -> bool {
    let show = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv"];
    let probe = Command::new("ffprobe").args(show).arg(path).output().unwrap();
    probe.status.success() && !probe.stdout.is_empty()
}

/// The names of the boxes at the top of an MP4 file, in order.
fn boxes(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        at += match size {
            0 => break,
            1 if at + 16 <= bytes.len() => u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize,
            size => size,
        };
    }
    names
}

/// Records 2 seconds, looks at the file in the middle, and gives its head then and the finished
/// file.
fn record(container: Container, audio: bool) -> (Vec<u8>, Vec<u8>) {
    let dir = dir();
    let ffmpeg = Ffmpeg::into(dir.path().join("r.mp4")).container(container);
    let ffmpeg = ffmpeg.duration(Duration::from_secs(2));
    let recording = if audio { ffmpeg.audio() } else { ffmpeg }.start();
    let began = Instant::now();
    recording.wait_size(3 << 20, DEADLINE);
    let early = fs::read(recording.path()).unwrap();
    let exited = recording.wait();
    assert!(exited.at.duration_since(began) > Duration::from_secs(1), "it records in real time");
    assert!(ffprobe_reads(recording.path()));
    (early, fs::read(recording.path()).unwrap())
}

#[test]
fn ffmpeg_rewrites_the_head_of_plain_mp4() {
    let (early, finished) = record(Container::Mp4, true);
    assert!(finished.len() > 8 << 20, "{} bytes in two seconds", finished.len());
    assert_ne!(early[..64], finished[..64]);
    assert_eq!(early[64..], finished[64..early.len()]);
    assert_eq!(boxes(&finished).last().unwrap(), "moov");
}

#[test]
fn ffmpeg_shifts_faststart_mp4() {
    let (early, finished) = record(Container::Mp4Faststart, false);
    let names = boxes(&finished);
    let place = |name| names.iter().position(|found| found == name).unwrap();
    assert!(place("moov") < place("mdat"), "{names:?}");
    assert_ne!(early[1 << 20..2 << 20], finished[1 << 20..2 << 20]);
}

#[test]
fn ffmpeg_writes_moov_into_the_space_reserved_for_it() {
    let (early, finished) = record(Container::Mp4MoovAtHead { reserved_bytes: 100_000 }, false);
    let names = boxes(&finished);
    let place = |name| names.iter().position(|found| found == name).unwrap();
    assert!(place("moov") < place("mdat"), "{names:?}");
    assert_ne!(early[..100_000], finished[..100_000]);
    assert_eq!(early[200_000..], finished[200_000..early.len()]);
}

#[test]
fn ffmpeg_appends_fragmented_mp4() {
    let (early, finished) = record(Container::Mp4Fragmented, false);
    assert_eq!(early[..], finished[..early.len()]);
}

#[test]
fn ffmpeg_rewrites_the_head_of_matroska() {
    let (early, finished) = record(Container::Matroska, false);
    assert_ne!(early[..4096], finished[..4096]);
}

#[test]
fn a_frozen_ffmpeg_keeps_its_file_open_and_still_and_finishes_it_when_asked() {
    let dir = dir();
    let recording = Ffmpeg::into(dir.path().join("r.mp4")).size(320, 180).start();
    recording.wait_size(200_000, DEADLINE);
    recording.freeze();
    let frozen = recording.size_bytes();
    let open = format!("/proc/{}/fd", recording.process().pid());
    let open = fs::read_dir(open).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(open.into_iter().any(|file| file == recording.path()));
    assert_eq!(recording.size_bytes(), frozen);
    recording.thaw();
    recording.wait_size(frozen + 100_000, DEADLINE);
    recording.stop();
    assert!(ffprobe_reads(recording.path()));
}

#[test]
fn samples_are_readable_other_than_the_damaged_ones() {
    for sample in Sample::ALL {
        let path = sample.path();
        let damaged = matches!(
            sample,
            Sample::DamagedCutOff | Sample::DamagedMoov | Sample::DamagedNoMoov | Sample::NotARecording | Sample::Empty
        );
        assert_eq!(ffprobe_reads(&path), !damaged, "{sample:?}: {}", path.display());
        assert!(fs::metadata(&path).unwrap().len() < 2_000_000, "{sample:?} is small");
    }
}
