//! What can be done to a request, and to which.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::request::{Op, Request};

/// What is done to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing: for exceptions before a wider rule.
    Pass,
    /// The connection is reset after this many bytes of the request's body (or after all of it,
    /// if it is shorter) have gone to the server, which never sees the request's end.
    Reset {
        /// How many.
        after_body_bytes: u64,
    },
    /// It is passed on only after this time.
    Delay(Duration),
    /// It is passed on only when the fault is lifted.
    Hold,
    /// It is carried out by the server; the client gets the answer only when the fault is
    /// lifted.
    HoldAnswer,
    /// Bodies, to the server and from it, go no faster than this.
    Throttle {
        /// The rate.
        bytes_per_second: u64,
    },
    /// It is read to its end and never answered, until the client gives up. The server sees
    /// nothing of it.
    BlackHole,
    /// It is carried out by the server; then the connection is reset instead of answering.
    CutAnswer,
    /// It is carried out by the server; the answer's body breaks off after this many bytes.
    CutAnswerAfter {
        /// How many bytes of the body the client gets.
        body_bytes: u64,
    },
    /// It is answered here. The server sees nothing of it.
    Answer(Answer),
    /// It is carried out by the server; the client gets this answer instead of the true one.
    AnswerInstead(Answer),
}

impl Fault {
    /// 503 `SlowDown`, as AWS throttles.
    pub fn slow_down() -> Self {
        Self::Answer(Answer::error(503, "SlowDown", "Please reduce your request rate."))
    }

    /// 500 `InternalError`.
    pub fn internal_error() -> Self {
        Self::Answer(Answer::error(500, "InternalError", "We encountered an internal error. Please try again."))
    }

    /// 429 `TooManyRequests`, as other stores throttle.
    pub fn too_many_requests() -> Self {
        Self::Answer(Answer::error(429, "TooManyRequests", "Please reduce your request rate."))
    }

    /// 403 `AccessDenied`.
    pub fn access_denied() -> Self {
        Self::Answer(Answer::error(403, "AccessDenied", "Access Denied"))
    }

    /// 200 whose body is nevertheless an error, as `CompleteMultipartUpload` may answer.
    pub fn error_in_ok() -> Self {
        Self::Answer(Answer::error(200, "InternalError", "We encountered an internal error. Please try again."))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => write!(out, "Answer({answer})"),
            Self::AnswerInstead(answer) => write!(out, "AnswerInstead({answer})"),
            other => write!(out, "{other:?}"),
        }
    }
}

/// An answer that the proxy makes up.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields besides the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An error document of S3.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>testkit</RequestId></Error>"
        );
        Self { status, headers: vec![("content-type".into(), "application/xml".into())], body: body.into_bytes() }
    }

    /// Adds a header field, such as `retry-after`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As it goes over the wire; without the body for HEAD.
    pub(super) fn bytes(&self, method: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Injected\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.status, String::from_utf8_lossy(&self.body).lines().last().unwrap_or(""))
    }
}

type Predicate = Box<dyn Fn(&Request) -> bool + Send + Sync>;

/// Which requests a fault is for: all conditions must hold.
#[derive(Default)]
pub struct When {
    conditions: Vec<Predicate>,
    said: Vec<String>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of an operation.
    pub fn op(op: Op) -> Self {
        Self::any().and(&format!("{op:?}"), move |request| request.op == op)
    }

    /// Of those, the ones for this part.
    #[must_use]
    pub fn part(self, number: u32) -> Self {
        self.and(&format!("part {number}"), move |request| request.part_number == Some(number))
    }

    /// Of those, the ones for this key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        let key = key.to_owned();
        self.and(&format!("key {key:?}"), move |request| request.key == key)
    }

    /// Of those, the ones for which this holds; `what` names it in messages.
    #[must_use]
    pub fn and(mut self, what: &str, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Box::new(condition));
        self.said.push(what.to_owned());
        self
    }
}

impl fmt::Debug for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.said.is_empty() { out.write_str("any") } else { out.write_str(&self.said.join(", ")) }
    }
}

/// A fault with its requests.
#[derive(Debug)]
pub(super) struct Rule {
    when: When,
    pub(super) fault: Fault,
    hits: AtomicUsize,
    limit: AtomicUsize,
    lifted: watch::Sender<bool>,
}

impl Rule {
    pub(super) fn new(when: When, fault: Fault) -> Self {
        Self {
            when,
            fault,
            hits: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            lifted: watch::Sender::new(false),
        }
    }

    /// Whether the rule is for this request, which then counts. Called under the proxy's lock.
    pub(super) fn takes(&self, request: &Request) -> bool {
        let takes = self.hits() < self.limit.load(Ordering::SeqCst)
            && self.when.conditions.iter().all(|condition| condition(request));
        if takes {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        takes
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    pub(super) fn lift(&self) {
        self.lifted.send_replace(true);
    }

    pub(super) async fn until_lifted(&self) {
        let mut lifted = self.lifted.subscribe();
        // The sender is part of self and cannot be gone.
        let _ = lifted.wait_for(|lifted| *lifted).await;
    }
}
