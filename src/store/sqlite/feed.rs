//! The feed of revocations. The rows are numbered in the order of their commits, because there is one writer.

use rusqlite::params;

use super::Tx;
use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{ErrorKind, Level, Result, Revocation};
use crate::store::durable::revocations::{FeedReading, read, revocation_columns};
use crate::store::durable::{Columns, unreadable};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, Snapshot};

/// A position in the feed: the database, and the number of the last row that a reader has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FeedPosition {
    instance: String,
    last: i64,
}

impl FeedPosition {
    /// Reads a cursor in exactly the form that [`FeedPosition::cursor`] writes; `RESUME_TOKEN_INVALID` otherwise.
    pub(super) fn parse(cursor: &Cursor) -> Result<Self> {
        let read = || {
            let (instance, last) = cursor.0.strip_prefix("s1.")?.split_once('.')?;
            let position = Self {
                instance: instance.to_owned(),
                last: last.parse().ok().filter(|last| *last >= 0)?,
            };
            let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let well_formed = instance.len() == 32 && instance.bytes().all(hexadecimal);
            (well_formed && position.cursor() == *cursor).then_some(position)
        };
        Ok(read().ok_or(ErrorKind::ResumeTokenInvalid)?)
    }

    fn cursor(&self) -> Cursor {
        Cursor(format!("s1.{}.{}", self.instance, self.last))
    }

    fn now(tx: &Tx<'_>) -> Result<Self> {
        let sql =
            "SELECT instance, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'revocations'), 0) FROM meta";
        let position = tx.first(sql, [], |row| {
            Ok(Self {
                instance: row.get(0)?,
                last: row.get(1)?,
            })
        })?;
        position.ok_or_else(|| unreadable("meta is empty"))
    }
}

/// The position now.
pub(super) fn position(tx: &Tx<'_>, as_of: UnixMillis) -> Result<FeedReading> {
    let position = FeedPosition::now(tx)?;
    let first: Option<Option<i64>> = tx.first("SELECT min(seq) FROM revocations", [], |row| Ok(row.get(0)?))?;
    Ok(FeedReading {
        span: first.flatten().map(|first| (first, position.last)),
        snapshot: Snapshot {
            rows: Vec::new(),
            cursor: position.cursor(),
            as_of,
        },
    })
}

/// The revocations numbered from `first` to `last`, without `last`, that were recorded after `since` and have not
/// expired.
pub(super) fn part(tx: &Tx<'_>, since: UnixMillis, first: i64, last: i64) -> Result<Vec<Revocation>> {
    tx.all(
        concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM revocations WHERE seq >= ?3 AND seq < ?4 AND +revoked > ?1 AND +expires > ?2"
        ),
        [since.0, tx.now().0, first, last],
        |row| read(&mut Columns::new(row)),
    )
}

pub(super) fn since(tx: &Tx<'_>, seen: &FeedPosition, as_of: UnixMillis) -> Result<Changes> {
    let now = FeedPosition::now(tx)?;
    // A number smaller than `seen` means that the file was replaced by an older copy. A number much larger means that
    // more rows are new than one reading may answer.
    if now.instance != seen.instance || !(seen.last..=seen.last.saturating_add(PART)).contains(&now.last) {
        return Ok(Changes::Reload);
    }
    Ok(Changes::Since(Snapshot {
        rows: tx.all(
            concat!(
                "SELECT ",
                revocation_columns!(),
                " FROM revocations WHERE seq > ?1 ORDER BY seq"
            ),
            [seen.last],
            |row| read(&mut Columns::new(row)),
        )?,
        cursor: now.cursor(),
        as_of,
    }))
}

/// Whether a revocation concerns the subject: [`RevocationSubject::is_revoked_by`] of every row, by way of the indexes.
pub(super) fn is_revoked(tx: &Tx<'_>, subject: &RevocationSubject) -> Result<bool> {
    let by_id = |level: Level, id: &dyn ToString| {
        let sql = "SELECT 1 FROM revocations WHERE level = ?1 AND id = ?2 AND epoch = 0";
        Ok::<_, crate::model::Error>(
            tx.first(sql, params![level.as_str(), id.to_string()], |_| Ok(()))?
                .is_some(),
        )
    };
    let by_epoch = |level: Level, id: &str, epoch: i64, session: Option<String>| {
        let sql = "SELECT 1 FROM revocations WHERE level = ?1 AND id = ?2 AND epoch > 0 AND epoch > ?3
                   AND (keep IS NULL OR keep IS NOT ?4)";
        Ok::<_, crate::model::Error>(
            tx.first(sql, params![level.as_str(), id, epoch, session], |_| Ok(()))?
                .is_some(),
        )
    };
    for token in &subject.tokens {
        if by_id(Level::Token, token)? {
            return Ok(true);
        }
    }
    for session in &subject.sessions {
        if by_id(Level::Session, session)? {
            return Ok(true);
        }
    }
    if let Some(key) = &subject.key
        && by_id(Level::Key, key)?
    {
        return Ok(true);
    }
    for epoch_set in &subject.epochs {
        let session = epoch_set.session.map(|id| id.to_string());
        if let Some(user) = epoch_set.user
            && by_epoch(Level::User, &user.to_string(), epoch_set.epochs.user, session)?
        {
            return Ok(true);
        }
        if by_epoch(Level::Client, epoch_set.client.as_str(), epoch_set.epochs.client, None)?
            || by_epoch(Level::Global, "", epoch_set.epochs.global, None)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_is_a_cursor() {
        let position = FeedPosition {
            instance: "0123456789abcdef0123456789abcdef".into(),
            last: 7,
        };
        assert_eq!(FeedPosition::parse(&position.cursor()).unwrap(), position);
        for bad in [
            "",
            "s1",
            "s1..",
            "s1.0123456789abcdef0123456789abcdef.",
            "s1.0123456789abcdef0123456789abcdef.-1",
            "s1.0123456789abcdef0123456789abcdef.+7",
            "s1.0123456789abcdef0123456789abcdef.07",
            "s1.0123456789abcdef0123456789abcdef.7 ",
            "s1.0123456789abcdef0123456789abcdef.99999999999999999999",
            "s1.0123456789ABCDEF0123456789abcdef.7",
            "s1.0123.7",
            "p1.0123456789abcdef0123456789abcdef.7",
            "\0",
        ] {
            let error = FeedPosition::parse(&Cursor(bad.into())).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid, "{bad:?}");
        }
    }
}
