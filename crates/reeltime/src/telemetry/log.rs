//! Log lines on stderr.

use std::io::IsTerminal;

use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::{Heard, follow};
use crate::config::{LogFormat, Problem};
use crate::events::{Event, What};

mod troubles;

use troubles::Troubles;

/// The variable that says how much is logged.
const LEVEL_VARIABLE: &str = "REELTIME_LOG";

/// Begins logging on stderr; once per process.
pub fn init(format: LogFormat) -> Result<(), Problem> {
    let level = level(std::env::var_os(LEVEL_VARIABLE).as_deref())?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => {
            let colours =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
            lines.with_target(false).with_ansi(colours).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter(level)))
        .try_init()
        .map_err(|error| Problem::new(format!("logging cannot begin: {error}"), ""))
}

/// What other libraries have to say is mostly about themselves.
fn filter(level: LevelFilter) -> Targets {
    let others = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { level.min(LevelFilter::WARN) };
    // These warn of what reeltime says itself, in words for operators: missing credentials, and
    // recordings that are no MP4.
    let repeats = if level >= LevelFilter::DEBUG { others } else { level.min(LevelFilter::ERROR) };
    Targets::new()
        .with_target("reeltime", level)
        .with_target("aws_config", repeats)
        .with_target("aws_credential_types", repeats)
        .with_target("mp4_atom", repeats)
        .with_default(others)
}

fn level(given: Option<&std::ffi::OsStr>) -> Result<LevelFilter, Problem> {
    let Some(given) = given else { return Ok(LevelFilter::INFO) };
    match given.to_str() {
        Some("error") => Ok(LevelFilter::ERROR),
        Some("warn") => Ok(LevelFilter::WARN),
        Some("info" | "") => Ok(LevelFilter::INFO),
        Some("debug") => Ok(LevelFilter::DEBUG),
        Some("trace") => Ok(LevelFilter::TRACE),
        _ => Err(Problem::new(
            format!("{LEVEL_VARIABLE}: {:?} is not a level", given.to_string_lossy()),
            "write error, warn, info, debug or trace",
        )),
    }
}

/// Says the events in the log, until `stop`.
pub async fn narrate(events: Receiver<Event>, stop: CancellationToken) {
    let mut troubles = Troubles::default();
    follow(events, stop, |heard| match heard {
        Heard::Event(event) => say(&event, &mut troubles),
        Heard::Missed(missed) => {
            warn!(event = "missed", missed, "the log was too slow and missed events; uploads are not affected");
        }
    })
    .await;
}

fn say(event: &Event, troubles: &mut Troubles) {
    let name = event.what.name();
    let stream = event.stream.map(|id| id.to_string());
    let stream = stream.as_deref();
    let path = event.path.as_ref().map(|path| path.to_string_lossy());
    let path = path.as_deref();
    if let Some(unsaid) = troubles.is_over(event) {
        info!(event = "recovered", stream, path, unsaid_retries = unsaid, "the trouble is over");
    }
    match &event.what {
        What::Discovered => info!(event = name, stream, path, "recording discovered"),
        What::Resumed { uploaded_bytes } => info!(event = name, stream, path, uploaded_bytes, "stream resumed"),
        What::UploadCreated { upload_id } => {
            debug!(event = name, stream, path, upload_id = upload_id.as_str(), "upload created");
        }
        What::PartStored { number, size_bytes, again, took } => {
            let seconds = took.as_secs_f64();
            debug!(event = name, stream, path, part = number.get(), size_bytes, again, seconds, "part stored");
        }
        What::PartCopied { number, size_bytes, took } => {
            let seconds = took.as_secs_f64();
            debug!(event = name, stream, path, part = number.get(), size_bytes, seconds, "part copied");
        }
        What::StateChanged { from, to } => {
            info!(event = name, stream, path, from = from.as_str(), to = to.as_str(), "state changed");
        }
        What::Verified { number, size_bytes, matches } => {
            debug!(event = name, stream, path, part = number.get(), size_bytes, matches, "part verified");
        }
        What::Compared { size_bytes, matches } => {
            info!(event = name, stream, path, size_bytes, matches, "object found and compared with the file");
        }
        What::Completed { size_bytes, after_last_change } => {
            let after_last_change_seconds = after_last_change.as_secs_f64();
            info!(event = name, stream, path, size_bytes, after_last_change_seconds, "recording completed");
        }
        What::Failed { reason } => {
            error!(event = name, stream, path, reason = reason.as_str(), hint = reason.hint(), "stream failed");
        }
        What::Retrying { side, error, hint } => {
            let of = side.as_str();
            let (error, hint) = (error.as_str(), (!hint.is_empty()).then_some(hint.as_str()));
            let message = "request failed, trying again";
            if let Some(unsaid) = troubles.again(event.stream, std::time::Instant::now()) {
                warn!(event = name, stream, path, of, error, hint, unsaid_retries = unsaid, message);
            } else {
                debug!(event = name, stream, path, of, error, hint, message);
            }
        }
        What::UploadAborted => info!(event = name, stream, path, "upload aborted"),
        What::SourceDisposed => info!(event = name, stream, path, "local file removed after upload"),
        What::Notice { message, hint } => {
            let hint = (!hint.is_empty()).then_some(hint.as_str());
            warn!(event = name, stream, path, hint, "{}", crate::printable::printable(message));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use reeltime_core::{PartNumber, Reason, State, StreamId};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::events::{EventBus, Side};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(level: LevelFilter, json: bool, events: &[What]) -> String {
        let lines = Lines::default();
        let layer = fmt::layer().with_writer(lines.clone()).with_ansi(false);
        let layer = if json { layer.json().flatten_event(true).boxed() } else { layer.boxed() };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(level)));
        tracing::subscriber::with_default(subscriber, || {
            let mut troubles = Troubles::default();
            for what in events {
                let path = Some(PathBuf::from("/rec/a\nERROR forged.mp4"));
                say(&Event { stream: Some(StreamId(uuid::Uuid::nil())), path, what: what.clone() }, &mut troubles);
            }
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn part_stored() -> What {
        What::PartStored {
            number: PartNumber::FIRST,
            size_bytes: 8 << 20,
            again: false,
            took: Duration::from_millis(250),
        }
    }

    fn retrying() -> What {
        What::Retrying {
            side: Side::Store,
            error: "UploadPart s3://b/a.mp4 part 1: timed out".into(),
            hint: String::new(),
        }
    }

    #[test]
    fn a_json_line_has_the_fields_of_the_event() {
        let lines = logged(LevelFilter::DEBUG, true, &[part_stored(), What::Failed { reason: Reason::KeyTaken }]);
        let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["level"], "DEBUG");
        assert_eq!(lines[0]["event"], "part_stored");
        assert_eq!(lines[0]["part"], 1);
        assert_eq!(lines[0]["size_bytes"], 8 << 20);
        assert_eq!(lines[0]["seconds"], 0.25);
        assert_eq!(lines[0]["path"], "/rec/a\nERROR forged.mp4");
        assert_eq!(lines[0]["stream"], "00000000-0000-0000-0000-000000000000");
        assert_eq!(lines[1]["level"], "ERROR");
        assert_eq!(lines[1]["reason"], "key_taken");
        assert_eq!(lines[1]["hint"], Reason::KeyTaken.hint());
    }

    #[test]
    fn a_file_name_cannot_forge_a_line() {
        let lines = logged(LevelFilter::INFO, false, &[What::Discovered]);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains(r#"path="/rec/a\nERROR forged.mp4""#), "{lines}");
    }

    #[test]
    fn info_tells_of_streams_and_debug_of_parts() {
        let story = [
            What::Discovered,
            part_stored(),
            What::StateChanged { from: State::Active, to: State::PendingCompletion },
            What::Completed { size_bytes: 1, after_last_change: Duration::from_secs(1) },
        ];
        assert_eq!(logged(LevelFilter::INFO, false, &story).lines().count(), 3);
        assert_eq!(logged(LevelFilter::DEBUG, false, &story).lines().count(), 4);
        assert_eq!(logged(LevelFilter::ERROR, false, &story), "");
    }

    #[test]
    fn repeated_trouble_is_said_once_and_so_is_its_end() {
        let mut story = vec![retrying(); 50];
        story.extend([part_stored(), part_stored()]);
        let lines = logged(LevelFilter::INFO, false, &story);
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("timed out"), "{lines:#?}");
        assert!(lines[1].contains("the trouble is over") && lines[1].contains("unsaid_retries=49"), "{lines:#?}");
    }

    #[test]
    fn levels_are_words_and_others_are_refused() {
        assert_eq!(level(None), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("debug".as_ref())), Ok(LevelFilter::DEBUG));
        let problem = level(Some("loud".as_ref())).unwrap_err();
        assert_eq!(problem.message, "REELTIME_LOG: \"loud\" is not a level");
    }

    #[tokio::test]
    async fn lag_is_said() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(fmt::layer().with_writer(lines.clone()).with_ansi(false));
        let _guard = tracing::subscriber::set_default(subscriber);
        let bus = EventBus::default();
        let events = bus.listen();
        for _ in 0..4100 {
            bus.tell(Event { stream: None, path: None, what: What::Discovered });
        }
        drop(bus);
        narrate(events, CancellationToken::new()).await;
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("WARN") && lines.contains("missed=4"), "{}", lines.lines().next().unwrap_or(""));
    }
}
