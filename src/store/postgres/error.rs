//! What PostgreSQL's errors mean to a caller, and when a statement may be sent again.

use std::fmt::Display;

use sqlx::postgres::PgDatabaseError;

use crate::model::{Error, ErrorKind};

/// Why a transition failed: by a rule of ours, or by what the database or the way to it did.
#[derive(Debug)]
pub(super) enum Failure {
    /// A rule refused it. The connection is in order.
    Ours(Error),
    /// The database, or the way to it.
    Sql(sqlx::Error),
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self::Ours(kind.into())
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// A row that was not written by us, or by a version of us that is not this one.
pub(super) fn unreadable(why: impl Display) -> Failure {
    Error::internal(format!("unreadable row: {why}")).into()
}

impl Failure {
    /// The error for the caller.
    pub(super) fn into_error(self) -> Error {
        let error = match self {
            Self::Ours(error) => return error,
            Self::Sql(error) => error,
        };
        let Some(code) = code(&error) else {
            // What cannot be read back is a defect; everything else is the way to the database.
            let unreadable = matches!(
                error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnIndexOutOfBounds { .. }
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::RowNotFound
                    | sqlx::Error::TypeNotFound { .. }
            );
            return if unreadable {
                Error::internal(error)
            } else {
                Error::store_unavailable(error)
            };
        };
        let private = format!("{error} ({code})");
        match code {
            // disk_full
            "53100" => Error::from(ErrorKind::StoreFull).because(private),
            // character_not_in_repertoire (NUL), untranslatable_character
            "22021" | "22P05" => Error::from(ErrorKind::InvalidRequest).because(private),
            // query_canceled (statement_timeout), lock_not_available (lock_timeout), read_only_sql_transaction,
            // idle_in_transaction_session_timeout
            "57014" | "55P03" | "25006" | "25P03" => Error::store_unavailable(private),
            // connection, authentication, no such database, transaction rollback, resources, operator intervention,
            // system error
            code if ["08", "28", "3D", "40", "53", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class)) =>
            {
                Error::store_unavailable(private)
            }
            _ => Error::internal(private),
        }
    }

    /// Whether the key of a new row is taken.
    pub(super) fn is_duplicate(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Sql(error) => code(error) == Some("23505"),
        }
    }

    /// Whether the connection is of no more use: it is broken, or leads to a server that cannot write or is going away.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Sql(error) => match code(error) {
                Some(code) => ["25006", "57P01", "57P02", "57P03", "57P05", "25P03"].contains(&code),
                None => matches!(
                    error,
                    sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)
                ),
            },
        }
    }

    /// Whether what failed with this error *at its commit* is known not to have happened.
    ///
    /// A backend that is told to end (57P01) rolls back, unless it was waiting for a standby, after its own commit. One
    /// that is thrown out by a crash (57P02), and a broken connection, tell nothing.
    pub(super) fn is_surely_undone(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        match code(error) {
            Some("25006" | "57P03") => true,
            Some("57P01") => routine(error) != Some("SyncRepWaitForLSN"),
            _ => false,
        }
    }
}

fn code(error: &sqlx::Error) -> Option<&str> {
    database(error).map(PgDatabaseError::code)
}

fn routine(error: &sqlx::Error) -> Option<&str> {
    database(error).and_then(PgDatabaseError::routine)
}

fn database(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}
