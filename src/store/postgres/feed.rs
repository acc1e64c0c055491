//! The feed of revocations: the rows of all transactions that had not ended at the last reading.
//!
//! The numbers of a sequence do not order the rows, because a transaction that commits late has an early number.
//! Therefore each row names the transaction that wrote it, and a position in the feed is a snapshot. Three rules make
//! the feed exact:
//!
//! * The rows and the snapshot come from one statement, so they are of one moment; `now()` is never later than that.
//! * A snapshot belongs to one server and timeline: after a promotion or a restore everything is loaded again. `timeline`
//!   says how that is noticed.
//! * A standby is refused, because its answers would be old.

use std::collections::BTreeSet;
use std::fmt;

use super::timeline::{STANDBY, TimelineCheck, start_origin, system_origin, timeline_origin};
use crate::clock::UnixMillis;
use crate::model::{Error, ErrorKind, Result, Revocation};
use crate::store::durable::revocations::{self, FeedReading, revocation_columns};
use crate::store::durable::{Columns, Statement, unreadable};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, DatabaseSide, ReloadReason, Snapshot};

/// The most running transactions in a cursor: more than any server has connections for.
const MAX_RUNNING: usize = 20_000;

/// A position in the feed: the rows that a reader has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// System id, timeline and database: the numbers of transactions belong to them. Of the weaker checks: the system id or
    /// 0, `s` and the start time of the server in microseconds, and the database.
    origin: String,
    /// Every transaction with a smaller number had ended.
    xmin: u64,
    /// No transaction with this number or a larger one had begun.
    xmax: u64,
    /// The transactions between the two that were running.
    running: BTreeSet<u64>,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p1.{}.{}:{}:", self.origin, self.xmin, self.xmax)?;
        for (n, id) in self.running.iter().enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FeedPosition {
    /// Reads a cursor in exactly the form that `Display` writes.
    ///
    /// # Errors
    /// `RESUME_TOKEN_INVALID` for every other text.
    pub fn parse(cursor: &Cursor) -> Result<Self> {
        let read = || {
            let (origin, snapshot) = cursor.0.strip_prefix("p1.")?.rsplit_once('.')?;
            let mut fields = snapshot.split(':');
            let (xmin, xmax, running) = (fields.next()?, fields.next()?, fields.next()?);
            let position = Self {
                origin: origin.to_owned(),
                xmin: xmin.parse().ok()?,
                xmax: xmax.parse().ok()?,
                running: match running {
                    "" => BTreeSet::new(),
                    list => list
                        .split(',')
                        .take(MAX_RUNNING)
                        .map(|id| id.parse().ok())
                        .collect::<Option<_>>()?,
                },
            };
            let mut ids = origin.split('.');
            let number = |id: Option<&str>| id.is_some_and(|id| id.parse::<u64>().is_ok_and(|n| n.to_string() == id));
            let timeline = |id: Option<&str>| {
                id.is_some_and(|id| {
                    id.len() == 8 && id.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
                        || number(id.strip_prefix('s'))
                })
            };
            let well_formed = number(ids.next()) && timeline(ids.next()) && number(ids.next()) && ids.next().is_none();
            let possible = position.xmin <= position.xmax
                && position
                    .running
                    .iter()
                    .all(|id| (position.xmin..position.xmax).contains(id));
            // Written again it must be the same text: no signs, leading zeros or repetitions.
            (well_formed && possible && position.to_string() == cursor.0).then_some(position)
        };
        Ok(read().ok_or(ErrorKind::ResumeTokenInvalid)?)
    }
}

/// A row that a reading of the feed returns.
pub(super) enum FeedRow {
    Position {
        origin: String,
        snapshot: String,
        as_of: UnixMillis,
        /// The numbers of the first and the last revocation; none if there is none.
        span: Option<(i64, i64)>,
    },
    Revocation(Revocation),
}

/// A statement that returns the position now in its first row, and then the revocations for which `$filter` is true.
macro_rules! reading {
    (@ $origin:ident, $filter:literal) => {
        concat!(
            "SELECT ",
            $origin!(),
            ", pg_current_snapshot()::text, countersign_ms(now()),
                    (SELECT min(seq) FROM revocations), (SELECT max(seq) FROM revocations),
                    NULL::text AS level, NULL::text AS id, NULL::uuid AS keep, NULL::bigint AS epoch,
                    NULL::bigint AS expires, NULL::bigint AS revoked
             UNION ALL
             (SELECT NULL, NULL, NULL, NULL, NULL, ",
            revocation_columns!(),
            " FROM revocations WHERE ",
            $filter,
            ")"
        )
    };
    ($check:expr, $filter:literal) => {
        match $check {
            TimelineCheck::Timeline => reading!(@ timeline_origin, $filter),
            TimelineCheck::SystemIdentifier => reading!(@ system_origin, $filter),
            TimelineCheck::StartTime => reading!(@ start_origin, $filter),
        }
    };
}

/// The position now, and the numbers of the first and the last revocation that can be seen.
pub(super) fn position(check: TimelineCheck) -> Statement {
    Statement::postgres(reading!(check, "false"))
}

/// The revocations after the position `seen`, if it is one of this server: at most one more than [`PART`].
pub(super) fn news(check: TimelineCheck, seen: &FeedPosition) -> Statement {
    // As text, because that is the form which the type xid8 reads in every version.
    let running: Vec<String> = seen.running.iter().map(ToString::to_string).collect();
    Statement::postgres(reading!(check, "txid >= $1::xid8 OR txid = ANY ($2::xid8[]) LIMIT $3"))
        .bind(seen.xmax.to_string())
        .bind(running)
        .bind(PART + 1)
}

/// Reads a row of a reading.
pub(super) fn read_row(columns: &mut Columns<'_>) -> Result<FeedRow> {
    let (origin, snapshot, as_of) = (columns.maybe()?, columns.maybe()?, columns.maybe()?);
    let (first, last) = (columns.maybe()?, columns.maybe()?);
    let Some(origin) = origin else {
        return revocations::read(columns).map(FeedRow::Revocation);
    };
    if origin == STANDBY {
        return Err(Error::store_unavailable("the database is a standby"));
    }
    Ok(FeedRow::Position {
        origin,
        snapshot: snapshot.ok_or_else(|| unreadable("no snapshot"))?,
        as_of: as_of.ok_or_else(|| unreadable("no time"))?,
        span: first.zip(last),
    })
}

/// Puts the rows of a reading together; returns the origin of its position as well.
pub(super) fn put_together(feed_rows: Vec<FeedRow>) -> Result<(String, FeedReading)> {
    let mut rows = Vec::with_capacity(feed_rows.len());
    let mut position = None;
    for row in feed_rows {
        match row {
            FeedRow::Revocation(revocation) => rows.push(revocation),
            FeedRow::Position {
                origin,
                snapshot,
                as_of,
                span,
            } => position = Some((origin, snapshot, as_of, span)),
        }
    }
    let (origin, snapshot, as_of, span) =
        position.ok_or_else(|| Error::internal("a reading of the feed without its position"))?;
    let side = side(&origin, &snapshot);
    let cursor = Cursor(format!("p1.{origin}.{snapshot}"));
    let snapshot = Snapshot {
        rows,
        cursor,
        as_of,
        side,
    };
    Ok((origin, FeedReading { span, snapshot }))
}

/// The server of this origin, with its snapshot; none if the origin is of a weaker check, which does not know the timeline.
fn side(origin: &str, snapshot: &str) -> Option<DatabaseSide> {
    let mut ids = origin.split('.');
    let (system, timeline) = (ids.next()?, ids.next()?);
    Some(DatabaseSide {
        system: system.parse().ok()?,
        timeline: u32::from_str_radix(timeline, 16).ok()?,
        next_transaction: snapshot.split(':').nth(1)?.parse().ok()?,
    })
}

/// The changes after the position `seen`, from the rows of [`news`].
pub(super) fn changes(seen: &FeedPosition, rows: Vec<FeedRow>) -> Result<Changes> {
    let (origin, FeedReading { snapshot, .. }) = put_together(rows)?;
    // The numbers of transactions only rise on one timeline: smaller ones are of an earlier state of the database. The crash
    // of a server also takes back numbers of transactions that had not been written to disk.
    let went_back = FeedPosition::parse(&snapshot.cursor).map_or(true, |now| now.xmax < seen.xmax);
    let too_many = i64::try_from(snapshot.rows.len()).is_ok_and(|rows| rows > PART);
    Ok(if origin != seen.origin || went_back {
        Changes::Reload(ReloadReason::Replaced)
    } else if too_many {
        Changes::Reload(ReloadReason::ManyNew)
    } else {
        Changes::Since(snapshot)
    })
}
