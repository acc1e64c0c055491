//! The revocation backend of PostgreSQL. Its statements are in [`revoke`](super::revoke), [`revoked`] and [`feed`].

use super::PostgresStore;
use super::feed::{self, FeedPosition};
use super::pool::RetryMode::{Once, Repeatable};
use super::revoke::revoking;
use super::revoked;
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Error, Level, Result, Revocation, Target};
use crate::store::durable::revocations::{FeedReading, RevocationBackend, read, revocation_columns};
use crate::store::durable::statement::part;
use crate::store::durable::{Statement, one_column, unreadable};
use crate::store::{Changes, Cursor, NewRevocation, Recorded};

impl PostgresStore {
    /// The revocation of a token, session or key, which is revoked once.
    async fn in_force(&self, target: &Target) -> Result<Option<Revocation>> {
        const IN_FORCE: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM revocations WHERE level = $1 AND id = $2 AND epoch = 0"
        );
        let statement = Statement::postgres(IN_FORCE)
            .bind(target.level().as_str())
            .bind(target.id());
        self.db.first(Repeatable, statement, read).await
    }
}

impl RevocationBackend for PostgresStore {
    async fn record(&self, new: &NewRevocation, event: &AuditEvent) -> Result<Recorded> {
        let statement = revoking(&new.target, new.expires, event)?;
        if let Some(revocation) = self.db.first(Once, statement, read).await? {
            return Ok(Recorded {
                revocation: Some(revocation),
                new: true,
            });
        }
        let revocation = match new.target.level() {
            // Revoked before, by a transaction that is over now, because the insertion waited for it.
            Level::Token | Level::Session | Level::Key => self.in_force(&new.target).await?,
            Level::User | Level::Client | Level::Global => None,
        };
        Ok(Recorded { revocation, new: false })
    }

    async fn which_revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        let mut revoked = vec![false; subjects.len()];
        if subjects.is_empty() {
            return Ok(revoked);
        }
        let statement = revoked::revoked(subjects);
        let indexes = self.db.all(Repeatable, statement, one_column::<i64>);
        for index in indexes.await? {
            let subject = usize::try_from(index).ok().and_then(|index| revoked.get_mut(index));
            *subject.ok_or_else(|| Error::internal("the database answered for a subject that was not asked for"))? =
                true;
        }
        Ok(revoked)
    }

    async fn feed_position(&self) -> Result<FeedReading> {
        let rows = self
            .maintenance
            .all(Repeatable, feed::position(), feed::read_row)
            .await?;
        Ok(feed::put_together(rows)?.1)
    }

    async fn feed_part(&self, since: UnixMillis, first: i64, end: i64) -> Result<Vec<Revocation>> {
        self.maintenance
            .all(Repeatable, feed::part(since, first, end), read)
            .await
    }

    async fn feed_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let rows = self
            .maintenance
            .all(Repeatable, feed::news(&seen), feed::read_row)
            .await?;
        feed::changes(&seen, rows)
    }

    async fn purge_expired(&self, limit: u32) -> Result<u32> {
        // One replica at a time: the number of the lock is one that no other statement uses, and the lock is held until
        // the statement ends. A replica that does not get it removes nothing. An array, because a join with the
        // subquery would read the whole table.
        const PURGE: &str = concat!(
            "DELETE FROM revocations WHERE seq = ANY (ARRAY(
                 SELECT seq FROM revocations
                 WHERE (SELECT pg_try_advisory_xact_lock(7235421170339)) AND expires < ",
            part!(postgres now),
            " ORDER BY expires LIMIT $1))"
        );
        let purged = self
            .maintenance
            .run(Repeatable, Statement::postgres(PURGE).bind(i64::from(limit)))
            .await?;
        u32::try_from(purged).map_err(unreadable)
    }
}
