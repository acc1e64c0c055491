//! [`AuditStore`] on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresStore;
use super::error::{Failure, Result as Answer, unreadable};
use super::pool::How::Repeatable;
use super::record::{auditing, insert_audit};
use super::rows::Columns;
use super::statement::{Statement, sql};
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, Result, SessionId};
use crate::store::change::{storable, storable_event};
use crate::store::{AuditQuery, AuditStore, Page};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        storable_event(event)?;
        let statement = auditing(insert_audit!(""), event).map_err(Failure::into_error)?;
        self.db.run(Repeatable, statement).await.map(drop)
    }

    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
        storable("subject", [query.subject.as_str()])?;
        storable("type", [query.kind.as_str()])?;
        let found = self.db.all(Repeatable, list(query, before, limit), event).await?;
        Ok(Page::of(found, limit, |event| event.id.to_string()))
    }

    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32> {
        // An array, since a join of the same would read the whole table.
        const PURGE: &str = "DELETE FROM audit_events WHERE id = ANY (ARRAY(
                                 SELECT id FROM audit_events WHERE time < $1 ORDER BY time LIMIT $2
                                 FOR UPDATE SKIP LOCKED))";
        let statement = sql(PURGE).bind(before.0).bind(i64::from(limit));
        let purged = self.upkeep.run(Repeatable, statement).await?;
        u32::try_from(purged).map_err(|error| unreadable(error).into_error())
    }
}

fn list(query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Statement {
    // The ids are in the order of time, so the index of times (plus nothing: not used) would only be a detour.
    macro_rules! events {
        ($which:literal) => {
            concat!(
                "SELECT id, time, kind, actor, ip_address, request_id, subject, client_id, session_id, outcome,
                        details::text
                 FROM audit_events WHERE id >= $1 AND id < $2 AND time + 0 >= $3 AND time + 0 < $4
                 AND kind >= $5 AND kind <= $6 ",
                $which,
                " ORDER BY id DESC LIMIT $7"
            )
        };
    }
    let ((first, end), (kind, last_kind)) = (query.ids(before), query.kinds());
    let by_subject = !query.subject.is_empty();
    let statement = sql(if by_subject {
        events!("AND subject = $8")
    } else if kind == last_kind {
        events!("AND kind = $5")
    } else {
        events!("")
    })
    .planned_afresh()
    .bind(first)
    .bind(end)
    .bind(query.since.map_or(i64::MIN, |since| since.0))
    .bind(query.until.map_or(i64::MAX, |until| until.0))
    .bind(kind)
    .bind(last_kind)
    .bind(i64::from(limit) + 1);
    if by_subject {
        statement.bind(query.subject.clone())
    } else {
        statement
    }
}

fn event(row: &PgRow) -> Answer<AuditEvent> {
    let mut columns = Columns::new(row, 0);
    Ok(AuditEvent {
        id: columns.take()?,
        time: columns.time()?,
        kind: columns.take()?,
        origin: Origin {
            actor: columns.take()?,
            ip_address: columns.take()?,
            request_id: columns.take()?,
        },
        subject: columns.take()?,
        client_id: columns.take()?,
        session_id: columns.take::<Option<Uuid>>()?.map(SessionId),
        outcome: columns.take()?,
        details: columns.json()?,
    })
}
