//! The S3 servers that tests run on, and the independent client against servers that verify
//! what it signs.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use testkit::digest::sha256_of_bytes;
use testkit::servers::{Credentials, Provider, S3};

testkit::on_every_store! {
    every_request_of_the_client_is_understood
    buckets_are_created_and_deleted
    lists_are_read_to_their_last_page
    a_wrong_secret_is_refused
    a_bucket_and_what_is_in_it_end_with_their_test
    what_was_stored_is_there_after_a_kill
    a_frozen_server_goes_on_where_it_stood
    replaced_credentials_are_the_only_ones
}

const PART: usize = 5 << 20;

fn every_request_of_the_client_is_understood(provider: Provider) {
    let store = provider.store();
    let (s3, bucket) = (store.s3(), store.bucket());
    assert_eq!(s3.keys(bucket), Vec::<String>::new());
    let mut keys: Vec<String> =
        ["plain.mp4", "a b/c d.mp4", "q'uo\"te.mp4", "per%cent%20.mp4", "plus+.mp4", "Grüße/試験.mp4", "a&b<c>.mp4"]
            .map(str::to_owned)
            .into();
    keys.sort();
    for key in &keys {
        s3.put(bucket, key, key.as_bytes());
    }
    assert_eq!(s3.keys(bucket), keys);
    assert_eq!(s3.objects(bucket, "a b/").len(), 1);
    for key in &keys {
        assert_eq!(s3.get(bucket, key).unwrap(), key.as_bytes(), "{key:?}");
        assert_eq!(s3.head(bucket, key).unwrap().size_bytes, key.len() as u64);
        let upload = s3.create_upload(bucket, key);
        let found: Vec<_> =
            s3.uploads_of(bucket, key).into_iter().map(|upload| (upload.key, upload.upload_id)).collect();
        assert_eq!(found, [(key.clone(), upload.clone())]);
        assert_eq!(s3.parts(bucket, key, &upload), Some(vec![]));
        assert_eq!(store.unfinished([key]).len(), 1, "{key:?}");
        s3.abort(bucket, key, &upload);
        assert_eq!(s3.parts(bucket, key, &upload), None);
        assert_eq!(store.unfinished([key]), Vec::<String>::new());
        s3.delete(bucket, key);
        assert!(s3.head(bucket, key).is_none());
    }
    assert_eq!(s3.get(bucket, "not there"), None);

    let first = vec![1; PART];
    let upload = s3.create_upload(bucket, "k");
    s3.upload_part(bucket, "k", &upload, 2, b"tail");
    let etag = s3.upload_part(bucket, "k", &upload, 1, &first);
    let parts = s3.parts(bucket, "k", &upload).unwrap();
    assert_eq!(parts.iter().map(|part| (part.number, part.size_bytes)).collect::<Vec<_>>(), [(1, PART as u64), (2, 4)]);
    assert_eq!(parts[0].etag, etag);
    s3.complete(bucket, "k", &upload);
    assert_eq!(s3.sha256(bucket, "k").unwrap(), sha256_of_bytes(&[first.as_slice(), b"tail"].concat()));
    assert_eq!(store.unfinished(["k"]), Vec::<String>::new());
}

fn buckets_are_created_and_deleted(provider: Provider) {
    let store = provider.store();
    let s3 = store.s3();
    let bucket = format!("{}-b", store.bucket());
    s3.create_bucket(&bucket);
    s3.put(&bucket, "a", b"object");
    assert_eq!(s3.keys(&bucket), ["a"]);
    s3.delete(&bucket, "a");
    s3.delete_bucket(&bucket);
    let answer = s3.call("GET", &bucket, "", &[("list-type", "2")], &[], &[]).unwrap();
    assert_eq!(answer.status, 404, "{}", answer.text());
}

fn lists_are_read_to_their_last_page(provider: Provider) {
    let store = provider.own_store();
    let (s3, bucket) = (store.s3(), store.bucket());
    let upload = s3.create_upload(bucket, "object");
    for number in 1..=1005 {
        s3.upload_part(bucket, "object", &upload, number, b"x");
        s3.put(bucket, &format!("small/{number:04}"), b"");
    }
    let parts = s3.parts(bucket, "object", &upload).unwrap();
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), (1..=1005).collect::<Vec<_>>());
    assert_eq!(s3.objects(bucket, "small/").len(), 1005);
    s3.abort(bucket, "object", &upload);
}

fn a_wrong_secret_is_refused(provider: Provider) {
    let store = provider.store();
    let right = store.credentials();
    let secret = format!("{}0", &right.secret_access_key[..right.secret_access_key.len() - 1]);
    let wrong = S3::new(store.endpoint(), Credentials { secret_access_key: secret, ..right });
    let answer = wrong.call("GET", store.bucket(), "", &[("list-type", "2")], &[], &[]).unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
}

fn what_was_stored_is_there_after_a_kill(provider: Provider) {
    let store = provider.own_store();
    let (s3, bucket) = (store.s3(), store.bucket());
    let Some(process) = store.process() else { return };
    s3.put(bucket, "a", b"object");
    let upload = s3.create_upload(bucket, "b");
    s3.upload_part(bucket, "b", &upload, 1, b"part");
    process.kill();
    assert!(!s3.answers());
    store.restart();
    assert_eq!(s3.get(bucket, "a").unwrap(), b"object");
    assert_eq!(s3.parts(bucket, "b", &upload).unwrap().len(), 1);
    s3.complete(bucket, "b", &upload);
    assert_eq!(s3.get(bucket, "b").unwrap(), b"part");
}

fn a_frozen_server_goes_on_where_it_stood(provider: Provider) {
    let store = provider.own_store();
    let Some(process) = store.process() else { return };
    process.freeze();
    let (s3, bucket) = (store.s3(), store.bucket().to_owned());
    let request = std::thread::spawn(move || s3.put(&bucket, "a", b"object"));
    process.thaw();
    request.join().unwrap();
    assert_eq!(store.s3().get(store.bucket(), "a").unwrap(), b"object");
}

fn replaced_credentials_are_the_only_ones(provider: Provider) {
    let store = provider.own_store();
    let before = store.s3();
    if store.process().is_none() {
        return;
    }
    before.put(store.bucket(), "a", b"object");
    let new = store.replace_credentials();
    assert_eq!(store.credentials().access_key_id, new.access_key_id);
    assert_eq!(store.s3().get(store.bucket(), "a").unwrap(), b"object");
    assert_eq!(before.call("GET", store.bucket(), "a", &[], &[], &[]).unwrap().status, 403);
}

fn a_bucket_and_what_is_in_it_end_with_their_test(provider: Provider) {
    let other = provider.store();
    for fails in [false, true] {
        let store = provider.store();
        let bucket = store.bucket().to_owned();
        assert_ne!(bucket, other.bucket());
        store.s3().put(&bucket, "a", b"object");
        store.s3().create_upload(&bucket, "b");
        let test = std::thread::spawn(move || assert!(store.s3().keys(store.bucket()).is_empty() || !fails));
        assert_eq!(test.join().is_err(), fails);
        let answer = other.s3().call("GET", &bucket, "", &[("list-type", "2")], &[], &[]).unwrap();
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
}
