//! What is dead: the one predicate, for a refresh and for everything else.

use super::statement::{Statement, sql};
use crate::model::revocation::{EpochSet, RevocationSubject};

/// Whether a row of the level kills what is revoked once, by its id.
macro_rules! is_dead {
    ($level:literal, $id:literal) => {
        concat!(
            "EXISTS (SELECT FROM revocations AS r WHERE r.level = '",
            $level,
            "' AND r.id = ",
            $id,
            " AND r.epoch = 0)"
        )
    };
}
pub(super) use is_dead;

/// Whether a row kills what a party to a token stands on: its user, its client and everything, under these epochs. A
/// machine has neither user nor session.
macro_rules! party_is_dead {
    ($usr:literal, $client:literal, $session:literal, $user_epoch:literal, $client_epoch:literal, $global_epoch:literal) => {
        concat!(
            "(EXISTS (SELECT FROM revocations AS r WHERE r.level = 'user' AND r.id = ",
            $usr,
            "::text AND r.epoch > 0 AND r.epoch > ",
            $user_epoch,
            " AND (r.keep IS NULL OR r.keep IS DISTINCT FROM ",
            $session,
            "))
              OR EXISTS (SELECT FROM revocations AS r WHERE r.level = 'client' AND r.id = ",
            $client,
            " AND r.epoch > 0 AND r.epoch > ",
            $client_epoch,
            ")
              OR EXISTS (SELECT FROM revocations AS r WHERE r.level = 'global' AND r.id = '' AND r.epoch > 0
                         AND r.epoch > ",
            $global_epoch,
            "))"
        )
    };
}
pub(super) use party_is_dead;

/// Which of these a row kills: [`RevocationSubject::is_revoked_by`] of every row, by way of the indexes. Answers their places, from 0.
pub(super) fn dead(all: &[RevocationSubject]) -> Statement {
    const DEAD: &str = concat!(
        "SELECT n FROM unnest($1::bigint[], $2::text[]) AS token (n, id) WHERE ",
        is_dead!("token", "token.id"),
        " UNION SELECT n FROM unnest($3::bigint[], $4::text[]) AS session (n, id) WHERE ",
        is_dead!("session", "session.id"),
        " UNION SELECT n FROM unnest($5::bigint[], $6::text[]) AS key (n, id) WHERE ",
        is_dead!("key", "key.id"),
        " UNION SELECT n FROM unnest($7::bigint[], $8::text[], $9::text[], $10::uuid[], $11::bigint[], $12::bigint[],
                                     $13::bigint[])
                          AS party (n, usr, client, session, user_epoch, client_epoch, global_epoch) WHERE ",
        party_is_dead!(
            "party.usr",
            "party.client",
            "party.session",
            "party.user_epoch",
            "party.client_epoch",
            "party.global_epoch"
        )
    );
    let parties = || {
        numbered(all).flat_map(|(n, revocation_subject)| revocation_subject.epochs.iter().map(move |party| (n, party)))
    };
    let of = |read: fn(&EpochSet) -> i64| parties().map(|(_, party)| read(party)).collect::<Vec<_>>();
    let (tokens, sessions, keys) = (
        ids(all, |revocation_subject| {
            revocation_subject.tokens.iter().map(ToString::to_string).collect()
        }),
        ids(all, |revocation_subject| {
            revocation_subject.sessions.iter().map(ToString::to_string).collect()
        }),
        ids(all, |revocation_subject| {
            revocation_subject.key.iter().map(ToString::to_string).collect()
        }),
    );
    sql(DEAD)
        .bind(tokens.0)
        .bind(tokens.1)
        .bind(sessions.0)
        .bind(sessions.1)
        .bind(keys.0)
        .bind(keys.1)
        .bind(parties().map(|(n, _)| n).collect::<Vec<_>>())
        .bind(
            parties()
                .map(|(_, party)| party.user.map(|id| id.to_string()))
                .collect::<Vec<_>>(),
        )
        .bind(parties().map(|(_, party)| party.client.to_string()).collect::<Vec<_>>())
        .bind(
            parties()
                .map(|(_, party)| party.session.map(|id| id.0))
                .collect::<Vec<_>>(),
        )
        .bind(of(|party| party.epochs.user))
        .bind(of(|party| party.epochs.client))
        .bind(of(|party| party.epochs.global))
}

/// The ids of a kind, each with the place of whom it concerns.
fn ids(all: &[RevocationSubject], of: fn(&RevocationSubject) -> Vec<String>) -> (Vec<i64>, Vec<String>) {
    let ids =
        numbered(all).flat_map(|(n, revocation_subject)| of(revocation_subject).into_iter().map(move |id| (n, id)));
    ids.unzip()
}

fn numbered(all: &[RevocationSubject]) -> impl Iterator<Item = (i64, &RevocationSubject)> {
    (0_i64..).zip(all)
}
