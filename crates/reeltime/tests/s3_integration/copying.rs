//! A completed recording that grows again: what the object has already is not sent again.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use testkit::digest::sha256_of;
use testkit::proxy::{Answer, Fault, Op, When};
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, failures, wait_completed};

testkit::on_every_store! {
    a_completed_recording_that_grows_again_sends_only_what_is_new
    a_completed_recording_is_sent_where_it_cannot_be_copied
    a_kill_while_parts_are_copied_costs_only_what_is_not_copied_yet
}

/// Bytes of the bodies of parts that the store got, from the `from`th request on.
fn sent_bytes(world: &World, from: usize) -> Vec<(u32, u64)> {
    let sent = world.requests(Op::UploadPart, "a.mp4");
    let sizes = sent[from..].iter().map(|logged| {
        let length = logged.request.header("content-length").unwrap().parse().unwrap();
        (logged.request.part_number.unwrap(), length)
    });
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    sizes
}

/// A recorder comes back to its file: it changes the head (part 1) and appends.
fn append(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"new head", 24).unwrap();
    let more: Vec<u8> = (0..2 * MIB).map(|at| (at * 7 + at / 251) as u8 | 1).collect();
    file.write_all_at(&more, 4 * S3_PART + MIB).unwrap();
}

fn a_completed_recording_that_grows_again_sends_only_what_is_new(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 4 * S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    let before = world.requests(Op::UploadPart, "a.mp4").len();

    append(&finished.path);
    let whole = 4 * S3_PART + 3 * MIB;
    daemon.wait_event("the longer recording to be completed", DEADLINE, |line| {
        line.event() == Some("completed") && line.number("size_bytes") == Some(whole)
    });
    assert_eq!(world.sha256("a.mp4"), Some(sha256_of(&finished.path)), "the object is identical");
    let copies = world.requests(Op::UploadPartCopy, "a.mp4");
    let mut copied: Vec<_> = copies.iter().map(|logged| logged.request.part_number.unwrap()).collect();
    copied.sort_unstable();
    assert_eq!(copied, [2, 3, 4]);
    assert_eq!(sent_bytes(&world, before), [(1, S3_PART), (5, 3 * MIB)], "the changed part and the new tail");
    let told = daemon.events().into_iter().filter(|line| line.event() == Some("part_copied"));
    assert_eq!(told.filter_map(|line| line.number("size_bytes")).sum::<u64>(), 3 * S3_PART);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// Neither by a store that does not know the request, nor of an object that is another.
fn a_completed_recording_is_sent_where_it_cannot_be_copied(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let refused = Fault::Answer(Answer::error(501, "NotImplemented", "A header you provided is not implemented."));
    let refused = world.proxy().inject(When::op(Op::UploadPartCopy), refused);
    let daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 4 * S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    append(&finished.path);
    let whole = 4 * S3_PART + 3 * MIB;
    daemon.wait_event("the longer recording to be completed", DEADLINE, |line| {
        line.event() == Some("completed") && line.number("size_bytes") == Some(whole)
    });
    assert_eq!(world.sha256("a.mp4"), Some(sha256_of(&finished.path)), "the object is identical");
    assert!((1..=4).contains(&refused.hits()), "those under way at once: {}", refused.hits());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}

/// After the kill nobody knows any more what could be copied: the rest is sent.
fn a_kill_while_parts_are_copied_costs_only_what_is_not_copied_yet(provider: Provider) {
    let store = provider.store();
    let world = World::on(&store);
    let mut daemon = world.start();
    let finished = Synthetic::into(world.path("a.mp4"), Style::Append, 4 * S3_PART + MIB).start().wait();
    wait_completed(&daemon, &finished.path);
    let before = world.requests(Op::UploadPart, "a.mp4").len();
    let held = world.proxy().inject(When::op(Op::UploadPartCopy).part(3), Fault::BlackHole);
    append(&finished.path);
    for (event, part, count) in
        [("part_copied", 2, 1), ("part_copied", 4, 1), ("part_stored", 1, 2), ("part_stored", 5, 2)]
    {
        daemon.wait_events(&format!("{event} {part}"), count, DEADLINE, |line| {
            line.event() == Some(event) && line.number("part") == Some(part)
        });
    }
    daemon.kill();
    held.lift();
    daemon.restart();
    let whole = 4 * S3_PART + 3 * MIB;
    daemon.wait_event("the longer recording to be completed", DEADLINE, |line| {
        line.event() == Some("completed") && line.number("size_bytes") == Some(whole)
    });
    assert_eq!(world.sha256("a.mp4"), Some(sha256_of(&finished.path)), "the object is identical");
    assert_eq!(sent_bytes(&world, before), [(1, S3_PART), (3, S3_PART), (5, 3 * MIB)]);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(failures(&daemon), Vec::<String>::new());
}
