//! The revocation backend of SQLite: each call is one closure on the worker thread.

use rusqlite::params;

use super::SqliteStore;
use super::feed::{self, FeedPosition};
use super::revoke::revoke;
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Result, Revocation};
use crate::store::durable::audit::append;
use crate::store::durable::revocations::{FeedReading, RevocationBackend};
use crate::store::durable::unreadable;
use crate::store::{Changes, Cursor, NewRevocation, Recorded};

impl RevocationBackend for SqliteStore {
    async fn record(&self, new: &NewRevocation, event: &AuditEvent) -> Result<Recorded> {
        let (new, append) = (new.clone(), append(event)?);
        self.db
            .call(move |tx| {
                let recorded = revoke(tx, &new.target, new.expires)?;
                if recorded.new {
                    tx.execute(&append)?;
                }
                Ok(recorded)
            })
            .await
    }

    async fn which_revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        let subjects = subjects.to_vec();
        self.db
            .read(move |tx| subjects.iter().map(|subject| feed::is_revoked(tx, subject)).collect())
            .await
    }

    async fn feed_position(&self) -> Result<FeedReading> {
        // Before the read, because a revocation that is acknowledged after this moment may be missing.
        let as_of = self.db.clock().now();
        self.db.read(move |tx| feed::position(tx, as_of)).await
    }

    async fn feed_part(&self, since: UnixMillis, first: i64, end: i64) -> Result<Vec<Revocation>> {
        self.db.read(move |tx| feed::part(tx, since, first, end)).await
    }

    async fn feed_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let as_of = self.db.clock().now();
        self.db.read(move |tx| feed::since(tx, &seen, as_of)).await
    }

    async fn purge_expired(&self, limit: u32) -> Result<u32> {
        // Not by a clock that has leapt ahead: a token whose revocation is purged early would be valid again when the
        // clock is set back.
        let now = self.db.capped_now();
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
}
