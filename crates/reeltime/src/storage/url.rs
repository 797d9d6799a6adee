//! Where recordings are to go, as `--to` says it.
//!
//! `s3://bucket[/prefix]`, `file:///dir` (percent-encoded) or a plain path. Anything that looks
//! like a URL and is none of these is an error, never a directory of a strange name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A parsed `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A bucket of an S3-compatible store.
    S3 {
        /// Its name.
        bucket: String,
        /// What all keys begin with, without `/` at either end; may be empty.
        prefix: String,
    },
    /// A directory.
    Local(PathBuf),
}

/// A `--to` that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("destination {text}: {problem}")]
pub struct DestinationError {
    /// What was given, as far as it can be shown: never a part that may be a secret.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

const FORMS: &str = "write s3://bucket/prefix, file:///directory or a path";

impl Destination {
    /// Reads what was given as `--to`.
    pub fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let bytes = text.as_bytes();
        let fail = |problem, hint| Err(DestinationError { text: shown(text), problem, hint });
        if bytes.is_empty() {
            return fail("it is empty", FORMS);
        }
        if bytes.contains(&0) {
            return fail("it contains a NUL byte", FORMS);
        }
        let Some((scheme, rest)) = scheme_of(bytes) else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_slice() {
            b"s3" => match rest.strip_prefix(b"//") {
                Some(rest) => s3(text, rest),
                None => fail("a bucket follows two slashes", "write s3://bucket/prefix"),
            },
            b"file" => match rest.strip_prefix(b"//") {
                Some(rest) => file(text, rest),
                None => fail("a file URL has three slashes", "write file:///directory, or just the path"),
            },
            b"http" | b"https" if rest.starts_with(b"//") => fail(
                "a web address is no destination",
                "give the store's address as --s3-endpoint, and the bucket as --to s3://bucket/prefix",
            ),
            _ if rest.starts_with(b"//") => fail("unknown scheme", FORMS),
            _ => Ok(Self::Local(PathBuf::from(text))), // a colon in a path
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Local(path) => path.display().fmt(f),
        }
    }
}

/// What stands before the first colon, if it can be a scheme (RFC 3986), and what follows.
fn scheme_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = bytes.split_at(colon);
    let first = scheme.first()?.is_ascii_alphabetic();
    let others = scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    (first && others).then_some((scheme, &rest[1..]))
}

fn s3(text: &OsStr, rest: &[u8]) -> Result<Destination, DestinationError> {
    let fail = |problem, hint| Err(DestinationError { text: shown(text), problem, hint });
    let Ok(rest) = std::str::from_utf8(rest) else {
        return fail("bucket and prefix must be UTF-8", "choose another prefix");
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return fail("the bucket is missing", "write s3://bucket/prefix");
    }
    if bucket.contains('@') {
        return fail(
            "credentials do not belong here",
            "write s3://bucket/prefix; credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             ~/.aws/credentials or the machine's role",
        );
    }
    // Older buckets have capitals and underscores, Ceph's tenants a colon.
    if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
        return fail(
            "this is no name of a bucket",
            "write s3://bucket/prefix, with the store's address as --s3-endpoint",
        );
    }
    Ok(Destination::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
}

fn file(text: &OsStr, rest: &[u8]) -> Result<Destination, DestinationError> {
    let fail = |problem, hint| Err(DestinationError { text: shown(text), problem, hint });
    let path = rest.strip_prefix(b"localhost").unwrap_or(rest);
    if !path.starts_with(b"/") {
        return fail("a file URL names no other host", "write file:///directory, with three slashes");
    }
    match percent_decoded(path) {
        Some(path) if !path.contains(&0) => Ok(Destination::Local(PathBuf::from(OsString::from_vec(path)))),
        _ => fail("% is not followed by two hexadecimal digits", "write %25 for a percent sign, or give a plain path"),
    }
}

/// `None` if a `%` is not followed by two hexadecimal digits.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        decoded.push(if *byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            *byte
        });
    }
    Some(decoded)
}

/// The text for an error message, without what stands before an `@`.
fn shown(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    match (text.find("://"), text.rfind('@')) {
        (Some(colon), Some(at)) if at > colon => format!("{}://…{}", &text[..colon], &text[at..]),
        _ => text.into_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Destination, DestinationError> {
        Destination::parse(OsStr::new(text))
    }

    fn s3(bucket: &str, prefix: &str) -> Destination {
        Destination::S3 { bucket: bucket.into(), prefix: prefix.into() }
    }

    #[test]
    fn a_bucket_with_and_without_prefix() {
        assert_eq!(parse("s3://b"), Ok(s3("b", "")));
        assert_eq!(parse("s3://b/"), Ok(s3("b", "")));
        assert_eq!(parse("S3://my.bucket-1//cam 1/täglich//"), Ok(s3("my.bucket-1", "cam 1/täglich")));
        assert_eq!(parse("s3://b/x/").unwrap().to_string(), "s3://b/x");
        assert_eq!(parse("s3://b").unwrap().to_string(), "s3://b");
    }

    #[test]
    fn a_directory_as_url_and_as_path() {
        assert_eq!(
            parse("file:///a%20b/%E4/100%25"),
            Ok(Destination::Local(PathBuf::from(OsString::from_vec(b"/a b/\xe4/100%".to_vec()))))
        );
        assert_eq!(parse("file://localhost/a"), Ok(Destination::Local("/a".into())));
        for path in ["/a%20b", "a/b", ".", "cam:1/x", "-:x", "a b://c"] {
            assert_eq!(parse(path), Ok(Destination::Local(path.into())), "{path}");
        }
        let raw = OsStr::from_bytes(b"/r\xffec");
        assert_eq!(Destination::parse(raw), Ok(Destination::Local(raw.into())));
    }

    #[test]
    fn what_means_nothing_is_an_error_with_a_hint() {
        for (text, problem) in [
            ("", "it is empty"),
            ("a\0b", "it contains a NUL byte"),
            ("s3://", "the bucket is missing"),
            ("s3:///x", "the bucket is missing"),
            ("s3:/x", "a bucket follows two slashes"),
            ("s3:x", "a bucket follows two slashes"),
            ("s3://b c/x", "this is no name of a bucket"),
            ("s3://b?region=x", "this is no name of a bucket"),
            ("file:/x", "a file URL has three slashes"),
            ("file://x/y", "a file URL names no other host"),
            ("file://localhosts/y", "a file URL names no other host"),
            ("file:///%2", "% is not followed by two hexadecimal digits"),
            ("file:///%zz", "% is not followed by two hexadecimal digits"),
            ("gs://b", "unknown scheme"),
            ("https://minio:9000/b", "a web address is no destination"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.problem, problem, "{text}");
            assert!(!error.hint.is_empty());
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        let error = parse("s3://AKIA:verysecret@bucket/x").unwrap_err();
        assert_eq!(error.problem, "credentials do not belong here");
        assert!(!error.to_string().contains("verysecret"), "{error}");
        assert!(!parse("https://u:verysecret@h/").unwrap_err().to_string().contains("verysecret"));
    }
}
