//! Metrics in Prometheus' text format.
//!
//! Counters and histograms follow the events; gauges are taken from the [`Board`] when they
//! are asked for. All begin at 0 with the process.

mod live;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use reeltime_core::Reason;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use super::{Heard, follow};
use crate::events::{Event, Side, What};
use crate::view::Board;

/// The type of what [`encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process as text; ends in `# EOF`.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// The metrics that follow the events. A clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    discovered: Counter,
    completed: Counter,
    failed: Family<ReasonLabel, Counter>,
    parts_stored: Counter,
    parts_resent: Counter,
    part_bytes_sent: Counter,
    parts_copied: Counter,
    part_bytes_copied: Counter,
    verified_bytes: Counter,
    retries: Family<SideLabel, Counter>,
    uploads_aborted: Counter,
    events_missed: Counter,
    part_seconds: Histogram,
    end_to_object_seconds: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SideLabel {
    of: &'static str,
}

impl Metrics {
    /// The metrics, and the registry in which they and the gauges of `board` are.
    pub fn new(board: &Board) -> (Self, Registry) {
        let metrics = Self {
            discovered: Counter::default(),
            completed: Counter::default(),
            failed: Family::default(),
            parts_stored: Counter::default(),
            parts_resent: Counter::default(),
            part_bytes_sent: Counter::default(),
            parts_copied: Counter::default(),
            part_bytes_copied: Counter::default(),
            verified_bytes: Counter::default(),
            retries: Family::default(),
            uploads_aborted: Counter::default(),
            events_missed: Counter::default(),
            // From a small part next door (10 ms) to a large one over a thin link (11 minutes).
            part_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 17)),
            // From 0.1 s to 27 hours: an outage counts, too.
            end_to_object_seconds: Histogram::new(exponential_buckets(0.1, 2.5, 16)),
        };
        for reason in Reason::ALL {
            drop(metrics.failed.get_or_create(&ReasonLabel { reason: reason.as_str() }));
        }
        for side in Side::ALL {
            drop(metrics.retries.get_or_create(&SideLabel { of: side.as_str() }));
        }
        let mut registry = Registry::with_prefix("reeltime");
        metrics.register(&mut registry);
        registry.register_collector(Box::new(live::Streams::of(board)));
        (metrics, registry)
    }

    fn register(&self, to: &mut Registry) {
        to.register("build", "The running program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        to.register("streams_discovered", "Recordings that were found", self.discovered.clone());
        to.register("streams_completed", "Streams whose object was completed and verified", self.completed.clone());
        to.register("streams_failed", "Streams that were given up, by reason", self.failed.clone());
        to.register("parts_stored", "Parts that the store has taken, resent ones included", self.parts_stored.clone());
        to.register("parts_resent", "Parts that were sent again under their number", self.parts_resent.clone());
        to.register("part_bytes_sent", "Bytes of stored parts, resent ones included", self.part_bytes_sent.clone());
        to.register("parts_copied", "Parts that were copied inside the store", self.parts_copied.clone());
        to.register(
            "part_bytes_copied",
            "Bytes of parts that were not sent but copied",
            self.part_bytes_copied.clone(),
        );
        to.register("verified_bytes", "Bytes of sent parts compared with the file", self.verified_bytes.clone());
        to.register("retries", "Requests that failed and are tried again, by whom they were for", self.retries.clone());
        to.register("uploads_aborted", "Uploads that were aborted", self.uploads_aborted.clone());
        to.register("events_missed", "Events that these metrics have missed", self.events_missed.clone());
        to.register("part_seconds", "From the request to store a part to its answer", self.part_seconds.clone());
        to.register(
            "end_to_object_seconds",
            "From the last change of a recording to its completed object",
            self.end_to_object_seconds.clone(),
        );
    }

    /// Counts the events, until `stop`.
    pub async fn follow(self, events: Receiver<Event>, stop: CancellationToken) {
        follow(events, stop, |heard| match heard {
            Heard::Event(event) => self.count(&event.what),
            Heard::Missed(missed) => drop(self.events_missed.inc_by(missed)),
        })
        .await;
    }

    /// Counts one event.
    pub fn count(&self, what: &What) {
        match what {
            What::Discovered => drop(self.discovered.inc()),
            What::PartStored { size_bytes, again, took, .. } => {
                self.parts_stored.inc();
                self.part_bytes_sent.inc_by(*size_bytes);
                if *again {
                    self.parts_resent.inc();
                }
                self.part_seconds.observe(took.as_secs_f64());
            }
            What::PartCopied { size_bytes, .. } => {
                self.parts_copied.inc();
                self.part_bytes_copied.inc_by(*size_bytes);
            }
            What::Verified { size_bytes, .. } | What::Compared { size_bytes, .. } => {
                self.verified_bytes.inc_by(*size_bytes);
            }
            What::Completed { after_last_change, .. } => {
                self.completed.inc();
                self.end_to_object_seconds.observe(after_last_change.as_secs_f64());
            }
            What::Failed { reason } => {
                self.failed.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
            }
            What::Retrying { side, .. } => {
                self.retries.get_or_create(&SideLabel { of: side.as_str() }).inc();
            }
            What::UploadAborted => drop(self.uploads_aborted.inc()),
            What::Resumed { .. }
            | What::UploadCreated { .. }
            | What::StateChanged { .. }
            | What::SourceDisposed
            | What::Notice { .. } => {}
        }
    }
}
