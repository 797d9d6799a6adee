//! Names, directories and errors of a directory that takes recordings.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use reeltime_core::{ObjectKey, Trouble};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use uuid::Uuid;

use super::journal::Journal;

/// What the names of all files begin with that are not (yet) recordings.
const HIDDEN: &str = ".reeltime-";

/// For how long a temp file without a journal may be somebody's beginning.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);

/// The extended attribute that holds the token.
const TOKEN: &str = "user.reeltime.token";

/// The files of one upload. Their names are never made from the object's, which may already be
/// as long as a file system allows.
#[derive(Clone, Debug)]
pub(super) struct UploadFiles {
    /// The directory of the object, so that the last step is a rename.
    pub(super) dir: PathBuf,
    /// The bytes.
    pub(super) temp: PathBuf,
    /// Which of them are parts.
    pub(super) journal: PathBuf,
}

impl UploadFiles {
    /// The files of an upload; `None` if no upload has such an id.
    pub(super) fn of(object: &Path, id: &str) -> Option<Self> {
        is_id(id).then(|| Self::in_dir(parent_of(object), id))
    }

    fn in_dir(dir: &Path, id: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            temp: dir.join(format!("{HIDDEN}{id}")),
            journal: dir.join(format!("{HIDDEN}{id}.parts")),
        }
    }
}

/// A new id for an upload, or for a temp file of its own.
pub(super) fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A temp file whose name nobody else has.
pub(super) fn put_temp(object: &Path) -> PathBuf {
    parent_of(object).join(format!("{HIDDEN}{}.put", new_id()))
}

/// Creates the temp file of an object that is stored in one request.
///
/// Its name follows from the object's, so that what a crash has left is used by the next
/// attempt. If somebody else is at work on the same object, it has a name of its own.
pub(super) fn create_put_temp(object: &Path) -> io::Result<(PathBuf, File)> {
    let name = Uuid::from_bytes(Md5::digest(object.as_os_str().as_bytes()).into());
    let path = parent_of(object).join(format!("{HIDDEN}{}.put", name.simple()));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
    let is_ours = file.try_lock().is_ok()
        // Between opening and locking the other one may have made it the object.
        && path.symlink_metadata().is_ok_and(|named| {
            file.metadata().is_ok_and(|opened| (named.dev(), named.ino()) == (opened.dev(), opened.ino()))
        });
    if !is_ours {
        let path = put_temp(object);
        return create_new(&path).map(|file| (path, file));
    }
    file.set_len(0)?;
    Ok((path, file))
}

/// The directory of an object. An object is always below a directory.
pub(super) fn parent_of(object: &Path) -> &Path {
    object.parent().unwrap_or(object)
}

/// Where the object of a key is.
pub(super) fn object_path(base: &Path, key: &ObjectKey) -> PathBuf {
    base.join(key.as_path())
}

/// The uploads that a directory holds: id and files, those whose journal and temp file exist.
///
/// What crashes have left is removed on the way: a journal alone means nothing, because the
/// temp file is created before it and goes away before it; a temp file alone, or an empty one with
/// a journal that says nothing yet, may be a beginning, so it stays for a day.
pub(super) fn uploads_in(dir: &Path) -> io::Result<Vec<(String, UploadFiles)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut uploads = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(HIDDEN)) else { continue };
        let (id, kind) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
        if !is_id(id) {
            continue;
        }
        let files = UploadFiles::in_dir(dir, id);
        match kind {
            ".parts" if !files.temp.try_exists()? => remove(&files.journal)?,
            ".parts" if is_old(&entry) && is_unbegun(&files) => {
                remove(&files.temp)?;
                remove(&files.journal)?;
            }
            ".parts" => uploads.push((id.to_owned(), files)),
            ".put" if is_old(&entry) => remove(&entry.path())?,
            "" if is_old(&entry) && !files.journal.try_exists()? => remove(&files.temp)?,
            _ => {}
        }
    }
    Ok(uploads)
}

/// Whether a crash came before the journal's first record, and so before any byte.
fn is_unbegun(files: &UploadFiles) -> bool {
    matches!(Journal::read(&files.journal), Ok(None)) && files.temp.metadata().is_ok_and(|temp| temp.len() == 0)
}

/// Whether nobody has written to a file for a day.
fn is_old(entry: &fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age > LEFTOVER_AGE)
}

/// Creates a file for writing that must not exist yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path)
}

/// Creates a directory and those above it, each durable.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(above) = dir.parent() else { return Err(error) };
            create_dirs(if above.as_os_str().is_empty() { Path::new(".") } else { above })?;
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(error) => return Err(error),
    }
    sync_dir(match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    })
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems cannot, and are then in order by themselves.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Removes a file; one that is gone is a success.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Leaves the token on a file, where the file system can hold it.
pub(super) fn set_token(file: &File, token: &str) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, TOKEN, token.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::PERM) => Ok(()),
        result => result.map_err(io::Error::from),
    }
}

/// The token of a file, if it bears one.
pub(super) fn token_of(file: &File) -> Option<String> {
    let mut bytes = [0; 256];
    let len = rustix::fs::fgetxattr(file, TOKEN, &mut bytes).ok()?;
    String::from_utf8(bytes.get(..len)?.to_vec()).ok()
}

/// What an error of the destination's file system means, and what to do.
pub(super) fn meaning(error: &io::Error, base: &Path) -> (Trouble, String) {
    let base = base.display();
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::NOSPC | Errno::DQUOT) => (
            Trouble::Outage,
            format!("free space in {base}, or raise the quota; it is tried again, and nothing is lost"),
        ),
        Some(Errno::ROFS) => {
            (Trouble::Outage, format!("{base} is mounted read-only: check its disk, and mount it for writing"))
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            (Trouble::Denied, format!("let the user that runs reeltime create files in {base} (chown, chmod)"))
        }
        Some(Errno::NOTDIR | Errno::EXIST) => (
            Trouble::Denied,
            format!("a file in {base} has the name of a directory that is needed: rename one of them"),
        ),
        Some(Errno::ISDIR | Errno::NOTEMPTY) => {
            (Trouble::Denied, format!("a directory in {base} has the name of the recording: rename one of them"))
        }
        Some(Errno::LOOP) => (Trouble::Denied, format!("symbolic links in {base} lead in a circle")),
        Some(Errno::NAMETOOLONG) => {
            (Trouble::Refused, "the name is too long for the file system: rename the recording".to_owned())
        }
        Some(Errno::ILSEQ | Errno::INVAL) => {
            (Trouble::Refused, format!("the file system of {base} does not allow the name: rename the recording"))
        }
        Some(Errno::FBIG) => (Trouble::Refused, format!("the file system of {base} cannot hold a file of this size")),
        _ => (
            Trouble::Outage,
            format!("check the disk or the network mount that holds {base}; it is tried again, and nothing is lost"),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn errors_mean_what_the_core_decides_upon() {
        for (errno, trouble) in [
            (libc::ENOSPC, Trouble::Outage),
            (libc::EDQUOT, Trouble::Outage),
            (libc::EIO, Trouble::Outage),
            (libc::EROFS, Trouble::Outage),
            (libc::ESTALE, Trouble::Outage),
            (libc::EMFILE, Trouble::Outage),
            (libc::EACCES, Trouble::Denied),
            (libc::EPERM, Trouble::Denied),
            (libc::ENOTDIR, Trouble::Denied),
            (libc::EISDIR, Trouble::Denied),
            (libc::ENAMETOOLONG, Trouble::Refused),
            (libc::EFBIG, Trouble::Refused),
        ] {
            let (found, hint) = meaning(&io::Error::from_raw_os_error(errno), Path::new("/d"));
            assert_eq!(found, trouble, "errno {errno}");
            assert!(!hint.is_empty());
        }
    }

    #[test]
    fn only_ids_of_this_program_lead_to_files() {
        let object = Path::new("/d/a/x.mp4");
        let id = new_id();
        let files = UploadFiles::of(object, &id).unwrap();
        assert_eq!(files.temp, Path::new("/d/a").join(format!(".reeltime-{id}")));
        for id in ["", "../../etc/passwd", "0123", &format!("{id}/"), &id.to_uppercase().replace('0', "A")] {
            assert!(UploadFiles::of(object, id).is_none(), "{id}");
        }
    }
}
