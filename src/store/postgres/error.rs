//! What PostgreSQL's errors mean to a caller, and when a statement may be sent again.

use std::fmt;
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
    Database(DatabaseFailure),
    /// There was no connection in time, or no answer on it.
    #[error("{0}")]
    TimedOut(String),
}

/// An error of sqlx. It shows the primary message and the SQLSTATE, also as `Debug`, and has no source: the `Debug` of sqlx
/// prints the error's DETAIL, in which PostgreSQL writes whole rows.
#[derive(Clone, thiserror::Error)]
#[error("{}{}", .0, code(.0).map(|code| format!(" ({code})")).unwrap_or_default())]
pub(super) struct DatabaseFailure(Arc<sqlx::Error>);

impl fmt::Debug for DatabaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseFailure({self})")
    }
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DatabaseFailure(Arc::new(error)))
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
        let cause = match self {
            Self::Rule(error) => return error.clone(),
            Self::TimedOut(cause) => return Error::store_unavailable(cause.clone()),
            Self::Database(cause) => cause.clone(),
        };
        let Some(code) = self.code() else {
            // A value that cannot be encoded or decoded is a defect; every other error is one of the connection.
            let unreadable = matches!(
                *cause.0,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnIndexOutOfBounds { .. }
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::RowNotFound
                    | sqlx::Error::TypeNotFound { .. }
            );
            return if unreadable {
                Error::internal(cause)
            } else {
                Error::store_unavailable(cause)
            };
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

    /// The error for the operator at a start: where it happened, what the database said, and what to do.
    pub(super) fn explained(&self, place: &str) -> Error {
        let error = self.to_error();
        match self {
            Self::Rule(_) => error,
            Self::TimedOut(cause) => Error::new(error.kind, format!("{place}: {cause}")),
            Self::Database(cause) => {
                let cure = self.cure().map(|cure| format!("; {cure}")).unwrap_or_default();
                Error::new(error.kind, format!("{place}: {cause}{cure}"))
            }
        }
    }

    /// What the operator can do about this error; none if its text says enough.
    fn cure(&self) -> Option<&'static str> {
        let Self::Database(DatabaseFailure(error)) = self else {
            return None;
        };
        if matches!(**error, sqlx::Error::Io(_)) {
            return Some("is PostgreSQL running there, and may this machine connect to it?");
        }
        Some(match code(error)? {
            "28P01" | "28000" => "check the user and password of storage.database_url, and pg_hba.conf of the server",
            "3D000" => "create the database (createdb), or correct its name in storage.database_url",
            "3F000" => "no schema of the role's search_path exists: create one, or correct search_path",
            "42501" => {
                "GRANT that right to the role of storage.database_url, or run `countersign migrate` once with a role that has it"
            }
            "53300" => {
                "raise max_connections, or lower storage.database_pool: each replica opens up to that many and four more"
            }
            "57P03" => "the server starts or stops; try again in a moment",
            "25006" => "the server takes no writes: name the primary, and check default_transaction_read_only",
            _ => return None,
        })
    }

    /// Whether the database is the cause, not a rule: it is away, too slow, full or refuses to work.
    pub(super) fn is_of_database(&self) -> bool {
        match self {
            Self::Rule(_) => false,
            Self::TimedOut(_) => true,
            Self::Database(_) => matches!(self.to_error().kind, ErrorKind::StoreUnavailable | ErrorKind::StoreFull),
        }
    }

    /// Whether the server has no connection for one more client.
    pub(super) fn is_of_full_server(&self) -> bool {
        self.code() == Some("53300")
    }

    /// The cause, for the log. The message of an error of the system is enough.
    pub(super) fn cause_text(&self) -> String {
        match self {
            Self::Rule(error) => error.cause_text(),
            Self::Database(DatabaseFailure(error)) => {
                if let sqlx::Error::Io(error) = &**error {
                    error.to_string()
                } else {
                    self.to_string()
                }
            }
            Self::TimedOut(cause) => cause.clone(),
        }
    }

    /// Whether the statement would have made a second row of a unique key.
    pub(super) fn is_duplicate(&self) -> bool {
        self.code() == Some("23505")
    }

    /// Whether the connection is useless from now on: it is broken, or its server cannot write or shuts down.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Rule(_) | Self::TimedOut(_) => false,
            Self::Database(DatabaseFailure(error)) => match code(error) {
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
        let Self::Database(DatabaseFailure(error)) = self else {
            return false;
        };
        match code(error) {
            Some("25006" | "57P03") => true,
            Some("57P01") => routine(error) != Some("SyncRepWaitForLSN"),
            _ => false,
        }
    }

    /// The SQLSTATE; none for a rule or an error that the database did not report.
    fn code(&self) -> Option<&str> {
        match self {
            Self::Rule(_) | Self::TimedOut(_) => None,
            Self::Database(DatabaseFailure(error)) => code(error),
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

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use sqlx::error::DatabaseError;

    use super::*;

    /// Stands for the error of the driver, whose fields cannot be set from outside.
    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Reported {
        message: &'static str,
        detail: &'static str,
    }

    impl DatabaseError for Reported {
        fn message(&self) -> &str {
            self.message
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    #[test]
    fn the_cause_hides_the_detail_of_the_database() {
        let reported = Reported {
            message: "violates a constraint",
            detail: "Failing row contains (canary)",
        };
        assert!(format!("{reported:?}").contains("canary") && reported.detail.contains("canary"));
        let failure = Failure::from(sqlx::Error::Database(Box::new(reported)));
        let error = failure.to_error();
        let cause = error.cause.clone().unwrap();
        assert!(cause.source().is_none());
        for text in [
            format!("{failure:?}"),
            format!("{cause:?}"),
            format!("{error:?}"),
            cause.to_string(),
        ] {
            assert!(text.contains("violates a constraint"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
