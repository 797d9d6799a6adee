//! Object keys, and how a path becomes one.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The name of an object below the destination: the recording's path relative to its source,
/// with `/` between the components.
///
/// It holds the bytes of the file name as they are. A local destination uses them so; a store
/// whose keys must be UTF-8 uses [`ObjectKey::to_utf8`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Vec<u8>);

impl ObjectKey {
    /// The key of a file at `relative`, less the first of `temp_suffixes` that its name ends in.
    ///
    /// `None` if the path is empty, absolute or leaves its source, or if nothing but the
    /// suffix would be left of the name.
    pub fn from_relative(relative: &Path, temp_suffixes: &[String]) -> Option<Self> {
        let mut bytes = Vec::new();
        for component in relative.components() {
            let Component::Normal(name) = component else { return None };
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name.as_bytes());
        }
        let name_len = relative.file_name()?.as_bytes().len();
        if let Some(suffix) = temp_suffix_of(relative, temp_suffixes) {
            if suffix.len() == name_len {
                return None;
            }
            bytes.truncate(bytes.len() - suffix.len());
        }
        Some(Self(bytes))
    }

    /// A key from bytes that [`ObjectKey::as_bytes`] gave.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as a relative path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The key as text. What is not UTF-8 is percent-encoded, and in such a key `%` too, so
    /// that two different names stay two different keys; every other key is left as it is.
    pub fn to_utf8(&self) -> Cow<'_, str> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return Cow::Borrowed(text);
        }
        let mut text = String::with_capacity(self.0.len() + 8);
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '%' {
                    text.push_str("%25");
                } else {
                    text.push(character);
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(text, "%{byte:02X}"); // writing to a String cannot fail
            }
        }
        Cow::Owned(text)
    }

    /// The key of the metadata document beside the object.
    #[must_use]
    pub fn metadata_document(&self) -> Self {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(b".metadata.json");
        Self(bytes)
    }
}

/// The suffix, one of `temp_suffixes`, that says that a file is not finished.
pub fn temp_suffix_of<'a>(path: &Path, temp_suffixes: &'a [String]) -> Option<&'a str> {
    let name = path.file_name()?.as_bytes();
    temp_suffixes.iter().map(String::as_str).find(|suffix| !suffix.is_empty() && name.ends_with(suffix.as_bytes()))
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utf8())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_utf8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &[u8]) -> Option<ObjectKey> {
        ObjectKey::from_relative(Path::new(OsStr::from_bytes(path)), &[".part".into(), ".tmp".into()])
    }

    #[test]
    fn a_temp_suffix_is_no_part_of_the_key() {
        assert_eq!(key(b"a/x.mp4.part"), key(b"a/x.mp4"));
        assert_eq!(key(b"a/x.mp4.tmp").unwrap().to_utf8(), "a/x.mp4");
        assert_eq!(key(b"a/.part"), None);
        assert_eq!(key(b""), None);
        assert_eq!(key(b"../x.mp4"), None);
        assert_eq!(key(b"/x.mp4"), None);
    }

    #[test]
    fn names_that_are_not_utf8_stay_different_keys() {
        assert_eq!(key(b"a\nb \"c\" 100%.mp4").unwrap().to_utf8(), "a\nb \"c\" 100%.mp4");
        assert_eq!(key(b"caf\xe9 5%.mp4").unwrap().to_utf8(), "caf%E9 5%25.mp4");
        assert_ne!(key(b"\xff%FE").unwrap().to_utf8(), key(b"\xff\xfe").unwrap().to_utf8());
        assert_eq!(key(b"\xff.mp4").unwrap().as_path().as_os_str().as_bytes(), b"\xff.mp4");
    }
}
