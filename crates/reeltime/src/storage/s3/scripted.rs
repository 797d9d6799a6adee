//! Answers that real stores give, but not those at hand: a server that says what it is told,
//! and keeps what it was asked.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod parts;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use reeltime_core::ByteRange;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Asked {
    /// Method and target.
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
enum Answer {
    /// Status and body, after the whole request was read.
    Say(u16, String),
    /// The same, before the request's body is read.
    SayAtOnce(u16, String),
    /// Nothing.
    Silence,
}

type Script = Arc<Mutex<VecDeque<Answer>>>;

/// What the store is asked, and what it says to each request in turn.
struct Server {
    endpoint: String,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn saying(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script: Script = Arc::new(Mutex::new(script.into_iter().collect()));
        let asked = Arc::default();
        let server = Self { endpoint, script: Arc::clone(&script), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, Arc::clone(&script), Arc::clone(&asked)));
            }
        });
        server
    }

    fn config(&self) -> S3Config {
        let credentials = Credentials::new("key", "secret", None, None, "test");
        S3Config {
            endpoint: Some(self.endpoint.clone()),
            region: Some("eu-west-1".to_owned()),
            credentials: Some(SharedCredentialsProvider::new(credentials)),
            ..S3Config::new("bucket", "")
        }
    }

    async fn store(&self) -> S3Store {
        S3Store::connect(self.config()).await.unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn all_said(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }
}

/// Where it does not matter, nobody looks at it.
const ABORT_DATE: &str = "x-amz-abort-date: Fri, 01 Jan 2027 00:00:00 GMT";

async fn talk(stream: TcpStream, script: Script, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let headers: Vec<_> = head[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut request = Asked { line: head[0].clone(), headers, body: Vec::new() };
        let answer = script.lock().unwrap().pop_front().unwrap_or(Answer::Silence);
        if !matches!(answer, Answer::SayAtOnce(..)) {
            request.body = vec![0; request.header("content-length").map_or(0, |len| len.parse().unwrap())];
            if stream.read_exact(&mut request.body).await.is_err() {
                return;
            }
        }
        asked.lock().unwrap().push(request);
        let (status, body, close) = match answer {
            Answer::Say(status, body) => (status, body, false),
            Answer::SayAtOnce(status, body) => (status, body, true),
            Answer::Silence => std::future::pending().await,
        };
        let connection = if close { "Connection: close\r\n" } else { "" };
        let len = body.len();
        let text = format!(
            "HTTP/1.1 {status} X\r\nETag: \"e\"\r\n{ABORT_DATE}\r\nContent-Length: {len}\r\n{connection}\r\n{body}"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            return;
        }
    }
}

fn ok() -> Answer {
    Answer::Say(200, String::new())
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::Say(status, error_body(code, message))
}

fn error_body(code: &str, message: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>")
}

fn initiated(key: &str) -> Answer {
    let body = format!(
        "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>id-1</UploadId>\
         </InitiateMultipartUploadResult>"
    );
    Answer::Say(200, body)
}

fn completed() -> Answer {
    let body = "<CompleteMultipartUploadResult><ETag>\"whole-1\"</ETag></CompleteMultipartUploadResult>";
    Answer::Say(200, body.to_owned())
}

fn key() -> ObjectKey {
    ObjectKey::from_bytes(b"dir/a.mp4".to_vec())
}

fn upload() -> UploadRef {
    UploadRef { key: key(), id: "id-1".to_owned() }
}

fn part_list() -> [CompletedPart; 1] {
    [CompletedPart { number: PartNumber::FIRST, etag: "e".to_owned(), crc: Some(Crc64Nvme::of(b"bytes")) }]
}

async fn complete(store: &S3Store) -> Result<Option<String>, StoreError> {
    store.complete(&upload(), &part_list(), Some(Crc64Nvme::of(b"bytes")), 5).await
}

async fn put(store: &S3Store, body: PartBody) -> Result<Stored, StoreError> {
    store.put_part(&upload(), PartNumber::FIRST, 0, body).await
}

fn small() -> PartBody {
    PartBody::of_bytes(bytes::Bytes::from_static(b"bytes"))
}

async fn file_body(len: u64) -> (Arc<File>, PartBody) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    let file = Arc::new(file);
    let body = PartBody::of_file(Arc::clone(&file), ByteRange { offset: 0, len }).await.unwrap();
    (file, body)
}

#[tokio::test]
async fn a_part_goes_unsigned_in_one_piece_with_its_checksum_before_it() {
    let server = Server::saying([ok(), ok()]).await;
    let (_file, body) = file_body(600_000).await;
    let crc = body.crc();
    assert_eq!(put(&server.store().await, body.clone()).await.unwrap().etag, "e");
    server.store().await.put_object(&key(), Some("s.1"), "video/mp4", body).await.unwrap();
    for asked in server.asked() {
        assert_eq!(asked.header("content-length"), Some("600000"), "{}", asked.line);
        assert_eq!(asked.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
        assert_eq!(asked.header("x-amz-checksum-crc64nvme"), Some(crc.to_base64().as_str()));
        for absent in ["transfer-encoding", "content-encoding", "x-amz-trailer", "content-md5", "expect"] {
            assert_eq!(asked.header(absent), None, "{absent}");
        }
        assert!(asked.body == vec![0; 600_000]);
    }
    assert_eq!(server.asked()[1].header("x-amz-meta-reeltime-token"), Some("s.1"));
}

#[tokio::test]
async fn a_store_by_name_is_not_expected_to_have_a_host_for_each_bucket() {
    let server = Server::saying([ok()]).await;
    let endpoint = Some(server.endpoint.replace("127.0.0.1", "localhost"));
    let store = S3Store::connect(S3Config { endpoint, ..server.config() }).await.unwrap();
    put(&store, small()).await.unwrap();
    assert!(server.asked()[0].line.starts_with("PUT /bucket/dir/a.mp4?"), "{}", server.asked()[0].line);
}

#[tokio::test]
async fn completion_states_the_checksum_of_the_whole_and_of_each_part() {
    let server = Server::saying([initiated("dir/a.mp4"), completed()]).await;
    let store = server.store().await;
    assert_eq!(store.create_upload(&key(), "s.1").await.unwrap().id, "id-1");
    assert_eq!(complete(&store).await.unwrap().as_deref(), Some("whole-1"));
    let [created, completed] = &server.asked()[..] else { panic!("{:?}", server.asked()) };
    assert_eq!(created.header("x-amz-checksum-algorithm"), Some("CRC64NVME"));
    assert_eq!(created.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(created.header("x-amz-meta-reeltime-token"), Some("s.1"));
    assert_eq!(created.header("content-type"), Some("video/mp4"));
    let crc = Crc64Nvme::of(b"bytes").to_base64();
    assert_eq!(completed.header("x-amz-checksum-crc64nvme"), Some(crc.as_str()));
    assert_eq!(completed.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    let list = String::from_utf8_lossy(&completed.body);
    assert!(list.contains(&format!("<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>")), "{list}");
}

#[tokio::test]
async fn a_success_with_an_error_inside_is_that_error() {
    for (code, trouble) in [
        ("InternalError", Trouble::Outage),
        ("SlowDown", Trouble::Outage),
        ("InvalidPart", Trouble::InvalidPart),
        ("EntityTooSmall", Trouble::InvalidPart),
        ("BadDigest", Trouble::InvalidPart),
        ("NoSuchUpload", Trouble::NoSuchUpload),
        ("AccessDenied", Trouble::Denied),
    ] {
        let server = Server::saying([error(200, code, "words")]).await;
        let error = complete(&server.store().await).await.unwrap_err();
        assert_eq!(error.trouble, trouble, "{error}");
        assert!(error.cause.contains(code) && error.cause.contains("words"), "{error}");
    }
    let server = Server::saying([Answer::Say(200, "<html>".to_owned())]).await;
    assert_eq!(complete(&server.store().await).await.unwrap_err().trouble, Trouble::Outage, "its effect is unknown");
}

#[tokio::test]
async fn what_the_store_says_reaches_the_operator() {
    for (status, code, trouble) in [
        (404, "NoSuchUpload", Trouble::NoSuchUpload),
        (404, "NoSuchBucket", Trouble::Denied),
        (403, "AccessDenied", Trouble::Denied),
        (403, "RequestTimeTooSkewed", Trouble::Outage),
        (503, "SlowDown", Trouble::Outage),
        (400, "EntityTooLarge", Trouble::Refused),
    ] {
        let server = Server::saying([error(status, code, "in its words")]).await;
        let error = put(&server.store().await, small()).await.unwrap_err();
        assert_eq!(error.trouble, trouble, "{error}");
        assert!(error.to_string().contains("UploadPart s3://bucket/dir/a.mp4 part 1: "), "{error}");
        assert!(error.to_string().contains(&format!("{code}: in its words (HTTP {status}")), "{error}");
        assert_eq!(server.asked().len(), 1, "nothing is tried again behind the core's back");
    }
    let server = Server::saying([Answer::Say(502, "<html>bad gateway</html>".to_owned())]).await;
    assert_eq!(put(&server.store().await, small()).await.unwrap_err().trouble, Trouble::Outage);
}

#[tokio::test]
async fn checksums_that_a_store_refuses_are_given_up_for_good() {
    for refusal in [
        error(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc64nvme' received for this API call."),
        error(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        error(400, "InvalidRequest", "The checksum algorithm is not supported"),
    ] {
        let server = Server::saying([refusal.clone(), initiated("k"), ok(), completed()]).await;
        let store = server.store().await;
        store.create_upload(&key(), "t").await.unwrap();
        put(&store, small()).await.unwrap();
        complete(&store).await.unwrap();
        assert!(server.all_said());
        for asked in &server.asked()[1..] {
            assert!(asked.headers.iter().all(|(name, _)| !name.contains("checksum")), "{asked:?}");
            assert!(!String::from_utf8_lossy(&asked.body).contains("Checksum"), "{asked:?}");
        }
        // The MD5 of "bytes".
        assert_eq!(server.asked()[2].header("content-md5"), Some("SzpiGLs+OnMD6KFxpg/Pkg=="));

        // With a part, it is the same.
        let server = Server::saying([refusal, ok(), ok()]).await;
        let store = server.store().await;
        put(&store, small()).await.unwrap();
        put(&store, small()).await.unwrap();
        let with_md5: Vec<_> = server.asked().iter().map(|asked| asked.header("content-md5").is_some()).collect();
        assert_eq!(with_md5, [false, true, true]);
    }
}

#[tokio::test]
async fn checksums_are_not_given_up_for_another_reason() {
    let missing = || error(501, "NotImplemented", "re-uploading a part");
    let server = Server::saying([missing(), missing(), ok()]).await;
    let store = server.store().await;
    assert_eq!(put(&store, small()).await.unwrap_err().trouble, Trouble::NotReplaced);
    put(&store, small()).await.unwrap();
    assert!(server.asked()[2].header("x-amz-checksum-crc64nvme").is_some());

    let server = Server::saying([error(400, "BadDigest", "The CRC64NVME checksum did not match"), ok()]).await;
    let store = server.store().await;
    assert_eq!(put(&store, small()).await.unwrap_err().trouble, Trouble::InvalidPart);
    put(&store, small()).await.unwrap();
    assert!(server.asked()[1].header("x-amz-checksum-crc64nvme").is_some());
}

#[tokio::test]
async fn a_store_that_notices_the_changed_bytes_is_not_blamed_for_them() {
    let server = Server::saying([error(400, "BadDigest", "The checksum did not match")]).await;
    let (file, body) = file_body(600_000).await;
    file.write_all_at(b"!", 599_999).unwrap();
    let error = put(&server.store().await, body).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::SourceChanged, "{error}");
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_large_part_is_heard() {
    let server = Server::saying([Answer::SayAtOnce(403, error_body("AccessDenied", "no"))]).await;
    let (_file, body) = file_body(64 << 20).await;
    let error = put(&server.store().await, body).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.cause.contains("AccessDenied"), "{error}");
}

#[tokio::test]
async fn a_key_that_xml_cannot_say_costs_nothing() {
    for in_xml in ["a\u{1}\nb", "a&#x1;&#10;b", "a\u{ffff}b"] {
        let result = Answer::Say(
            200,
            format!("<CompleteMultipartUploadResult><Key>{in_xml}</Key><ETag>e</ETag></CompleteMultipartUploadResult>"),
        );
        let parts = Answer::Say(
            200,
            format!(
                "<ListPartsResult><Key>{in_xml}</Key><IsTruncated>false</IsTruncated>\
                 <Part><PartNumber>1</PartNumber><ETag>\"e\"</ETag><Size>5</Size></Part></ListPartsResult>"
            ),
        );
        let server = Server::saying([initiated(in_xml), parts, result]).await;
        let store = server.store().await;
        let key = ObjectKey::from_bytes(b"a\x01\nb".to_vec());
        let upload = UploadRef { key: key.clone(), id: store.create_upload(&key, "t").await.unwrap().id };
        assert_eq!(store.list_parts(&upload).await.unwrap()[0].etag, "e");
        store.complete(&upload, &part_list(), None, 5).await.unwrap();
        assert!(server.asked().iter().all(|asked| asked.line.contains(" /bucket/a%01%0Ab?")), "{:?}", server.asked());
    }
}

#[tokio::test]
async fn uploads_are_found_under_encoded_keys_over_pages() {
    let page = |truncated: bool, uploads: &[(&str, &str)]| {
        let uploads: Vec<_> = uploads
            .iter()
            .map(|(key, id)| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
                     <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
                )
            })
            .collect();
        let uploads = uploads.concat();
        Answer::Say(
            200,
            format!(
                "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>\
                 <NextKeyMarker>a%0A+b</NextKeyMarker><NextUploadIdMarker>m</NextUploadIdMarker>{uploads}\
                 </ListMultipartUploadsResult>"
            ),
        )
    };
    let server =
        Server::saying([page(true, &[("a%0A+b", "1"), ("a%0A%2Bb", "no")]), page(false, &[("a%0A%20b", "2")])]).await;
    let key = ObjectKey::from_bytes(b"a\n b".to_vec());
    let uploads = server.store().await.list_uploads(&key).await.unwrap();
    assert_eq!(uploads.iter().map(|upload| upload.upload_id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(uploads[0].initiated, WallTime(1_767_323_045_000));
    let second = &server.asked()[1].line;
    assert!(second.contains("key-marker=a%0A%20b&") && second.contains("upload-id-marker=m"), "{second}");
}

#[tokio::test]
async fn a_list_that_does_not_end_is_given_up() {
    let page = "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker>\
                </ListPartsResult>";
    let server = Server::saying((0..3).map(|_| Answer::Say(200, page.to_owned()))).await;
    let error = server.store().await.list_parts(&upload()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Outage, "{error}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_missing_object_is_told_from_a_missing_bucket() {
    let listing = "<ListBucketResult></ListBucketResult>";
    let missing = || Answer::Say(404, String::new());
    let server = Server::saying([missing(), Answer::Say(200, listing.to_owned()), missing()]).await;
    let store = server.store().await;
    assert_eq!(store.head(&key()).await.unwrap(), None);
    assert_eq!(store.head(&key()).await.unwrap(), None);
    let asked: Vec<_> = server.asked().iter().map(|request| request.line[..4].to_owned()).collect();
    assert_eq!(asked, ["HEAD", "GET ", "HEAD"], "a bucket that was just there is believed in");

    let server = Server::saying([Answer::Say(404, String::new()), error(404, "NoSuchBucket", "gone")]).await;
    let error = server.store().await.head(&key()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.hint.contains("aws s3 mb s3://bucket"), "{}", error.hint);

    let server = Server::saying([Answer::Say(403, String::new()), Answer::Say(403, String::new())]).await;
    let error = server.store().await.head(&key()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.hint.contains("s3:ListBucket"), "{}", error.hint);
}

#[tokio::test]
async fn a_request_that_is_never_answered_ends() {
    let server = Server::saying([]).await;
    let patience = Patience { answer: Duration::from_millis(200), ..Patience::default() };
    let store = S3Store::connect(S3Config { patience, ..server.config() }).await.unwrap();
    let began = Instant::now();
    for error in [
        store.preflight().await.unwrap_err(),
        store.list_parts(&upload()).await.unwrap_err(),
        put(&store, small()).await.unwrap_err(),
    ] {
        assert_eq!(error.trouble, Trouble::Outage, "{error}");
        assert!(error.cause.contains("no answer"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Credentials from a file, as the standard chain reads them, but without its environment.
#[derive(Debug)]
struct FromFile(std::path::PathBuf);

impl ProvideCredentials for FromFile {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::{error::CredentialsError, future};
        future::ProvideCredentials::ready(match fs::read_to_string(&self.0) {
            Ok(key) => Ok(Credentials::new(key, "secret", None, None, "file")),
            Err(error) => Err(CredentialsError::not_loaded(error)),
        })
    }
}

#[tokio::test]
async fn refused_credentials_are_read_again_and_others_are_kept() {
    let expired = || error(400, "ExpiredToken", "The provided token has expired.");
    let server = Server::saying([ok(), ok(), expired(), ok()]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let credentials = Some(SharedCredentialsProvider::new(FromFile(file.clone())));
    let store = S3Store::connect(S3Config { credentials, ..server.config() }).await.unwrap();

    let error = put(&store, small()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.cause.contains("no credentials"), "{error}");
    assert!(error.hint.contains("AWS_ACCESS_KEY_ID"), "{}", error.hint);
    assert_eq!(server.asked().len(), 0);

    let used = |at: usize| {
        let authorization = server.asked()[at].header("authorization").unwrap().to_owned();
        authorization.split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned()
    };
    fs::write(&file, "first").unwrap();
    put(&store, small()).await.unwrap();
    fs::write(&file, "second").unwrap();
    put(&store, small()).await.unwrap();
    assert_eq!((used(0), used(1)), ("first".to_owned(), "first".to_owned()), "while they work, they are kept");
    let error = put(&store, small()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    store.clients.let_time_pass().await;
    put(&store, small()).await.unwrap();
    assert_eq!(used(3), "second");
}
