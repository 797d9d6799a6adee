//! What becomes of a recording's file once its object is verified, completed and remembered.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reeltime_core::StreamRecord;

use crate::config::AfterUpload;
use crate::events::What;
use crate::recording::version_of;
use crate::storage::ObjectStore;
use crate::storage::body::blocking;

/// Deletes or moves the file of a completed stream, if that was asked for. `None` if the file
/// is gone already, or stays.
///
/// The file must still be the one that was completed: the same inode, size and time. If it was
/// completed some time ago, `store` is asked first whether the object is still there. A crash
/// in between leaves the file; it is disposed of after the next start.
pub(super) async fn dispose(
    what: &AfterUpload,
    record: &StreamRecord,
    store: Option<&dyn ObjectStore>,
) -> Option<What> {
    let what = what.clone();
    if what == AfterUpload::Keep {
        return None;
    }
    let path = record.path.display();
    if let Some(store) = store
        && let Err(why) = is_stored(store, record).await
    {
        return Some(What::Notice {
            message: format!("{path} was uploaded, but is not deleted or moved: {why}"),
            hint: "the file stays where it is; give it another name to have it uploaded again".into(),
        });
    }
    let copy = record.clone();
    let disposed = blocking(move || dispose_now(&what, &copy)).await;
    match disposed {
        Ok(true) => Some(What::SourceDisposed),
        Ok(false) => None,
        Err(error) => Some(What::Notice {
            message: format!("{path} is uploaded, but could not be deleted or moved: {error}"),
            hint: "nothing is lost: the file stays where it is, and it is tried again at the next start".into(),
        }),
    }
}

/// Whether the object that was completed is in the store now.
async fn is_stored(store: &dyn ObjectStore, record: &StreamRecord) -> Result<(), String> {
    let found = store.head(&record.key).await.map_err(|error| error.to_string())?;
    let Some(found) = found else { return Err("its object is gone".to_owned()) };
    let same = match (found.crc, record.checksum) {
        (Some(found), Some(completed)) => found == completed,
        // An upload that was found bears another stream's mark.
        _ => record.etag.as_ref() == Some(&found.etag) || found.token.is_none_or(|token| token == record.token()),
    };
    let ours = same && found.size_bytes == record.size_bytes;
    if ours { Ok(()) } else { Err("its key has another object now".to_owned()) }
}

fn dispose_now(what: &AfterUpload, record: &StreamRecord) -> io::Result<bool> {
    let found = match record.path.symlink_metadata() {
        Ok(found) => version_of(&found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !record.version.is_some_and(|completed| completed.same_content(&found)) {
        return Ok(false); // not what was uploaded
    }
    match what {
        AfterUpload::Keep => Ok(false),
        AfterUpload::Delete => fs::remove_file(&record.path).map(|()| true),
        AfterUpload::Move(dir) => {
            let relative = record.path.strip_prefix(&record.source).unwrap_or(Path::new("."));
            move_to(&record.path, &dir.join(relative)).map(|()| true)
        }
    }
}

/// Moves a file without ever replacing another.
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(error.kind(), format!("{} exists already", to.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_to(from, to),
        Err(error) => Err(error),
    }
}

/// Copies to another file system under a hidden name, makes that durable, and only then
/// removes the original.
fn copy_to(from: &Path, to: &Path) -> io::Result<()> {
    let name = to.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let hidden: PathBuf = to.with_file_name({
        let mut hidden = std::ffi::OsString::from(".reeltime-move-");
        hidden.push(name);
        hidden
    });
    let copied = (|| {
        let mut source = fs::File::open(from)?;
        let mut copy = fs::File::create(&hidden)?;
        io::copy(&mut source, &mut copy)?;
        copy.sync_all()?;
        fs::hard_link(&hidden, to)
    })();
    fs::remove_file(&hidden).or_else(|error| if copied.is_ok() { Err(error) } else { Ok(()) })?;
    copied?;
    fs::remove_file(from)
}
