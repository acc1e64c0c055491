//! The feed of revocations: what have transactions written that were not over when we last looked?
//!
//! Numbers from a sequence would not do: a transaction that commits late has an early number. Each row therefore says
//! which transaction wrote it, and a place in the feed is a snapshot. Three rules make it exact:
//!
//! * Rows and snapshot come from one statement, so that they are of one moment; `now()` is never later than that.
//! * A snapshot is of one server and timeline: after a promotion or a restore everything is loaded again.
//! * `pg_walfile_name` fails on a standby, whose answers would be old.

use std::collections::BTreeSet;
use std::fmt;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::rows::{self, revocation_columns};
use super::statement::{Statement, sql};
use crate::clock::UnixMillis;
use crate::model::{ErrorKind, Revocation};
use crate::store::revocations::PART;
use crate::store::{Changes, Cursor, Snapshot};

/// More transactions at once than any server has connections for.
const MAX_RUNNING: usize = 20_000;

/// A place in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// System id, timeline and database: what the transactions are counted in.
    origin: String,
    /// The snapshot: no transaction before this one was running.
    xmin: u64,
    /// Likewise: none from this one on had begun.
    xmax: u64,
    /// Likewise: these were running.
    running: BTreeSet<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p1.{}.{}:{}:", self.origin, self.xmin, self.xmax)?;
        for (n, id) in self.running.iter().enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Place {
    /// The reverse of its text form, and of nothing else. `RESUME_TOKEN_INVALID`.
    pub(super) fn parse(cursor: &Cursor) -> crate::model::Result<Self> {
        let read = || {
            let (origin, snapshot) = cursor.0.strip_prefix("p1.")?.rsplit_once('.')?;
            let mut fields = snapshot.split(':');
            let (xmin, xmax, running) = (fields.next()?, fields.next()?, fields.next()?);
            let place = Self {
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
                })
            };
            let well_formed = number(ids.next()) && timeline(ids.next()) && number(ids.next()) && ids.next().is_none();
            let possible =
                place.xmin <= place.xmax && place.running.iter().all(|id| (place.xmin..place.xmax).contains(id));
            // Said in the one way in which we say it: no signs, zeros or repetitions.
            (well_formed && possible && place.to_string() == cursor.0).then_some(place)
        };
        Ok(read().ok_or(ErrorKind::ResumeTokenInvalid)?)
    }
}

/// What one look at the feed answers: a line with the place, and the rows.
pub(super) enum Line {
    Place {
        origin: String,
        snapshot: String,
        as_of: i64,
        /// The numbers of the first and the last row; none where there is none.
        span: Option<(i64, i64)>,
    },
    Row(Revocation),
}

/// The place now, which of all rows are the first and the last, and the rows for which $which is true.
macro_rules! look {
    ($which:literal) => {
        concat!(
            "SELECT (SELECT system_identifier FROM pg_control_system())::text || '.' ||
                    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.' ||
                    (SELECT oid FROM pg_database WHERE datname = current_database())::text,
                    pg_current_snapshot()::text, countersign_ms(now()),
                    (SELECT min(seq) FROM revocations), (SELECT max(seq) FROM revocations),
                    NULL::text AS level, NULL::text AS id, NULL::uuid AS keep, NULL::bigint AS epoch,
                    NULL::bigint AS expires, NULL::bigint AS revoked
             UNION ALL
             (SELECT NULL, NULL, NULL, NULL, NULL, ",
            revocation_columns!(),
            " FROM revocations WHERE ",
            $which,
            ")"
        )
    };
}

/// Where the feed stands now, and between which two numbers all rows lie that can be seen.
pub(super) fn here() -> Statement {
    sql(look!("false"))
}

/// Of the rows with these numbers (the first included, the last not) those that were recorded after `since` and have not
/// expired.
///
/// Parts are read one after the other, each of its own moment. What could be seen when the place was noted can still be
/// seen later, so together they are all that it stands for; what they hold beyond that, the next look tells again.
pub(super) fn part(since: UnixMillis, first: i64, last: i64) -> Statement {
    const ROWS: &str = concat!(
        "SELECT ",
        revocation_columns!(),
        " FROM revocations WHERE seq >= $2 AND seq < $3 AND revoked > $1 AND expires > countersign_ms(now())"
    );
    sql(ROWS).bind(since.0).bind(first).bind(last)
}

/// What `seen` has not seen, if it is of this server: at most one more than [`PART`] rows.
pub(super) fn news(seen: &Place) -> Statement {
    // A bigint would do for the next centuries; the text is what the type xid8 reads in every version.
    let running: Vec<String> = seen.running.iter().map(ToString::to_string).collect();
    sql(look!("txid >= $1::xid8 OR txid = ANY ($2::xid8[]) LIMIT $3"))
        .bind(seen.xmax.to_string())
        .bind(running)
        .bind(PART + 1)
}

/// Reads a line.
pub(super) fn line(row: &PgRow) -> Result<Line> {
    Ok(match row.try_get(0)? {
        Some(origin) => Line::Place {
            origin,
            snapshot: row.try_get(1)?,
            as_of: row.try_get(2)?,
            span: row.try_get::<Option<i64>, _>(3)?.zip(row.try_get(4)?),
        },
        None => Line::Row(rows::revocation(row, 5)?),
    })
}

/// The lines of one look, put together.
pub(super) struct Look {
    origin: String,
    pub(super) span: Option<(i64, i64)>,
    pub(super) snapshot: Snapshot,
}

/// Puts the lines together.
pub(super) fn look(lines: Vec<Line>) -> crate::model::Result<Look> {
    let mut rows = Vec::with_capacity(lines.len());
    let mut place = None;
    for line in lines {
        match line {
            Line::Row(row) => rows.push(row),
            Line::Place {
                origin,
                snapshot,
                as_of,
                span,
            } => place = Some((origin, snapshot, as_of, span)),
        }
    }
    let (origin, snapshot, as_of, span) =
        place.ok_or_else(|| crate::model::Error::internal("a look at the feed without a place"))?;
    let cursor = Cursor(format!("p1.{origin}.{snapshot}"));
    Ok(Look {
        origin,
        span,
        snapshot: Snapshot {
            rows,
            cursor,
            as_of: UnixMillis(as_of),
        },
    })
}

/// What is new since `seen`, put together from the lines.
pub(super) fn changes(seen: &Place, lines: Vec<Line>) -> crate::model::Result<Changes> {
    let Look { origin, snapshot, .. } = look(lines)?;
    let too_many = i64::try_from(snapshot.rows.len()).is_ok_and(|rows| rows > PART);
    Ok(if origin == seen.origin && !too_many {
        Changes::Since(snapshot)
    } else {
        Changes::Reload
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_is_a_cursor() {
        let longest = (0..1_000).map(|n| (18_446_744_073_709_550_000_u64 + n).to_string());
        let longest = longest.collect::<Vec<_>>().join(",");
        for good in [
            "p1.7512345678901234567.00000001.16384.741:741:",
            "p1.1.0000000A.5.741:745:741,743",
            &format!("p1.1.00000001.5.18446744073709550000:18446744073709551615:{longest}"),
        ] {
            assert_eq!(Place::parse(&Cursor(good.into())).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "p1",
            "p1.1.00000001.5.741:741",
            "p1.1.00000001.5.741:741::",
            "p1.1.00000001.741:741:",
            "p1.1.00000001.5.6.741:741:",
            "p1.1.0000000a.5.741:741:",
            "p1.1.1.5.741:741:",
            "p1.01.00000001.5.741:741:",
            "p1.1.00000001.-5.741:741:",
            "p1.1.00000001.5.742:741:",
            "p1.1.00000001.5.741:745:745",
            "p1.1.00000001.5.741:745:740",
            "p1.1.00000001.5.741:745:743,741",
            "p1.1.00000001.5.741:745:741,741",
            "p1.1.00000001.5.+741:745:",
            "p1.1.00000001.5.741:745:,",
            "p1.1.00000001.5.741:18446744073709551616:",
            "s1.0123456789abcdef0123456789abcdef.7",
        ] {
            let error = Place::parse(&Cursor(bad.into())).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid, "{bad:?}");
        }
    }
}
