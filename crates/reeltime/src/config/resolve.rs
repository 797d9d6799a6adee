//! From what was given to a complete configuration. Nothing here looks at the disk.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobBuilder;
use reeltime_core::{OnDelete, PlanKind};

use super::{
    AfterUpload, ByteSize, Config, Listen, LogFormat, PartPlanChoice, Problem, S3Checksums, S3Config, Settings, Span,
    TailFlush,
};
use crate::checkpoint::url::{StateUrl, default_state_path};
use crate::storage::url::Destination;

const DEFAULT_INCLUDE: &str = "**/*.mp4";
const DEFAULT_TEMP_SUFFIXES: [&str; 2] = [".part", ".tmp"];
const DEFAULT_PART_SIZE: ByteSize = ByteSize(8 << 20);
const DEFAULT_MAX_UPLOADS: u32 = 8;
const DEFAULT_CLOSE_GRACE: Duration = Duration::from_secs(2);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TAIL_FLUSH: Duration = Duration::from_secs(30);
const DEFAULT_LISTEN: Listen =
    Listen::At(std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8420));

impl Settings {
    /// A complete configuration; `var` gives an environment variable.
    pub fn resolve(self, var: impl Fn(&str) -> Option<OsString>) -> Result<Config, Problem> {
        let dirs = self.dirs.unwrap_or_default();
        if dirs.is_empty() {
            return Err(Problem::new("no directory to watch", "name at least one: reeltime run DIR... --to URL"));
        }
        let Some(to) = self.to else {
            return Err(Problem::new(
                "no destination",
                "say where recordings go: --to s3://BUCKET[/PREFIX], or --to /some/directory",
            ));
        };
        Ok(Config {
            dirs,
            include: patterns("--include", self.include, &[DEFAULT_INCLUDE])?,
            exclude: patterns("--exclude", self.exclude, &[])?,
            temp_suffixes: temp_suffixes(self.temp_suffix)?,
            to: destination(&to)?,
            s3: S3Config {
                endpoint: self.s3_endpoint.map(endpoint).transpose()?,
                region: self.s3_region,
                checksums: self.s3_checksums.unwrap_or(S3Checksums::Auto),
            },
            after_upload: self.after_upload.unwrap_or(AfterUpload::Keep),
            on_delete: self.on_delete.map(OnDelete::from).unwrap_or_default(),
            part_size_bytes: self.part_size.unwrap_or(DEFAULT_PART_SIZE).0,
            part_plan: PlanKind::from(self.part_plan.unwrap_or(PartPlanChoice::Growing)),
            max_uploads: self.max_uploads.unwrap_or(DEFAULT_MAX_UPLOADS) as usize,
            bandwidth: self.bandwidth,
            close_grace: self.close_grace.map_or(DEFAULT_CLOSE_GRACE, |Span(time)| time),
            idle_timeout: not_zero("--idle-timeout", self.idle_timeout, DEFAULT_IDLE_TIMEOUT)?,
            tail_flush: self.tail_flush.unwrap_or(TailFlush::After(DEFAULT_TAIL_FLUSH)),
            watch: self.watch.unwrap_or_default(),
            scan_interval: scan_interval(self.scan_interval)?,
            once: self.once.unwrap_or(false),
            state: state_url(self.state, var)?,
            node: node_name(self.node)?,
            listen: self.listen.unwrap_or(DEFAULT_LISTEN),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            ffprobe: self.ffprobe.unwrap_or_else(|| PathBuf::from("ffprobe")),
        })
    }
}

/// A destination from its text.
pub(crate) fn destination(text: &OsStr) -> Result<Destination, Problem> {
    Destination::parse(text)
        .map_err(|error| Problem::new(format!("--to {}: {}", error.text, error.problem), error.hint))
}

/// The state's place from its text, or the default one.
pub(crate) fn state_url(given: Option<OsString>, var: impl Fn(&str) -> Option<OsString>) -> Result<StateUrl, Problem> {
    let text = given.or_else(|| default_state_path(var).map(PathBuf::into_os_string)).ok_or_else(|| {
        Problem::new(
            "no place for the state: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set",
            "name a file on a local disk: --state /var/lib/reeltime/state.db",
        )
    })?;
    // The text may hold a password: only the error knows what of it may be shown.
    StateUrl::parse(&text).map_err(|error| {
        Problem::new(format!("--state: {error}"), "name a file on a local disk: --state /var/lib/reeltime/state.db")
    })
}

fn patterns(flag: &str, given: Option<Vec<String>>, default: &[&str]) -> Result<Vec<String>, Problem> {
    let patterns = given.unwrap_or_else(|| default.iter().map(|pattern| (*pattern).to_owned()).collect());
    for pattern in &patterns {
        let hint = "write a glob such as **/*.mp4, or cam-*/**; in a shell, in quotes";
        if pattern.is_empty() {
            return Err(Problem::new(format!("{flag}: the pattern is empty"), hint));
        }
        GlobBuilder::new(pattern)
            .build()
            .map_err(|error| Problem::new(format!("{flag} {pattern}: {}", error.kind()), hint))?;
    }
    Ok(patterns)
}

fn temp_suffixes(given: Option<Vec<String>>) -> Result<Vec<String>, Problem> {
    let mut suffixes = given.unwrap_or_else(|| DEFAULT_TEMP_SUFFIXES.map(str::to_owned).into());
    suffixes.retain(|suffix| !suffix.is_empty());
    match suffixes.iter().find(|suffix| suffix.contains('/')) {
        Some(suffix) => Err(Problem::new(
            format!("--temp-suffix {suffix}: contains a slash"),
            "name what the recorder appends to the file's name, such as .part",
        )),
        None => Ok(suffixes),
    }
}

/// An endpoint from its text.
pub(crate) fn endpoint(text: String) -> Result<String, Problem> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(text),
        _ => Err(Problem::new(
            format!("--s3-endpoint {text}: not an http:// or https:// address"),
            "write it with its scheme, such as https://s3.example.org or http://127.0.0.1:9000",
        )),
    }
}

fn not_zero(flag: &str, given: Option<Span>, default: Duration) -> Result<Duration, Problem> {
    match given {
        Some(Span(Duration::ZERO)) => Err(Problem::new(
            format!("{flag} is 0"),
            format!("give it a time, such as 1s; the default is {}s", default.as_secs()),
        )),
        Some(Span(time)) => Ok(time),
        None => Ok(default),
    }
}

fn scan_interval(given: Option<Span>) -> Result<Option<Duration>, Problem> {
    match given {
        Some(Span(Duration::ZERO)) => {
            Err(Problem::new("--scan-interval is 0", "give it a time, such as 1s, or leave it out"))
        }
        given => Ok(given.map(|Span(time)| time)),
    }
}

/// A node's name, or that of this machine.
pub(crate) fn node_name(given: Option<String>) -> Result<String, Problem> {
    let hint = "name this node: --node NAME, up to 255 bytes of text without control characters";
    let Some(name) = given.or_else(crate::host::name) else {
        return Err(Problem::new("this machine has no host name", hint));
    };
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(Problem::new(format!("--node {name:?} is not a usable name"), hint));
    }
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn given() -> Settings {
        Settings { dirs: Some(vec!["/rec".into()]), to: Some("s3://bucket".into()), ..Settings::default() }
    }

    fn home(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/home/op".into())
    }

    #[test]
    fn what_is_not_given_has_the_documented_default() {
        let config = given().resolve(home).unwrap();
        assert_eq!(config.include, ["**/*.mp4"]);
        assert!(config.exclude.is_empty());
        assert_eq!(config.temp_suffixes, [".part", ".tmp"]);
        assert_eq!(config.part_size_bytes, 8 << 20);
        assert_eq!(config.part_plan, PlanKind::Growing);
        assert_eq!(config.max_uploads, 8);
        assert_eq!(config.bandwidth, None);
        assert_eq!(config.close_grace, Duration::from_secs(2));
        assert_eq!(config.idle_timeout, Duration::from_secs(30));
        assert_eq!(config.tail_flush, TailFlush::After(Duration::from_secs(30)));
        assert_eq!(config.scan_interval, None);
        assert_eq!(config.listen.to_string(), "127.0.0.1:8420");
        assert_eq!(config.after_upload, AfterUpload::Keep);
        assert_eq!(config.on_delete, OnDelete::Finish);
        assert!(!config.once);
        assert!(!config.node.is_empty());
    }

    #[test]
    fn an_empty_temp_suffix_clears_the_defaults() {
        let cleared = Settings { temp_suffix: Some(vec![String::new()]), ..given() };
        assert!(cleared.resolve(home).unwrap().temp_suffixes.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_hint() {
        let zero = Some(Span(Duration::ZERO));
        let table = [
            (Settings { dirs: None, ..given() }, "no directory to watch"),
            (Settings { to: None, ..given() }, "no destination"),
            (Settings { include: Some(vec!["a[".into()]), ..given() }, "--include a[: "),
            (Settings { exclude: Some(vec![String::new()]), ..given() }, "--exclude: the pattern is empty"),
            (Settings { temp_suffix: Some(vec!["/x".into()]), ..given() }, "--temp-suffix /x: contains a slash"),
            (Settings { s3_endpoint: Some("minio:9000".into()), ..given() }, "--s3-endpoint minio:9000: not an http"),
            (Settings { idle_timeout: zero, ..given() }, "--idle-timeout is 0"),
            (Settings { scan_interval: zero, ..given() }, "--scan-interval is 0"),
            (Settings { node: Some(String::new()), ..given() }, "--node \"\" is not a usable name"),
        ];
        for (settings, message) in table {
            let problem = settings.resolve(home).unwrap_err();
            assert!(problem.message.starts_with(message), "{problem:?}");
            assert!(!problem.hint.is_empty(), "{problem:?}");
        }
        let nowhere = given().resolve(|_| None).unwrap_err();
        assert!(nowhere.message.starts_with("no place for the state"), "{nowhere:?}");
    }
}
