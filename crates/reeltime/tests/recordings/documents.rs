//! The document beside the object.

use std::time::Duration;

use boon::{Compiler, Schemas};
use serde_json::Value;
use testkit::recorders::ffmpeg::Ffmpeg;

use crate::world::World;

pub fn a_recording_is_described(world: &World) {
    let daemon = world.run(&[]);
    let (width, height) = if world.is_local() { (128, 72) } else { (576, 324) };
    let path = world.path("day/a.mp4");
    std::fs::create_dir(world.path("day")).unwrap();
    let recording = Ffmpeg::into(&path).size(width, height).audio().duration(Duration::from_secs(2)).start();
    recording.wait();
    world.wait_identical(&daemon, "day/a.mp4");

    let document = valid(world.document("day/a.mp4"));
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["node"], "studio-1");
    assert_eq!(document["original_path"], path.to_str().unwrap());
    assert_eq!(document["key"], if world.is_local() { "day/a.mp4" } else { "studio/day/a.mp4" });
    let duration = document["duration_seconds"].as_f64().unwrap();
    assert!((1.9..2.2).contains(&duration), "{duration} s");
    assert_eq!(document["probe"]["streams"].as_array().unwrap().len(), 2, "{document}");
    assert!(document["probe_error"].is_null(), "{document}");
    chunks_add_up(&document, recording.size_bytes());
    assert!(document["chunks"].as_array().unwrap().len() > 1, "{document}");
}

pub fn what_is_no_recording_is_described_too(world: &World) {
    let daemon = world.run(&[]);
    let size = world.part_bytes() * 3 / 2;
    world.drop_file("garbage.mp4", 1, size);
    world.drop_file("empty.mp4", 1, 0);
    for (name, size) in [("garbage.mp4", size), ("empty.mp4", 0)] {
        world.wait_identical(&daemon, name);
        let document = valid(world.document(name));
        assert!(document["probe_error"].is_string() && document["probe"].is_null(), "{document}");
        assert!(document["duration_seconds"].is_null(), "{document}");
        chunks_add_up(&document, size);
    }
}

fn chunks_add_up(document: &Value, size_bytes: u64) {
    let mut offset = 0;
    for (chunk, number) in document["chunks"].as_array().unwrap().iter().zip(1..) {
        assert_eq!((&chunk["part_number"], &chunk["offset"]), (&number.into(), &offset.into()), "{document}");
        offset += chunk["size_bytes"].as_u64().unwrap();
    }
    assert_eq!(offset, size_bytes);
    assert_eq!(document["total_size_bytes"], size_bytes);
}

/// The document, which is as its schema says.
fn valid(document: Value) -> Value {
    let text = include_str!("../../../../docs/metadata.schema.json");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("metadata", serde_json::from_str(text).unwrap()).unwrap();
    let schema = compiler.compile("metadata", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&document, schema) {
        panic!("{error:#}\n{document:#}");
    }
    document
}
