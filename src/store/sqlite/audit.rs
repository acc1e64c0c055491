//! [`AuditStore`] on SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::rows::{Columns, unreadable};
use super::{SqliteStore, Tx, record};
use crate::clock::UnixMillis;
use crate::model::audit::Origin;
use crate::model::{AuditEvent, Result};
use crate::store::change::{storable, storable_event};
use crate::store::{AuditQuery, AuditStore, Page};

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        storable_event(event)?;
        let event = event.clone();
        self.db.call(move |tx| record::audit(tx, &event)).await
    }

    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
        storable("subject", [query.subject.as_str()])?;
        storable("type", [query.kind.as_str()])?;
        let query = query.clone();
        self.db.read(move |tx| list(tx, &query, before, limit)).await
    }

    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32> {
        self.db
            .call(move |tx| {
                let purged = tx.run(
                    "DELETE FROM audit_events WHERE id IN
                     (SELECT id FROM audit_events WHERE time < ?1 ORDER BY time LIMIT ?2)",
                    params![before.0, limit],
                )?;
                u32::try_from(purged).map_err(unreadable)
            })
            .await
    }
}

fn list(tx: &Tx<'_>, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
    // The plus signs keep SQLite from walking an index that is not in the order of the ids.
    macro_rules! events {
        ($which:literal) => {
            concat!(
                "SELECT id, time, kind, actor, ip_address, request_id, subject, client_id, session_id, outcome, details
                 FROM audit_events WHERE id >= ?1 AND id < ?2 AND +time >= ?3 AND +time < ?4 AND ",
                $which,
                " ORDER BY id DESC LIMIT ?8"
            )
        };
    }
    let ((first, end), (kind, last_kind)) = (query.ids(before), query.kinds());
    let sql = if !query.subject.is_empty() {
        events!("+kind BETWEEN ?6 AND ?7 AND subject = ?5")
    } else if kind == last_kind {
        events!("kind = ?6")
    } else {
        events!("+kind BETWEEN ?6 AND ?7")
    };
    let found = tx.all(
        sql,
        params![
            first.to_string(),
            end.to_string(),
            query.since.map_or(i64::MIN, |since| since.0),
            query.until.map_or(i64::MAX, |until| until.0),
            query.subject,
            kind,
            last_kind,
            i64::from(limit) + 1,
        ],
        event,
    )?;
    Ok(Page::of(found, limit, |event| event.id.to_string()))
}

fn event(row: &Row<'_>) -> Result<AuditEvent> {
    let mut columns = Columns::new(row, 0);
    Ok(AuditEvent {
        id: columns.parsed()?,
        time: columns.time()?,
        kind: columns.take()?,
        origin: Origin {
            actor: columns.take()?,
            ip_address: columns.take()?,
            request_id: columns.take()?,
        },
        subject: columns.take()?,
        client_id: columns.take()?,
        session_id: columns.maybe_parsed()?,
        outcome: columns.take()?,
        details: columns.json()?,
    })
}
