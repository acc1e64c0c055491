//! Live sessions. `model::record` decides the meaning of a refresh token, between the read and the write of one
//! transaction.

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{Database, Tx};
use crate::clock::UnixMillis;
use crate::model::record::{Next, RecordState, SessionRecord, admit};
use crate::model::session::{
    Created, EXPIRED_RECORD_TTL, NewSession, Presented, SPARE_RECORDS, SessionContext, SessionView, max_records,
};
use crate::model::{Epochs, Error, Result, Rotation, SessionId, UserId};
use crate::store::{BackupCounter, ComparedCounters, SessionStore};

/// The most records of a user that a listing reads. An earlier version may have stored more.
const MAX_LISTED: u32 = 100_000;

impl Database {
    /// How many sessions are stored. A session counts until its record is removed, up to an hour after its end.
    pub async fn count_sessions(&self) -> Result<u64> {
        self.read(|tx| {
            let count: Option<i64> = tx.first("SELECT count(*) FROM sessions", [], |row| Ok(row.get(0)?))?;
            Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
        })
        .await
    }
}

#[async_trait]
impl SessionStore for Database {
    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        let new = new.clone();
        self.call(move |tx| {
            let record = SessionRecord::begin(&new, tx.now());
            let total = count(tx, new.user)?;
            // With fewer records than the limit nothing gives way. Records that count as absent are purged anyway.
            let records = if total < limit {
                Vec::new()
            } else {
                oldest(tx, new.user, max_records(limit).saturating_add(SPARE_RECORDS))?
            };
            let admission = admit(&new, &records, total as usize, limit, tx.now());
            let evicted = admission.evicted.iter().map(|session| &session.id);
            for session in admission.removed.iter().chain(evicted) {
                delete(tx, *session)?;
            }
            put(tx, &record)?;
            Ok(Created {
                idle_expires: record.idle_expires,
                over_limit: admission.over_limit,
                evicted: admission.evicted,
            })
        })
        .await
    }

    async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        let presented = presented.clone();
        self.call(move |tx| {
            let Some(record) = one(tx, presented.user, presented.session)? else {
                return Ok(Rotation::Unknown);
            };
            let (rotation, next) = record.present(&presented, tx.now());
            match next {
                Next::Same => {}
                Next::Become(record) => put(tx, &record)?,
                Next::Gone => drop(delete(tx, record.id)?),
            }
            Ok(rotation)
        })
        .await
    }

    async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32> {
        let sessions = sessions.to_vec();
        self.call(move |tx| {
            let mut ended = 0;
            for session in sessions {
                let record = one(tx, user, session)?;
                // A tombstone is the evidence of a reuse until that is revoked.
                if let Some(record) = record.filter(|record| record.is_live(tx.now()) || record.has_expired(tx.now())) {
                    delete(tx, session)?;
                    ended += u32::from(record.is_live(tx.now()));
                }
            }
            Ok(ended)
        })
        .await
    }

    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        self.call(move |tx| {
            let (user, keep) = (user.to_string(), keep.map(|id| id.to_string()));
            let ended = tx.first(
                "SELECT count(*) FROM sessions WHERE user_id = ?1 AND epoch_user < ?2 AND id IS NOT ?3
                 AND idle_expires > ?4 AND reused IS NULL",
                params![user, epoch, keep, tx.now().0],
                |row| Ok(row.get(0)?),
            )?;
            tx.run(
                "DELETE FROM sessions WHERE user_id = ?1 AND epoch_user < ?2 AND id IS NOT ?3",
                params![user, epoch, keep],
            )?;
            Ok(ended.unwrap_or_default())
        })
        .await
    }

    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        self.read(move |tx| {
            let mut records = oldest(tx, user, MAX_LISTED)?;
            records.retain(|record| record.era == era && record.is_live(tx.now()));
            let mut views: Vec<_> = records.iter().map(SessionRecord::view).collect();
            views.sort_by_key(|view| (view.created, view.id));
            Ok(views)
        })
        .await
    }

    async fn purge_sessions(&self, limit: u32) -> Result<u32> {
        self.call(move |tx| {
            let gone = tx.run(
                "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions WHERE idle_expires <= ?1 ORDER BY idle_expires LIMIT ?2)",
                params![tx.earliest_now().minus(EXPIRED_RECORD_TTL).0, limit],
            )?;
            u32::try_from(gone).map_err(Error::internal)
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        self.read(|_| Ok(())).await
    }

    async fn advance_counters(&self, _known: &[(String, i64)], _backup_steps: i64) -> Result<ComparedCounters> {
        Ok(ComparedCounters {
            counters: Vec::new(),
            is_complete: true,
        })
    }

    async fn raise_counters(&self, _behind: &[BackupCounter]) -> Result<()> {
        Ok(())
    }
}

fn one(tx: &Tx<'_>, user: UserId, session: SessionId) -> Result<Option<SessionRecord>> {
    let sql = "SELECT * FROM sessions WHERE id = ?1 AND user_id = ?2";
    tx.first(sql, params![session.to_string(), user.to_string()], read)
}

/// At most `limit` records of the user, those with the oldest ids, in the order of the index.
fn oldest(tx: &Tx<'_>, user: UserId, limit: u32) -> Result<Vec<SessionRecord>> {
    let sql = "SELECT * FROM sessions WHERE user_id = ?1 ORDER BY id LIMIT ?2";
    tx.all(sql, params![user.to_string(), limit], read)
}

fn count(tx: &Tx<'_>, user: UserId) -> Result<u32> {
    let sql = "SELECT count(*) FROM sessions WHERE user_id = ?1";
    let count = tx.first(sql, [user.to_string()], |row| Ok(row.get(0)?))?;
    Ok(count.unwrap_or_default())
}

fn delete(tx: &Tx<'_>, session: SessionId) -> Result<usize> {
    Ok(tx.run("DELETE FROM sessions WHERE id = ?1", [session.to_string()])?)
}

fn put(tx: &Tx<'_>, record: &SessionRecord) -> Result<()> {
    let reused = match record.state {
        RecordState::Live | RecordState::FastForwarded => None,
        RecordState::Tombstone { presented } => Some(presented),
    };
    tx.run(
        "INSERT OR REPLACE INTO sessions (id, user_id, client_id, secret_hash, era, generation, refresh_key, rotated,
             attempt_id, scope, audience, created, idle_expires, expires, epoch_global, epoch_user, epoch_client,
             fast_forwarded, reused, user_agent, ip_address, device_name)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
        params![
            record.id.to_string(),
            record.user.to_string(),
            record.client.as_str(),
            record.secret_hash,
            record.era,
            record.generation,
            record.refresh_key,
            record.rotated.0,
            record.attempt_id,
            serde_json::to_string(&record.scope).map_err(Error::internal)?,
            serde_json::to_string(&record.audience).map_err(Error::internal)?,
            record.created.0,
            record.idle_expires.0,
            record.expires.0,
            record.epochs.global,
            record.epochs.user,
            record.epochs.client,
            record.state == RecordState::FastForwarded,
            reused,
            record.context.user_agent,
            record.context.ip_address,
            record.context.device_name,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<SessionRecord> {
    let state = match row.get("reused")? {
        Some(presented) => RecordState::Tombstone { presented },
        None if row.get("fast_forwarded")? => RecordState::FastForwarded,
        None => RecordState::Live,
    };
    Ok(SessionRecord {
        id: text(row, "id")?.parse()?,
        user: text(row, "user_id")?.parse()?,
        client: text(row, "client_id")?.parse()?,
        secret_hash: row.get("secret_hash")?,
        era: row.get("era")?,
        generation: row.get("generation")?,
        refresh_key: row.get("refresh_key")?,
        rotated: time(row, "rotated")?,
        attempt_id: row.get("attempt_id")?,
        scope: list(row, "scope")?,
        audience: list(row, "audience")?,
        created: time(row, "created")?,
        idle_expires: time(row, "idle_expires")?,
        expires: time(row, "expires")?,
        epochs: Epochs {
            global: row.get("epoch_global")?,
            user: row.get("epoch_user")?,
            client: row.get("epoch_client")?,
        },
        state,
        context: SessionContext {
            user_agent: row.get("user_agent")?,
            ip_address: row.get("ip_address")?,
            device_name: row.get("device_name")?,
        },
    })
}

fn text(row: &Row<'_>, column: &str) -> Result<String> {
    Ok(row.get(column)?)
}

fn time(row: &Row<'_>, column: &str) -> Result<UnixMillis> {
    Ok(UnixMillis(row.get(column)?))
}

fn list(row: &Row<'_>, column: &str) -> Result<Vec<String>> {
    serde_json::from_str(&text(row, column)?).map_err(Error::internal)
}
