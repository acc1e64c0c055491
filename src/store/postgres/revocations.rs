//! [`RevocationStore`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;

use super::error::{Failure, unreadable};
use super::feed::{self, Place};
use super::pool::How::{Once, Repeatable, Transaction};
use super::record::{auditing, insert_audit, recorded, revoking};
use super::rows::{now, revocation_columns};
use super::statement::{Session, sql};
use super::{PostgresStore, dead, registry};
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{AuditEvent, Error, Level, Result, Revocation, Target};
use crate::store::change::storable_event;
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, NewRevocation, Recorded, RevocationStore, Snapshot};

impl PostgresStore {
    /// The row of something that is revoked once.
    async fn in_force(&self, target: &Target) -> Result<Option<Revocation>> {
        const IN_FORCE: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM revocations WHERE level = $1 AND id = $2 AND epoch = 0"
        );
        let statement = sql(IN_FORCE).bind(target.level().as_str()).bind(target.id());
        self.db.first(Repeatable, statement, recorded).await
    }
}

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn revoke(&self, new: &NewRevocation, audit: &AuditEvent) -> Result<Recorded> {
        storable_event(audit)?;
        let statement = revoking(&new.target, new.expires, audit).map_err(Failure::into_error)?;
        let revocation = self.db.first(Once, statement, recorded).await?;
        Ok(match (revocation, new.target.level()) {
            (Some(revocation), _) => Recorded {
                revocation: Some(revocation),
                new: true,
            },
            // It was revoked before: by a transaction that is over now, since the insertion waited for it.
            (None, Level::Token | Level::Session | Level::Key) => Recorded {
                revocation: self.in_force(&new.target).await?,
                new: false,
            },
            (None, Level::User | Level::Client | Level::Global) => Recorded {
                revocation: None,
                new: false,
            },
        })
    }

    async fn revoked(&self, revocation_subject: &[RevocationSubject]) -> Result<Vec<bool>> {
        let mut revoked = vec![false; revocation_subject.len()];
        if revocation_subject.is_empty() {
            return Ok(revoked);
        }
        let killed = self
            .db
            .all(Repeatable, dead::dead(revocation_subject), |row| {
                Ok(row.try_get::<i64, _>(0)?)
            })
            .await?;
        for place in killed {
            let told = usize::try_from(place).ok().and_then(|place| revoked.get_mut(place));
            *told.ok_or_else(|| Error::internal("an answer that was not asked for"))? = true;
        }
        Ok(revoked)
    }

    async fn load_revocations(&self, since: UnixMillis) -> Result<Snapshot> {
        let here = feed::look(self.upkeep.all(Repeatable, feed::here(), feed::line).await?)?;
        let mut snapshot = here.snapshot;
        let Some((mut first, last)) = here.span else {
            return Ok(snapshot);
        };
        while first <= last {
            let next = first.saturating_add(PART);
            let rows = self
                .upkeep
                .all(Repeatable, feed::part(since, first, next), recorded)
                .await?;
            snapshot.rows.extend(rows);
            first = next;
        }
        Ok(snapshot)
    }

    async fn revocations_since(&self, cursor: &Cursor) -> Result<Changes> {
        let seen = Place::parse(cursor)?;
        let lines = self.upkeep.all(Repeatable, feed::news(&seen), feed::line).await?;
        feed::changes(&seen, lines)
    }

    async fn purge_revocations(&self, limit: u32) -> Result<u32> {
        // One replica at a time: the lock is any number that nothing else locks, held until the statement is over. Who
        // does not get it has nothing to do. An array, since a join of the same would read the whole table.
        const PURGE: &str = concat!(
            "DELETE FROM revocations WHERE seq = ANY (ARRAY(
                 SELECT seq FROM revocations
                 WHERE (SELECT pg_try_advisory_xact_lock(7235421170339)) AND expires < ",
            now!(),
            " ORDER BY expires LIMIT $1))"
        );
        let purged = self.upkeep.run(Repeatable, sql(PURGE).bind(i64::from(limit))).await?;
        u32::try_from(purged).map_err(|error| unreadable(error).into_error())
    }

    async fn era(&self) -> Result<(i64, Vec<(String, i64)>)> {
        const ERA: &str = "SELECT meta.era, counters.name, counters.value FROM meta LEFT JOIN counters ON true
                           ORDER BY counters.name COLLATE \"C\"";
        let rows = self
            .upkeep
            .all(Repeatable, sql(ERA), |row| {
                let name: Option<String> = row.try_get(1)?;
                Ok((row.try_get::<i64, _>(0)?, name.zip(row.try_get(2)?)))
            })
            .await?;
        let era = rows.first().map(|(era, _)| *era);
        let counters = rows.into_iter().filter_map(|(_, counter)| counter).collect();
        Ok((era.ok_or_else(|| Error::internal("meta is empty"))?, counters))
    }

    async fn store_counters(&self, counters: &[(String, i64)], lost: Option<&AuditEvent>, seen: i64) -> Result<i64> {
        let with = (counters.to_vec(), lost.cloned());
        self.upkeep
            .with(Transaction, move |session| {
                let (counters, lost) = with.clone();
                Box::pin(async move { store_counters(session, counters, lost.as_ref(), seen).await })
            })
            .await
    }

    async fn note_session_life(&self, life: Duration) -> Result<()> {
        self.upkeep.run(Repeatable, registry::note_life(life)).await.map(drop)
    }

    async fn ping(&self) -> Result<()> {
        self.upkeep.run(Repeatable, sql("SELECT 1")).await.map(drop)
    }
}

async fn store_counters(
    session: &mut Session<'_>,
    counters: Vec<(String, i64)>,
    lost: Option<&AuditEvent>,
    seen: i64,
) -> super::error::Result<i64> {
    const STORE: &str = "INSERT INTO counters (name, value)
                         SELECT name, max(value) FROM unnest($1::text[], $2::bigint[]) AS new (name, value)
                         GROUP BY name ORDER BY name
                         ON CONFLICT (name) DO UPDATE SET value = greatest(counters.value, excluded.value)";
    const LOSE: &str = concat!(
        "WITH raised AS (UPDATE meta SET era = era + 1 WHERE era = $12 RETURNING era) ",
        insert_audit!("FROM raised")
    );
    let (names, values): (Vec<_>, Vec<_>) = counters.into_iter().unzip();
    session.run(sql(STORE).bind(names).bind(values)).await?;
    if let Some(event) = lost {
        session.run(auditing(LOSE, event)?.bind(seen)).await?;
    }
    let era = session
        .first(sql("SELECT era FROM meta"), |row| Ok(row.try_get(0)?))
        .await?;
    era.ok_or_else(|| unreadable("meta is empty"))
}
