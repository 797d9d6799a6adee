//! The reader of MP4 boxes, measured against ffprobe and fed with damage.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::*;
use crate::metadata::mp4::{self, BoxError};
use crate::metadata::{ProbeReport, Prober};

fn read(path: &Path) -> Result<ProbeReport, BoxError> {
    mp4::read(&File::open(path).unwrap(), Instant::now() + Duration::from_mins(1))
}

#[tokio::test]
async fn it_says_the_same_as_ffprobe() {
    let fragmented = "-movflags frag_keyframe+empty_moov";
    for (name, input, options) in [
        ("plain.mp4", "both", ""),
        ("faststart.mp4", "both", "-movflags +faststart"),
        ("fragments.mp4", "both", fragmented),
        ("many-fragments.mp4", "long", &format!("{fragmented} -g 1")),
        ("cmaf.mp4", "both", "-movflags +cmaf+frag_keyframe -g 5"),
        ("separate.mp4", "long", &format!("{fragmented}+separate_moof -g 1")),
        ("moov-and-fragments.mp4", "long", "-movflags frag_keyframe -g 25"),
        ("b-frames.mov", "both", "-bf 3"),
        ("stereo.mp4", "both", "-ac 2"),
        ("pcm.mov", "both", "-c:a pcm_s16le"),
        ("audio.m4a", "sound", "-ac 2"),
        ("audio-mp3.mp4", "sound", "-c:a libmp3lame"),
        ("audio-opus.mp4", "sound", "-c:a libopus"),
        ("audio-flac.mp4", "sound", "-c:a flac -strict -2"),
        ("audio-alac.m4a", "sound", "-c:a alac"),
        ("audio-ac3.mp4", "sound", "-c:a ac3"),
        ("video-mpeg4.mp4", "picture", "-c:v mpeg4"),
        ("video-hevc.mp4", "picture", "-c:v libx265 -x265-params log-level=none"),
        ("video-vp9.mp4", "picture", "-c:v libvpx-vp9 -cpu-used 8"),
        ("video-mjpeg.mov", "picture", "-c:v mjpeg -pix_fmt yuvj420p"),
    ] {
        let dir = temp_dir();
        let input = match input {
            "both" => format!("{PICTURE} {SOUND} -pix_fmt yuv420p"),
            "long" => format!("{PICTURE}0 {SOUND}0 -pix_fmt yuv420p"),
            "picture" => PICTURE.to_owned(),
            _ => SOUND.to_owned(),
        };
        let path = record(&dir, name, &format!("{input} {options}"));
        let theirs = known(probe(&with_ffprobe(), &path).await);
        let ours = known(probe(&without_ffprobe(), &path).await);
        assert_eq!(ours.prober, Prober::Mp4Boxes);
        agree(name, &ours, &theirs);
    }
}

fn agree(name: &str, ours: &ProbeReport, theirs: &ProbeReport) {
    let both = format!("{name}\nours: {ours:#?}\ntheirs: {theirs:#?}");
    for field in ["format_name", "size", "nb_streams"] {
        assert_eq!(ours.format[field], theirs.format[field], "{field} of {both}");
    }
    let (our_length, their_length) = (ours.duration_seconds().unwrap(), theirs.duration_seconds().unwrap());
    assert!((our_length - their_length).abs() < 0.1, "{our_length} {their_length} {both}");
    assert_eq!(ours.streams.len(), theirs.streams.len(), "{both}");
    for (our, their) in ours.streams.iter().zip(&theirs.streams) {
        let told =
            |field: &&str| our.get(field).is_some() || (*field == "channels" && text(their, "codec_name") == "aac");
        let maybe = ["nb_frames", "channels"].into_iter().filter(told);
        let fields = ["index", "id", "codec_type", "codec_name", "codec_tag_string", "width", "height", "sample_rate"];
        for field in fields.into_iter().chain(maybe) {
            assert_eq!(our.get(field), their.get(field), "{field} of {both}");
        }
        let of = |stream: &Value| text(stream, "duration").parse::<f64>();
        if let Ok(their_length) = of(their) {
            let our_length = of(our).unwrap();
            assert!((our_length - their_length).abs() < 0.1, "{our_length} {their_length} {both}");
        }
    }
}

#[tokio::test]
async fn what_an_edit_hides_does_not_count() {
    let dir = temp_dir();
    let whole = record(&dir, "whole.mp4", &format!("{PICTURE}0 -pix_fmt yuv420p"));
    // Cut without a key frame there: everything is copied, and an edit list hides the beginning.
    let edited = record(&dir, "edited.mp4", &format!("-ss 2.5 -i {} -c copy", whole.display()));
    let theirs = known(probe(&with_ffprobe(), &edited).await);
    assert!((theirs.duration_seconds().unwrap() - 7.5).abs() < 0.1, "{theirs:#?}");
    agree("edited.mp4", &read(&edited).unwrap(), &theirs);
}

#[test]
fn a_recording_that_joins_a_running_stream_counts_from_its_first_fragment() {
    let dir = temp_dir();
    let path = record(
        &dir,
        "x.mp4",
        &format!("{PICTURE} -pix_fmt yuv420p -g 5 -movflags frag_keyframe+empty_moov+default_base_moof"),
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let moofs: Vec<_> = (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b"moof").map(|at| at - 4).collect();
    assert_eq!(moofs.len(), 5, "one for each fifth of a second");
    bytes.drain(moofs[0]..moofs[2]);
    std::fs::write(&path, bytes).unwrap();
    let seconds = read(&path).unwrap().duration_seconds().unwrap();
    assert!((seconds - 0.6).abs() < 0.01, "{seconds}");
}

/// Where a box begins, by its type; the last one of that type.
fn find(bytes: &[u8], kind: &[u8]) -> usize {
    bytes.windows(4).rposition(|window| window == kind).expect("the box is there") - 4
}

#[test]
fn sizes_may_take_64_bits_or_reach_to_the_end() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let plain = read(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();

    // ffmpeg leaves 8 free bytes before the mdat, for exactly this.
    let (free, mdat, moov) = (find(&bytes, b"free"), find(&bytes, b"mdat"), find(&bytes, b"moov"));
    assert_eq!(free + 8, mdat);
    let size = (moov - free) as u64;
    bytes[free..free + 8].copy_from_slice(b"\0\0\0\x01mdat");
    bytes[free + 8..free + 16].copy_from_slice(&size.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap(), plain);

    bytes[moov..moov + 4].copy_from_slice(&[0; 4]);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap(), plain);
}

#[test]
fn an_unfinished_recording_has_no_moov() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let mut bytes = std::fs::read(&path).unwrap();
    // As ffmpeg leaves it when it is killed: the size of mdat is written at the end.
    let (mdat, moov) = (find(&bytes, b"mdat"), find(&bytes, b"moov"));
    bytes[mdat..mdat + 4].copy_from_slice(&[0; 4]);
    bytes.truncate(moov);
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(BoxError::NoMoov)));
}

#[test]
fn a_day_of_recording_costs_no_more_than_a_second() {
    let dir = temp_dir();
    let path = mp4(&dir, "");
    let plain = read(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let moov = &bytes[find(&bytes, b"moov")..];
    // A terabyte of media data, which takes no room on the disk.
    let file = File::create(&path).unwrap();
    let mdat_bytes: u64 = 1 << 40;
    file.write_all_at(b"\0\0\0\x01mdat", 0).unwrap();
    file.write_all_at(&mdat_bytes.to_be_bytes(), 8).unwrap();
    file.write_all_at(moov, mdat_bytes).unwrap();
    // It would be found out: no more than 64 MiB are read.
    let report = read(&path).unwrap();
    assert_eq!(report.streams, plain.streams);
    assert_eq!(report.format["size"], (mdat_bytes + moov.len() as u64).to_string());
}

#[test]
fn hostile_files_end_in_an_error_and_soon() {
    let dir = temp_dir();
    let path = dir.path().join("x.mp4");
    let ftyp = b"\0\0\0\x08ftyp";
    let check = |content: &[u8], expected: &str| {
        std::fs::write(&path, [&ftyp[..], content].concat()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    check(b"\0\0\0\x04moov", "its size is 4");
    check(b"\0\0\0\x01moov\0\0\0\0\0\0\0\x0f", "its size is 15");
    check(b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff", "cut off");
    check(b"\0\0\0\x10moov\0\0\0\xfftrak", "box trak");
    check(b"\0\0\0\x08moov", "no mvhd");
    check(b"\0\0\0\x10moov\0\0\0\x08mvhd", "box mvhd");
    check(&[b"\0\x01\0\x08moov".as_slice(), &b"\0\0\0\x08free".repeat(8192)].concat(), "too many boxes");

    // A header that says 8 MiB of itself.
    std::fs::write(&path, [&ftyp[..], b"\0\0\0\0moov\0\x80\0\0mvhd"].concat()).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(16 + (8 << 20)).unwrap();
    assert!(matches!(read(&path), Err(BoxError::TooLarge { .. })));

    std::fs::write(&path, [&ftyp[..], &b"\0\0\0\x08free".repeat(100)].concat()).unwrap();
    let late = mp4::read(&File::open(&path).unwrap(), Instant::now());
    assert!(matches!(late, Err(BoxError::TimedOut)));
}

#[test]
fn no_damage_to_a_header_makes_it_panic() {
    let dir = temp_dir();
    for options in ["-movflags +faststart", "-movflags frag_keyframe+empty_moov -g 5"] {
        let path = mp4(&dir, options);
        let whole = std::fs::read(&path).unwrap();
        let seed = u64::from(std::process::id()) ^ Instant::now().elapsed().as_nanos() as u64;
        println!("seed {seed}");
        let mut state = seed | 1;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let damaged = dir.path().join("damaged.mp4");
        let header = whole.len().min(3000);
        let mut understood = 0;
        for _ in 0..1000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let at = random(header);
                bytes[at] = [0, 1, 0x7f, 0xff, bytes[at] ^ 1 << random(8)][random(5)];
            }
            std::fs::write(&damaged, &bytes).unwrap();
            understood += u32::from(read(&damaged).is_ok());
        }
        println!("{options}: understood {understood} of 1000");
    }
}
