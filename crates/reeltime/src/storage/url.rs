//! Where recordings are to go, as `--to` says it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
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
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

impl Destination {
    /// Reads what was given as `--to`.
    pub fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let hint = "write s3://bucket/prefix, file:///directory or a path";
        let fail = |problem| Err(DestinationError { text: text.to_string_lossy().into_owned(), problem, hint });
        if let Some(rest) = text.as_bytes().strip_prefix(b"s3://") {
            let Ok(rest) = std::str::from_utf8(rest) else { return fail("bucket and prefix must be UTF-8") };
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return fail("the bucket is missing");
            }
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() });
        }
        if let Some(path) = text.as_bytes().strip_prefix(b"file://") {
            return match path.first() {
                Some(b'/') => Ok(Self::Local(OsStr::from_bytes(path).into())),
                _ => fail("a file URL names no other host"),
            };
        }
        match text.to_string_lossy() {
            empty if empty.is_empty() => fail("it is empty"),
            url if url.contains("://") => fail("unknown scheme"),
            _ => Ok(Self::Local(text.into())),
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
