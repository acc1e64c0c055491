//! The index gives the same answers as the definition of *revoked* in the model.

use proptest::prelude::*;

use super::*;
use crate::model::Epochs;

fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

fn client(n: u8) -> ClientId {
    ClientId::parse(&format!("client-{n}"), "client_id").unwrap()
}

fn key(n: u8) -> KeyId {
    KeyId::parse(&format!("{n:0>43}"), "key_id").unwrap()
}

fn revocations() -> impl Strategy<Value = Revocation> {
    let id = 0..4u8;
    let target = prop_oneof![
        id.clone().prop_map(|n| Target::Token(TokenId(uuid(n)))),
        id.clone().prop_map(|n| Target::Session(SessionId(uuid(n)))),
        (id.clone(), proptest::option::of(id.clone())).prop_map(|(n, keep)| Target::User {
            id: UserId(uuid(n)),
            keep: keep.map(|k| SessionId(uuid(k)))
        }),
        id.clone().prop_map(|n| Target::Client(client(n))),
        id.prop_map(|n| Target::Key(key(n))),
        Just(Target::Global),
    ];
    (target, 0..6i64).prop_map(|(target, epoch)| Revocation {
        target,
        epoch,
        expires: UnixMillis(i64::MAX / 2),
        revoked: UnixMillis(0),
    })
}

fn standings() -> impl Strategy<Value = EpochSet> {
    (
        proptest::option::of(0..4u8),
        0..4u8,
        proptest::option::of(0..4u8),
        0..6i64,
        0..6i64,
        0..6i64,
    )
        .prop_map(|(user, c, session, g, u, e)| EpochSet {
            user: user.map(|n| UserId(uuid(n))),
            client: client(c),
            session: session.map(|n| SessionId(uuid(n))),
            epochs: Epochs {
                global: g,
                user: u,
                client: e,
            },
        })
}

fn revocation_subject() -> impl Strategy<Value = RevocationSubject> {
    (
        proptest::collection::vec(4..9u8, 0..3),
        proptest::collection::vec(3..8u8, 0..3),
        proptest::option::of(3..6u8),
        proptest::collection::vec(standings(), 1..3),
    )
        .prop_map(|(tokens, sessions, k, epochs)| RevocationSubject {
            tokens: tokens.into_iter().map(|n| TokenId(uuid(n))).collect(),
            sessions: sessions.into_iter().map(|n| SessionId(uuid(n))).collect(),
            key: k.map(key),
            epochs: epochs.into(),
        })
}

proptest! {
    #[test]
    fn the_index_answers_as_the_rows_do(
        rows in proptest::collection::vec(revocations(), 0..12),
        asked in proptest::collection::vec(revocation_subject(), 1..8),
    ) {
        let index = Index::new();
        for row in &rows {
            index.insert(row);
        }
        // A watcher that builds its own index from the snapshot must answer the same.
        let copy = Index::new();
        for row in (0..CHUNKS).flat_map(|n| index.chunk(n)) {
            copy.insert(&row);
        }
        for revocation_subject in &asked {
            let revoked = rows.iter().any(|row| revocation_subject.is_revoked_by(row));
            prop_assert_eq!(index.is_revoked(revocation_subject), revoked);
            prop_assert_eq!(copy.is_revoked(revocation_subject), revoked);
        }
        for row in &rows {
            prop_assert!(!index.insert(row), "a row that is known is not new");
        }
    }
}

#[test]
fn sweeping_forgets_only_what_concerns_nothing() {
    let index = Index::new();
    let row = |n, expires, revoked| Revocation {
        target: Target::Session(SessionId(uuid(n))),
        epoch: 0,
        expires: UnixMillis(expires),
        revoked: UnixMillis(revoked),
    };
    let day = 24 * 3600 * 1000;
    index.insert(&row(1, 10 * day, 0));
    index.insert(&row(2, 600_000, 0));
    index.insert(&row(3, 10 * day, 2 * day));
    assert_eq!(index.len(), 3);
    assert_eq!(
        index.sweep(UnixMillis(day + 120_000)),
        2,
        "its tokens have expired, its record has expired"
    );
    assert_eq!(index.len(), 1);
    assert!(index.sessions.get(uuid(3)).is_some());
    // A row of the far future is not swept early.
    index.insert(&row(4, 253_402_300_799_000, 253_402_300_799_000));
    assert_eq!(index.sweep(UnixMillis(253_402_300_799_000)), 1);
    assert!(index.sessions.get(uuid(4)).is_some());
}

#[test]
fn a_million_entries_stay_small() {
    let bytes = std::mem::size_of::<(Uuid, Row)>() + 1;
    let entries: usize = 1_000_000;
    // hashbrown fills a table to 7/8 and doubles; one control byte an entry.
    let buckets = (entries.div_ceil(SHARDS) * 8 / 7).next_power_of_two() * SHARDS;
    assert!(
        buckets * bytes <= entries * 64,
        "{} B an entry",
        buckets * bytes / entries
    );
}
