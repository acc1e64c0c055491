//! [`RevocationStore`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;

use super::PostgresStore;
use super::error::Failure;
use super::feed::{self, FeedPosition};
use super::pool::RetryMode::{Once, Repeatable, Transaction};
use super::revoke::revoking;
use super::revoked;
use super::statement::Session;
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Error, Level, Result, Revocation, Target};
use crate::store::change::storable_event;
use crate::store::durable::audit::{self, bind_event, insert_event};
use crate::store::durable::revocations::{read, revocation_columns};
use crate::store::durable::statement::part;
use crate::store::durable::{Statement, note_session_life, unreadable};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

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

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        storable_event(audit)?;
        let statement = revoking(&new.target, new.expires, audit)?;
        if let Some(revocation) = self.db.first(Once, statement, read).await? {
            audit::log(audit);
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

    async fn revoked(&self, subjects: &[RevocationSubject]) -> Result<Vec<bool>> {
        let mut revoked = vec![false; subjects.len()];
        if subjects.is_empty() {
            return Ok(revoked);
        }
        let indexes = self
            .db
            .all(Repeatable, revoked::revoked(subjects), |columns| columns.take::<i64>())
            .await?;
        for index in indexes {
            let subject = usize::try_from(index).ok().and_then(|index| revoked.get_mut(index));
            *subject.ok_or_else(|| Error::internal("the database answered for a subject that was not asked for"))? =
                true;
        }
        Ok(revoked)
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        let rows = self.upkeep.all(Repeatable, feed::position(), feed::read_row).await?;
        let reading = feed::put_together(rows)?;
        let mut snapshot = reading.snapshot;
        let Some((mut first, last)) = reading.span else {
            return Ok(snapshot);
        };
        while first <= last {
            let next = first.saturating_add(PART);
            let part = feed::part(since, first, next);
            snapshot.rows.extend(self.upkeep.all(Repeatable, part, read).await?);
            first = next;
        }
        Ok(snapshot)
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = FeedPosition::parse(cursor)?;
        let rows = self.upkeep.all(Repeatable, feed::news(&seen), feed::read_row).await?;
        feed::changes(&seen, rows)
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
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
            .upkeep
            .run(Repeatable, Statement::postgres(PURGE).bind(i64::from(limit)))
            .await?;
        u32::try_from(purged).map_err(unreadable)
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        const ERA: &str = "SELECT meta.era, counters.name, counters.value FROM meta LEFT JOIN counters ON true
                           ORDER BY counters.name COLLATE \"C\"";
        let rows = self
            .upkeep
            .all(Repeatable, Statement::postgres(ERA), |columns| {
                let (era, name) = (columns.take::<i64>()?, columns.maybe::<String>()?);
                Ok((era, name.zip(columns.maybe()?)))
            })
            .await?;
        let era = rows.first().map(|(era, _)| *era);
        let counters = rows.into_iter().filter_map(|(_, counter)| counter).collect();
        Ok((era.ok_or_else(|| unreadable("meta is empty"))?, counters))
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        const RAISE_ERA: &str = concat!(
            "WITH done AS (UPDATE meta SET era = era + 1 WHERE era = $12 RETURNING era) ",
            insert_event!("FROM done")
        );
        let raise = match lost {
            Some(event) => {
                let raise = bind_event(Statement::postgres(RAISE_ERA), event)?;
                Some(raise.bind(seen))
            }
            None => None,
        };
        let counters = counters.to_vec();
        let (era, raised) = self
            .upkeep
            .with(Transaction, move |session| {
                Box::pin(store_counters(session, counters.clone(), raise.clone()))
            })
            .await?;
        if let Some(event) = lost.filter(|_| raised) {
            audit::log(event);
        }
        Ok(era)
    }

    async fn note_session_life(&self, life: Duration) -> Result<()> {
        self.upkeep.run(Repeatable, note_session_life(life)).await.map(drop)
    }

    async fn ping(&self) -> Result<()> {
        self.upkeep
            .run(Repeatable, Statement::postgres("SELECT 1"))
            .await
            .map(drop)
    }
}

/// Answers the era, and whether this transaction raised it.
async fn store_counters(
    session: &mut Session<'_>,
    counters: Vec<(String, i64)>,
    raise: Option<Statement>,
) -> Result<(i64, bool), Failure> {
    const STORE: &str = "INSERT INTO counters (name, value)
                         SELECT name, max(value) FROM unnest($1::text[], $2::bigint[]) AS new (name, value)
                         GROUP BY name ORDER BY name
                         ON CONFLICT (name) DO UPDATE SET value = greatest(counters.value, excluded.value)";
    let (names, values): (Vec<String>, Vec<i64>) = counters.into_iter().unzip();
    let store = Statement::postgres(STORE).bind(names).bind(values);
    session.run(&store).await?;
    let raised = match raise {
        Some(raise) => session.run(&raise).await? == 1,
        None => false,
    };
    let era = session
        .first(&Statement::postgres("SELECT era FROM meta"), |columns| columns.take())
        .await?;
    Ok((era.ok_or_else(|| unreadable("meta is empty"))?, raised))
}
