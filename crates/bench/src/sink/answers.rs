//! Which request is which, and what is answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::link::Link;
use super::memory::{Facts, Memory};
use super::wire::{Head, Wire};

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const CRC: &str = "x-amz-checksum-crc64nvme";
/// Nobody asks when something was stored.
const LONG_AGO: &str = "2024-01-01T00:00:00.000Z";
const LONG_AGO_HTTP: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
/// As S3 pages.
const PAGE: usize = 1000;

pub(super) struct Sink {
    memory: Mutex<Memory>,
    /// Bytes of bodies, by the first directory of the key.
    received: Mutex<BTreeMap<String, u64>>,
    link: Option<Link>,
}

/// An answer: status, header fields, body.
struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: String,
    /// Of what HEAD is asked for.
    length: Option<u64>,
}

impl Answer {
    fn empty(status: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), length: None }
    }

    fn xml(body: &str) -> Self {
        Self { body: XML.to_owned() + body, ..Self::empty("200 OK") }.with("content-type", "application/xml")
    }

    fn error(status: &'static str, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self { status, ..Self::xml(&body) }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn of(facts: &Facts) -> Self {
        let answer = Self::empty("200 OK").with("etag", &facts.etag);
        match &facts.crc {
            Some(crc) => answer.with(CRC, crc).with("x-amz-checksum-type", "FULL_OBJECT"),
            None => answer,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\nx-amz-request-id: sink\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let length = self.length.unwrap_or(self.body.len() as u64);
        let _ = write!(text, "content-length: {length}\r\n\r\n{}", self.body);
        text.into_bytes()
    }
}

impl Sink {
    pub(super) fn new(link: Option<Link>) -> Self {
        Self { memory: Mutex::default(), received: Mutex::default(), link }
    }

    /// Answers the requests of a connection until its client goes.
    pub(super) fn converse(&self, wire: &mut Wire) -> io::Result<()> {
        while let Some(head) = wire.head()? {
            if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let answer = self.answer(&head, wire)?;
            wire.send(&answer.bytes())?;
            if head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, head: &Head, wire: &mut Wire) -> io::Result<Answer> {
        let (bucket, key) = head.path.split_once('/').unwrap_or((&head.path, ""));
        if bucket == "_sink" {
            return Ok(self.about_itself(key));
        }
        let upload = head.param("uploadId");
        let name = match (head.method.as_str(), key.is_empty()) {
            ("PUT", false) if head.header("x-amz-copy-source").is_some() => {
                wire.forget_body(head, |_| {})?;
                return Ok(Answer::error("501 Not Implemented", "NotImplemented"));
            }
            ("PUT", false) => return self.take(head, wire),
            ("POST", false) => {
                let body = wire.body(head)?;
                return Ok(match upload {
                    Some(id) => self.complete(head, id, &String::from_utf8_lossy(&body)),
                    None if head.param("uploads").is_some() => self.create(head),
                    None => Answer::error("501 Not Implemented", "NotImplemented"),
                });
            }
            ("HEAD", false) => "HeadObject",
            ("DELETE", false) => "AbortMultipartUpload",
            ("GET", false) => "ListParts",
            ("HEAD" | "PUT", true) => "HeadBucket",
            ("GET", true) => "ListObjectsV2",
            _ => return Ok(Answer::error("501 Not Implemented", "NotImplemented")),
        };
        wire.forget_body(head, |_| {})?;
        let mut memory = self.memory(name);
        Ok(match (name, upload) {
            ("HeadObject", _) => match memory.objects.get(&head.path) {
                Some(facts) => {
                    let mut answer = Answer::of(facts).with("last-modified", LONG_AGO_HTTP);
                    answer.headers.extend(facts.metadata.iter().cloned());
                    Answer { length: Some(facts.size_bytes), ..answer }
                }
                None => Answer::empty("404 Not Found"),
            },
            ("AbortMultipartUpload", Some(id)) => match memory.uploads.remove(id) {
                Some(_) => Answer::empty("204 No Content"),
                None => Answer::error("404 Not Found", "NoSuchUpload"),
            },
            ("ListParts", Some(id)) => list_parts(&memory, head, id),
            ("HeadBucket", _) => Answer::empty("200 OK"),
            ("ListObjectsV2", _) if head.param("uploads").is_some() => list_uploads(&memory, head, bucket),
            ("ListObjectsV2", _) if head.param("location").is_some() => {
                Answer::xml("<LocationConstraint>us-east-1</LocationConstraint>")
            }
            ("ListObjectsV2", _) => list_objects(&memory, head, bucket),
            _ => Answer::error("501 Not Implemented", "NotImplemented"), // the bytes are forgotten
        })
    }

    /// `PutObject` and `UploadPart`.
    fn take(&self, head: &Head, wire: &mut Wire) -> io::Result<Answer> {
        let key = head.path.split_once('/').map_or("", |(_, key)| key);
        let group = key.split_once('/').map_or("", |(first, _)| first);
        let length = wire.forget_body(head, |bytes| {
            if let Some(link) = &self.link {
                link.pass(bytes);
            }
            let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            match received.get_mut(group) {
                Some(count) => *count += bytes,
                None => drop(received.insert(group.to_owned(), bytes)),
            }
        })?;
        // Bodies that are signed in chunks say how long they are without the signatures.
        let decoded = head.header("x-amz-decoded-content-length").and_then(|text| text.parse().ok());
        let size_bytes = decoded.unwrap_or(length);
        let crc = head.header(CRC).map(str::to_owned);
        let number = head.param("partNumber").and_then(|number| number.parse::<u32>().ok());
        let mut memory = self.memory(if number.is_some() { "UploadPart" } else { "PutObject" });
        let etag = memory.new_etag();
        let facts = Facts { size_bytes, etag, crc, metadata: metadata_of(head) };
        let answer = Answer::of(&facts);
        match (number, head.param("uploadId")) {
            (Some(number), Some(id)) => match memory.uploads.get_mut(id) {
                Some(upload) => drop(upload.parts.insert(number, facts)),
                None => return Ok(Answer::error("404 Not Found", "NoSuchUpload")),
            },
            _ => drop(memory.objects.insert(head.path.clone(), facts)),
        }
        Ok(answer)
    }

    fn create(&self, head: &Head) -> Answer {
        let id = self.memory("CreateMultipartUpload").begin(&head.path, metadata_of(head));
        Answer::xml(&format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn complete(&self, head: &Head, id: &str, body: &str) -> Answer {
        let numbers: Vec<u32> =
            between(body, "<PartNumber>", "</PartNumber>").filter_map(|text| text.parse().ok()).collect();
        let crc = head.header(CRC).map(str::to_owned);
        match self.memory("CompleteMultipartUpload").complete(id, &numbers, crc) {
            Some(facts) => Answer::xml(&format!(
                "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
                facts.etag
            )),
            None => Answer::error("404 Not Found", "NoSuchUpload"),
        }
    }

    fn about_itself(&self, what: &str) -> Answer {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if what == "forget" {
            memory.forget();
            received.clear();
        }
        let counts = json!({
            "body_bytes": received.values().sum::<u64>(),
            "by_directory": *received,
            "requests": memory.requests,
            "objects": memory.objects.len(),
            "uploads": memory.uploads.len(),
        });
        Answer { body: counts.to_string(), ..Answer::empty("200 OK") }
    }

    fn memory(&self, request: &'static str) -> MutexGuard<'_, Memory> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        *memory.requests.entry(request).or_default() += 1;
        memory
    }
}

fn metadata_of(head: &Head) -> Vec<(String, String)> {
    let fields = head.headers().filter(|(name, _)| name.starts_with("x-amz-meta-"));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn list_parts(memory: &Memory, head: &Head, id: &str) -> Answer {
    let Some(upload) = memory.uploads.get(id) else { return Answer::error("404 Not Found", "NoSuchUpload") };
    let after = head.param("part-number-marker").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut parts = upload.parts.range(after + 1..);
    let mut body = String::from("<ListPartsResult><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>");
    let mut last = after;
    for (number, part) in parts.by_ref().take(PAGE) {
        let crc = part.crc.as_ref().map(|crc| format!("<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>"));
        let _ = write!(
            body,
            "<Part><PartNumber>{number}</PartNumber><LastModified>{LONG_AGO}</LastModified><ETag>{}</ETag><Size>{}</Size>{}</Part>",
            part.etag,
            part.size_bytes,
            crc.unwrap_or_default()
        );
        last = *number;
    }
    let more = parts.next().is_some();
    let _ = write!(
        body,
        "<NextPartNumberMarker>{last}</NextPartNumberMarker><IsTruncated>{more}</IsTruncated></ListPartsResult>"
    );
    Answer::xml(&body)
}

/// All on one page: whoever asks for uploads asks for those of one key.
fn list_uploads(memory: &Memory, head: &Head, bucket: &str) -> Answer {
    let prefix = format!("{bucket}/{}", head.param("prefix").unwrap_or(""));
    let mut body = String::from("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>");
    for (id, upload) in memory.uploads.iter().filter(|(_, upload)| upload.path.starts_with(&prefix)) {
        let key = escaped(&upload.path[bucket.len() + 1..]);
        let _ =
            write!(body, "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{LONG_AGO}</Initiated></Upload>");
    }
    Answer::xml(&(body + "</ListMultipartUploadsResult>"))
}

fn list_objects(memory: &Memory, head: &Head, bucket: &str) -> Answer {
    let prefix = format!("{bucket}/{}", head.param("prefix").unwrap_or(""));
    let from = head.param("continuation-token").map_or(prefix.clone(), |token| format!("{bucket}/{token}\0"));
    let limit = head.param("max-keys").and_then(|text| text.parse().ok()).unwrap_or(PAGE).min(PAGE);
    let mut objects = memory.objects.range(from..).take_while(|(path, _)| path.starts_with(&prefix));
    let mut body = String::from("<ListBucketResult>");
    let mut last = "";
    for (path, facts) in objects.by_ref().take(limit) {
        last = &path[bucket.len() + 1..];
        let (key, etag, size) = (escaped(last), &facts.etag, facts.size_bytes);
        let _ = write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>{LONG_AGO}</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents>"
        );
    }
    match objects.next() {
        Some(_) => {
            let token = escaped(last);
            let _ =
                write!(body, "<NextContinuationToken>{token}</NextContinuationToken><IsTruncated>true</IsTruncated>");
        }
        None => body += "<IsTruncated>false</IsTruncated>",
    }
    Answer::xml(&(body + "</ListBucketResult>"))
}

fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
