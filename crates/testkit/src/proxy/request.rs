//! Requests in S3's terms, and what became of them.

use std::fmt;
use std::time::{Duration, Instant};

use super::wire::Head;
use crate::servers::s3::decode;

/// An operation of S3, by the name it has in its documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of S3")]
pub enum Op {
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    HeadObject,
    GetObject,
    PutObject,
    CopyObject,
    DeleteObject,
    DeleteObjects,
    ListObjects,
    ListObjectsV2,
    HeadBucket,
    CreateBucket,
    DeleteBucket,
    ListBuckets,
    /// Anything else.
    Other,
}

/// A request, as far as its head tells. Buckets are taken from the path.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asks for.
    pub op: Op,
    /// The method.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The bucket, decoded; empty if there is none.
    pub bucket: String,
    /// The key, decoded; empty if there is none.
    pub key: String,
    /// The query, decoded, in its order.
    pub query: Vec<(String, String)>,
    /// `partNumber`.
    pub part_number: Option<u32>,
    /// `uploadId`.
    pub upload_id: Option<String>,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn of(head: &Head) -> Self {
        let (method, target) = head.request_line();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name, true), decode(value, true)))
            .collect();
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut request = Self {
            op: Op::Other,
            method: method.to_owned(),
            target: target.to_owned(),
            bucket: decode(bucket, false),
            key: decode(key, false),
            part_number: value("partNumber").and_then(|number| number.parse().ok()),
            upload_id: value("uploadId"),
            headers: head.headers.clone(),
            query,
        };
        request.op = request.derive_op();
        request
    }

    /// A header field by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the query has this name.
    pub fn asks(&self, name: &str) -> bool {
        self.query.iter().any(|(key, _)| key == name)
    }

    fn derive_op(&self) -> Op {
        let copies = self.header("x-amz-copy-source").is_some();
        let in_upload = self.upload_id.is_some();
        match (self.method.as_str(), self.bucket.is_empty(), self.key.is_empty()) {
            ("GET", true, _) => Op::ListBuckets,
            ("GET", _, true) if self.asks("uploads") => Op::ListMultipartUploads,
            ("GET", _, true) if self.asks("list-type") => Op::ListObjectsV2,
            // Other sub-resources (?versioning, ?location …) are other operations.
            ("GET", _, true) if self.query.iter().any(|(_, value)| value.is_empty()) => Op::Other,
            ("GET", _, true) => Op::ListObjects,
            ("HEAD", false, true) => Op::HeadBucket,
            ("PUT", false, true) if self.query.is_empty() => Op::CreateBucket,
            ("DELETE", false, true) if self.query.is_empty() => Op::DeleteBucket,
            ("POST", false, true) if self.asks("delete") => Op::DeleteObjects,
            ("POST", _, false) if self.asks("uploads") => Op::CreateMultipartUpload,
            ("POST", _, false) if in_upload => Op::CompleteMultipartUpload,
            ("PUT", _, false) if in_upload && copies => Op::UploadPartCopy,
            ("PUT", _, false) if in_upload => Op::UploadPart,
            ("PUT", _, false) if copies => Op::CopyObject,
            ("PUT", _, false) => Op::PutObject,
            ("DELETE", _, false) if in_upload => Op::AbortMultipartUpload,
            ("DELETE", _, false) => Op::DeleteObject,
            ("GET", _, false) if in_upload => Op::ListParts,
            ("GET", _, false) => Op::GetObject,
            ("HEAD", _, false) => Op::HeadObject,
            _ => Op::Other,
        }
    }
}

/// How a request ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Underway,
    /// With an answer of this status, from the server or made up.
    Answered(u16),
    /// The proxy cut the connection.
    Cut,
    /// The client went away first.
    ClientGone,
    /// The server could not be reached or broke off; the client's connection was reset.
    ServerGone,
}

/// A request in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What was asked.
    pub request: Request,
    /// The fault that was applied.
    pub fault: Option<String>,
    /// Bytes of its body that have come in.
    pub body_bytes: u64,
    /// What the server answered, whether or not the client was told.
    pub server_status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// When its head had come in.
    pub at: Instant,
    /// From then to its end.
    pub took: Option<Duration>,
}

impl Logged {
    pub(super) fn begun(request: Request, fault: Option<String>) -> Self {
        Self {
            request,
            fault,
            body_bytes: 0,
            server_status: None,
            outcome: Outcome::Underway,
            at: Instant::now(),
            took: None,
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if self.outcome == outcome {
            return; // said already
        }
        self.outcome = outcome;
        self.took = Some(self.at.elapsed());
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        write!(out, "{:?} {} {} body={}B", request.op, request.method, request.target, self.body_bytes)?;
        if let Some(fault) = &self.fault {
            write!(out, " fault={fault}")?;
        }
        if let Some(status) = self.server_status {
            write!(out, " server={status}")?;
        }
        write!(out, " {:?} after {:?}", self.outcome, self.took.unwrap_or_else(|| self.at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(line: &str) -> Op {
        let head = format!("{line} HTTP/1.1\r\nhost: h\r\n\r\n");
        Request::of(&Head::parse(head.into_bytes()).unwrap()).op
    }

    #[test]
    fn operations_are_told_apart() {
        for (line, expected) in [
            ("POST /b/k.mp4?uploads", Op::CreateMultipartUpload),
            ("POST /b/k.mp4?uploads=&x-id=CreateMultipartUpload", Op::CreateMultipartUpload),
            ("PUT /b/a/k.mp4?x-id=UploadPart&partNumber=7&uploadId=U", Op::UploadPart),
            ("POST /b/k?uploadId=U", Op::CompleteMultipartUpload),
            ("DELETE /b/k?uploadId=U", Op::AbortMultipartUpload),
            ("GET /b/k?uploadId=U&max-parts=9", Op::ListParts),
            ("GET /b?uploads&prefix=k", Op::ListMultipartUploads),
            ("GET /b/?uploads", Op::ListMultipartUploads),
            ("GET /b?list-type=2", Op::ListObjectsV2),
            ("GET /b/?versioning", Op::Other),
            ("HEAD /b", Op::HeadBucket),
            ("HEAD /b/", Op::HeadBucket),
            ("HEAD /b/k", Op::HeadObject),
            ("PUT /b/k", Op::PutObject),
            ("PUT /b", Op::CreateBucket),
            ("GET /b/k", Op::GetObject),
            ("DELETE /b/k", Op::DeleteObject),
            ("GET /", Op::ListBuckets),
        ] {
            assert_eq!(op(line), expected, "{line}");
        }
    }

    #[test]
    fn keys_and_parts_are_decoded() {
        let line = "PUT /b/a%20b/%C3%BC+.mp4?partNumber=12&uploadId=a%2Bb HTTP/1.1\r\n\r\n";
        let request = Request::of(&Head::parse(line.as_bytes().to_vec()).unwrap());
        assert_eq!((request.bucket.as_str(), request.key.as_str()), ("b", "a b/ü+.mp4"));
        assert_eq!((request.part_number, request.upload_id.as_deref()), (Some(12), Some("a+b")));
    }
}
