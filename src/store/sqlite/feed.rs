//! The feed of revocations. The rows are numbered in the order of their commits, because there is one writer.

use super::Tx;
use crate::clock::UnixMillis;
use crate::model::{ErrorKind, Result};
use crate::store::durable::revocations::{FeedReading, read, revocation_columns};
use crate::store::durable::{Columns, unreadable};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, ReloadReason, Snapshot};

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
            side: None,
        },
    })
}

/// The changes after the position `seen`.
pub(super) fn since(tx: &Tx<'_>, seen: &FeedPosition, as_of: UnixMillis) -> Result<Changes> {
    let now = FeedPosition::now(tx)?;
    // A smaller number means that the file was replaced by an older copy.
    if now.instance != seen.instance || now.last < seen.last {
        return Ok(Changes::Reload(ReloadReason::Replaced));
    }
    if now.last > seen.last.saturating_add(PART) {
        return Ok(Changes::Reload(ReloadReason::ManyNew));
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
        side: None,
    }))
}
