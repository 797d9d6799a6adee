//! Real recordings made by the real ffmpeg, read by the real ffprobe, and by fake ones that
//! misbehave.

mod boxes;
mod documents;
mod misbehaviour;
mod recordings;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{DEFAULT_PROBE_TIMEOUT, Describer, Probe, ProbeReport};

/// A second of picture and sound.
const PICTURE: &str = "-f lavfi -i testsrc=s=160x120:d=1";
const SOUND: &str = "-f lavfi -i sine=d=1";

/// A program that does not exist.
const MISSING: &str = "reeltime-no-such-ffprobe";

/// Has ffmpeg make `name` in `dir`.
fn record(dir: &TempDir, name: impl AsRef<OsStr>, arguments: &str) -> PathBuf {
    let path = dir.path().join(Path::new(name.as_ref()));
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .output()
        .expect("these tests need ffmpeg: run scripts/test, which brings it");
    assert!(out.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    path
}

/// A short MP4 with picture and sound, made with these options.
fn mp4(dir: &TempDir, options: &str) -> PathBuf {
    record(dir, "plain.mp4", &format!("{PICTURE} {SOUND} -pix_fmt yuv420p {options}"))
}

fn open(path: &Path) -> Arc<File> {
    Arc::new(File::open(path).expect("the recording opens"))
}

fn with_ffprobe() -> Describer {
    let there = Command::new("ffprobe").arg("-version").output();
    assert!(there.is_ok(), "these tests need ffprobe: run scripts/test, which brings it");
    Describer::default()
}

fn without_ffprobe() -> Describer {
    Describer::new(MISSING.into(), DEFAULT_PROBE_TIMEOUT, 1)
}

async fn probe(describer: &Describer, path: &Path) -> Probe {
    describer.probe(open(path), path).await
}

#[track_caller]
fn known(probe: Probe) -> ProbeReport {
    match probe {
        Probe::Known(report) => report,
        Probe::Unknown(error) => panic!("the recording should have been understood: {error}"),
    }
}

#[track_caller]
fn unknown(probe: Probe) -> String {
    match probe {
        Probe::Known(report) => panic!("the recording should not have been understood: {report:?}"),
        Probe::Unknown(error) => error,
    }
}

fn text<'a>(stream: &'a Value, field: &str) -> &'a str {
    stream.get(field).and_then(Value::as_str).unwrap_or("-")
}

/// An executable shell script. A child process writes it: a file that this process had open for
/// writing could not be executed while another test's child still holds a copy of that.
fn script(dir: &TempDir, body: &str) -> PathBuf {
    let path = dir.path().join("ffprobe.sh");
    let written = Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 755 "$2""#, "-"])
        .arg(body)
        .arg(&path)
        .status()
        .expect("there is a shell");
    assert!(written.success());
    path
}

fn temp_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Waits until `done` says so; the test fails if that takes unreasonably long.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}
