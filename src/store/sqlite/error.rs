//! What SQLite's errors mean to a caller.

use rusqlite::ErrorCode;

use crate::model::{Error, ErrorKind};

/// Lets a closure use `?`: an error of SQLite has the same meaning in every statement.
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

/// Whether the statement would have made a second row of a unique key.
pub(super) fn is_duplicate(error: &rusqlite::Error) -> bool {
    const DUPLICATE: [i32; 2] = [
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
        rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    ];
    error
        .sqlite_error()
        .is_some_and(|error| DUPLICATE.contains(&error.extended_code))
}
