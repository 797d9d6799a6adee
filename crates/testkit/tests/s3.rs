//! The independent S3 client against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use testkit::digest::sha256_of_bytes;
use testkit::servers::Moto;

#[test]
fn keys_of_any_kind_come_back_as_they_were() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("strange");
    let mut keys: Vec<String> =
        ["plain.mp4", "a b/c d.mp4", "q'uo\"te.mp4", "per%cent%20.mp4", "plus+.mp4", "Grüße/試験.mp4", "a&b<c>.mp4"]
            .map(str::to_owned)
            .into();
    keys.sort();
    for key in &keys {
        s3.put("strange", key, key.as_bytes());
    }
    assert_eq!(s3.keys("strange"), keys);
    for key in &keys {
        assert_eq!(s3.get("strange", key).unwrap(), key.as_bytes(), "{key:?}");
        assert_eq!(s3.sha256("strange", key).unwrap(), sha256_of_bytes(key.as_bytes()));
        assert_eq!(s3.head("strange", key).unwrap().size_bytes, key.len() as u64);
        let upload = s3.create_upload("strange", key);
        let found: Vec<_> = s3.uploads("strange").into_iter().map(|upload| (upload.key, upload.upload_id)).collect();
        assert_eq!(found, [(key.clone(), upload.clone())]);
        assert_eq!(s3.parts("strange", key, &upload), Some(vec![]));
        s3.abort("strange", key, &upload);
        assert_eq!(s3.parts("strange", key, &upload), None);
    }
    assert_eq!(s3.get("strange", "not there"), None);
    assert!(s3.head("strange", "not there").is_none());
}

#[test]
fn lists_are_read_to_their_last_page() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("many");
    let upload = s3.create_upload("many", "object");
    for number in 1..=1005 {
        s3.upload_part("many", "object", &upload, number, b"x");
        s3.put("many", &format!("small/{number:04}"), b"");
    }
    let parts = s3.parts("many", "object", &upload).unwrap();
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), (1..=1005).collect::<Vec<_>>());
    assert_eq!(s3.objects("many", "small/").len(), 1005);
}

#[test]
fn a_multipart_object_is_its_parts_in_order() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("bucket");
    let upload = s3.create_upload("bucket", "k");
    let first = vec![1; 5 << 20];
    s3.upload_part("bucket", "k", &upload, 2, b"tail");
    s3.upload_part("bucket", "k", &upload, 1, &first);
    s3.complete("bucket", "k", &upload);
    assert_eq!(s3.sha256("bucket", "k").unwrap(), sha256_of_bytes(&[first.as_slice(), b"tail"].concat()));
    assert_eq!(s3.uploads("bucket"), []);
}

#[test]
fn an_unfinished_upload_bears_the_time_of_its_beginning() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("dated");
    s3.create_upload("dated", "k");
    let initiated = s3.uploads("dated").remove(0).initiated;
    assert!(initiated.as_str() > "2026", "moto alone says 2010 of every upload: {initiated}");
}

#[test]
fn a_part_for_an_upload_that_does_not_exist_is_refused_as_everywhere() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("aborted");
    let upload = s3.create_upload("aborted", "k");
    s3.abort("aborted", "k", &upload);
    let id = ("uploadId", upload.as_str());
    let list =
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>";
    let part = s3.call("PUT", "aborted", "k", &[("partNumber", "1"), id], &[], b"x").unwrap();
    let completion = s3.call("POST", "aborted", "k", &[id], &[], list).unwrap();
    for answer in [part, completion] {
        assert_eq!(answer.status, 404, "{}", answer.text());
        assert!(answer.text().contains("NoSuchUpload"), "{}", answer.text());
    }
}

#[test]
fn a_restarted_moto_is_empty_at_the_same_address() {
    let moto = Moto::start();
    let s3 = moto.with_bucket("gone");
    moto.restart();
    let answer = s3.call("HEAD", "gone", "", &[], &[], &[]).unwrap();
    assert_eq!(answer.status, 404);
}
