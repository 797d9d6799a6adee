//! The built reeltime as its users run it: a process with flags, a log and an HTTP address.
//!
//! It runs with `--log-format json`, and tests wait for its log lines. Only this file knows how
//! those look.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::servers::{Exited, Launch, Port, Process};

/// A reeltime to be run.
#[derive(Debug)]
pub struct Daemon {
    launch: Launch,
    port: Port,
}

impl Daemon {
    /// `reeltime run DIR… --to …` from the binary at `program`
    /// (`env!("CARGO_BIN_EXE_reeltime")`), with its checkpoint in a directory of its own and its
    /// HTTP address on a port of its own.
    pub fn run(program: impl AsRef<Path>) -> Self {
        let port = Port::reserve();
        let launch = Launch::new(program);
        let state = launch.home().join("state");
        let launch = launch
            .arg("run")
            .args(["--log-format", "json", "--listen"])
            .arg(port.address())
            .env("XDG_STATE_HOME", state)
            .env_remove("STATE_DIRECTORY");
        Self { launch, port }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.launch = self.launch.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.launch = self.launch.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.launch = self.launch.env(name, value);
        self
    }

    /// Takes a variable away, inherited or set before.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.launch = self.launch.env_remove(name);
        self
    }

    /// Sets variables, such as those of a server.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.launch = self.launch.envs(vars);
        self
    }

    /// Starts it. It may not be ready yet: wait for an event or for [`Running::answers`].
    pub fn start(self) -> Running {
        Running { process: Process::start(self.launch), port: self.port, run_begins_at: 0 }
    }
}

/// A running (or ended) reeltime. Dropping it kills it; if the test panics, the end of its log
/// is printed.
#[derive(Debug)]
pub struct Running {
    process: Process,
    port: Port,
    /// Where in the log the present run begins.
    run_begins_at: u64,
}

impl Running {
    /// `127.0.0.1:port` of its HTTP server.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The process: to freeze, thaw, signal.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A directory that lives as long as this, with its checkpoint.
    pub fn home(&self) -> &Path {
        self.process.home()
    }

    /// The file with everything it has written.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    /// `kill -9`.
    pub fn kill(&self) -> Exited {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&self, within: Duration) -> Exited {
        self.process.stop(within)
    }

    /// Waits for it to end by itself.
    pub fn wait_exit(&self, within: Duration) -> Exited {
        self.process.wait_exit(within)
    }

    /// Kills it, if it runs, and starts it again with the same arguments and state. Events are
    /// those of the new run from now on.
    pub fn restart(&mut self) {
        self.process.kill();
        self.run_begins_at = std::fs::metadata(self.log()).map_or(0, |data| data.len());
        self.process.restart();
    }

    /// The log lines of the present run so far.
    pub fn events(&self) -> Vec<LogLine> {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        LogLine::all_of(bytes.get(self.run_begins_at as usize..).unwrap_or_default())
    }

    /// Waits for a log line of the present run, also one that is there already. On timeout, or
    /// when the process ends without it, panics with everything that was seen.
    pub fn wait_event(&self, what: &str, within: Duration, matches: impl Fn(&LogLine) -> bool) -> LogLine {
        self.wait_events(what, 1, within, matches).remove(0)
    }

    /// Waits for this many log lines that match, and gives all that do.
    pub fn wait_events(
        &self,
        what: &str,
        count: usize,
        within: Duration,
        matches: impl Fn(&LogLine) -> bool,
    ) -> Vec<LogLine> {
        let deadline = std::time::Instant::now() + within;
        loop {
            // Asked before reading: what an ended process has written is all there is.
            let exited = self.process.exited();
            let events = self.events();
            let found: Vec<_> = events.iter().filter(|line| matches(line)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            if exited.is_some() || std::time::Instant::now() >= deadline {
                let seen: Vec<_> = events.iter().map(ToString::to_string).collect();
                let end = exited.map_or(format!("waited {within:?}"), |exited| format!("ended with {}", exited.status));
                panic!("{end}; {} of {count} × {what}; seen:\n{}", found.len(), seen.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(10)); // between two looks at the log
        }
    }

    /// Waits for the event `name` of the file `path`.
    pub fn wait_event_of(&self, name: &str, path: impl AsRef<Path>, within: Duration) -> LogLine {
        let path = path.as_ref();
        self.wait_event(&format!("{name} of {}", path.display()), within, |line| {
            line.event() == Some(name) && line.path() == Some(path)
        })
    }

    /// Whether its HTTP server answers this path with 200.
    pub fn answers(&self, target: &str) -> bool {
        http::get(&self.address(), target).is_ok_and(|response| response.status == 200)
    }

    /// Waits until its HTTP server answers this path with 200.
    pub fn wait_answers(&self, target: &str, within: Duration) {
        self.process.wait_until(&format!("{target} to be answered"), within, || self.answers(target));
    }

    /// Asks its HTTP server.
    pub fn get(&self, target: &str) -> http::Response {
        http::get(&self.address(), target)
            .unwrap_or_else(|error| panic!("GET http://{}{target}: {error}", self.address()))
    }

    /// `/api/streams`.
    pub fn api_streams(&self) -> Vec<Value> {
        let response = self.get("/api/streams");
        let text = response.text();
        assert_eq!(response.status, 200, "GET /api/streams: {text}");
        match serde_json::from_str(&text) {
            Ok(Value::Array(streams)) => streams,
            other => panic!("/api/streams is not an array of JSON: {other:?} in {text}"),
        }
    }

    /// The resident memory of the process (Linux).
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that the process ever had (Linux).
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {what} in {path}: {status}")) * 1024
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogLine {
    /// As reeltime writes it.
    Json(Value),
    /// Anything else, such as a panic's message.
    Text(String),
}

impl LogLine {
    /// The complete lines of a log.
    fn all_of(bytes: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(bytes);
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => Self::Json(value),
            _ => Self::Text(line.to_owned()),
        };
        complete.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// A field of the event, whether the line is flat or keeps them apart; where the event has
    /// none of that name, of its innermost span, and so on outwards.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Self::Json(line) = self else { return None };
        let spans = line["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        [line, &line["fields"]]
            .into_iter()
            .chain(std::iter::once(&line["span"]))
            .chain(spans.iter().rev())
            .find_map(|place| place.get(name))
    }

    /// A field that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str)
    }

    /// A field that is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name).and_then(Value::as_u64)
    }

    /// What happened: `completed`.
    pub fn event(&self) -> Option<&str> {
        self.text("event")
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        self.text("path").map(Path::new)
    }

    /// The message.
    pub fn message(&self) -> Option<&str> {
        self.text("message")
    }

    /// `INFO`, `WARN` …
    pub fn level(&self) -> Option<&str> {
        match self {
            Self::Json(line) => line["level"].as_str(),
            Self::Text(_) => None,
        }
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(value) => write!(out, "{value}"),
            Self::Text(text) => out.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_the_event_and_then_in_its_spans() {
        let log = br#"{"level":"INFO","fields":{"message":"done","event":"completed"},"span":{"path":"/r/a.mp4"},"spans":[{"path":"/outer"},{"path":"/r/a.mp4"}]}
{"level":"INFO","message":"done","event":"completed","size_bytes":7}
thread 'main' panicked
{"half":"#;
        let lines = LogLine::all_of(log);
        assert_eq!(lines.len(), 3, "the last line is not complete");
        assert_eq!(lines[0].event(), Some("completed"));
        assert_eq!(lines[0].path(), Some(Path::new("/r/a.mp4")));
        assert_eq!(lines[0].level(), Some("INFO"));
        assert_eq!((lines[1].event(), lines[1].number("size_bytes")), (Some("completed"), Some(7)));
        assert_eq!(lines[2], LogLine::Text("thread 'main' panicked".into()));
    }
}
