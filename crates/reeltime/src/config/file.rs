//! Settings from a TOML file.
//!
//! Each key is the long name of a flag without its dashes. Whatever cannot be used is refused,
//! with its line, column and key: a setting that is silently ignored loses recordings.

use std::ops::Range;
use std::path::Path;

use super::{BadValue, Problem, Settings};

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Settings, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check --config, or REELTIME_CONFIG, for a slip of the pen",
            std::io::ErrorKind::PermissionDenied => "make it readable for the user that runs reeltime",
            std::io::ErrorKind::InvalidData => "save it as UTF-8",
            _ => "",
        };
        Problem::new(format!("cannot read the configuration file {}: {error}", path.display()), hint)
    })?;
    parse(&text).map_err(|mistake| {
        let (line, column) = position(&text, mistake.at.start);
        let key = mistake.key.map_or_else(String::new, |key| format!("{key}: "));
        Problem::new(format!("{}:{line}:{column}: {key}{}", path.display(), mistake.problem), mistake.hint)
    })
}

/// What is wrong in a file, and where.
#[derive(Debug, PartialEq)]
struct Mistake {
    at: Range<usize>,
    key: Option<String>,
    problem: String,
    hint: String,
}

fn parse(text: &str) -> Result<Settings, Mistake> {
    let table = toml::de::DeTable::parse(text).map_err(|error| Mistake {
        at: error.span().unwrap_or_default(),
        key: None,
        problem: error.message().trim_end().replace('\n', ", "),
        hint: "the file is TOML: key = \"value\", one a line".to_owned(),
    })?;
    let known = Settings::keys();
    for key in table.get_ref().keys() {
        let name: &str = key.get_ref();
        if !known.iter().any(|known| known == name) {
            return Err(Mistake {
                at: key.span(),
                key: None,
                problem: format!("unknown key {name:?}"),
                hint: nearest(name, &known).map_or_else(
                    || format!("the keys are {}", known.join(", ")),
                    |near| format!("did you mean {near}?"),
                ),
            });
        }
    }
    toml::from_str(text).map_err(|error| {
        let at = error.span().unwrap_or_default();
        let key = table.get_ref().iter().find(|(_, value)| {
            let value = value.span();
            value.start <= at.start && at.start < value.end
        });
        let (problem, mut hint) = BadValue::parts_of(error.message());
        if hint.is_empty() {
            "`reeltime run --help` says what the flag of this name takes".clone_into(&mut hint);
        }
        Mistake { at, key: key.map(|(key, _)| key.get_ref().to_string()), problem, hint }
    })
}

/// The known key that a person probably meant.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let name = name.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&name, known), known.as_str()))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// Line and column, in characters, of a byte of the text; both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::{AfterUpload, ByteSize, Listen, Rate, Span, TailFlush};
    use super::*;

    const EVERY_KEY: &str = r#"
        dirs = ["/rec/a", "/rec/b"]
        include = ["**/*.mkv"]
        exclude = ["tmp/**"]
        temp-suffix = [".rec"]
        to = "s3://bucket/prefix"
        s3-endpoint = "http://127.0.0.1:9000"
        s3-region = "garage"
        s3-checksums = "off"
        after-upload = "move=/done"
        on-delete = "abort"
        part-size = 16777216
        part-plan = "uniform"
        max-uploads = 4
        bandwidth = "100Mbit/s"
        close-grace = "0s"
        idle-timeout = "1m30s"
        tail-flush = "off"
        watch = "poll"
        scan-interval = "5s"
        once = true
        state = "/var/lib/reeltime/state.db"
        node = "cam-1"
        listen = "off"
        log-format = "json"
        ffprobe = "/usr/bin/ffprobe"
    "#;

    #[test]
    fn every_flag_has_its_key() {
        let settings = parse(EVERY_KEY).unwrap();
        assert_eq!(settings.part_size, Some(ByteSize(16 << 20)));
        assert_eq!(settings.bandwidth, Some(Rate { bytes_per_second: 12_500_000 }));
        assert_eq!(settings.idle_timeout, Some(Span(Duration::from_secs(90))));
        assert_eq!(settings.tail_flush, Some(TailFlush::Off));
        assert_eq!(settings.listen, Some(Listen::Off));
        assert_eq!(settings.after_upload, Some(AfterUpload::Move("/done".into())));
        for key in Settings::keys() {
            assert!(EVERY_KEY.contains(&format!("\n        {key} = ")), "{key} is missing in this test");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (text, hint) in [
            ("part_size = 1", "did you mean part-size?"),
            ("\n  partsize = 1", "did you mean part-size?"),
            ("s3-endpont = ''", "did you mean s3-endpoint?"),
            ("tailflush = ''", "did you mean tail-flush?"),
        ] {
            let mistake = parse(text).unwrap_err();
            assert!(mistake.problem.starts_with("unknown key"), "{mistake:?}");
            assert_eq!(mistake.hint, hint);
        }
        let far = parse("zzz = 1").unwrap_err();
        assert!(far.hint.starts_with("the keys are dirs, include"), "{far:?}");
    }

    #[test]
    fn a_wrong_value_is_said_with_its_key_and_place() {
        let table = [
            ("to = 'x'\npart-size = '8 apples'", (2, 13), "part-size", "\"8 apples\" is not a size"),
            ("part-size = -5", (1, 13), "part-size", "\"-5\" is a negative size"),
            ("to = 'x'\n  \"é\" = 1\n", (2, 3), "", "unknown key"),
            ("part-size = true", (1, 13), "part-size", "invalid type: boolean `true`, expected a size"),
            ("close-grace = 2", (1, 15), "close-grace", "invalid type: integer `2`, expected a string"),
            ("watch = 'sometimes'", (1, 9), "watch", "\"sometimes\" is not one of the choices"),
            ("include = ['é', 7]", (1, 17), "include", "invalid type: integer `7`"),
            ("max-uploads = -1", (1, 15), "max-uploads", "invalid value: integer `-1`"),
            ("[to]\nx = 1", (1, 1), "to", "invalid type"),
        ];
        for (text, place, key, problem) in table {
            let mistake = parse(text).unwrap_err();
            assert!(mistake.problem.starts_with(problem), "{text}: {mistake:?}");
            assert_eq!(position(text, mistake.at.start), place, "{text}: {mistake:?}");
            assert_eq!(mistake.key.as_deref().unwrap_or(""), key, "{text}");
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_place() {
        let text = "to = 's3://b'\npart-size 8MiB\n";
        let mistake = parse(text).unwrap_err();
        assert_eq!(position(text, mistake.at.start).0, 2, "{mistake:?}");
        assert!(parse("to = 'a'\nto = 'b'").unwrap_err().problem.contains("duplicate"));
    }
}
