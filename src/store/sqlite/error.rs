//! What SQLite's errors mean to a caller.

use rusqlite::ErrorCode;

use crate::model::{Error, ErrorKind, Result};

/// So that a closure may use `?`: every error of SQLite has one meaning, wherever it comes from.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        const UNAVAILABLE: [ErrorCode; 8] = [
            ErrorCode::CannotOpen,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseCorrupt,
            ErrorCode::DatabaseLocked,
            ErrorCode::NotADatabase,
            ErrorCode::PermissionDenied,
            ErrorCode::ReadOnly,
            ErrorCode::SystemIoFailure,
        ];
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::from(ErrorKind::StoreFull).because(error),
            Some(code) if UNAVAILABLE.contains(&code) => Self::store_unavailable(error),
            _ => Self::internal(error),
        }
    }
}

/// `exists` if a row of that key is there already.
pub(super) fn unless_duplicate(done: rusqlite::Result<usize>, exists: ErrorKind) -> Result<()> {
    const DUPLICATE: [i32; 2] = [
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
        rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    ];
    match done {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .sqlite_error()
                .is_some_and(|e| DUPLICATE.contains(&e.extended_code)) =>
        {
            Err(exists.into())
        }
        Err(error) => Err(error.into()),
    }
}
