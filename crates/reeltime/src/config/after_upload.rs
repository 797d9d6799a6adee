//! What becomes of a recording's file once its object is complete.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::text::BadValue;

/// What becomes of the file after its object was verified, completed and announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AfterUpload {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved below this directory, to the same relative path.
    Move(PathBuf),
}

impl AfterUpload {
    /// Reads `keep`, `delete` or `move=DIR`. The directory may have any bytes.
    pub fn parse(text: &OsStr) -> Result<Self, BadValue> {
        match text.as_bytes() {
            b"keep" => Ok(Self::Keep),
            b"delete" => Ok(Self::Delete),
            bytes => match bytes.strip_prefix(b"move=") {
                Some(dir) if !dir.is_empty() => Ok(Self::Move(OsString::from_vec(dir.to_vec()).into())),
                Some(_) => Err(bad(text, "names no directory")),
                None => Err(bad(text, "is not one of the choices")),
            },
        }
    }
}

fn bad(text: &OsStr, what: &str) -> BadValue {
    BadValue::new(&text.to_string_lossy(), what, "keep or delete or move=DIR")
}

impl<'de> serde::Deserialize<'de> for AfterUpload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(OsStr::new(&text)).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_are_read() {
        assert_eq!(AfterUpload::parse(OsStr::new("keep")), Ok(AfterUpload::Keep));
        assert_eq!(AfterUpload::parse(OsStr::new("delete")), Ok(AfterUpload::Delete));
        let dir = OsStr::from_bytes(b"move=/done/\xff");
        assert_eq!(AfterUpload::parse(dir), Ok(AfterUpload::Move(OsStr::from_bytes(b"/done/\xff").into())));
    }

    #[test]
    fn another_way_is_refused() {
        for text in ["", "Keep", "remove", "move", "move=", "delete=/x"] {
            let bad = AfterUpload::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(bad.instead, "keep or delete or move=DIR", "{text}");
        }
    }
}
