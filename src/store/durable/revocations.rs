//! The rows of the table of revocations, and the predicates on them.

use super::columns::{Columns, unreadable};
use crate::model::{Level, Result, Revocation, Target};

/// The columns that [`read`] reads.
macro_rules! revocation_columns {
    () => {
        "level, id, keep, epoch, expires, revoked"
    };
}
pub(crate) use revocation_columns;

/// Reads a revocation.
pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Revocation> {
    let level = columns.named(Level::named)?;
    let id: String = columns.take()?;
    let keep = columns.maybe()?;
    Ok(Revocation {
        target: Target::from_parts(level, &id, keep).ok_or_else(|| unreadable("level and id do not fit"))?,
        epoch: columns.take()?,
        expires: columns.take()?,
        revoked: columns.take()?,
    })
}

/// SQL predicate: is there a revocation for this token, session or key id?
macro_rules! is_revoked {
    ($level:literal, $id:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = '",
            $level,
            "' AND r.id = ",
            $id,
            " AND r.epoch = 0)"
        )
    };
}
pub(crate) use is_revoked;

/// SQL predicate: is there a revocation of this user, client or everything with an epoch above the given one? A
/// revocation of a user spares the session that it keeps. A client's own token has neither user nor session.
macro_rules! is_revoked_by_epoch {
    ($user:literal, $client:literal, $session:literal, $user_epoch:literal, $client_epoch:literal, $global_epoch:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = 'user' AND r.id = CAST(",
            $user,
            " AS text) AND r.epoch > 0 AND r.epoch > ",
            $user_epoch,
            " AND (r.keep IS NULL OR r.keep IS DISTINCT FROM ",
            $session,
            "))
              OR EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = 'client' AND r.id = ",
            $client,
            " AND r.epoch > 0 AND r.epoch > ",
            $client_epoch,
            ")
              OR EXISTS (SELECT 1 FROM revocations AS r WHERE r.level = 'global' AND r.id = '' AND r.epoch > 0
                         AND r.epoch > ",
            $global_epoch,
            "))"
        )
    };
}
pub(crate) use is_revoked_by_epoch;
