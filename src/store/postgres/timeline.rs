//! How the feed notices that another database answers: after a promotion, or after a restore from a backup. Numbers of
//! transactions mean something on one timeline of one server only.
//!
//! The server itself tells its timeline. Some managed services do not let the role ask for it; then weaker marks replace it.

use parking_lot::Mutex;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{Failure, Result};
use crate::model::{Error, ErrorKind};

/// What an origin of the weaker checks is on a standby, whose answers are old. The strongest check fails there.
pub(super) const STANDBY: &str = "standby";

/// SQL expression: the origin by [`TimelineCheck::Timeline`].
macro_rules! timeline_origin {
    () => {
        "(SELECT system_identifier FROM pg_control_system())::text || '.' ||
         substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.' ||
         (SELECT oid FROM pg_database WHERE datname = current_database())::text"
    };
}

/// SQL expression: the origin by [`TimelineCheck::SystemIdentifier`].
macro_rules! system_origin {
    () => {
        "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE
         (SELECT system_identifier FROM pg_control_system())::text || '.s' ||
         (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text || '.' ||
         (SELECT oid FROM pg_database WHERE datname = current_database())::text END"
    };
}

/// SQL expression: the origin by [`TimelineCheck::StartTime`].
macro_rules! start_origin {
    () => {
        "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE
         '0.s' || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text || '.' ||
         (SELECT oid FROM pg_database WHERE datname = current_database())::text END"
    };
}
pub(super) use {start_origin, system_origin, timeline_origin};

/// The marks by which a change of the database is noticed, from the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineCheck {
    /// System identifier and timeline.
    Timeline,
    /// System identifier, start time of the server and the largest transaction number seen.
    SystemIdentifier,
    /// Start time of the server and the largest transaction number seen.
    StartTime,
}

/// The check in use, and why it is not the strongest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineReport {
    /// The check in use.
    pub check: TimelineCheck,
    /// The server's refusal of a stronger check; none for the strongest.
    pub refusal: Option<String>,
}

impl TimelineCheck {
    const ALL: [Self; 3] = [Self::Timeline, Self::SystemIdentifier, Self::StartTime];

    /// The marks, for the operator.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Timeline => "system identifier and timeline",
            Self::SystemIdentifier => "system identifier, start time of the server and largest transaction number",
            Self::StartTime => "start time of the server and largest transaction number",
        }
    }

    /// The changes that this check does not notice, for the operator; none for the strongest.
    #[must_use]
    pub const fn blind_spot(self) -> Option<&'static str> {
        match self {
            Self::Timeline => None,
            Self::SystemIdentifier | Self::StartTime => Some(
                "a return of the database to an earlier state during which its server process goes on (a machine that is reset \
                 to a snapshot with its memory), if as many transactions follow before the next reconciliation",
            ),
        }
    }

    const fn statement(self) -> &'static str {
        match self {
            Self::Timeline => concat!("SELECT ", timeline_origin!()),
            Self::SystemIdentifier => concat!("SELECT ", system_origin!()),
            Self::StartTime => concat!("SELECT ", start_origin!()),
        }
    }
}

/// The check that a store uses. It begins with the strongest one.
#[derive(Debug)]
pub(super) struct CurrentCheck(Mutex<TimelineCheck>);

impl CurrentCheck {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(TimelineCheck::Timeline))
    }

    pub(super) fn get(&self) -> TimelineCheck {
        *self.0.lock()
    }

    /// Uses this check from now on; logs a change.
    pub(super) fn set(&self, report: &TimelineReport) {
        let before = std::mem::replace(&mut *self.0.lock(), report.check);
        if before == report.check {
            return;
        }
        let check = report.check.describe();
        if let (Some(refusal), Some(blind_spot)) = (&report.refusal, report.check.blind_spot()) {
            tracing::warn!(
                check,
                %refusal,
                not_noticed = blind_spot,
                "the database does not tell its timeline; a promotion or restore is noticed by a weaker check (grant EXECUTE on \
                 pg_current_wal_lsn, pg_walfile_name and pg_control_system to the role for the strongest one)"
            );
        } else {
            tracing::info!(check, "the database tells its timeline again");
        }
    }
}

/// Finds the strongest check that the server answers. An error of the connection, or the refusal of the weakest check, is
/// returned.
pub(super) async fn detect(connection: &mut PgConnection) -> Result<TimelineReport> {
    let mut refusal = None;
    for check in TimelineCheck::ALL {
        let asked = sqlx::raw_sql(check.statement()).fetch_one(&mut *connection).await;
        match asked.and_then(|row| row.try_get::<String, _>(0)) {
            Ok(_) => return Ok(TimelineReport { check, refusal }),
            Err(error) => {
                let failure = Failure::from(error);
                if !is_refusal(&failure.to_error()) || check == TimelineCheck::StartTime {
                    return Err(failure);
                }
                // The first refusal names what the strongest check lacks.
                refusal.get_or_insert_with(|| failure.to_string());
            }
        }
    }
    Err(Error::internal("no check of the timeline").into())
}

/// Whether the server answered that the statement may or can not be run; any other error may pass by itself.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.kind == ErrorKind::Internal
}
