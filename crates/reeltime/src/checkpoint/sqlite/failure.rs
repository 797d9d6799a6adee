//! What an error of `SQLite` means for whoever asked, and what an operator can do about it.

use std::fmt;

use rusqlite::{Error, ErrorCode};

use crate::checkpoint::CheckpointError;

/// How to go on after a damaged state file.
const MOVE_ASIDE: &str = "move it aside, with the files beside it that end in -wal and -shm, and start again: nothing \
    is lost, reeltime goes on from the recordings and the parts in the store";

/// A request, or a batch of them, that `SQLite` did not fulfil. Nothing of it was done, unless
/// the commit itself failed: then nothing or everything was.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Waiting does not help.
    lasting: bool,
    cause: String,
}

impl Failure {
    /// One that waiting does not mend. `cause` says what to do.
    pub(super) fn lasting(cause: impl Into<String>) -> Self {
        Self { lasting: true, cause: cause.into() }
    }

    /// One that passes.
    pub(super) fn passing(cause: impl Into<String>) -> Self {
        Self { lasting: false, cause: cause.into() }
    }

    /// The file is damaged in this way.
    pub(super) fn damaged(what: impl fmt::Display) -> Self {
        Self::lasting(format!("damaged, or no state file ({what}): {MOVE_ASIDE}"))
    }

    /// The error that `op` on `target` ends with.
    pub(super) fn of(self, op: &'static str, target: &str) -> CheckpointError {
        let target = target.to_owned();
        if self.lasting {
            CheckpointError::Unusable { target, cause: self.cause }
        } else {
            CheckpointError::Outage { op, target, cause: self.cause }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::SqliteFailure(code, _) => code.code,
            Error::FromSqlConversionFailure(_, _, row) => {
                return Self::lasting(format!(
                    "{row}. It was changed by hand or damaged: put it right or delete the row with the sqlite3 shell \
                     (a recording whose row is gone is found and uploaded again), or {MOVE_ASIDE}"
                ));
            }
            _ => return Self::lasting(format!("{error}: this is a mistake in reeltime, please report it")),
        };
        match code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::damaged(error),
            ErrorCode::DiskFull => Self::passing(format!("{error}: free some space, work then goes on by itself")),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::passing(format!(
                "{error}: another program (a sqlite3 shell, a backup) holds the file; work goes on when it lets go"
            )),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                Self::passing(format!("{error}: give the user that runs reeltime the right to write it"))
            }
            ErrorCode::CannotOpen => Self::passing(format!(
                "{error}: the user that runs reeltime needs the right to read and write the file and its directory"
            )),
            ErrorCode::SystemIoFailure => {
                Self::passing(format!("{error}: see the system log for the disk, and quotas"))
            }
            code if is_of_the_request(code) => Self::lasting(format!(
                "{error}: the tables are not those that reeltime made, or it has a mistake; {MOVE_ASIDE}"
            )),
            _ => Self::passing(error.to_string()),
        }
    }
}

/// Whether only the request that met with this error is concerned, and those beside it in a
/// batch can be carried out.
pub(super) fn spares_the_batch(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(code, _) => is_of_the_request(code.code),
        _ => true,
    }
}

fn is_of_the_request(code: ErrorCode) -> bool {
    use ErrorCode::{ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch, Unknown};
    matches!(code, ConstraintViolation | ParameterOutOfRange | TooBig | TypeMismatch | Unknown)
}
