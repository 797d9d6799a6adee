//! The store alone, as reeltime's other parts use it.

use bytes::Bytes;
use reeltime::storage::{CompletedPart, CopySource, ObjectStore, PartBody, S3Config, S3Store, UploadRef};
use reeltime_core::{ByteRange, Crc64Nvme, ObjectKey, PartNumber, Trouble};
use testkit::servers::{Provider, Store};

use crate::world::S3_PART;

testkit::on_every_store! {
    a_new_client_goes_on_with_a_stored_upload_id_and_etags
    a_part_that_is_replaced_before_completion_counts
    a_part_is_copied_of_the_object_that_is_meant_and_of_no_other
}

fn a_new_client_goes_on_with_a_stored_upload_id_and_etags(provider: Provider) {
    let store = provider.store();
    let whole = noise(2 * S3_PART as usize + 4321);
    let (first, rest) = whole.split_at(S3_PART as usize);
    let (second, third) = rest.split_at(S3_PART as usize);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (id, etag) = runtime.block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id: client.create_upload(&key("a.mp4"), "t.1").await.unwrap().id };
        (upload.id.clone(), put(&client, &upload, 1, first).await.etag)
    });
    // Nothing but the id and the ETag is known from here on.
    runtime.block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id };
        let listed = client.list_parts(&upload).await.unwrap();
        assert_eq!(listed.iter().map(|part| (part.number.get(), part.size_bytes)).collect::<Vec<_>>(), [(1, S3_PART)]);
        assert_eq!(listed[0].etag, etag);
        let kept = CompletedPart { number: number(1), etag, crc: Some(Crc64Nvme::of(first)) };
        let parts = [kept, put(&client, &upload, 2, second).await, put(&client, &upload, 3, third).await];
        client.complete(&upload, &parts, Some(Crc64Nvme::of(&whole)), whole.len() as u64).await.unwrap();
        let facts = client.head(&key("a.mp4")).await.unwrap().unwrap();
        assert_eq!((facts.size_bytes, facts.token.as_deref()), (whole.len() as u64, Some("t.1")));
        let gone = client.list_parts(&upload).await.unwrap_err();
        assert_eq!(gone.trouble, Trouble::NoSuchUpload, "{gone}");
    });
    assert!(store.s3().get(store.bucket(), "a.mp4").unwrap() == whole);
    assert_eq!(store.unfinished(["a.mp4"]), Vec::<String>::new());
}

fn a_part_that_is_replaced_before_completion_counts(provider: Provider) {
    let store = provider.store();
    let mut whole = noise(S3_PART as usize + 99);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = connect(&store).await;
        let upload = UploadRef { key: key("a.mp4"), id: client.create_upload(&key("a.mp4"), "t").await.unwrap().id };
        let outdated = put(&client, &upload, 1, &whole[..S3_PART as usize]).await;
        let tail = put(&client, &upload, 2, &whole[S3_PART as usize..]).await;
        whole[40..48].copy_from_slice(b"mdatsize");
        let head = put(&client, &upload, 1, &whole[..S3_PART as usize]).await;
        assert_ne!(outdated.etag, head.etag);
        let crc = Some(Crc64Nvme::of(&whole));
        let error = client.complete(&upload, &[outdated, tail.clone()], crc, whole.len() as u64).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
        client.complete(&upload, &[head, tail], crc, whole.len() as u64).await.unwrap();
    });
    assert!(store.s3().get(store.bucket(), "a.mp4").unwrap() == whole);
    assert_eq!(store.unfinished(["a.mp4"]), Vec::<String>::new());
}

fn a_part_is_copied_of_the_object_that_is_meant_and_of_no_other(provider: Provider) {
    let store = provider.store();
    let part = S3_PART as usize;
    let (old, name) = (noise(2 * part + 77), "ä b+%.mp4");
    let new = [&old[..2 * part], b"a longer tail".repeat(100).as_slice()].concat();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = connect(&store).await;
        let (sent, object_etag) = make(&client, name, &old).await;
        let id = client.create_upload_for(&key(name), "t.2", true).await.unwrap().id;
        let upload = UploadRef { key: key(name), id };
        let source = |at: usize| CopySource {
            object_etag: object_etag.clone(),
            range: ByteRange { offset: (at * part) as u64, len: S3_PART },
            part_etag: sent[at].etag.clone(),
            crc: sent[at].crc.unwrap(),
        };
        let mut parts = Vec::new();
        for (at, part) in sent.iter().enumerate().take(2) {
            let copied = client.copy_part(&upload, part.number, &source(at)).await.unwrap();
            assert_eq!(copied.etag, part.etag);
            parts.push(part.clone());
        }
        parts.push(put(&client, &upload, 3, &new[2 * part..]).await);
        client.complete(&upload, &parts, Some(Crc64Nvme::of(&new)), new.len() as u64).await.unwrap();
        assert_eq!(client.head(&key(name)).await.unwrap().unwrap().token.as_deref(), Some("t.2"));
        assert!(store.s3().get(store.bucket(), name).unwrap() == new);

        // The object is another by now.
        let id = client.create_upload_for(&key(name), "t.3", true).await.unwrap().id;
        let upload = UploadRef { key: key(name), id };
        let error = client.copy_part(&upload, number(1), &source(0)).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::InvalidPart, "{error}");
        assert!(error.cause.contains("PreconditionFailed"), "{error}");
        client.abort(&upload).await.unwrap();
    });
    assert_eq!(store.unfinished([name]), Vec::<String>::new());
}

/// Makes an object; its parts, and its `ETag`.
async fn make(client: &S3Store, name: &str, whole: &[u8]) -> (Vec<CompletedPart>, String) {
    let upload = UploadRef { key: key(name), id: client.create_upload(&key(name), "t.1").await.unwrap().id };
    let mut parts = Vec::new();
    for (number, bytes) in (1..).zip(whole.chunks(S3_PART as usize)) {
        parts.push(put(client, &upload, number, bytes).await);
    }
    client.complete(&upload, &parts, Some(Crc64Nvme::of(whole)), whole.len() as u64).await.unwrap();
    let etag = client.head(&key(name)).await.unwrap().unwrap().etag;
    (parts, etag)
}

async fn connect(store: &Store) -> S3Store {
    let keys = store.credentials();
    let given = aws_sdk_s3::config::Credentials::new(keys.access_key_id, keys.secret_access_key, None, None, "test");
    let config = S3Config {
        endpoint: Some(store.endpoint().to_owned()),
        region: Some(keys.region),
        credentials: Some(aws_sdk_s3::config::SharedCredentialsProvider::new(given)),
        ..S3Config::new(store.bucket(), "")
    };
    S3Store::connect(config).await.unwrap()
}

async fn put(client: &S3Store, upload: &UploadRef, part: u32, bytes: &[u8]) -> CompletedPart {
    let body = PartBody::of_bytes(Bytes::copy_from_slice(bytes));
    let offset = u64::from(part - 1) * S3_PART;
    let stored = client.put_part(upload, number(part), offset, body).await.unwrap();
    CompletedPart { number: number(part), etag: stored.etag, crc: Some(Crc64Nvme::of(bytes)) }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_relative(std::path::Path::new(name), &[]).unwrap()
}

fn number(part: u32) -> PartNumber {
    PartNumber::new(part).unwrap()
}

/// Bytes that differ from place to place.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(len)
    .collect()
}
