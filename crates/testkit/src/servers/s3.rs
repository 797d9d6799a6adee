//! An S3 client that is not reeltime's: for checking what a store really holds, and for putting
//! things there that reeltime has to cope with.
//!
//! Every call panics when the store refuses it; what is merely not there is `None`.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use super::sigv4::{Credentials, ToSign, encode, encode_query, sign};
use crate::digest::RunningSha256;
use crate::http::{self, Response};

/// How long a server may say that it is busy.
const BUSY: Duration = Duration::from_secs(30);

/// A client of one store.
#[derive(Clone, Debug)]
pub struct S3 {
    address: String,
    credentials: Credentials,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its `ETag`, without quotes.
    pub etag: String,
}

/// An unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadEntry {
    /// The key of the object to be.
    pub key: String,
    /// The store's id.
    pub upload_id: String,
    /// When it was begun, as the store says it.
    pub initiated: String,
}

/// A part of an unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// Its number.
    pub number: u32,
    /// Its size.
    pub size_bytes: u64,
    /// Its `ETag`, without quotes.
    pub etag: String,
}

/// What `HeadObject` says.
#[derive(Clone, Debug)]
pub struct Head {
    /// The object's size.
    pub size_bytes: u64,
    /// Its `ETag`, without quotes.
    pub etag: String,
    /// Its type.
    pub content_type: Option<String>,
    /// The fields `x-amz-meta-…`, without that prefix.
    pub metadata: BTreeMap<String, String>,
    /// All header fields.
    pub headers: Vec<(String, String)>,
}

impl S3 {
    /// A client of the store at `endpoint`: `http://host:port`.
    pub fn new(endpoint: &str, credentials: Credentials) -> Self {
        let address = endpoint.strip_prefix("http://").unwrap_or_else(|| panic!("only http:// is spoken: {endpoint}"));
        Self { address: address.trim_end_matches('/').to_owned(), credentials }
    }

    /// A client with the same credentials that comes by another address, such as a proxy's.
    #[must_use]
    pub fn by(&self, endpoint: &str) -> Self {
        Self::new(endpoint, self.credentials.clone())
    }

    /// Whether the store answers at all.
    pub fn answers(&self) -> bool {
        self.call("GET", "", "", &[], &[], &[]).is_ok_and(|response| response.status < 500)
    }

    /// Whether the store serves these credentials: lists their buckets.
    pub fn serves(&self) -> bool {
        self.call("GET", "", "", &[], &[], &[]).is_ok_and(|response| response.status == 200)
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, bucket: &str) {
        self.expect("PUT", bucket, "", &[], &[]);
    }

    /// Deletes an empty bucket.
    pub fn delete_bucket(&self, bucket: &str) {
        self.expect("DELETE", bucket, "", &[], &[]);
    }

    /// Stores an object.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.expect("PUT", bucket, key, &[], bytes);
    }

    /// Deletes an object.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.expect("DELETE", bucket, key, &[], &[]);
    }

    /// All objects whose keys begin with `prefix`, in the store's order.
    pub fn objects(&self, bucket: &str, prefix: &str) -> Vec<ObjectEntry> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")];
            if let Some(token) = &token {
                query.push(("continuation-token", token));
            }
            let xml = self.expect("GET", bucket, "", &query, &[]).text();
            let coded = text(&xml, "EncodingType").as_deref() == Some("url");
            all.extend(elements(&xml, "Contents").into_iter().map(|entry| ObjectEntry {
                key: key_of(entry, coded),
                size_bytes: number(entry, "Size"),
                etag: etag_of(entry),
            }));
            token = text(&xml, "NextContinuationToken");
            if token.is_none() {
                return all;
            }
        }
    }

    /// The keys of all objects of a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let mut keys: Vec<_> = self.objects(bucket, "").into_iter().map(|object| object.key).collect();
        keys.sort();
        keys
    }

    /// The bytes of an object.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.maybe("GET", bucket, key, &[]).map(|response| response.body)
    }

    /// The SHA-256 of an object's bytes in hex, computed here; memory does not grow with it.
    pub fn sha256(&self, bucket: &str, key: &str) -> Option<String> {
        let mut running = RunningSha256::default();
        let response = self.call_into("GET", bucket, key, &[], &[], &[], &mut |piece| running.update(piece));
        let response = response.unwrap_or_else(|error| panic!("GET {bucket}/{key}: {error}"));
        found(&response, "GET", bucket, key).then(|| running.finish())
    }

    /// What the store says of an object.
    pub fn head(&self, bucket: &str, key: &str) -> Option<Head> {
        let response = self.maybe("HEAD", bucket, key, &[])?;
        let length = response.header("content-length").and_then(|value| value.parse().ok());
        let metadata = response
            .headers
            .iter()
            .filter_map(|(name, value)| name.strip_prefix("x-amz-meta-").map(|name| (name.to_owned(), value.clone())));
        Some(Head {
            size_bytes: length.unwrap_or_else(|| panic!("HEAD {bucket}/{key}: no length in {response:?}")),
            etag: response.header("etag").unwrap_or("").trim_matches('"').to_owned(),
            content_type: response.header("content-type").map(str::to_owned),
            metadata: metadata.collect(),
            headers: response.headers.clone(),
        })
    }

    /// All unfinished uploads of a bucket. `MinIO` lists none of them this way.
    pub fn uploads(&self, bucket: &str) -> Vec<UploadEntry> {
        self.uploads_of(bucket, "")
    }

    /// The unfinished uploads of keys that begin with `prefix`; with `MinIO` of this key.
    pub fn uploads_of(&self, bucket: &str, prefix: &str) -> Vec<UploadEntry> {
        let mut all = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("encoding-type", "url")];
            if !prefix.is_empty() {
                query.push(("prefix", prefix));
            }
            if let Some((key, id)) = &marker {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let xml = self.expect("GET", bucket, "", &query, &[]).text();
            let coded = text(&xml, "EncodingType").as_deref() == Some("url");
            all.extend(elements(&xml, "Upload").into_iter().map(|entry| UploadEntry {
                key: key_of(entry, coded),
                upload_id: text(entry, "UploadId").unwrap_or_default(),
                initiated: text(entry, "Initiated").unwrap_or_default(),
            }));
            if text(&xml, "IsTruncated").as_deref() != Some("true") {
                return all;
            }
            let next = text(&xml, "NextKeyMarker").unwrap_or_default();
            let next = if coded { decode(&next, true) } else { next };
            marker = Some((next, text(&xml, "NextUploadIdMarker").unwrap_or_default()));
        }
    }

    /// All parts of an unfinished upload, in order; `None` if there is no such upload.
    pub fn parts(&self, bucket: &str, key: &str, upload_id: &str) -> Option<Vec<PartEntry>> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut query = vec![("uploadId", upload_id)];
            if let Some(marker) = &marker {
                query.push(("part-number-marker", marker));
            }
            let xml = self.maybe("GET", bucket, key, &query)?.text();
            all.extend(elements(&xml, "Part").into_iter().map(|entry| PartEntry {
                number: number(entry, "PartNumber") as u32,
                size_bytes: number(entry, "Size"),
                etag: etag_of(entry),
            }));
            if text(&xml, "IsTruncated").as_deref() != Some("true") {
                return Some(all);
            }
            marker = text(&xml, "NextPartNumberMarker");
        }
    }

    /// Begins an upload and gives its id.
    pub fn create_upload(&self, bucket: &str, key: &str) -> String {
        let xml = self.expect("POST", bucket, key, &[("uploads", "")], &[]).text();
        text(&xml, "UploadId").unwrap_or_else(|| panic!("CreateMultipartUpload {bucket}/{key}: no id in {xml}"))
    }

    /// Stores a part and gives its `ETag`, without quotes.
    pub fn upload_part(&self, bucket: &str, key: &str, upload_id: &str, number: u32, bytes: &[u8]) -> String {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload_id)];
        let response = self.expect("PUT", bucket, key, &query, bytes);
        response.header("etag").unwrap_or("").trim_matches('"').to_owned()
    }

    /// Makes the object of all parts that the upload has.
    pub fn complete(&self, bucket: &str, key: &str, upload_id: &str) {
        let parts = self.parts(bucket, key, upload_id).unwrap_or_else(|| panic!("no upload {upload_id} of {key}"));
        let parts: String = parts
            .iter()
            .map(|part| format!("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", part.number, part.etag))
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let answer = self.expect("POST", bucket, key, &[("uploadId", upload_id)], document.as_bytes()).text();
        assert!(!answer.contains("<Error>"), "CompleteMultipartUpload {bucket}/{key}: {answer}");
    }

    /// Drops an upload and its parts.
    pub fn abort(&self, bucket: &str, key: &str, upload_id: &str) {
        self.expect("DELETE", bucket, key, &[("uploadId", upload_id)], &[]);
    }

    /// Any request, signed, whatever the answer.
    pub fn call(
        &self,
        method: &str,
        bucket: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut collected = Vec::new();
        let mut response = self.call_into(method, bucket, key, query, headers, body, &mut |piece| {
            collected.extend_from_slice(piece);
        })?;
        response.body = collected;
        Ok(response)
    }

    #[allow(clippy::too_many_arguments)]
    fn call_into(
        &self,
        method: &str,
        bucket: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Response> {
        let path = match (bucket, key) {
            ("", _) => "/".to_owned(),
            (bucket, "") => format!("/{bucket}"),
            (bucket, key) => format!("/{bucket}/{}", encode(key, true)),
        };
        let request = ToSign { method, host: &self.address, path: &path, query, headers };
        let headers = sign(&request, &self.credentials, SystemTime::now());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let target = if query.is_empty() { path } else { format!("{path}?{}", encode_query(query)) };
        http::request_into(&self.address, method, &target, &headers, body, sink)
    }

    /// A request that must be fulfilled; by a busy server not at once, as S3 allows.
    fn expect(&self, method: &str, bucket: &str, key: &str, query: &[(&str, &str)], body: &[u8]) -> Response {
        let deadline = Instant::now() + BUSY;
        let response = loop {
            let response = self
                .call(method, bucket, key, query, &[], body)
                .unwrap_or_else(|error| panic!("{method} {bucket}/{key} {query:?} at {}: {error}", self.address));
            if response.status != 503 || Instant::now() > deadline {
                break response;
            }
            std::thread::sleep(Duration::from_millis(100)); // between two attempts
        };
        let (status, text) = (response.status, response.text());
        assert!((200..300).contains(&status), "{method} {bucket}/{key} {query:?}: {status} {text}");
        response
    }

    /// A request about something that may not be there.
    fn maybe(&self, method: &str, bucket: &str, key: &str, query: &[(&str, &str)]) -> Option<Response> {
        let response = self
            .call(method, bucket, key, query, &[], &[])
            .unwrap_or_else(|error| panic!("{method} {bucket}/{key} {query:?} at {}: {error}", self.address));
        found(&response, method, bucket, key).then_some(response)
    }
}

fn found(response: &Response, method: &str, bucket: &str, key: &str) -> bool {
    match response.status {
        200 => true,
        404 => {
            assert!(!response.text().contains("NoSuchBucket"), "{method} {bucket}/{key}: there is no bucket {bucket}");
            false
        }
        status => panic!("{method} {bucket}/{key}: {status} {}", response.text()),
    }
}

fn key_of(entry: &str, coded: bool) -> String {
    let key = text(entry, "Key").unwrap_or_default();
    if coded { decode(&key, true) } else { key }
}

fn etag_of(entry: &str) -> String {
    text(entry, "ETag").unwrap_or_default().trim_matches('"').to_owned()
}

fn number(entry: &str, tag: &str) -> u64 {
    let value = text(entry, tag).unwrap_or_default();
    value.parse().unwrap_or_else(|_| panic!("{tag} is no number: {entry}"))
}

/// The contents of all elements with this name, in order. For S3's answers only: no element of
/// theirs contains one of the same name, and none that is asked for bears attributes.
fn elements<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close).map(|(inner, _)| inner)).collect()
}

/// The text of the first element with this name; `None` if there is none or it is empty.
fn text(xml: &str, tag: &str) -> Option<String> {
    elements(xml, tag).first().filter(|inner| !inner.is_empty()).map(|inner| unescape(inner))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let Some((name, behind)) = after.split_once(';') else {
            plain.push('&');
            rest = after;
            continue;
        };
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let meant = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other => match other.strip_prefix("#x") {
                Some(digits) => code(digits, 16),
                None => other.strip_prefix('#').and_then(|digits| code(digits, 10)),
            },
        };
        plain.push(meant.unwrap_or_else(|| panic!("unknown entity &{name}; in {text}")));
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// Undoes percent-encoding; in lists and queries `+` is a blank, in paths it is itself.
pub(crate) fn decode(text: &str, plus_is_blank: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let raw = text.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let coded = (raw[at] == b'%').then(|| raw.get(at + 1..at + 3)).flatten();
        let coded = coded.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (coded, raw[at]) {
            (Some(byte), _) => {
                bytes.push(byte);
                at += 2;
            }
            (None, b'+') if plus_is_blank => bytes.push(b' '),
            (None, byte) => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_percent_codes_are_undone() {
        assert_eq!(unescape("a&amp;b&lt;&#10;&#x41;"), "a&b<\nA");
        assert_eq!(decode("a%20b+c%2B%C3%BC%", true), "a b c+ü%");
        assert_eq!(decode("a+b", false), "a+b");
    }
}
