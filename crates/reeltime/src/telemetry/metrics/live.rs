//! The gauges: streams as the board shows them at the moment of the question.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use reeltime_core::State;

use crate::view::Board;

/// Gauges of the streams of this process.
#[derive(Debug)]
pub(super) struct Streams {
    board: Board,
}

impl Streams {
    pub(super) fn of(board: &Board) -> Self {
        Self { board: board.clone() }
    }
}

impl Collector for Streams {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let streams = self.board.all();

        let mut by_state = encoder.encode_descriptor(
            "streams",
            "Streams that this process has in hand, by state.",
            None,
            MetricType::Gauge,
        )?;
        for state in State::ALL.map(State::as_str) {
            let count = streams.iter().filter(|stream| stream.state == state).count() as i64;
            ConstGauge::new(count).encode(by_state.encode_family(&[("state", state)])?)?;
        }

        let unfinished = || {
            let unfinished = [State::Active.as_str(), State::PendingCompletion.as_str()];
            streams.iter().filter(move |stream| unfinished.contains(&stream.state.as_str()))
        };
        let unsent: u64 = unfinished().map(|stream| stream.size_bytes.saturating_sub(stream.uploaded_bytes)).sum();
        let unsent = ConstGauge::new(i64::try_from(unsent).unwrap_or(i64::MAX));
        unsent.encode(encoder.encode_descriptor(
            "unsent_bytes",
            "Bytes of unfinished streams that are on disk and not in the store.",
            None,
            unsent.metric_type(),
        )?)?;

        let lag = ConstGauge::new(unfinished().map(|stream| stream.lag_seconds).fold(0.0, f64::max));
        lag.encode(encoder.encode_descriptor(
            "lag_seconds",
            "The longest that bytes of an unfinished stream have waited to be sent.",
            None,
            lag.metric_type(),
        )?)
    }
}
