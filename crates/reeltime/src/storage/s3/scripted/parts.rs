//! Parts that are copied, and parts that are not replaced.

use crate::storage::CopySource;

use super::*;

const COPIED: &str = "<CopyPartResult><ETag>\"e1\"</ETag></CopyPartResult>";

fn source(part_etag: &str) -> CopySource {
    CopySource {
        object_etag: "whole-3".to_owned(),
        range: ByteRange { offset: 5 << 20, len: 5 << 20 },
        part_etag: part_etag.to_owned(),
        crc: Crc64Nvme::of(b"bytes"),
    }
}

async fn copy(store: &S3Store, part_etag: &str) -> Result<Stored, StoreError> {
    let key = ObjectKey::from_bytes("dir/ä b+%.mp4".into());
    store.copy_part(&UploadRef { key, id: "id-1".to_owned() }, PartNumber::FIRST.next(), &source(part_etag)).await
}

#[tokio::test]
async fn a_copy_names_the_range_and_the_only_object_that_is_meant() {
    let server = Server::saying([Answer::Say(200, COPIED.to_owned())]).await;
    assert_eq!(copy(&server.store().await, "e1").await.unwrap().etag, "e1");
    let asked = &server.asked()[0];
    assert!(asked.line.starts_with("PUT /bucket/dir/%C3%A4%20b%2B%25.mp4?"), "{}", asked.line);
    assert!(asked.line.contains("partNumber=2") && asked.line.contains("uploadId=id-1"), "{}", asked.line);
    assert_eq!(asked.header("x-amz-copy-source"), Some("bucket/dir/%C3%A4%20b%2B%25.mp4"));
    assert_eq!(asked.header("x-amz-copy-source-range"), Some("bytes=5242880-10485759"));
    assert_eq!(asked.header("x-amz-copy-source-if-match"), Some("\"whole-3\""));
    assert!(asked.body.is_empty());
}

#[tokio::test]
async fn a_copy_counts_only_if_the_answer_shows_the_bytes() {
    let with_checksum = |bytes: &[u8]| {
        let crc = Crc64Nvme::of(bytes).to_base64();
        let text =
            format!("<CopyPartResult><ETag>\"k\"</ETag><ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME></CopyPartResult>");
        Answer::Say(200, text)
    };
    let server = Server::saying([
        Answer::Say(200, COPIED.to_owned()),
        with_checksum(b"other"),
        error(412, "PreconditionFailed", "at least one of the pre-conditions you specified did not hold"),
        error(200, "InternalError", "try again"),
        with_checksum(b"bytes"),
    ])
    .await;
    let store = server.store().await;
    for (part_etag, trouble) in [
        ("e2", Trouble::InvalidPart),
        ("k", Trouble::InvalidPart),
        ("e1", Trouble::InvalidPart),
        ("e1", Trouble::Outage),
    ] {
        let error = copy(&store, part_etag).await.unwrap_err();
        assert_eq!(error.trouble, trouble, "{error}");
    }
    // Encrypted, the same bytes have another name.
    assert_eq!(copy(&store, "e1").await.unwrap().etag, "k");
}

#[tokio::test]
async fn a_store_that_does_not_copy_is_asked_once() {
    let server = Server::saying([error(501, "NotImplemented", "not implemented")]).await;
    let store = server.store().await;
    for _ in 0..3 {
        assert_eq!(copy(&store, "e1").await.unwrap_err().trouble, Trouble::Denied);
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_part_that_is_not_replaced_is_told_from_one_that_is_denied() {
    let refusal = || error(501, "NotImplemented", "a part may not be sent again");
    let server = Server::saying([error(403, "AccessDenied", "no"), refusal(), refusal()]).await;
    let store = server.store().await;
    assert_eq!(put(&store, small()).await.unwrap_err().trouble, Trouble::Denied);
    assert!(store.replaces_parts());
    let error = put(&store, small()).await.unwrap_err(); // once more without checksums
    assert_eq!(error.trouble, Trouble::NotReplaced, "{error}");
    assert!(error.hint.contains("PROVIDERS.md"), "{}", error.hint);
    assert!(!store.replaces_parts());
    assert!(server.all_said());
}

#[tokio::test]
async fn the_end_that_a_store_sets_an_upload_is_known() {
    let begun = "<InitiateMultipartUploadResult><UploadId>id-1</UploadId></InitiateMultipartUploadResult>";
    let server = Server::saying([Answer::Say(200, begun.to_owned())]).await;
    let new = server.store().await.create_upload(&key(), "t").await.unwrap();
    assert_eq!((new.id.as_str(), new.abort_at), ("id-1", Some(WallTime(1_798_761_600_000))));
}
