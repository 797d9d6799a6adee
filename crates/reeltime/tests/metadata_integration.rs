//! Recordings of many kinds, the real ffprobe, a real store and a real Redis: the document beside
//! each object is as its published schema says, says what the recording is, and agrees with the
//! file, the store and the checkpoint.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boon::{Compiler, Schemas};
use reeltime::metadata::Describer;
use serde_json::Value;
use testkit::daemon::{Daemon, Running};
use testkit::digest::sha256_of;
use testkit::recorders::ffmpeg::Ffmpeg;
use testkit::samples::Sample;
use testkit::servers::Provider;

use world::{DEADLINE, S3_PART, World, failures, wait_completed};

testkit::on_every_store! {
    codecs_resolutions_and_durations_are_those_of_each_recording
    tags_languages_and_rotation_are_those_of_the_recording
    a_recording_of_several_parts_is_described_part_by_part
    damaged_recordings_are_stored_and_described_with_what_is_wrong
    without_ffprobe_the_boxes_are_read_and_the_document_says_so
    an_ffprobe_that_hangs_is_ended_and_holds_up_nobody
    a_recording_that_disappears_while_it_is_probed_is_probed_all_the_same
}

/// A reeltime that probes with this program.
fn probing_with(world: &World, ffprobe: impl AsRef<Path>) -> Daemon {
    world
        .daemon()
        .args(["--include", "**/*.mp4", "--include", "**/*.mkv"])
        .env("REELTIME_FFPROBE", ffprobe.as_ref())
        .env("PATH", std::env::var_os("PATH").unwrap())
}

/// The name under which a sample is recorded.
fn name_of(sample: Sample) -> String {
    sample.path().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Uploads samples with the real ffprobe, and gives their documents.
fn documents_of<const N: usize>(provider: Provider, samples: [Sample; N]) -> [Value; N] {
    let world = World::at(provider);
    for sample in samples {
        sample.copy_to(world.path(&name_of(sample)));
    }
    let daemon = probing_with(&world, "ffprobe").start();
    let documents = samples.map(|sample| document_of(&world, &daemon, &world.path(&name_of(sample))));
    assert_eq!(failures(&daemon), Vec::<String>::new());
    documents
}

/// The document of a recording that is being completed. It is as its schema says, and agrees
/// with the file, the object and the checkpoint; what the prober says is left to the caller.
#[track_caller]
fn document_of(world: &World, daemon: &Running, path: &Path) -> Value {
    wait_completed(daemon, path);
    described(world, path)
}

/// The same of a recording that is completed.
#[track_caller]
fn described(world: &World, path: &Path) -> Value {
    let key = path.strip_prefix(world.recordings()).unwrap().to_str().unwrap();
    let document = world.bytes(&format!("{key}.metadata.json")).expect("it is described");
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_valid(&document);

    let told = world.wait_state(path, "completed");
    assert_eq!(document["stream_id"], told.id);
    assert_eq!(document["node"], told.node);
    assert_eq!(document["original_path"], told.path);
    assert_eq!(document["key"], told.key);
    assert_eq!(document["total_size_bytes"], told.size_bytes);
    assert_eq!((told.reason, told.upload.as_str()), (None, "none"));

    let mut offset = 0;
    let chunks = document["chunks"].as_array().unwrap();
    assert_eq!(chunks.len(), told.parts.len(), "{document}");
    for (chunk, (number, part)) in chunks.iter().zip(&told.parts) {
        assert_eq!(chunk["part_number"], *number, "{document}");
        assert_eq!((&chunk["offset"], &chunk["size_bytes"]), (&offset.into(), &part.size_bytes.into()), "{document}");
        assert_eq!(chunk["etag"].as_str().unwrap().trim_matches('"'), part.etag, "{document}");
        offset += part.size_bytes;
    }
    assert_eq!(document["total_size_bytes"], offset, "{document}");
    if path.exists() {
        assert_eq!(path.metadata().unwrap().len(), offset);
        assert_eq!(world.sha256(key), Some(sha256_of(path)));
    }
    document
}

fn assert_valid(document: &Value) {
    let text = include_str!("../../../docs/metadata.schema.json");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("metadata", serde_json::from_str(text).unwrap()).unwrap();
    let schema = compiler.compile("metadata", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(document, schema) {
        panic!("{error:#}\n{document:#}");
    }
}

/// Type, codec and, of pictures, width and height of a stream.
type Track = (String, String, Option<(u64, u64)>);

fn tracks(document: &Value) -> Vec<Track> {
    let streams = document["probe"]["streams"].as_array().unwrap_or_else(|| panic!("no streams in {document:#}"));
    let text = |stream: &Value, name: &str| stream[name].as_str().unwrap().to_owned();
    streams
        .iter()
        .map(|stream| {
            let size = stream["width"].as_u64().zip(stream["height"].as_u64());
            (text(stream, "codec_type"), text(stream, "codec_name"), size)
        })
        .collect()
}

fn picture(codec: &str, width: u64, height: u64) -> (String, String, Option<(u64, u64)>) {
    ("video".to_owned(), codec.to_owned(), Some((width, height)))
}

fn sound(codec: &str) -> (String, String, Option<(u64, u64)>) {
    ("audio".to_owned(), codec.to_owned(), None)
}

#[track_caller]
fn assert_lasts(document: &Value, seconds: f64) {
    let duration = document["duration_seconds"].as_f64().unwrap_or_else(|| panic!("no duration: {document:#}"));
    assert!((duration - seconds).abs() < 0.06, "{duration} s instead of {seconds} s: {document:#}");
}

/// What is said of a recording that could not be read.
#[track_caller]
fn error_of(document: &Value) -> &str {
    assert!(document["probe"].is_null() && document["duration_seconds"].is_null(), "{document:#}");
    document["probe_error"].as_str().unwrap_or_else(|| panic!("no probe_error in {document:#}"))
}

/// An executable script.
fn script(world: &World, body: &str) -> PathBuf {
    let path = world.beside("ffprobe");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn codecs_resolutions_and_durations_are_those_of_each_recording(provider: Provider) {
    let samples = [
        (Sample::H264Aac, 2.0, vec![picture("h264", 320, 240), sound("aac")]),
        (Sample::H264NoAudio, 1.0, vec![picture("h264", 320, 240)]),
        (Sample::HevcAac, 1.0, vec![picture("hevc", 640, 360), sound("aac")]),
        (Sample::Mpeg4, 3.0, vec![picture("mpeg4", 720, 576)]),
        (Sample::Av1, 0.5, vec![picture("av1", 160, 120)]),
        (Sample::AudioOnly, 1.0, vec![sound("aac")]),
        (Sample::Faststart, 1.0, vec![picture("h264", 320, 240)]),
        (Sample::Fragmented, 1.0, vec![picture("h264", 320, 240)]),
        (Sample::MatroskaVp9Opus, 1.0, vec![picture("vp9", 320, 240), sound("opus")]),
        (Sample::Long, 90.0, vec![picture("h264", 160, 120)]),
    ];
    let documents = documents_of(provider, samples.each_ref().map(|(sample, ..)| *sample));
    for (document, (sample, seconds, expected)) in documents.iter().zip(samples) {
        assert_eq!(tracks(document), expected, "{sample:?}");
        assert_lasts(document, seconds);
        assert_eq!(document["probe"]["prober"], "ffprobe", "{sample:?}");
    }
    assert_eq!(documents[3]["probe"]["streams"][0]["r_frame_rate"], "30000/1001");
}

fn tags_languages_and_rotation_are_those_of_the_recording(provider: Provider) {
    let samples = [Sample::Tagged, Sample::TwoAudioTracks, Sample::Rotated];
    let [tagged, languages, rotated] = documents_of(provider, samples);
    let tags = &tagged["probe"]["format"]["tags"];
    assert_eq!(tags["title"], "Große Prüfung – 試験");
    assert_eq!(tags["comment"], "with \"quotes\" & <angles>");
    assert_eq!(tags["creation_time"], "2026-01-31T12:34:56.000000Z");

    let streams = languages["probe"]["streams"].as_array().unwrap();
    let spoken: Vec<_> = streams.iter().filter_map(|stream| stream["tags"]["language"].as_str()).collect();
    assert_eq!(spoken, ["und", "eng", "deu"]);

    let side_data = &rotated["probe"]["streams"][0]["side_data_list"][0];
    assert_eq!(side_data["rotation"].as_i64().map(i64::abs), Some(90), "{rotated:#}");
}

fn a_recording_of_several_parts_is_described_part_by_part(provider: Provider) {
    let world = World::at(provider);
    let path = world.path("long.mp4");
    let daemon = probing_with(&world, "ffprobe").start();
    let recording = Ffmpeg::into(&path).audio().duration(Duration::from_secs(2)).start();
    recording.wait();
    let document = document_of(&world, &daemon, &path);
    assert_lasts(&document, 2.0);
    assert_eq!(tracks(&document), [picture("mpeg4", 640, 360), sound("aac")]);
    let chunks = document["chunks"].as_array().unwrap();
    assert_eq!(chunks.len() as u64, recording.size_bytes().div_ceil(S3_PART));
    assert!(chunks.len() > 1, "{document:#}");
}

fn damaged_recordings_are_stored_and_described_with_what_is_wrong(provider: Provider) {
    let samples =
        [Sample::DamagedCutOff, Sample::DamagedNoMoov, Sample::NotARecording, Sample::Empty, Sample::DamagedMoov];
    let [cut_off, no_moov, nonsense, empty, bad_boxes] = documents_of(provider, samples);
    assert!(error_of(&cut_off).contains("moov atom not found"), "{cut_off:#}");
    assert!(error_of(&no_moov).contains("moov atom not found"), "{no_moov:#}");
    assert!(error_of(&nonsense).starts_with("ffprobe: "), "{nonsense:#}");
    assert_eq!(error_of(&empty), "the recording is empty");
    // ffprobe takes it for a recording without streams.
    assert_eq!((tracks(&bad_boxes), &bad_boxes["duration_seconds"]), (vec![], &Value::Null));
}

fn without_ffprobe_the_boxes_are_read_and_the_document_says_so(provider: Provider) {
    let world = World::at(provider);
    let daemon = probing_with(&world, world.beside("not-installed")).start();
    for sample in [Sample::H264Aac, Sample::DamagedCutOff] {
        sample.copy_to(world.path(&name_of(sample)));
    }
    let document = document_of(&world, &daemon, &world.path(&name_of(Sample::H264Aac)));
    assert_eq!(document["probe"]["prober"], "mp4-boxes");
    assert_eq!(tracks(&document), [picture("h264", 320, 240), sound("aac")]);
    assert_lasts(&document, 2.0);

    let document = document_of(&world, &daemon, &world.path(&name_of(Sample::DamagedCutOff)));
    let error = error_of(&document);
    assert!(error.contains("ffprobe is not installed") && error.contains("boxes"), "{error}");
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Other recordings are described meanwhile. Within this process, because the built binary waits
/// for 30 s.
fn an_ffprobe_that_hangs_is_ended_and_holds_up_nobody(provider: Provider) {
    let world = World::at(provider);
    // Only about the first recording.
    let (begun, ended) = (world.beside("begun"), world.beside("ended"));
    let body = format!(
        "mkdir '{}' 2>/dev/null || exec ffprobe \"$@\"\nsleep 1000 &\necho $! >'{}'\nwait",
        begun.display(),
        ended.display()
    );
    let ffprobe = script(&world, &body);
    let timeout = Duration::from_secs(3);
    let reeltime =
        world.start_inside_with(&[], |outside| outside.describer = Describer::new(ffprobe.into(), timeout, 2));
    let hanging = world.path("hanging.mp4");
    Sample::H264Aac.copy_to(&hanging);
    world.wait_told("ffprobe to hang", &hanging, |_| begun.exists());
    let other = world.path("other.mp4");
    Sample::H264NoAudio.copy_to(&other);
    reeltime.heard.wait_of("completed", &other, DEADLINE);
    assert_eq!(reeltime.heard.count_of("completed", &hanging), 0, "it was not waited for");
    assert_lasts(&described(&world, &other), 1.0);
    reeltime.heard.wait_of("completed", &hanging, DEADLINE);
    let document = described(&world, &hanging);
    assert!(error_of(&document).contains("gave no answer within 3 s"), "{document:#}");
    let left = fs::read_to_string(&ended).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", left.trim()));
    assert!(state.is_err() || state.unwrap().contains(") Z "), "what it started is ended, too");
}

fn a_recording_that_disappears_while_it_is_probed_is_probed_all_the_same(provider: Provider) {
    let world = World::at(provider);
    let (begun, go_on) = (world.beside("begun"), world.beside("go-on"));
    let body = format!(
        "touch '{}'\nuntil [ -e '{}' ]; do sleep 0.05; done\nexec ffprobe \"$@\"",
        begun.display(),
        go_on.display()
    );
    let daemon = probing_with(&world, script(&world, &body)).start();
    let path = world.path("a.mp4");
    Sample::H264Aac.copy_to(&path);
    let expected = sha256_of(Sample::H264Aac.path());
    daemon.process().wait_until("ffprobe to begin", DEADLINE, || begun.exists());
    fs::remove_file(&path).unwrap();
    fs::write(&go_on, "").unwrap();

    let document = document_of(&world, &daemon, &path);
    assert_lasts(&document, 2.0);
    assert_eq!(tracks(&document), [picture("h264", 320, 240), sound("aac")]);
    assert_eq!(world.sha256("a.mp4"), Some(expected));
    assert_eq!(failures(&daemon), Vec::<String>::new());
}
