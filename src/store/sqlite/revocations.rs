//! [`RevocationStore`] on SQLite: each call is one closure.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::params;

use super::feed::{self, FeedPosition};
use super::revoke::revoke;
use super::{SqliteStore, Tx};
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Result};
use crate::store::change::storable_event;
use crate::store::durable::audit::{append, log};
use crate::store::durable::{note_session_life, unreadable};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        storable_event(audit)?;
        let (new, append) = (new.clone(), append(audit)?);
        let recorded = self
            .db
            .call(move |tx| {
                let recorded = revoke(tx, &new.target, new.expires)?;
                if recorded.new {
                    tx.execute(&append)?;
                }
                Ok(recorded)
            })
            .await?;
        if recorded.new {
            log(audit);
        }
        Ok(recorded)
    }

    async fn revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        let subjects = subjects.to_vec();
        self.db
            .read(move |tx| subjects.iter().map(|subject| feed::is_revoked(tx, subject)).collect())
            .await
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        // Before the read, because a revocation that is acknowledged after this moment may be missing.
        let as_of = self.db.clock().now();
        let (first, last, mut snapshot) = self.db.read(move |tx| feed::position(tx, as_of)).await?;
        let Some(mut first) = first else {
            return Ok(snapshot);
        };
        while first <= last {
            let next = first.saturating_add(PART);
            let rows = self.db.read(move |tx| feed::part(tx, since, first, next)).await?;
            snapshot.rows.extend(rows);
            first = next;
        }
        Ok(snapshot)
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let as_of = self.db.clock().now();
        self.db.read(move |tx| feed::since(tx, &seen, as_of)).await
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
        // Not by a clock that has leapt ahead: a token whose revocation is purged early would be valid again when the
        // clock is set back.
        let now = self.db.cautious_now();
        self.db
            .call(move |tx| {
                let purged = tx.run(
                    "DELETE FROM revocations WHERE seq IN
                     (SELECT seq FROM revocations WHERE expires < ?1 ORDER BY expires LIMIT ?2)",
                    params![now.0, limit],
                )?;
                u32::try_from(purged).map_err(unreadable)
            })
            .await
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        self.db
            .read(|tx| {
                let counters = tx.all("SELECT name, value FROM counters ORDER BY name", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                Ok((era(tx)?, counters))
            })
            .await
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        let counters = counters.to_vec();
        let append = lost.map(append).transpose()?;
        let (era, raised) = self
            .db
            .call(move |tx| {
                for (name, value) in &counters {
                    tx.run(
                        "INSERT INTO counters (name, value) VALUES (?1, ?2)
                         ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
                        params![name, value],
                    )?;
                }
                let mut raised = false;
                if let Some(append) = &append {
                    raised = tx.run("UPDATE meta SET era = era + 1 WHERE era = ?1", [seen])? == 1;
                    if raised {
                        tx.execute(append)?;
                    }
                }
                Ok((era(tx)?, raised))
            })
            .await?;
        if let Some(event) = lost.filter(|_| raised) {
            log(event);
        }
        Ok(era)
    }

    async fn note_session_life(&self, life: Duration) -> Result<()> {
        let note = note_session_life(life);
        self.db.call(move |tx| tx.execute(&note).map(drop)).await
    }

    async fn ping(&self) -> Result<()> {
        self.db.read(|tx| era(tx).map(drop)).await
    }
}

fn era(tx: &Tx<'_>) -> Result<i64> {
    tx.first("SELECT era FROM meta", [], |row| Ok(row.get(0)?))?
        .ok_or_else(|| unreadable("meta is empty"))
}
