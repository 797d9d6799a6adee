//! Opening the file, and noticing when it is not the one that was opened.
//!
//! - The journal is a write-ahead log: readers (`reeltime status`, the shell) never stop the
//!   writer, nor it them.
//! - `synchronous=FULL`: what is committed survives a power failure.
//! - Nothing here opens the state file but `SQLite`. Closing any other descriptor of it would
//!   drop this process's locks on it, as POSIX has it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::Failure;
use super::schema;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::lock::refusal;

/// How long to wait for another program that holds the file before the request is given back.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The log is cut back to this size after it was written back.
const LOG_LIMIT_BYTES: i64 = 16 << 20;

/// Statements that are kept prepared; more than there are.
const STATEMENTS: usize = 16;

/// Makes the directory of a state file where it is missing, and answers the path by which
/// everybody knows the file: absolute, without symbolic links. So two names of one file have
/// one lock.
pub(super) fn place(path: &Path) -> Result<PathBuf, CheckpointError> {
    let failed = |error: io::Error| refusal(path, "its directory cannot be made or read", &error);
    let path = std::path::absolute(path).map_err(failed)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(
            Failure::lasting("this is no file name: choose another --state").of("open", &path.to_string_lossy())
        );
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    match fs::canonicalize(&path) {
        Ok(real) if real.is_dir() => {
            let hint = "this is a directory: name a file in it, such as state.db";
            Err(Failure::lasting(hint).of("open", &real.to_string_lossy()))
        }
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(fs::canonicalize(dir).map_err(failed)?.join(name)),
        Err(error) => Err(failed(error)),
    }
}

/// Creates an empty state file that only its owner may read, unless there is one. After a power
/// failure it is there, or nothing is.
pub(super) fn create_missing(path: &Path) -> Result<(), CheckpointError> {
    let failed = |error: io::Error| refusal(path, "cannot be created", &error);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Opens the file for its owner and brings it to this program's schema.
pub(super) fn open_for_owner(path: &Path) -> Result<Connection, Failure> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = schema::inspect(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::lasting(format!(
            "the file system does not allow a write-ahead log (journal mode {mode}): choose a --state on a local disk"
        )));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
    schema::migrate(&mut connection, found)?;
    Ok(connection)
}

/// Opens the file to read it only, whether or not an owner has it.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, Failure> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match schema::inspect(&connection)? {
        schema::Found::Schema(schema::SCHEMA) => Ok(connection),
        schema::Found::Schema(older) => Err(Failure::lasting(format!(
            "written by an older reeltime (schema {older}, this one reads {}): it is migrated when `reeltime run` opens it",
            schema::SCHEMA
        ))),
        schema::Found::Empty => Err(Failure::passing("it is empty: no reeltime has got to writing it yet")),
    }
}

/// Reads the whole file for damage.
pub(super) fn check(connection: &Connection) -> Result<(), Failure> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" { Ok(()) } else { Err(Failure::damaged(answer.replace('\n', " "))) }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Which file a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of the file that is there now.
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        match fs::metadata(path) {
            Ok(found) => Ok(Self { device: found.dev(), inode: found.ino() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Self::gone()),
            Err(error) => Err(Failure::passing(error.to_string())),
        }
    }

    /// Fails if the path leads to another file by now: what is written would be lost with the
    /// last descriptor of the old one.
    pub(super) fn confirm(self, path: &Path) -> Result<(), Failure> {
        if Self::of(path)? == self { Ok(()) } else { Err(Self::gone()) }
    }

    fn gone() -> Failure {
        Failure::lasting(
            "the state file was removed or replaced while reeltime was using it: restart reeltime; nothing is lost, it \
             goes on from the recordings and the parts in the store",
        )
    }
}
