//! The statement that asks which of many tokens and sessions are revoked.

use uuid::Uuid;

use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::store::durable::Statement;
use crate::store::durable::revocations::{is_revoked, is_revoked_by_epoch};

/// Returns the indexes, from 0, of the subjects that a revocation concerns: [`RevocationSubject::is_revoked_by`] of
/// every row, by way of the indexes of the table.
pub(super) fn revoked(subjects: &[RevocationSubject]) -> Statement {
    const REVOKED: &str = concat!(
        "SELECT n FROM unnest($1::bigint[], $2::text[]) AS token (n, id) WHERE ",
        is_revoked!("token", "token.id"),
        " UNION SELECT n FROM unnest($3::bigint[], $4::text[]) AS session (n, id) WHERE ",
        is_revoked!("session", "session.id"),
        " UNION SELECT n FROM unnest($5::bigint[], $6::text[]) AS key (n, id) WHERE ",
        is_revoked!("key", "key.id"),
        " UNION SELECT n FROM unnest($7::bigint[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[],
                                     $13::bigint[])
                          AS epoch_set (n, usr, client, session, user_epoch, client_epoch, global_epoch) WHERE ",
        is_revoked_by_epoch!(
            "epoch_set.usr",
            "epoch_set.client",
            "CAST(epoch_set.session AS uuid)",
            "epoch_set.user_epoch",
            "epoch_set.client_epoch",
            "epoch_set.global_epoch"
        )
    );
    let tokens = ids(subjects, |subject| texts(&subject.tokens));
    let sessions = ids(subjects, |subject| texts(&subject.sessions));
    let keys = ids(subjects, |subject| texts(&subject.key));
    let epoch_sets: Vec<(i64, &EpochSet)> = numbered(subjects)
        .flat_map(|(n, subject)| subject.epochs.iter().map(move |epoch_set| (n, epoch_set)))
        .collect();
    Statement::postgres(REVOKED)
        .bind(tokens.0)
        .bind(tokens.1)
        .bind(sessions.0)
        .bind(sessions.1)
        .bind(keys.0)
        .bind(keys.1)
        .bind(column(&epoch_sets, |(n, _)| *n))
        // No row has an empty id at the level of users, and none keeps the nil session.
        .bind(column(&epoch_sets, |(_, epoch_set)| {
            epoch_set.user.map(|id| id.to_string()).unwrap_or_default()
        }))
        .bind(column(&epoch_sets, |(_, epoch_set)| epoch_set.client.to_string()))
        .bind(column(&epoch_sets, |(_, epoch_set)| {
            epoch_set.session.map_or(Uuid::nil(), |id| id.0).to_string()
        }))
        .bind(column(&epoch_sets, |(_, epoch_set)| epoch_set.epochs.user))
        .bind(column(&epoch_sets, |(_, epoch_set)| epoch_set.epochs.client))
        .bind(column(&epoch_sets, |(_, epoch_set)| epoch_set.epochs.global))
}

/// The ids of one kind, each with the index of its subject.
fn ids(subjects: &[RevocationSubject], of: fn(&RevocationSubject) -> Vec<String>) -> (Vec<i64>, Vec<String>) {
    numbered(subjects)
        .flat_map(|(n, subject)| of(subject).into_iter().map(move |id| (n, id)))
        .unzip()
}

fn texts<'i, T: ToString + 'i>(ids: impl IntoIterator<Item = &'i T>) -> Vec<String> {
    ids.into_iter().map(ToString::to_string).collect()
}

fn column<T>(epoch_sets: &[(i64, &EpochSet)], read: fn(&(i64, &EpochSet)) -> T) -> Vec<T> {
    epoch_sets.iter().map(read).collect()
}

fn numbered(subjects: &[RevocationSubject]) -> impl Iterator<Item = (i64, &RevocationSubject)> {
    (0_i64..).zip(subjects)
}
