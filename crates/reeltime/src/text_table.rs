//! Streams as a table for people.

use std::fmt::Write;

use reeltime_core::State;

use crate::printable::printable;
use crate::view::StreamView;

/// The streams, one a line, the newest last, and how many there are in each state. `now` is
/// the wall clock in milliseconds since the Unix epoch.
pub fn table(streams: &[StreamView], now: i64) -> String {
    const HEAD: [&str; 5] = ["STATE", "SIZE", "SENT", "PARTS", "AGE"];
    let rows: Vec<[String; 5]> = streams.iter().map(|stream| cells(stream, now)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, HEAD, &widths, "PATH");
    for (stream, row) in streams.iter().zip(&rows) {
        let mut path = printable(&stream.path).into_owned();
        if let Some(reason) = &stream.reason {
            let _ = write!(path, "  ({})", printable(reason));
        }
        line(&mut text, row.each_ref().map(String::as_str), &widths, &path);
    }
    let counts = State::ALL.map(State::as_str).map(|state| {
        let count = streams.iter().filter(|stream| stream.state == state).count();
        format!("{count} {state}")
    });
    let _ = write!(text, "\n{}\n", counts.join(", "));
    text
}

fn line(text: &mut String, cells: [&str; 5], widths: &[usize; 5], path: &str) {
    let [state, size, sent, parts, age] = cells;
    let [w0, w1, w2, w3, w4] = *widths;
    let _ = writeln!(text, "{state:w0$}  {size:>w1$}  {sent:>w2$}  {parts:>w3$}  {age:>w4$}  {path}");
}

fn cells(stream: &StreamView, now: i64) -> [String; 5] {
    let age = stream.started_at.parse::<jiff::Timestamp>().map_or_else(
        |_| "?".to_owned(),
        |started| age(u64::try_from(now - started.as_millisecond()).unwrap_or(0) / 1000),
    );
    let parts = format!("{}/{}", stream.parts_sent, stream.parts_total);
    [printable(&stream.state).into_owned(), size(stream.size_bytes), percent(stream), parts, age]
}

/// How much of a stream is uploaded; 100% only when it is all of it.
pub fn percent(stream: &StreamView) -> String {
    match (stream.size_bytes, stream.uploaded_bytes) {
        (0, _) if stream.state == State::Completed.as_str() => "100%".to_owned(),
        (0, _) => "-".to_owned(),
        (size, sent) => format!("{}%", u128::from(sent.min(size)) * 100 / u128::from(size)),
    }
}

/// A size with three digits or so: `7.9 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 999.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(amount < 99.95);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// A length of time in its two largest units: `2d 3h`.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(state: &str, path: &str, size_bytes: u64, uploaded_bytes: u64, reason: Option<&str>) -> StreamView {
        StreamView {
            id: String::new(),
            path: path.to_owned(),
            key: String::new(),
            node: String::new(),
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            size_bytes,
            uploaded_bytes,
            lag_seconds: 0.0,
            parts_total: 13,
            parts_sent: 3,
            started_at: "2026-07-01T10:00:00.000Z".to_owned(),
            completed_at: None,
        }
    }

    #[test]
    fn streams_stand_in_columns_with_their_counts_below() {
        let now = 1_782_903_600_000 + 7_500_000; // 2026-07-01T11:00:00Z and some
        let streams = [
            stream("completed", "/rec/a.mp4", 100 << 20, 100 << 20, None),
            stream("pending_completion", "/rec/b \u{1b}[31m.mp4", 1000, 999, None),
            stream("failed", "/rec/c.mp4", 0, 0, Some("source_missing")),
        ];
        let expected = "\
STATE                  SIZE  SENT  PARTS    AGE  PATH
completed           100 MiB  100%   3/13  3h 5m  /rec/a.mp4
pending_completion   1000 B   99%   3/13  3h 5m  /rec/b \\u{1b}[31m.mp4
failed                  0 B     -   3/13  3h 5m  /rec/c.mp4  (source_missing)

0 active, 1 pending_completion, 1 completed, 1 failed
";
        assert_eq!(table(&streams, now), expected);
    }

    #[test]
    fn sizes_and_ages_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (999 << 20, "999 MiB"),
            (1000 << 20, "1.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(0, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (90_000, "1d 1h")] {
            assert_eq!(age(seconds), text);
        }
    }
}
