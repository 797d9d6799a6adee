//! A TCP proxy that disturbs: between reeltime and a store ([`Proxy`]), or anything else
//! ([`TcpProxy`]).
//!
//! [`Proxy`] understands just enough HTTP/1.1 to name every request in S3's terms, to count it,
//! and to apply the first [`Fault`] whose [`When`] matches. What it passes on it leaves as it is,
//! byte for byte, so signatures stay valid. It has its own threads: it works while the test
//! blocks.
//!
//! ```no_run
//! use testkit::proxy::{Fault, Op, Proxy, When};
//! # let moto = testkit::servers::Moto::start();
//! let proxy = Proxy::before(&moto.address());
//! let lost = proxy.inject(When::op(Op::CompleteMultipartUpload), Fault::CutAnswer).times(1);
//! // … run reeltime with proxy.env_of(moto.env()) …
//! assert_eq!(lost.hits(), 1);
//! assert_eq!(proxy.count(Op::CompleteMultipartUpload), 2);
//! ```

mod connection;
mod cut;
mod fault;
mod listener;
mod request;
mod tcp;
mod wire;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use cut::{Cut, Moment};
pub use fault::{Answer, Fault, When};
pub use request::{Logged, Op, Outcome, Request};
pub use tcp::{TcpMode, TcpProxy};

use fault::Rule;
use listener::Listener;

/// A fault-injecting proxy before one HTTP server. Stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    listener: Listener,
    shared: Arc<Shared>,
}

/// What the connections and the test both see.
#[derive(Debug)]
pub(crate) struct Shared {
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Arc<Rule>>,
    log: Vec<Logged>,
    /// How many requests were cleared from the log before the first one that is in it.
    cleared: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and finds what is to be done with it. Its number stays its own, also
    /// when the log is cleared.
    fn begin(&self, request: Request) -> (usize, Option<Arc<Rule>>) {
        let mut state = self.lock();
        let rule = state.rules.iter().find(|rule| rule.takes(&request)).cloned();
        state.log.push(Logged::begun(request, rule.as_ref().map(|rule| rule.fault.to_string())));
        let number = state.cleared + state.log.len() - 1;
        drop(state);
        self.changed.notify_all();
        (number, rule)
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Logged)) {
        let mut state = self.lock();
        let place = number.checked_sub(state.cleared);
        if let Some(logged) = place.and_then(|place| state.log.get_mut(place)) {
            change(logged);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl Proxy {
    /// Starts a proxy before the server at `upstream` (`host:port`), passing everything.
    pub fn before(upstream: &str) -> Self {
        let shared =
            Arc::new(Shared { upstream: upstream.to_owned(), state: Mutex::default(), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move |client| connection::serve(client, Arc::clone(&serving)));
        Self { listener, shared }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.listener.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A server's environment for clients, changed so that they come through here.
    pub fn env_of(&self, env: Vec<(String, String)>) -> Vec<(String, String)> {
        let endpoint = self.endpoint();
        let redirect = |(name, value): (String, String)| match name.as_str() {
            "AWS_ENDPOINT_URL" | "AWS_ENDPOINT_URL_S3" => (name, endpoint.clone()),
            _ => (name, value),
        };
        env.into_iter().map(redirect).collect()
    }

    /// Applies a fault to the requests that match, until it is lifted. Rules are tried in the
    /// order of their injection, and the first one decides.
    pub fn inject(&self, when: When, fault: Fault) -> Injected {
        let rule = Arc::new(Rule::new(when, fault));
        self.shared.lock().rules.push(Arc::clone(&rule));
        Injected { rule, shared: Arc::clone(&self.shared) }
    }

    /// Lifts all faults. Requests that are held go on.
    pub fn heal(&self) {
        for rule in self.shared.lock().rules.drain(..) {
            rule.lift();
        }
    }

    /// Refuses connections (ECONNREFUSED) and resets those that are open, until
    /// [`Proxy::come_up`].
    pub fn go_down(&self) {
        self.listener.go_down();
    }

    /// Accepts connections again, at the same address.
    pub fn come_up(&self) {
        self.listener.come_up();
    }

    /// Resets the connections that are open; new ones are accepted.
    pub fn reset_connections(&self) {
        self.listener.reset_connections();
    }

    /// All requests so far, in the order of their arrival. A client that has its answer, or
    /// sees its connection end by a fault, finds the outcome here.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.lock().log.clone()
    }

    /// Forgets the log, when nothing is under way.
    pub fn clear_log(&self) {
        let mut state = self.shared.lock();
        let underway = state.log.iter().any(|logged| logged.outcome == Outcome::Underway);
        assert!(!underway, "a request is under way; its outcome would be lost");
        state.cleared += state.log.len();
        state.log.clear();
    }

    /// How many requests of an operation have come in.
    pub fn count(&self, op: Op) -> usize {
        self.shared.lock().log.iter().filter(|logged| logged.request.op == op).count()
    }

    /// Bytes of request bodies of an operation that have come in, with whatever framing the
    /// client put around the payload.
    pub fn body_bytes(&self, op: Op) -> u64 {
        self.shared.lock().log.iter().filter(|logged| logged.request.op == op).map(|logged| logged.body_bytes).sum()
    }

    /// The requests of an operation.
    pub fn requests(&self, op: Op) -> Vec<Logged> {
        self.shared.lock().log.iter().filter(|logged| logged.request.op == op).cloned().collect()
    }

    /// Waits until the log fulfils a condition. Panics with the log if it does not in time.
    pub fn wait_for(&self, what: &str, within: Duration, condition: impl FnMut(&[Logged]) -> bool) {
        self.shared.wait_for(what, within, condition);
    }
}

impl Shared {
    fn wait_for(&self, what: &str, within: Duration, mut condition: impl FnMut(&[Logged]) -> bool) {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        while !condition(&state.log) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lines: Vec<_> = state.log.iter().map(ToString::to_string).collect();
                drop(state);
                panic!("waited {within:?} for {what}; the proxy has seen:\n{}", lines.join("\n"));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A fault in force. Dropping this does not lift it.
#[derive(Clone, Debug)]
pub struct Injected {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

impl Injected {
    /// Applies it to this many requests only. Call it before the requests come.
    #[must_use]
    pub fn times(self, limit: usize) -> Self {
        self.rule.limit(limit);
        self
    }

    /// How many requests it was applied to.
    pub fn hits(&self) -> usize {
        self.rule.hits()
    }

    /// Waits until it was applied to this many requests.
    pub fn wait_hits(&self, hits: usize, within: Duration) {
        self.shared.wait_for(&format!("{hits} × {}", self.rule.fault), within, |_| self.rule.hits() >= hits);
    }

    /// Applies it to no further request. Requests that it holds go on.
    pub fn lift(&self) {
        self.shared.lock().rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        self.rule.lift();
    }
}
