//! The audit trail: the database table, and the copy of each event in the structured log.
//!
//! The log is told after the row is durable, so it never tells of a change that did not happen. The log may miss an
//! event, for example if the caller went away after the commit; the table may not: a change and its event are one transaction.

use async_trait::async_trait;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Backend;
use super::backend::PoolKind;
use super::columns::Columns;
use super::statement::{Statement, json, sql};
use crate::clock::UnixMillis;
use crate::model::audit::{LOG_TARGET, Origin};
use crate::model::{AuditEvent, Result};
use crate::store::change::check_filter;
use crate::store::{AuditQuery, AuditStore, Page};

/// Inserts the event of the first eleven arguments, `FROM` or `WHERE` the given clause has a row. A second insertion of
/// the same event does nothing, so that a statement that is sent twice writes one row.
macro_rules! insert_event {
    ($from:literal) => {
        concat!(
            "INSERT INTO audit_events (id, time, kind, actor, ip_address, request_id, subject, client_id, session_id,
                                       outcome, details)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 ",
            $from,
            " ON CONFLICT (id) DO NOTHING"
        )
    };
}
pub(crate) use insert_event;

/// Appends an event.
pub(crate) fn append(event: &AuditEvent) -> Result<Statement> {
    bind_event(sql!(insert_event!("WHERE true")), event)
}

/// Appends events without a session.
fn append_all(events: &[AuditEvent]) -> Result<Statement> {
    let rows: Map<String, Value> = events
        .iter()
        .map(|event| {
            let row = serde_json::json!({
                "time": event.time.0,
                "kind": event.kind,
                "actor": event.origin.actor,
                "ip_address": event.origin.ip_address,
                "request_id": event.origin.request_id,
                "subject": event.subject,
                "client_id": event.client_id,
                "outcome": event.outcome,
                // A text within the text: PostgreSQL reads no `\u0000` in a text that it takes apart.
                "details": Value::Object(event.details.clone()).to_string(),
            });
            (event.id.to_string(), row)
        })
        .collect();
    let insert = sql!(
        "INSERT INTO audit_events (id, time, kind, actor, ip_address, request_id, subject, client_id, outcome, details)
         SELECT key",
        as_uuid,
        ", CAST(value ->> 'time' AS bigint), value ->> 'kind', value ->> 'actor', value ->> 'ip_address',
                value ->> 'request_id', value ->> 'subject', value ->> 'client_id', value ->> 'outcome',
                (value ->> 'details')",
        as_json,
        " FROM json_each($1) WHERE true ON CONFLICT (id) DO NOTHING"
    );
    Ok(insert.bind(json(&rows)?))
}

/// Binds the eleven arguments of [`insert_event`].
pub(crate) fn bind_event(statement: Statement, event: &AuditEvent) -> Result<Statement> {
    Ok(statement
        .bind(event.id)
        .bind(event.time)
        .bind(&event.kind)
        .bind(&event.origin.actor)
        .bind(&event.origin.ip_address)
        .bind(&event.origin.request_id)
        .bind(&event.subject)
        .bind(&event.client_id)
        .bind(event.session_id)
        .bind(&event.outcome)
        .bind(json(&event.details)?))
}

/// Tells the log of an event whose row is durable.
pub(crate) fn log(event: &AuditEvent) {
    let session_id = event.session_id.map(|id| id.to_string()).unwrap_or_default();
    tracing::info!(
        target: LOG_TARGET,
        event_id = %event.id,
        r#type = %event.kind,
        actor = %event.origin.actor,
        subject = %event.subject,
        client_id = %event.client_id,
        session_id = %session_id,
        ip_address = %event.origin.ip_address,
        outcome = %event.outcome,
        request_id = %event.origin.request_id,
        details = %serde_json::Value::Object(event.details.clone()),
    );
}

#[async_trait]
impl<B: Backend> AuditStore for B {
    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        self.run(PoolKind::Callers, append(event)?).await?;
        log(event);
        Ok(())
    }

    async fn append_audit_events(&self, events: &[AuditEvent]) -> Result<()> {
        for event in events {
            append(event)?.check_storable()?;
        }
        self.run(PoolKind::Maintenance, append_all(events)?).await?;
        events.iter().for_each(log);
        Ok(())
    }

    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>> {
        check_filter("subject", &query.subject)?;
        check_filter("type", &query.kind)?;
        let found = self.query(PoolKind::Callers, list(query, before, limit), read).await?;
        Ok(Page::of(found, limit, |event| event.id.to_string()))
    }

    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32> {
        let purge = sql!(
            "DELETE FROM audit_events WHERE id",
            in_subquery,
            "SELECT id FROM audit_events WHERE time < $1 ORDER BY time LIMIT $2",
            skip_locked,
            end_subquery,
        );
        let purged = self
            .run(PoolKind::Maintenance, purge.bind(before).bind(i64::from(limit)))
            .await?;
        Ok(u32::try_from(purged).unwrap_or(u32::MAX))
    }
}

fn list(query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Statement {
    // The ids are in the order of time. The sum keeps both databases from the index of times, which would be a detour.
    macro_rules! events {
        ($filter:literal) => {
            sql!(
                "SELECT id, time, kind, actor, ip_address, request_id, subject, client_id, session_id, outcome,
                        CAST(details AS text)
                 FROM audit_events WHERE id >= $1 AND id < $2 AND time + 0 >= $3 AND time + 0 < $4 AND ",
                without_index,
                "kind >= $5 AND ",
                without_index,
                "kind <= $6 ",
                $filter,
                " ORDER BY id DESC LIMIT $7"
            )
        };
    }
    let ((first, end), (kind, last_kind)) = (query.ids(before), query.kinds());
    let by_subject = !query.subject.is_empty();
    let statement = if by_subject {
        events!("AND subject = $8")
    } else if kind == last_kind {
        events!("AND kind = $5")
    } else {
        events!("")
    };
    let statement = statement
        .planned_afresh()
        .bind(first)
        .bind(end)
        .bind(query.since.map_or(i64::MIN, |since| since.0))
        .bind(query.until.map_or(i64::MAX, |until| until.0))
        .bind(kind)
        .bind(last_kind)
        .bind(i64::from(limit) + 1);
    if by_subject {
        statement.bind(&query.subject)
    } else {
        statement
    }
}

fn read(columns: &mut Columns<'_>) -> Result<AuditEvent> {
    Ok(AuditEvent {
        id: columns.take()?,
        time: columns.take()?,
        kind: columns.take()?,
        origin: Origin {
            actor: columns.take()?,
            ip_address: columns.take()?,
            request_id: columns.take()?,
        },
        subject: columns.take()?,
        client_id: columns.take()?,
        session_id: columns.maybe()?,
        outcome: columns.take()?,
        details: columns.json()?,
    })
}
