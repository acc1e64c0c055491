//! Revocations: their rows, the predicates on them, and the store, as far as the databases do not differ.

use std::time::Duration;

use async_trait::async_trait;

use super::columns::{Columns, one_column, unreadable};
use super::statement::{Statement, json, sql};
use super::transaction::Transaction;
use super::{Backend, PoolKind, WorkMode, clients, write_back};
use crate::clock::UnixMillis;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{AuditEvent, Error, Level, Result, Revocation, SessionId, Target};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

/// The columns that [`read`] reads.
macro_rules! revocation_columns {
    () => {
        "level, id, keep, epoch, expires, revoked"
    };
}
pub(crate) use revocation_columns;

/// Reads a revocation.
pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Revocation> {
    let level = columns.named(Level::named)?;
    let id: String = columns.take()?;
    let keep = columns.maybe()?;
    Ok(Revocation {
        target: Target::from_parts(level, &id, keep).ok_or_else(|| unreadable("level and id do not fit"))?,
        epoch: columns.take()?,
        expires: columns.take()?,
        revoked: columns.take()?,
    })
}

/// SQL predicate: is there a revocation for this token, session or key id?
macro_rules! is_revoked {
    ($level:literal, $id:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = '",
            $level,
            "' AND r.id = ",
            $id,
            " AND r.epoch = 0)"
        )
    };
}
pub(crate) use is_revoked;

/// The revocation of a token, session or key, which is revoked once.
fn in_force(target: &Target) -> Statement {
    sql!(
        "SELECT ",
        revocation_columns!(),
        " FROM revocations WHERE level = $1 AND id = $2 AND epoch = 0"
    )
    .bind(target.level().as_str())
    .bind(target.id())
}

/// Returns the indexes of the subjects that a revocation concerns: [`RevocationSubject::is_revoked_by`] of every row, by
/// way of the indexes of the table.
fn revoked(subjects: &[RevocationSubject]) -> Result<Statement> {
    // Rows of a token, session or key have the epoch 0; all others have a larger one. In place of these subqueries, PostgreSQL would
    // answer an EXISTS by reading the whole table, up to some ten thousand rows.
    let revoked = sql!(
        "SELECT CAST(asked.value ->> 0 AS bigint) FROM ",
        json_elements,
        "($1) AS asked
         WHERE (SELECT 1 FROM revocations AS r
                WHERE r.level = asked.value ->> 1 AND r.id = asked.value ->> 2 AND r.epoch = 0
                LIMIT 1) IS NOT NULL
            OR (SELECT 1 FROM revocations AS r
                WHERE r.level = asked.value ->> 1 AND r.id = asked.value ->> 2 AND r.epoch > 0
                      AND r.epoch > CAST(asked.value ->> 3 AS bigint)
                      AND (r.keep IS NULL OR CAST(r.keep AS text) IS DISTINCT FROM asked.value ->> 4)
                LIMIT 1) IS NOT NULL"
    );
    let mut asked = Vec::new();
    for (n, subject) in subjects.iter().enumerate() {
        let mut ask = |level: Level, id: String, epoch: i64, session: Option<SessionId>| {
            asked.push((n, level.as_str(), id, epoch, session));
        };
        for token in &subject.tokens {
            ask(Level::Token, token.to_string(), 0, None);
        }
        for session in &subject.sessions {
            ask(Level::Session, session.to_string(), 0, None);
        }
        if let Some(key) = &subject.key {
            ask(Level::Key, key.to_string(), 0, None);
        }
        for EpochSet {
            user,
            client,
            session,
            epochs,
        } in &subject.epochs
        {
            if let Some(user) = user {
                ask(Level::User, user.to_string(), epochs.user, *session);
            }
            ask(Level::Client, client.to_string(), epochs.client, None);
            ask(Level::Global, String::new(), epochs.global, None);
        }
    }
    Ok(revoked.bind(json(&asked)?))
}

/// A reading of the feed.
pub(crate) struct FeedReading {
    /// The numbers of the first and the last revocation; none if there is none.
    pub(crate) span: Option<(i64, i64)>,
    pub(crate) snapshot: Snapshot,
}

#[async_trait]
impl<B: Backend> RevocationStore for B {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        if let Some(revocation) = self.record(new, audit).await? {
            return Ok(Recorded {
                revocation: Some(revocation),
                new: true,
            });
        }
        // The transaction that wrote the row in force is over, because the insertion waited for it.
        Ok(Recorded {
            revocation: self.first(in_force(&new.target), read).await?,
            new: false,
        })
    }

    async fn revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        let mut flags = vec![false; subjects.len()];
        if subjects.is_empty() {
            return Ok(flags);
        }
        let indexes = self.query(PoolKind::Callers, revoked(subjects)?, one_column::<i64>);
        for index in indexes.await? {
            let flag = usize::try_from(index).ok().and_then(|index| flags.get_mut(index));
            *flag.ok_or_else(|| Error::internal("the database answered for a subject that was not asked for"))? = true;
        }
        Ok(flags)
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        let FeedReading { span, mut snapshot } = self.feed_position().await?;
        let Some((mut first, last)) = span else {
            return Ok(snapshot);
        };
        while first <= last {
            let end = first.saturating_add(PART);
            // Parts are read one after another, each at its own moment. A row that could be seen when the position was
            // noted can still be seen later, so the parts together hold all rows of the position. The rows that they
            // hold beyond it are told again by the next reading.
            let part = sql!(
                "SELECT ",
                revocation_columns!(),
                " FROM revocations WHERE seq >= $1 AND seq < $2 AND ",
                without_index,
                "revoked > $3 AND ",
                without_index,
                "expires > ",
                now
            );
            let part = part.bind(first).bind(end).bind(since);
            snapshot
                .rows
                .extend(self.query(PoolKind::Maintenance, part, read).await?);
            first = end;
        }
        Ok(snapshot)
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        self.feed_since(cursor).await
    }

    async fn write_back(&self, lost: &[Revocation], audit: &AuditEvent) -> Result<Vec<(Level, u64)>> {
        let arguments = (write_back::argument(lost)?, write_back::global_epoch(lost));
        let (pool, mode) = (PoolKind::Maintenance, WorkMode::Transaction);
        self.perform(pool, mode, Some(audit), arguments, |tx, arguments| {
            Box::pin(write_back::write_back(tx, arguments))
        })
        .await
    }

    fn reconnect(&self) {
        Backend::reconnect(self);
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
        let purge = sql!(
            "DELETE FROM revocations WHERE seq",
            in_subquery,
            "SELECT seq FROM revocations WHERE ",
            one_replica,
            "expires < ",
            earliest_now,
            " ORDER BY expires LIMIT $1",
            end_subquery
        );
        let purged = self.run(PoolKind::Maintenance, purge.bind(i64::from(limit))).await?;
        u32::try_from(purged).map_err(unreadable)
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        let read = sql!(
            // PostgreSQL takes a small table without statistics for one of a thousand rows.
            "SELECT meta.era, counters.name, counters.value
             FROM (SELECT era FROM meta LIMIT 1) AS meta LEFT JOIN counters ON true ORDER BY counters.name",
            by_bytes
        );
        let rows = self.query(PoolKind::Maintenance, read, |columns| {
            let (era, name) = (columns.take::<i64>()?, columns.maybe::<String>()?);
            Ok((era, name.zip(columns.maybe()?)))
        });
        let rows = rows.await?;
        let era = rows.first().map(|(era, _)| *era);
        let counters = rows.into_iter().filter_map(|(_, counter)| counter).collect();
        Ok((era.ok_or_else(|| unreadable("meta is empty"))?, counters))
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        let mut counters = counters.to_vec();
        // In one order on every replica, so that two transactions do not wait for each other.
        counters.sort();
        let seen = lost.map(|_| seen);
        let (pool, mode) = (PoolKind::Maintenance, WorkMode::Transaction);
        self.perform(pool, mode, lost, (counters, seen), |tx, (counters, seen)| {
            Box::pin(store_counters(tx, counters, *seen))
        })
        .await
    }

    async fn note_session_life(&self, life: Duration) -> Result<()> {
        let note = clients::note_session_life(life);
        self.run(PoolKind::Maintenance, note).await.map(drop)
    }

    async fn ping(&self) -> Result<()> {
        self.query(PoolKind::Maintenance, sql!("SELECT 1"), |_| Ok(()))
            .await
            .map(drop)
    }

    fn takes_writes(&self) -> bool {
        self.check_writable().is_ok()
    }
}

/// Stores counters, and raises the era if it is still `lost_era`; returns the era.
async fn store_counters(tx: &mut Transaction<'_>, counters: &[(String, i64)], lost_era: Option<i64>) -> Result<i64> {
    for (name, value) in counters {
        let store = sql!(
            "INSERT INTO counters (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = ",
            greatest,
            "(counters.value, excluded.value)"
        );
        tx.run(store.bind(name).bind(*value)).await?;
    }
    if let Some(lost) = lost_era {
        let raise = sql!("UPDATE meta SET era = era + 1 WHERE era = $1").bind(lost);
        let raised = tx.run(raise).await? == 1;
        tx.audit_if(raised).await?;
    }
    let era = tx.first(sql!("SELECT era FROM meta"), one_column).await?;
    era.ok_or_else(|| unreadable("meta is empty"))
}
