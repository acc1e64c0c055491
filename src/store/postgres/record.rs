//! What every transition also does: append its audit event, or record a revocation together with it.

use sqlx::postgres::PgRow;

use super::error::{Failure, Result};
use super::rows::{self, json, now, revocation_columns};
use super::statement::{Session, Statement, sql};
use crate::clock::millis;
use crate::model::session::EXPIRED_RECORD_TTL;
use crate::model::{AuditEvent, Error, Level, Revocation, Target};
use crate::store::revocations::Expiry;

/// Inserts the event of the first eleven arguments, `FROM` or `WHERE` what the statement says. The same event twice is
/// one, so that a statement that is sent again does not tell of two.
macro_rules! insert_audit {
    ($from:literal) => {
        concat!(
            "INSERT INTO audit_events (id, time, kind, actor, ip_address, request_id, subject, client_id, session_id,
                                       outcome, details)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::json ",
            $from,
            " ON CONFLICT (id) DO NOTHING"
        )
    };
}
pub(super) use insert_audit;

/// A statement whose first arguments are the event's.
pub(super) fn auditing(text: &'static str, event: &AuditEvent) -> Result<Statement> {
    Ok(sql(text)
        .bind(event.id)
        .bind(event.time.0)
        .bind(event.kind.clone())
        .bind(event.origin.actor.clone())
        .bind(event.origin.ip_address.clone())
        .bind(event.origin.request_id.clone())
        .bind(event.subject.clone())
        .bind(event.client_id.clone())
        .bind(event.session_id.map(|id| id.0))
        .bind(event.outcome.clone())
        .bind(json(&event.details)?))
}

/// Appends an event.
pub(super) async fn audit(session: &mut Session<'_>, event: &AuditEvent) -> Result<()> {
    session.run(auditing(insert_audit!(""), event)?).await?;
    Ok(())
}

/// Appends an event if `done`, and says so.
pub(super) async fn audit_if(session: &mut Session<'_>, done: bool, event: &AuditEvent) -> Result<bool> {
    if done {
        audit(session, event).await?;
    }
    Ok(done)
}

/// One statement that raises the epoch of the level (`$epoch_of`), inserts the row and its event, and answers the row.
macro_rules! revoke_sql {
    ($epoch_of:expr, $level:literal, $on_conflict:literal) => {
        concat!(
            "WITH raised AS (",
            $epoch_of,
            "), inserted AS (
                 INSERT INTO revocations (level, id, keep, epoch, expires, revoked)
                 SELECT ",
            $level,
            ", $12, $13, raised.epoch, coalesce($14, moment.now + meta.session_life + $15), moment.now
                 FROM raised, meta, (SELECT ",
            now!(),
            " AS now) AS moment ",
            $on_conflict,
            " RETURNING ",
            revocation_columns!(),
            "), audited AS (",
            insert_audit!("FROM inserted"),
            ") SELECT ",
            revocation_columns!(),
            " FROM inserted"
        )
    };
}

/// The statement that records a revocation with its event. It answers the row; none if there is nothing to revoke, or
/// if it was revoked before.
pub(super) fn revoking(target: &Target, expires: Expiry, event: &AuditEvent) -> Result<Statement> {
    macro_rules! raise {
        ($table:literal) => {
            concat!(
                "UPDATE ",
                $table,
                " SET epoch = greatest(epoch + 1, ",
                now!(),
                ") WHERE id = $12::uuid RETURNING epoch"
            )
        };
        ($table:literal, $where:literal) => {
            concat!(
                "UPDATE ",
                $table,
                " SET epoch = greatest(epoch + 1, ",
                now!(),
                ") WHERE ",
                $where,
                " RETURNING epoch"
            )
        };
    }
    macro_rules! once {
        ($level:literal) => {
            revoke_sql!(
                "SELECT 0::bigint AS epoch",
                $level,
                "ON CONFLICT (level, id) WHERE epoch = 0 DO NOTHING"
            )
        };
    }
    let text = match target.level() {
        Level::Token => once!("'token'"),
        Level::Session => once!("'session'"),
        Level::Key => once!("'key'"),
        Level::User => revoke_sql!(raise!("users"), "'user'", ""),
        Level::Client => revoke_sql!(raise!("clients", "id = $12"), "'client'", ""),
        Level::Global => revoke_sql!(raise!("meta", "$12 = ''"), "'global'", ""),
    };
    let at = match expires {
        Expiry::At(moment) => Some(moment.0),
        Expiry::LongestSession => None,
    };
    Ok(auditing(text, event)?
        .bind(target.id())
        .bind(target.keep().map(|keep| keep.0))
        .bind(at)
        .bind(millis(EXPIRED_RECORD_TTL)))
}

/// Records a revocation of something that this very transaction has locked, with the transaction's event.
pub(super) async fn revoke_known(session: &mut Session<'_>, target: &Target, event: &AuditEvent) -> Result<Revocation> {
    let statement = revoking(target, Expiry::LongestSession, event)?;
    session
        .first(statement, recorded)
        .await?
        .ok_or_else(|| Failure::Ours(Error::internal("what is revoked has gone")))
}

/// Appends the event, together with a revocation of `target` if one is due.
pub(super) async fn audit_or_revoke(
    session: &mut Session<'_>,
    due: bool,
    target: &Target,
    event: &AuditEvent,
) -> Result<Option<Revocation>> {
    if due {
        return revoke_known(session, target, event).await.map(Some);
    }
    audit(session, event).await?;
    Ok(None)
}

/// Reads what [`revoking`] answers.
pub(super) fn recorded(row: &PgRow) -> Result<Revocation> {
    rows::revocation(row, 0)
}
