//! What the suites rest on: a helper that sees nothing would let everything pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeltime::events::{Event, EventBus, What};
use reeltime_core::{PartNumber, Reason};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, Heard, World, wait_completed};

testkit::on_every_store! {
    what_contradicts_itself_in_the_state_is_noticed
    an_unfinished_upload_is_noticed
}

/// What a panic says.
fn panics(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it panics");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no text".to_owned())
}

fn part_stored(number: u32) -> What {
    let number = PartNumber::new(number).unwrap();
    What::PartStored { number, size_bytes: 7, again: false, took: Duration::ZERO }
}

#[test]
fn a_wait_that_is_over_in_vain_says_everything_that_was_heard() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let bus = EventBus::default();
    let heard = runtime.block_on(async { Heard::collect(bus.listen()) });
    let path = Path::new("/rec/a.mp4");
    let tell = |what| bus.tell(Event { stream: None, path: Some(PathBuf::from(path)), what });
    tell(What::Discovered);
    tell(part_stored(1));
    heard.wait_part(path, 1, DEADLINE);

    let said = panics(|| heard.wait_part(path, 3, Duration::from_millis(50)));
    assert!(said.contains("0 of 1 × part 3 of /rec/a.mp4 stored"), "{said}");
    assert!(said.contains("discovered /rec/a.mp4: Discovered"), "{said}");
    assert!(said.contains("part_stored /rec/a.mp4: PartStored { number: PartNumber(1)"), "{said}");

    // One that comes while it is waited for.
    let waiting = heard.clone();
    let waiter = std::thread::spawn(move || waiting.wait_of("failed", Path::new("/rec/a.mp4"), DEADLINE));
    tell(What::Failed { reason: Reason::SourceMissing });
    assert!(matches!(waiter.join().unwrap().what, What::Failed { .. }));
    assert_eq!(heard.count_of("part_stored", path), 1);
    assert_eq!(heard.story_of(path), ["discovered", "part_stored", "failed"]);
}

fn what_contradicts_itself_in_the_state_is_noticed(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 99).start().wait();
    wait_completed(&daemon, &finished.path);
    let told = world.wait_state(&finished.path, "completed");
    assert_eq!(redis.sets_with(&told.id), ["streams:completed"]);
    assert_eq!((redis.meta(&told.id)["state"].as_str(), told.numbers()), ("completed", vec![1]));
    let meta = redis.key(&format!("stream:{}:meta", told.id));
    let parts = redis.key(&format!("stream:{}:parts", told.id));
    let client = redis.client();
    let noticed = || panics(|| drop(world.state.streams()));

    client.command(&["SADD", &redis.key("streams:active"), &told.id]);
    assert!(noticed().contains("a stream is in one set"), "in two sets");
    client.command(&["SREM", &redis.key("streams:active"), &told.id]);
    assert_eq!(world.state.streams().len(), 1);

    client.command(&["HSET", &meta, "state", "active"]);
    assert!(noticed().contains("is in streams:active"), "in another set");
    client.command(&["HSET", &meta, "state", "completed"]);
    client.command(&["RENAME", &parts, &redis.key("stream:other:parts")]);
    assert!(noticed().contains("every part belongs to a stream"), "parts of nobody");
    redis.lose_everything();
    assert!(world.state.streams().is_empty());
}

fn an_unfinished_upload_is_noticed(provider: Provider) {
    let world = World::at(provider);
    let through = world.bucket().by(&world.proxy().endpoint());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let upload = through.create_upload(world.bucket_name(), "cam 1/a.mp4");
    through.upload_part(world.bucket_name(), "cam 1/a.mp4", &upload, 1, b"part");
    assert_eq!(world.leftovers().len(), 1);
    assert_eq!(world.stored_parts("cam 1/a.mp4", &upload).unwrap().len(), 1);
    through.abort(world.bucket_name(), "cam 1/a.mp4", &upload);
    assert_eq!((world.leftovers(), world.stored_parts("cam 1/a.mp4", &upload)), (vec![], None));
}
