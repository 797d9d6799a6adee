//! The test bodies.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use reeltime::storage::{CompletedPart, PartBody, UploadRef};
use reeltime_core::{Crc64Nvme, ObjectKey, Trouble};

use crate::world::{PART, World, key, noise, number};

pub async fn a_usable_destination_passes_the_preflight(world: &World) {
    world.store.preflight().await.unwrap();
}

pub async fn several_parts_become_one_object_that_bears_its_token(world: &World) {
    let (key, whole) = (key("cam 1/a.mp4"), noise(1, 2 * PART + 12_345));
    let upload = world.begin(&key, "stream.7").await;
    let mut parts = Vec::new();
    for (at, bytes) in whole.chunks(PART).enumerate() {
        parts.push(world.put(&upload, at as u32 + 1, at * PART, bytes).await);
    }
    assert_eq!(world.read(&key), None);
    world.complete(&upload, &parts, &whole).await.unwrap();

    assert!(world.read(&key).unwrap() == whole);
    let facts = world.store.head(&key).await.unwrap().unwrap();
    assert_eq!(facts.size_bytes, whole.len() as u64);
    assert_eq!(facts.token.as_deref(), Some("stream.7"));
    assert!(!facts.etag.is_empty() && !facts.etag.contains('"'), "{facts:?}");
    assert!(facts.crc.is_none_or(|crc| crc == Crc64Nvme::of(&whole)), "{facts:?}");
}

pub async fn parts_may_come_in_any_order_and_at_the_same_time(world: &World) {
    let (key, whole) = (key("b.mp4"), noise(2, 3 * PART + 1));
    let upload = world.begin(&key, "t").await;
    let part =
        |at: usize| world.put(&upload, at as u32 + 1, at * PART, &whole[at * PART..whole.len().min((at + 1) * PART)]);
    let (fourth, third) = tokio::join!(part(3), part(2));
    let (second, first) = tokio::join!(part(1), part(0));
    world.complete(&upload, &[first, second, third, fourth], &whole).await.unwrap();
    assert!(world.read(&key).unwrap() == whole);
}

pub async fn a_part_that_is_sent_again_replaces_the_first(world: &World) {
    let (key, mut whole) = (key("a.mp4"), noise(3, 2 * PART));
    let upload = world.begin(&key, "t").await;
    let outdated = world.put(&upload, 1, 0, &whole[..PART]).await;
    let second = world.put(&upload, 2, PART, &whole[PART..]).await;
    whole[40..48].copy_from_slice(b"mdatsize");
    let first = world.put(&upload, 1, 0, &whole[..PART]).await;
    assert_ne!(outdated.etag, first.etag);

    let error = world.complete(&upload, &[outdated, second.clone()], &whole).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
    world.complete(&upload, &[first, second], &whole).await.unwrap();
    assert!(world.read(&key).unwrap() == whole);
}

pub async fn a_tail_may_become_longer_and_shorter(world: &World) {
    let (key, whole) = (key("a.mp4"), noise(4, PART + 3_000));
    let upload = world.begin(&key, "t").await;
    let first = world.put(&upload, 1, 0, &whole[..PART]).await;
    world.put(&upload, 2, PART, &whole[PART..PART + 1_000]).await;
    world.put(&upload, 2, PART, &whole[PART..]).await;
    let tail = world.put(&upload, 2, PART, &whole[PART..PART + 500]).await;
    world.complete(&upload, &[first, tail], &whole[..PART + 500]).await.unwrap();
    assert!(world.read(&key).unwrap() == whole[..PART + 500]);
}

pub async fn a_part_that_is_not_listed_is_dropped(world: &World) {
    let (key, whole) = (key("a.mp4"), noise(5, 2 * PART + 10));
    let upload = world.begin(&key, "t").await;
    let first = world.put(&upload, 1, 0, &whole[..PART]).await;
    let second = world.put(&upload, 2, PART, &whole[PART..2 * PART]).await;
    world.put(&upload, 3, 2 * PART, &whole[2 * PART..]).await;
    world.complete(&upload, &[first, second], &whole[..2 * PART]).await.unwrap();
    assert!(world.read(&key).unwrap() == whole[..2 * PART]);
}

pub async fn an_object_is_the_old_one_until_the_new_one_is_complete(world: &World) {
    let key = key("dir/a.mp4");
    let old = world.begin(&key, "old").await;
    let part = world.put(&old, 1, 0, b"the old one").await;
    world.complete(&old, &[part], b"the old one").await.unwrap();

    let new = world.begin(&key, "new").await;
    let part = world.put(&new, 1, 0, b"the new one, longer").await;
    assert_eq!(world.read(&key).unwrap(), b"the old one");
    assert_eq!(world.store.head(&key).await.unwrap().unwrap().token.as_deref(), Some("old"));
    world.complete(&new, &[part], b"the new one, longer").await.unwrap();
    assert_eq!(world.read(&key).unwrap(), b"the new one, longer");
    assert_eq!(world.store.head(&key).await.unwrap().unwrap().token.as_deref(), Some("new"));
}

pub async fn completing_again_after_a_lost_answer_does_no_harm(world: &World) {
    let key = key("a.mp4");
    let upload = world.begin(&key, "mine").await;
    let parts = [world.put(&upload, 1, 0, b"bytes").await];
    world.complete(&upload, &parts, b"bytes").await.unwrap();

    if let Err(error) = world.complete(&upload, &parts, b"bytes").await {
        assert_eq!(error.trouble, Trouble::NoSuchUpload, "{error}");
    }
    let facts = world.store.head(&key).await.unwrap().unwrap();
    assert_eq!((facts.size_bytes, facts.token.as_deref()), (5, Some("mine")));
    assert_eq!(world.read(&key).unwrap(), b"bytes");
    world.store.abort(&upload).await.unwrap();
    assert_eq!(world.read(&key).unwrap(), b"bytes", "aborting a completed upload leaves the object");
}

pub async fn aborting_twice_is_aborting_once(world: &World) {
    let key = key("a.mp4");
    let upload = world.begin(&key, "t").await;
    let parts = [world.put(&upload, 1, 0, b"bytes").await];
    world.store.abort(&upload).await.unwrap();
    world.store.abort(&upload).await.unwrap();
    assert_eq!(world.store.list_parts(&upload).await.unwrap_err().trouble, Trouble::NoSuchUpload);
    if world.is_local() {
        assert_eq!(world.complete(&upload, &parts, b"bytes").await.unwrap_err().trouble, Trouble::NoSuchUpload);
    }
    assert_eq!(world.read(&key), None);
}

pub async fn an_upload_that_never_was_is_told_from_everything_else(world: &World) {
    let upload = UploadRef { key: key("dir/a.mp4"), id: "0190163d8694739b".repeat(2) };
    let part = CompletedPart { number: number(1), etag: "0".repeat(32), crc: None };
    let mut errors = vec![world.store.list_parts(&upload).await.unwrap_err()];
    // moto fails with an internal error when an unknown upload is written to; what S3 answers
    // is scripted in the unit tests.
    if world.is_local() {
        let body = PartBody::of_bytes(Bytes::from_static(b"bytes"));
        errors.push(world.try_put(&upload, 1, 0, body).await.unwrap_err());
        errors.push(world.store.complete(&upload, &[part], None, 5).await.unwrap_err());
    }
    for error in errors {
        assert_eq!(error.trouble, Trouble::NoSuchUpload, "{error}");
        assert!(error.to_string().contains("dir/a.mp4"), "{error}");
    }
    world.store.abort(&upload).await.unwrap();
}

pub async fn a_wrong_list_of_parts_is_refused_without_effect(world: &World) {
    let (key, whole) = (key("a.mp4"), noise(6, PART + 9));
    let upload = world.begin(&key, "t").await;
    let first = world.put(&upload, 1, 0, &whole[..PART]).await;
    let second = world.put(&upload, 2, PART, &whole[PART..]).await;

    let wrong = CompletedPart { etag: "0123456789abcdef0123456789abcdef".into(), ..first.clone() };
    let missing = CompletedPart { number: number(3), ..second.clone() };
    for parts in [
        vec![wrong, second.clone()],
        vec![first.clone(), second.clone(), missing],
        vec![second.clone(), first.clone()],
        vec![],
    ] {
        let error = world.complete(&upload, &parts, &whole).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
        assert_eq!(world.read(&key), None);
    }
    world.complete(&upload, &[first, second], &whole).await.unwrap();
    assert!(world.read(&key).unwrap() == whole);
}

pub async fn the_list_of_parts_tells_what_was_sent(world: &World) {
    let (key, whole) = (key("a.mp4"), noise(7, 2 * PART + 100));
    let upload = world.begin(&key, "t").await;
    assert_eq!(world.store.list_parts(&upload).await.unwrap(), []);
    let third = world.put(&upload, 3, 2 * PART, &whole[2 * PART..]).await;
    world.put(&upload, 1, 0, &noise(8, PART)).await;
    let first = world.put(&upload, 1, 0, &whole[..PART]).await;

    let listed = world.store.list_parts(&upload).await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for (listed, (sent, size)) in listed.iter().zip([(&first, PART), (&third, 100)]) {
        assert_eq!((listed.number, listed.size_bytes, &listed.etag), (sent.number, size as u64, &sent.etag));
        assert!(listed.crc.is_none_or(|crc| Some(crc) == sent.crc), "{listed:?}");
        assert!(listed.stored_at.0 > 1_600_000_000_000, "{listed:?}");
    }
}

pub async fn only_uploads_of_exactly_this_key_are_listed(world: &World) {
    let wanted = key("dir/a.mp4");
    assert_eq!(world.store.list_uploads(&wanted).await.unwrap(), []);
    let mut begun = HashSet::new();
    for _ in 0..2 {
        begun.insert(world.begin(&wanted, "t").await.id);
    }
    for other in ["dir/a.mp4x", "dir/a.mp4 b", "dir/a.mp", "a.mp4", "dir/A.mp4"] {
        world.begin(&key(other), "t").await;
    }
    let listed = world.store.list_uploads(&wanted).await.unwrap();
    // moto began all its uploads in 2010.
    assert!(listed.iter().all(|upload| upload.key == wanted && upload.initiated.0 > 1_200_000_000_000), "{listed:?}");
    assert_eq!(listed.iter().map(|upload| upload.upload_id.clone()).collect::<HashSet<_>>(), begun);

    let mut begun = begun.into_iter().map(|id| UploadRef { key: wanted.clone(), id });
    let (aborted, completed) = (begun.next().unwrap(), begun.next().unwrap());
    world.store.abort(&aborted).await.unwrap();
    let part = world.put(&completed, 1, 0, b"x").await;
    world.complete(&completed, &[part], b"x").await.unwrap();
    assert_eq!(world.store.list_uploads(&wanted).await.unwrap(), []);
}

pub async fn a_recording_that_changes_while_it_is_sent_is_noticed(world: &World) {
    let key = key("a.mp4");
    let upload = world.begin(&key, "t").await;
    let recording = world.recording(&noise(9, PART));
    let body = recording.body(0, PART).await;
    recording.file.write_all_at(b"!", PART as u64 - 1).unwrap();
    let error = world.try_put(&upload, 1, 0, body).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");

    // And whatever the store holds now, the next try is right.
    let stored = world.try_put(&upload, 1, 0, recording.body(0, PART).await).await.unwrap();
    let mut whole = noise(9, PART);
    whole[PART - 1] = b'!';
    let part = CompletedPart { number: number(1), etag: stored.etag, crc: Some(Crc64Nvme::of(&whole)) };
    world.complete(&upload, &[part], &whole).await.unwrap();
    assert!(world.read(&key).unwrap() == whole);

    let body = recording.body(0, PART).await;
    recording.file.write_all_at(b"?", 0).unwrap();
    let error = world.store.put_object(&key, Some("t2"), "video/mp4", body).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");
}

pub async fn a_recording_that_shrinks_while_it_is_sent_is_noticed(world: &World) {
    let key = key("a.mp4");
    let upload = world.begin(&key, "t").await;
    for left in [PART / 2, 0] {
        let recording = world.recording(&noise(10, PART));
        let body = recording.body(0, PART).await;
        recording.file.set_len(left as u64).unwrap();
        let error = world.try_put(&upload, 1, 0, body.clone()).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");
        assert!(error.cause.contains("shorter"), "{error}");
        let error = world.store.put_object(&key, None, "video/mp4", body).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");
    }
    assert_eq!(world.store.list_parts(&upload).await.unwrap(), []);
    assert_eq!(world.read(&key), None);
}

/// And the object that is being copied of is the old one until the new one is complete.
pub async fn a_part_is_copied_of_the_object_that_stands(world: &World) {
    let (key, old) = (key("dir/ä b+%.mp4"), noise(12, 2 * PART + 700));
    let original = world.object_of_parts(&key, &old).await;
    let new = [&old[..2 * PART], &noise(13, PART)[..], b"tail"].concat();
    let upload = world.begin(&key, "new").await;
    let copied = [world.copy(&upload, 1, &original).await.unwrap(), world.copy(&upload, 2, &original).await.unwrap()];
    let listed = world.store.list_parts(&upload).await.unwrap();
    assert_eq!(listed.iter().map(|part| part.size_bytes).collect::<Vec<_>>(), [PART as u64; 2]);
    assert_eq!(listed.iter().map(|part| &part.etag).collect::<Vec<_>>(), [&copied[0].etag, &copied[1].etag]);
    let [first, second] = copied;
    // What is copied once more is the same, and one that is sent again replaces it.
    assert_eq!(world.copy(&upload, 2, &original).await.unwrap().etag, second.etag);
    let mut new = new;
    new[40..48].copy_from_slice(b"mdatsize");
    let replaced = world.put(&upload, 1, 0, &new[..PART]).await;
    assert_ne!(first.etag, replaced.etag);
    let third = world.put(&upload, 3, 2 * PART, &new[2 * PART..]).await;
    assert!(world.read(&key).unwrap() == old);
    world.complete(&upload, &[replaced, second, third], &new).await.unwrap();
    assert!(world.read(&key).unwrap() == new);
}

pub async fn a_part_is_not_copied_of_another_object(world: &World) {
    let (key, old) = (key("a.mp4"), noise(14, 2 * PART));
    let original = world.object_of_parts(&key, &old).await;
    world.object_of_parts(&key, &noise(15, 2 * PART)).await;
    let upload = world.begin(&key, "new").await;
    let error = world.copy(&upload, 1, &original).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");

    let nothing =
        UploadRef { key: crate::world::key("b.mp4"), id: world.begin(&crate::world::key("b.mp4"), "t").await.id };
    let error = world.copy(&nothing, 1, &original).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
}

pub async fn an_object_in_one_request_bears_its_token_and_replaces_another(world: &World) {
    let key = key("dir/sub/a.mp4");
    let whole = noise(11, 300_000);
    let body = world.recording(&whole).body(0, whole.len()).await;
    let stored = world.store.put_object(&key, Some("stream.1"), "video/mp4", body).await.unwrap();
    assert!(world.read(&key).unwrap() == whole);
    let facts = world.store.head(&key).await.unwrap().unwrap();
    assert_eq!((facts.size_bytes, facts.token.as_deref()), (300_000, Some("stream.1")));
    assert_eq!(facts.etag, stored.etag);

    let document = PartBody::of_bytes(Bytes::from_static(b"{}"));
    world.store.put_object(&key, None, "application/json", document).await.unwrap();
    assert_eq!(world.read(&key).unwrap(), b"{}");
    assert_eq!(world.store.head(&key).await.unwrap().unwrap().token, None);
}

pub async fn an_empty_object_is_an_object(world: &World) {
    let key = key("empty.mp4");
    let body = world.recording(b"").body(0, 0).await;
    world.store.put_object(&key, Some("t"), "video/mp4", body).await.unwrap();
    assert_eq!(world.read(&key).unwrap(), b"");
    let facts = world.store.head(&key).await.unwrap().unwrap();
    assert_eq!((facts.size_bytes, facts.token.as_deref()), (0, Some("t")));
}

pub async fn an_object_that_is_not_there_is_no_error(world: &World) {
    assert_eq!(world.store.head(&key("a.mp4")).await.unwrap(), None);
    assert_eq!(world.store.head(&key("no/such/dir/a.mp4")).await.unwrap(), None);
}

pub async fn hostile_names_are_names(world: &World) {
    let mut seen = HashSet::new();
    for name in [
        &b"with space .mp4"[..],
        b"quotes \"double\" 'single' `back`.mp4",
        b"new\nline\r\n.mp4",
        b"control \x01\x1b\x7f.mp4",
        b"not utf-8 \xff\xfe caf\xe9.mp4",
        b"&amp; <xml> &#x1; ]]>.mp4",
        b"100% %41 %2F+plus?query#hash;semi=colon.mp4",
        "täglich 日本 \u{ffff} \u{1f4f9}.mp4".as_bytes(),
        b"...",
        b"a/.../b/ .mp4",
        b"-rf *.mp4",
        b"back\\slash.mp4",
    ] {
        if !world.is_local() && name.contains(&b'\n') {
            continue; // moto has no route to such a key; the unit tests have a server that has
        }
        let key = ObjectKey::from_bytes(name.to_vec());
        let upload = world.begin(&key, "token").await;
        let part = world.put(&upload, 1, 0, name).await;
        let listed = world.store.list_uploads(&key).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|upload| &upload.upload_id).collect();
        // moto does not encode keys in lists, and what XML cannot say then matches nothing.
        let unspeakable = key.to_utf8().contains(['\u{1}', '\u{ffff}']);
        if world.is_local() || !unspeakable {
            assert_eq!(listed, [&upload.id], "{key:?}");
        } else {
            assert!(listed.is_empty(), "{key:?}");
        }
        assert_eq!(world.store.list_parts(&upload).await.unwrap().len(), 1, "{key:?}");
        world.complete(&upload, &[part], name).await.unwrap();
        assert_eq!(world.read(&key).unwrap(), name, "{key:?}");
        let facts = world.store.head(&key).await.unwrap().unwrap();
        assert_eq!(facts.token.as_deref(), Some("token"), "{key:?}");
        let document = PartBody::of_bytes(Bytes::from_static(b"{}"));
        world.store.put_object(&key.metadata_document(), None, "application/json", document).await.unwrap();
        assert_eq!(world.read(&key.metadata_document()).unwrap(), b"{}", "{key:?}");
        assert!(seen.insert(world.store.full_key(&key)));
    }
}
