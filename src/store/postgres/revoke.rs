//! The one statement that records a revocation.

use crate::clock::millis;
use crate::model::session::EXPIRED_RECORD_TTL;
use crate::model::{AuditEvent, Level, Result};
use crate::store::durable::Statement;
use crate::store::durable::audit::{bind_event, insert_event};
use crate::store::durable::revocations::{is_revoked, revocation_columns};
use crate::store::durable::statement::part;
use crate::store::{Expiry, NewRevocation};

/// A statement that raises the epoch (`$epoch`), inserts the row and its event, and returns the row.
macro_rules! revoke_sql {
    ($epoch:expr, $level:literal, $on_conflict:literal) => {
        concat!(
            "WITH raised AS (",
            $epoch,
            "), done AS (
                 INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
                 SELECT '",
            $level,
            "', $12, $13, raised.epoch, coalesce($14, moment.now + meta.session_life + $15), moment.now
                 FROM raised, meta, (SELECT ",
            part!(postgres now),
            " AS now) AS moment ",
            $on_conflict,
            " RETURNING ",
            revocation_columns!(),
            "), audited AS (",
            insert_event!("FROM done"),
            ") SELECT ",
            revocation_columns!(),
            " FROM done"
        )
    };
}

/// The statement that records a revocation with its event. It returns the row; none if the user or client does not
/// exist, or if the token, session or key was revoked before.
pub(super) fn revoking(new: &NewRevocation, event: &AuditEvent) -> Result<Statement> {
    let target = &new.target;
    macro_rules! raise {
        ($table:literal, $where:literal) => {
            concat!(
                "UPDATE ",
                $table,
                " SET epoch = greatest(epoch + 1, ",
                part!(postgres now),
                ") WHERE ",
                $where,
                " RETURNING epoch"
            )
        };
    }
    macro_rules! once {
        ($level:literal) => {
            revoke_sql!(
                // Looked for first: a conflict alone would still take a number of the sequence and a transaction id, and the
                // feed reads all numbers when it loads.
                concat!(
                    "SELECT 0::bigint AS epoch WHERE NOT ",
                    is_revoked!($level, "$12")
                ),
                $level,
                "ON CONFLICT (level, id) WHERE epoch = 0 DO NOTHING"
            )
        };
    }
    let text = match target.level() {
        Level::Token => once!("token"),
        Level::Session => once!("session"),
        Level::Key => once!("key"),
        Level::User => revoke_sql!(raise!("users", "id = $12::uuid"), "user", ""),
        Level::Client => revoke_sql!(raise!("clients", "id = $12"), "client", ""),
        Level::Global => revoke_sql!(raise!("meta", "$12 = ''"), "global", ""),
    };
    let at = match new.expires {
        Expiry::At(moment) => Some(moment),
        Expiry::LongestSession => None,
    };
    Ok(bind_event(Statement::postgres(text), event)?
        .bind(target.id())
        .bind(target.keep())
        .bind(at)
        .bind(millis(EXPIRED_RECORD_TTL)))
}
