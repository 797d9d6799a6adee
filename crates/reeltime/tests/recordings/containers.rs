//! ffmpeg, recording in real time what each of its muxers rewrites at the end.

use testkit::proxy::{Op, Outcome};
use testkit::recorders::ffmpeg::{Container, Ffmpeg, FfmpegRecording};

use crate::world::{World, wait_parts};

/// Begins a recording that fills a part about every second.
pub fn ffmpeg(world: &World, name: &str, container: Container) -> FfmpegRecording {
    let (width, height) = if world.is_local() { (128, 72) } else { (576, 324) };
    Ffmpeg::into(world.path(name)).container(container).size(width, height).start()
}

pub fn a_plain_mp4_goes_up_while_it_is_recorded(world: &World) {
    let daemon = world.run(&["--tail-flush", "off"]);
    let recording = ffmpeg(world, "cam 1.mp4", Container::Mp4);
    wait_parts(&daemon, recording.path(), 2);
    if let Some(proxy) = world.proxy() {
        let stored = |log: &[testkit::proxy::Logged]| {
            let parts = log.iter().filter(|logged| logged.request.op == Op::UploadPart);
            parts.filter(|logged| logged.outcome == Outcome::Answered(200)).count()
        };
        assert!(stored(&proxy.log()) >= 2, "{:?}", proxy.log());
        assert_eq!(proxy.count(Op::CompleteMultipartUpload), 0);
    }
    assert_eq!(recording.process().exited().map(|exited| exited.status), None, "it was still recording");
    recording.stop();
    world.wait_identical(&daemon, "cam 1.mp4");
    let (sent, most) = (world.bytes_sent(&daemon), recording.size_bytes() + 2 * world.part_bytes());
    assert!(sent <= most, "{sent} bytes were sent, at most {most} are worth it");
}

pub fn faststart_shifts_every_part(world: &World) {
    is_identical(world, "a.mp4", Container::Mp4Faststart, &[]);
}

pub fn moov_goes_into_the_head(world: &World) {
    is_identical(world, "a.mp4", Container::Mp4MoovAtHead { reserved_bytes: 65_536 }, &[]);
}

pub fn fragments_are_appended(world: &World) {
    is_identical(world, "a.mp4", Container::Mp4Fragmented, &[]);
}

pub fn matroska_is_included_by_its_glob(world: &World) {
    is_identical(world, "a.mkv", Container::Matroska, &["--include", "**/*.mkv"]);
}

fn is_identical(world: &World, name: &str, container: Container, args: &[&str]) {
    let daemon = world.run(args);
    let recording = ffmpeg(world, name, container);
    wait_parts(&daemon, recording.path(), 2);
    recording.stop();
    world.wait_identical(&daemon, name);
    assert!(world.document(name)["duration_seconds"].as_f64() > Some(0.0), "{}", world.document(name));
}
