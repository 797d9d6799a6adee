//! What is told of recordings as recorders leave them.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::metadata::Prober;

#[tokio::test]
async fn everything_that_ffprobe_says_is_kept_but_the_name_that_means_nothing() {
    let dir = temp_dir();
    let path = mp4(&dir, "-metadata title=Käse\"\u{1F3A5}");
    let report = known(probe(&with_ffprobe(), &path).await);
    assert_eq!(report.prober, Prober::Ffprobe);
    assert_eq!(report.format["tags"]["title"], "Käse\"\u{1F3A5}");
    assert_eq!(report.format["probe_score"], 100);
    assert!(!report.format.contains_key("filename"), "{:?}", report.format);
    assert_eq!(text(&report.streams[0], "pix_fmt"), "yuv420p");
    assert!((report.duration_seconds().unwrap() - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn matroska_is_read_by_ffprobe_and_honestly_unknown_without_it() {
    let dir = temp_dir();
    let path = record(&dir, "x.mkv", &format!("{PICTURE} {SOUND}"));
    let report = known(probe(&with_ffprobe(), &path).await);
    assert!(text(&Value::from(report.format.clone()), "format_name").contains("matroska"));
    assert!((report.duration_seconds().unwrap() - 1.0).abs() < 0.1);

    let error = unknown(probe(&without_ffprobe(), &path).await);
    assert!(error.contains("not installed") && error.contains(MISSING) && error.contains("not an MP4 file"), "{error}");
}

#[tokio::test]
async fn garbage_is_no_recording() {
    let dir = temp_dir();
    let path = dir.path().join("x.mp4");
    let long = [0; 5000];
    for garbage in [&b"this is not a recording, whatever its name says"[..], b"x", b"\0\0\0\x08abcd", &long] {
        std::fs::write(&path, garbage).unwrap();
        let error = unknown(probe(&with_ffprobe(), &path).await);
        assert!(error.starts_with("ffprobe: ") && !error.contains("/proc"), "{error}");
        let error = unknown(probe(&without_ffprobe(), &path).await);
        assert!(error.ends_with("its boxes: not an MP4 file"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_recording_is_not_probed() {
    let dir = temp_dir();
    let path = dir.path().join("x.mp4");
    std::fs::write(&path, "").unwrap();
    let never = Describer::new(script(&dir, "exit 1").into(), DEFAULT_PROBE_TIMEOUT, 1);
    assert_eq!(unknown(probe(&never, &path).await), "the recording is empty");
}

#[tokio::test]
async fn a_recording_cut_off_before_its_header_is_said_to_be_so() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let len = std::fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
    let error = unknown(probe(&with_ffprobe(), &path).await);
    assert_eq!(error, "ffprobe: moov atom not found; Invalid data found when processing input");
    let error = unknown(probe(&without_ffprobe(), &path).await);
    assert!(error.contains("box mdat") && error.contains("cut off"), "{error}");
}

#[tokio::test]
async fn a_recording_cut_off_behind_its_header_is_read_as_far_as_it_goes() {
    let dir = temp_dir();
    let path = mp4(&dir, "-movflags +faststart");
    let len = std::fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(len * 3 / 4).unwrap();
    for describer in [with_ffprobe(), without_ffprobe()] {
        let report = known(probe(&describer, &path).await);
        assert!((report.duration_seconds().unwrap() - 1.0).abs() < 0.1);
    }
}

#[tokio::test]
async fn a_deleted_or_replaced_recording_is_read_as_long_as_it_is_open() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let file = open(&path);
    std::fs::remove_file(&path).unwrap();
    known(with_ffprobe().probe(Arc::clone(&file), &path).await);
    std::fs::write(&path, "another file under the name").unwrap();
    known(with_ffprobe().probe(Arc::clone(&file), &path).await);
    known(without_ffprobe().probe(file, &path).await);
}

#[tokio::test]
async fn no_name_is_taken_for_an_option_or_a_protocol() {
    let dir = temp_dir();
    let original = mp4(&dir, "");
    for name in
        [&b"-version"[..], b"http:", b"concat:a|b", b"a\"b'c $(x)", b"new\nline", b"caf\xe9.mp4", b"%d.mp4", b"-"]
    {
        let path = dir.path().join(OsStr::from_bytes(name));
        std::fs::copy(&original, &path).unwrap();
        // The bare name, as it could be typed, and the whole path.
        for path in [Path::new(OsStr::from_bytes(name)), &path] {
            let file = open(&dir.path().join(path));
            let report = known(with_ffprobe().probe(file, path).await);
            assert_eq!(report.streams.len(), 2, "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_playlist_in_a_recordings_clothes_calls_nobody() {
    let dir = temp_dir();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let path = dir.path().join("x.mp4");
    std::fs::write(
        &path,
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://{address}/a.ts\n#EXT-X-ENDLIST\n"),
    )
    .unwrap();
    let impatient = Describer::new("ffprobe".into(), Duration::from_secs(5), 1);
    let told = probe(&impatient, &path).await;
    let called = listener.accept();
    assert!(called.is_err(), "ffprobe called {called:?}, and told {told:?}");
}
