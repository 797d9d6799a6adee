//! Which files are recordings.
//!
//! Globs are matched against the path relative to its source, byte for byte as the file system
//! gives it: a name need not be UTF-8, and may hold any byte but `/` and NUL. They are case
//! sensitive, as file names are: `**/*.mp4` does not match `A.MP4`, `**/*.{mp4,MP4}` does.
//!
//! `*` and `?` stay within one component and `**` does not. A glob without a `/` applies to
//! names in every directory, as in `.gitignore`: `*.mp4` is `**/*.mp4`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use reeltime_core::{ObjectKey, temp_suffix_of};

/// What is recorded when nothing is said.
pub const DEFAULT_INCLUDE: &str = "**/*.mp4";

/// The beginning of the names of reeltime's own files, which are never recordings.
pub const OWN_PREFIX: &str = ".reeltime-";

/// A selection that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A glob that is not one.
    #[error("the glob {glob:?} cannot be used: {cause}; see `**/*.mp4` and `cam[0-9]/*.{{mp4,mov}}` for examples")]
    Glob {
        /// As it was given.
        glob: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A suffix that no file name can have.
    #[error("the temp suffix {0:?} cannot be used: it must be the end of a file name, as in \".part\"")]
    TempSuffix(String),
}

/// Decides which files are recordings, and under which key.
#[derive(Clone, Debug)]
pub struct Selection {
    include: GlobSet,
    exclude: GlobSet,
    temp_suffixes: Vec<String>,
}

impl Selection {
    /// A selection of what matches one of `include` (none means [`DEFAULT_INCLUDE`]) and none
    /// of `exclude`.
    pub fn new(include: &[String], exclude: &[String], temp_suffixes: &[String]) -> Result<Self, SelectionError> {
        if let Some(bad) = temp_suffixes.iter().find(|suffix| suffix.is_empty() || suffix.contains(['/', '\0'])) {
            return Err(SelectionError::TempSuffix(bad.clone()));
        }
        let default = [DEFAULT_INCLUDE.to_owned()];
        let include = if include.is_empty() { &default[..] } else { include };
        Ok(Self { include: set_of(include)?, exclude: set_of(exclude)?, temp_suffixes: temp_suffixes.to_vec() })
    }

    /// The key of a recording at `path` below `source`, less a temp suffix; `None` if a file of
    /// that name is no recording. Looks at the name only.
    pub fn key(&self, source: &Path, path: &Path) -> Option<ObjectKey> {
        let relative = path.strip_prefix(source).ok()?;
        let key = ObjectKey::from_relative(relative, &self.temp_suffixes)?;
        if !self.include.is_match(key.as_path()) {
            return None;
        }
        let hidden = self.hides(relative) || self.hides(key.as_path());
        let parents = || relative.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        (!hidden && !parents().any(|parent| self.hides(parent))).then_some(key)
    }

    /// Whether nothing below the directory `dir` of `source` can be a recording, because an
    /// exclude matches it. Says nothing of the directories above it.
    pub fn prunes(&self, source: &Path, dir: &Path) -> bool {
        dir.strip_prefix(source).is_ok_and(|relative| !relative.as_os_str().is_empty() && self.hides(relative))
    }

    /// Whether the name says that the recording is not finished.
    pub fn is_temp(&self, path: &Path) -> bool {
        temp_suffix_of(path, &self.temp_suffixes).is_some()
    }

    fn hides(&self, relative: &Path) -> bool {
        self.exclude.is_match(relative) || relative.file_name().is_some_and(is_own)
    }
}

fn is_own(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OWN_PREFIX.as_bytes())
}

fn set_of(globs: &[String]) -> Result<GlobSet, SelectionError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let bad = |cause: String| SelectionError::Glob { glob: glob.clone(), cause };
        let pattern = anchored(glob).ok_or_else(|| bad("it is empty".to_owned()))?;
        let built = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
        set.add(built.map_err(|error| bad(error.kind().to_string()))?);
    }
    set.build().map_err(|error| SelectionError::Glob { glob: globs.join(" "), cause: error.kind().to_string() })
}

/// The glob as one of a path relative to the source.
fn anchored(glob: &str) -> Option<String> {
    let trimmed = glob.strip_suffix('/').unwrap_or(glob);
    match trimmed.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => Some(rest.to_owned()),
        None if !trimmed.is_empty() && trimmed.contains('/') => Some(trimmed.to_owned()),
        None if !trimmed.is_empty() => Some(format!("**/{trimmed}")),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude), &owned(&[".part", ".tmp"])).unwrap()
    }

    fn key(selection: &Selection, path: &[u8]) -> Option<String> {
        let path = Path::new("/rec").join(OsStr::from_bytes(path));
        selection.key(Path::new("/rec"), &path).map(|key| key.to_utf8().into_owned())
    }

    #[test]
    fn the_default_selects_mp4_in_every_directory_hidden_ones_too() {
        let default = selection(&[], &[]);
        for name in ["x.mp4", "a/b/c/x.mp4", ".hidden/.x.mp4", "a/.mp4"] {
            assert_eq!(key(&default, name.as_bytes()).as_deref(), Some(name));
        }
        for name in ["x.mkv", "x.mp4.metadata.json", "x.MP4", "mp4", "x.mp4/y", ""] {
            assert_eq!(key(&default, name.as_bytes()), None, "{name}");
        }
        assert_eq!(default.key(Path::new("/rec"), Path::new("/else/x.mp4")), None, "not of this source");
    }

    #[test]
    fn an_unfinished_recording_is_selected_by_its_final_name() {
        let default = selection(&[], &[]);
        assert_eq!(key(&default, b"a/x.mp4.part").as_deref(), Some("a/x.mp4"));
        assert_eq!(key(&default, b"a/x.part"), None);
        assert_eq!(key(&default, b"a/.part"), None);
        assert!(default.is_temp(Path::new("a/x.mp4.tmp")) && !default.is_temp(Path::new("a/x.mp4")));
    }

    #[test]
    fn names_are_bytes() {
        let default = selection(&[], &[]);
        assert_eq!(key(&default, b"caf\xe9\xff/\xfe.mp4").as_deref(), Some("caf%E9%FF/%FE.mp4"));
        assert_eq!(key(&default, b"two\nlines.mp4").as_deref(), Some("two\nlines.mp4"));
        let some = selection(&["cam?/*.mp4"], &["**/bad*.mp4"]);
        assert!(key(&some, b"cam\xff/\n.mp4").is_some(), "one byte that is no character");
        assert_eq!(key(&some, b"cam1/bad\xff\n.mp4"), None);
    }

    #[test]
    fn an_exclude_hides_a_file_a_temp_name_and_everything_below_a_directory() {
        let some = selection(&["**/*.mp4"], &["trash", "cam1/preview/**", "**/*.mp4.tmp", "low-*.mp4", "/top"]);
        for name in ["trash/x.mp4", "a/trash/b/x.mp4", "cam1/preview/x.mp4", "x.mp4.tmp", "low-1.mp4", "low-1.mp4.part"]
        {
            assert_eq!(key(&some, name.as_bytes()), None, "{name}");
        }
        for name in ["trash.mp4", "cam2/preview/x.mp4", "x.mp4", "a/top/x.mp4"] {
            assert!(key(&some, name.as_bytes()).is_some(), "{name}");
        }
        assert_eq!(key(&some, b"top/x.mp4"), None);
        assert!(some.prunes(Path::new("/rec"), Path::new("/rec/a/trash")));
        assert!(!some.prunes(Path::new("/rec"), Path::new("/rec")));
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        let some = selection(&["cam1/*.mp4", "*.mov"], &[]);
        assert!(key(&some, b"cam1/x.mp4").is_some());
        assert_eq!(key(&some, b"cam1/day/x.mp4"), None);
        assert!(key(&some, b"a/b/x.mov").is_some(), "a glob without a slash applies everywhere");
    }

    #[test]
    fn reeltimes_own_files_are_no_recordings() {
        let all = selection(&["**"], &[]);
        assert_eq!(key(&all, b".reeltime-7.mp4"), None);
        assert_eq!(key(&all, b"a/.reeltime-uploads/x.mp4"), None);
        assert!(all.prunes(Path::new("/rec"), Path::new("/rec/.reeltime-uploads")));
        assert!(key(&all, b"a/reeltime-x.mp4").is_some());
    }

    #[test]
    fn a_bad_glob_or_suffix_is_named() {
        let bad = |include: &str, suffix: &str| {
            Selection::new(&[include.to_owned()], &[], &[suffix.to_owned()]).unwrap_err().to_string()
        };
        assert!(bad("cam[1.mp4", ".part").contains("\"cam[1.mp4\""));
        assert!(bad("", ".part").contains("empty"));
        assert!(bad("*.mp4", "").contains("temp suffix"));
    }
}
