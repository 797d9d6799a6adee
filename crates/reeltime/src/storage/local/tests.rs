//! What a crash or a power loss leaves behind, and what is in the way.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use reeltime_core::{Need, Tick};
use tempfile::TempDir;

use super::*;
use crate::pacing::Pacer;

const HALF: usize = 1000;

struct Setup {
    dir: TempDir,
    store: LocalStore,
    upload: UploadRef,
    files: UploadFiles,
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

fn number(part: u32) -> PartNumber {
    PartNumber::new(part).unwrap()
}

fn body(bytes: &[u8]) -> PartBody {
    PartBody::of_bytes(bytes.to_vec().into())
}

/// A body over the beginning of a file, which may be changed before the body is sent.
async fn file_body(bytes: &[u8]) -> (Arc<File>, PartBody) {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let file = Arc::new(file);
    let range = ByteRange { offset: 0, len: bytes.len() as u64 };
    let body = PartBody::of_file(Arc::clone(&file), range).await.unwrap();
    (file, body)
}

/// An upload of `dir/a.mp4`.
async fn begun() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path());
    let key = ObjectKey::from_bytes(b"dir/a.mp4".to_vec());
    let id = store.create_upload(&key, "token").await.unwrap().id;
    let files = UploadFiles::of(&store.object(&key), &id).unwrap();
    Setup { dir, store, upload: UploadRef { key, id }, files }
}

impl Setup {
    /// Stores a part that lies `HALF` bytes behind the one before.
    async fn put(&self, part: u32, bytes: &[u8]) -> CompletedPart {
        let offset = (part as usize - 1) * HALF;
        let stored = self.store.put_part(&self.upload, number(part), offset as u64, body(bytes)).await.unwrap();
        CompletedPart { number: number(part), etag: stored.etag, crc: Some(Crc64Nvme::of(bytes)) }
    }

    async fn complete(&self, parts: &[CompletedPart], size: usize) -> Result<Option<String>, StoreError> {
        self.store.complete(&self.upload, parts, None, size as u64).await
    }

    async fn listed(&self) -> Vec<u32> {
        let parts = self.store.list_parts(&self.upload).await.unwrap();
        parts.iter().map(|part| part.number.get()).collect()
    }

    fn object(&self) -> PathBuf {
        self.store.object(&self.upload.key)
    }

    /// The store as a restarted process sees it.
    fn restarted(self) -> Self {
        Self { store: LocalStore::open(self.dir.path()), ..self }
    }
}

#[tokio::test]
async fn a_crash_while_the_journal_was_written_costs_that_part_and_no_other() {
    let setup = begun().await;
    let first = setup.put(1, &bytes(1, HALF)).await;
    setup.put(2, &bytes(2, HALF)).await;
    let journal = fs::read(&setup.files.journal).unwrap();
    fs::write(&setup.files.journal, &journal[..journal.len() - 10]).unwrap();

    let setup = setup.restarted();
    assert_eq!(setup.listed().await, [1]);
    let second = setup.put(2, &bytes(3, HALF)).await;
    assert_eq!(setup.listed().await, [1, 2]);
    setup.complete(&[first, second], 2 * HALF).await.unwrap();
    assert_eq!(fs::read(setup.object()).unwrap(), [bytes(1, HALF), bytes(3, HALF)].concat());
}

#[tokio::test]
async fn bytes_that_a_power_loss_took_are_not_listed() {
    let setup = begun().await;
    for part in 1..=3 {
        setup.put(part, &bytes(part as u8, HALF)).await;
    }
    let temp = File::options().write(true).open(&setup.files.temp).unwrap();
    temp.write_all_at(&[0; 10], HALF as u64 + 5).unwrap();
    assert_eq!(setup.listed().await, [1, 3]);
    temp.set_len(2 * HALF as u64 + 1).unwrap();
    assert_eq!(setup.restarted().listed().await, [1]);
}

#[tokio::test]
async fn a_crash_between_the_rename_and_the_end_of_the_journal_leaves_a_complete_object() {
    let setup = begun().await;
    let part = setup.put(1, b"whole").await;
    let journal = fs::read(&setup.files.journal).unwrap();
    setup.complete(std::slice::from_ref(&part), 5).await.unwrap();
    fs::write(&setup.files.journal, journal).unwrap();

    let setup = setup.restarted();
    assert_eq!(setup.store.list_parts(&setup.upload).await.unwrap_err().trouble, Trouble::NoSuchUpload);
    assert_eq!(setup.complete(&[part], 5).await.unwrap_err().trouble, Trouble::NoSuchUpload);
    let facts = setup.store.head(&setup.upload.key).await.unwrap().unwrap();
    assert_eq!((facts.size_bytes, facts.token.as_deref()), (5, Some("token")));
    assert_eq!(setup.store.list_uploads(&setup.upload.key).await.unwrap(), []);
    assert_eq!(fs::read_dir(&setup.files.dir).unwrap().count(), 1, "the journal is swept");
    assert_eq!(fs::read(setup.object()).unwrap(), b"whole");
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_an_upload_that_does_not_know_what_was_cut_off() {
    let setup = begun().await;
    let first = setup.put(1, &bytes(1, HALF)).await;
    let second = setup.put(2, &bytes(2, HALF)).await;
    // Something in the way lets the last step fail, as late as a crash would.
    fs::create_dir(setup.object()).unwrap();
    let error = setup.complete(std::slice::from_ref(&first), HALF).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.hint.contains("directory"), "{}", error.hint);
    fs::remove_dir(setup.object()).unwrap();

    // The recording went on. What was cut off must not come back as zeros.
    let setup = setup.restarted();
    let third = setup.put(3, &bytes(3, HALF)).await;
    assert_eq!(setup.listed().await, [1, 3]);
    let error = setup.complete(&[first.clone(), second, third.clone()], 3 * HALF).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
    let second = setup.put(2, &bytes(2, HALF)).await;
    setup.complete(&[first, second, third], 3 * HALF).await.unwrap();
    assert_eq!(fs::read(setup.object()).unwrap(), [bytes(1, HALF), bytes(2, HALF), bytes(3, HALF)].concat());
}

#[tokio::test]
async fn a_crash_while_a_part_was_overwritten_leaves_neither_the_old_nor_the_new_one() {
    let setup = begun().await;
    let old = setup.put(1, &bytes(1, HALF)).await;
    let (source, new) = file_body(&bytes(2, HALF)).await;
    source.write_all_at(b"changed", 0).unwrap();
    let error = setup.store.put_part(&setup.upload, number(1), 0, new).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");

    let setup = setup.restarted();
    assert_eq!(setup.listed().await, [] as [u32; 0]);
    assert_eq!(setup.complete(&[old], HALF).await.unwrap_err().trouble, Trouble::InvalidPart);
}

#[tokio::test]
async fn parts_that_do_not_make_the_whole_are_refused() {
    let setup = begun().await;
    let first = setup.put(1, &bytes(1, HALF)).await;
    let second = setup.put(2, &bytes(2, HALF)).await;
    let third = setup.put(3, &bytes(3, HALF)).await;
    for (parts, size) in [
        (vec![first.clone(), third.clone()], 2 * HALF),
        (vec![first.clone(), second.clone()], 2 * HALF + 1),
        (vec![first.clone(), second.clone(), third], 2 * HALF),
    ] {
        let error = setup.complete(&parts, size).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
    }
    let crc = Some(Crc64Nvme::of(b"something else"));
    let error = setup.store.complete(&setup.upload, &[first, second], crc, 2 * HALF as u64).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");

    // Numbers tell the order, as in S3, wherever the bytes lie.
    let setup = begun().await;
    let mut parts = Vec::new();
    for (part, offset) in [(2, 0), (1, HALF as u64)] {
        let stored = setup.store.put_part(&setup.upload, number(part), offset, body(&[7; HALF])).await.unwrap();
        parts.push(CompletedPart { number: number(part), etag: stored.etag, crc: None });
    }
    assert_eq!(setup.complete(&parts, 2 * HALF).await.unwrap_err().trouble, Trouble::InvalidPart);
}

#[tokio::test]
async fn a_crash_while_an_upload_was_begun_or_aborted_leaves_no_upload() {
    let setup = begun().await;
    fs::remove_file(&setup.files.journal).unwrap();
    assert_eq!(setup.store.list_uploads(&setup.upload.key).await.unwrap(), []);
    assert!(setup.files.temp.exists(), "it may be somebody's beginning");
    let long_ago = SystemTime::now() - std::time::Duration::from_hours(25);
    File::options().write(true).open(&setup.files.temp).unwrap().set_modified(long_ago).unwrap();
    setup.store.list_uploads(&setup.upload.key).await.unwrap();
    assert!(!setup.files.temp.exists());

    // The journal had a name already, and no word in it; a torn first one is none.
    for said in [&b""[..], b"\nupload 1 64"] {
        let setup = begun().await;
        fs::write(&setup.files.journal, said).unwrap();
        assert_eq!(setup.store.list_uploads(&setup.upload.key).await.unwrap(), []);
        assert!(setup.files.temp.exists() && setup.files.journal.exists(), "it may be somebody's beginning");
        File::options().write(true).open(&setup.files.journal).unwrap().set_modified(long_ago).unwrap();
        fs::write(&setup.files.temp, b"bytes").unwrap();
        setup.store.list_uploads(&setup.upload.key).await.unwrap();
        assert!(setup.files.temp.exists(), "no beginning has bytes");
        fs::write(&setup.files.temp, b"").unwrap();
        setup.store.list_uploads(&setup.upload.key).await.unwrap();
        assert_eq!(fs::read_dir(&setup.files.dir).unwrap().count(), 0);
    }

    let setup = begun().await;
    fs::remove_file(&setup.files.temp).unwrap();
    assert_eq!(setup.store.list_parts(&setup.upload).await.unwrap_err().trouble, Trouble::NoSuchUpload);
    setup.store.abort(&setup.upload).await.unwrap();
    assert_eq!(fs::read_dir(&setup.files.dir).unwrap().count(), 0);
}

#[tokio::test]
async fn a_single_request_that_fails_leaves_the_old_object_and_no_litter() {
    let setup = begun().await;
    let key = ObjectKey::from_bytes(b"dir/b.mp4".to_vec());
    setup.store.put_object(&key, None, "video/mp4", body(b"old")).await.unwrap();
    let (source, new) = file_body(&bytes(1, 100)).await;
    source.set_len(50).unwrap();
    setup.store.put_object(&key, None, "video/mp4", new).await.unwrap_err();
    assert_eq!(fs::read(setup.store.object(&key)).unwrap(), b"old");
    let names: Vec<_> = fs::read_dir(&setup.files.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "the upload's two files and the object: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_one_upload_take_turns_and_a_given_up_one_gives_its_turn_back() {
    let setup = begun().await;
    let first = setup.put(1, &bytes(1, HALF)).await;
    let (source, slow) = file_body(&vec![0; 4 << 20]).await;
    let slow = slow.paced(Pacer::limited(4 << 20, 1), Need { backlog: false, since: Tick(0) });
    let mut put = Box::pin(setup.store.put_part(&setup.upload, number(2), HALF as u64, slow));
    while fs::metadata(&setup.files.temp).unwrap().len() <= HALF as u64 {
        tokio::select! {
            biased;
            done = &mut put => panic!("it was not slow: {done:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let mut complete = Box::pin(setup.complete(std::slice::from_ref(&first), HALF));
    while fs::metadata(&setup.files.temp).unwrap().len() < 2 << 20 {
        tokio::select! {
            biased;
            done = &mut complete => panic!("it did not wait for its turn: {done:?}"),
            done = &mut put => panic!("it was not slow: {done:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(put);
    complete.await.unwrap();
    while Arc::strong_count(&source) > 1 {
        tokio::task::yield_now().await; // until the reading thread has noticed
    }
    assert_eq!(fs::read(setup.object()).unwrap(), bytes(1, HALF));
}

#[tokio::test]
async fn a_directory_that_disappears_is_an_outage_and_is_not_made_again() {
    let setup = begun().await;
    let elsewhere = setup.dir.path().with_extension("unmounted");
    fs::rename(setup.dir.path(), &elsewhere).unwrap();
    for error in [
        setup.store.create_upload(&setup.upload.key, "t").await.unwrap_err(),
        setup.store.preflight().await.unwrap_err(),
        setup.store.list_parts(&setup.upload).await.unwrap_err(),
    ] {
        assert_eq!(error.trouble, Trouble::Outage, "{error}");
    }
    assert!(!setup.dir.path().exists());
    fs::rename(&elsewhere, setup.dir.path()).unwrap();
    setup.put(1, b"x").await;

    let other = LocalStore::open(setup.dir.path());
    other.device.set(u64::MAX).unwrap();
    let error = other.preflight().await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Outage, "{error}");
}

#[tokio::test]
async fn the_destination_is_created_and_stays_clean() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path().join("new/deep"));
    store.preflight().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("new/deep")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_as_long_as_the_file_system_allows_is_no_trouble_and_a_longer_one_is_refused() {
    let setup = begun().await;
    let key = ObjectKey::from_bytes(vec![b'x'; 255]);
    let id = setup.store.create_upload(&key, "t").await.unwrap().id;
    let upload = UploadRef { key: key.clone(), id };
    let stored = setup.store.put_part(&upload, number(1), 0, body(b"x")).await.unwrap();
    let part = CompletedPart { number: number(1), etag: stored.etag, crc: None };
    setup.store.complete(&upload, &[part], None, 1).await.unwrap();
    assert_eq!(setup.store.head(&key).await.unwrap().unwrap().size_bytes, 1);

    let key = ObjectKey::from_bytes(vec![b'x'; 256]);
    let error = setup.store.create_upload(&key, "t").await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
    let error = setup.store.put_object(&key, None, "video/mp4", body(b"x")).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
}

#[tokio::test]
async fn what_is_in_the_way_is_said() {
    let setup = begun().await;
    fs::write(setup.dir.path().join("file"), b"").unwrap();
    let below_file = ObjectKey::from_bytes(b"file/deep/a.mp4".to_vec());
    let a_directory = ObjectKey::from_bytes(b"dir".to_vec());
    for key in [below_file, a_directory] {
        assert_eq!(setup.store.head(&key).await.unwrap(), None);
        for error in [
            setup.store.create_upload(&key, "t").await.unwrap_err(),
            setup.store.put_object(&key, None, "video/mp4", body(b"x")).await.unwrap_err(),
        ] {
            assert_eq!(error.trouble, Trouble::Denied, "{error}");
            assert!(error.hint.contains("rename"), "{error}: {}", error.hint);
        }
    }
    let store = LocalStore::open(setup.dir.path().join("file"));
    assert_eq!(store.preflight().await.unwrap_err().trouble, Trouble::Denied);
}

fn hidden_files(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".reeltime-")).collect()
}

#[tokio::test]
async fn what_a_crash_left_of_an_object_is_used_by_the_next_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path());
    let key = ObjectKey::from_bytes(b"a.mp4".to_vec());
    let (left, file) = files::create_put_temp(&store.object(&key)).unwrap();
    file.write_all_at(&[7; 5000], 0).unwrap();
    drop(file); // as the end of the process does
    assert!(left.exists());
    store.put_object(&key, Some("token"), "video/mp4", body(&bytes(1, 100))).await.unwrap();
    assert_eq!(fs::read(dir.path().join("a.mp4")).unwrap(), bytes(1, 100));
    assert_eq!(hidden_files(&dir), [""; 0]);
}

#[tokio::test]
async fn two_who_store_the_same_object_do_not_write_into_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path());
    let key = ObjectKey::from_bytes(b"a.mp4".to_vec());
    let (other, at_work) = files::create_put_temp(&store.object(&key)).unwrap();
    at_work.write_all_at(&[7; 5000], 0).unwrap();
    store.put_object(&key, None, "video/mp4", body(&bytes(1, 100))).await.unwrap();
    assert_eq!(fs::read(dir.path().join("a.mp4")).unwrap(), bytes(1, 100));
    assert_eq!(fs::read(&other).unwrap(), [7; 5000]);
}

#[tokio::test]
async fn the_journal_that_a_crash_left_after_the_rename_goes_when_the_upload_is_asked_for() {
    let setup = begun().await;
    setup.put(1, &bytes(1, HALF)).await;
    fs::rename(&setup.files.temp, setup.store.object(&setup.upload.key)).unwrap();
    let asked = setup.store.list_parts(&setup.upload).await;
    assert_eq!(asked.unwrap_err().trouble, Trouble::NoSuchUpload);
    assert!(!setup.files.journal.exists());
}
