//! What PostgreSQL's errors mean to a caller, and when a statement may be sent again.

use std::sync::Arc;

use sqlx::postgres::PgDatabaseError;

use crate::model::{Error, ErrorKind};

/// Why a transition failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A rule refused it. The connection can be used again.
    #[error(transparent)]
    Rule(#[from] Error),
    /// The database or the connection to it failed.
    #[error(transparent)]
    Database(Arc<sqlx::Error>),
}

/// What the database said, with its SQLSTATE.
#[derive(Debug, thiserror::Error)]
#[error("{error} ({code})")]
struct Coded {
    code: String,
    #[source]
    error: Arc<sqlx::Error>,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.to_error()
    }
}

impl Failure {
    /// The error for the caller.
    pub(super) fn to_error(&self) -> Error {
        let error = match self {
            Self::Rule(error) => return error.clone(),
            Self::Database(error) => error,
        };
        let Some(code) = code(error) else {
            // A value that cannot be encoded or decoded is a defect; every other error is one of the connection.
            let unreadable = matches!(
                **error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnIndexOutOfBounds { .. }
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::RowNotFound
                    | sqlx::Error::TypeNotFound { .. }
            );
            let cause = Arc::clone(error);
            return if unreadable {
                Error::internal(cause)
            } else {
                Error::store_unavailable(cause)
            };
        };
        let cause = Coded {
            code: code.to_owned(),
            error: Arc::clone(error),
        };
        match code {
            // disk_full
            "53100" => Error::from(ErrorKind::StoreFull).because(cause),
            // character_not_in_repertoire (NUL), untranslatable_character
            "22021" | "22P05" => Error::from(ErrorKind::InvalidRequest).because(cause),
            // query_canceled (statement_timeout), lock_not_available (lock_timeout), read_only_sql_transaction,
            // idle_in_transaction_session_timeout
            "57014" | "55P03" | "25006" | "25P03" => Error::store_unavailable(cause),
            // connection, authentication, no such database, transaction rollback, resources, operator intervention,
            // system error
            code if ["08", "28", "3D", "40", "53", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class)) =>
            {
                Error::store_unavailable(cause)
            }
            _ => Error::internal(cause),
        }
    }

    /// Whether the statement would have made a second row of a unique key.
    pub(super) fn is_duplicate(&self) -> bool {
        match self {
            Self::Rule(_) => false,
            Self::Database(error) => code(error) == Some("23505"),
        }
    }

    /// Whether the connection is useless from now on: it is broken, or its server cannot write or shuts down.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Rule(_) => false,
            Self::Database(error) => match code(error) {
                Some(code) => ["25006", "57P01", "57P02", "57P03", "57P05", "25P03"].contains(&code),
                None => matches!(
                    **error,
                    sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)
                ),
            },
        }
    }

    /// Whether a transaction whose *commit* failed with this error was certainly rolled back.
    ///
    /// A server process that is told to end (57P01) rolls back, unless it was waiting for a standby, which it does
    /// after its own commit. After a crash of the server (57P02) or a broken connection, the outcome is unknown.
    pub(super) fn is_certainly_rolled_back(&self) -> bool {
        let Self::Database(error) = self else { return false };
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
