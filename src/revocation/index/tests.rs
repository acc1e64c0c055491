//! The index gives the same answers as the definition of *revoked* in the model.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};

use proptest::prelude::*;
use prost::Message as _;
use uuid::Uuid;

use super::rows::{Entry, EpochRow, KeptRow, Row, split};
use super::snapshot::{MAX_ENCODED_BYTES, MAX_PART_BYTES, MAX_PART_ROWS};
use super::table::Table;
use super::*;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{ClientId, Epochs, KeyId, SessionId, Target, TokenId, UserId};
use crate::proto;
use crate::proto::watch_revocations_response::Message;

mod covers;

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

/// All parts of a snapshot.
fn snapshot(index: &Index) -> Vec<Vec<Revocation>> {
    let mut cursor = SnapshotCursor::default();
    let parts = std::iter::from_fn(|| (!cursor.is_at_end()).then(|| index.snapshot_part(&mut cursor)));
    parts.collect()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Revocation),
    /// Removes what is not needed after so many more hours.
    Sweep(i64),
    /// The watcher reads a part of its snapshot, of at most so many revocations.
    Read(usize),
}

const HOUR: i64 = 3_600_000;

fn steps() -> impl Strategy<Value = Step> {
    let insert = (revocations(), 0..40i64, 0..40i64).prop_map(|(row, revoked, life)| {
        Step::Insert(Revocation {
            revoked: UnixMillis(revoked * HOUR),
            expires: UnixMillis((revoked + life) * HOUR + 1),
            ..row
        })
    });
    prop_oneof![
        6 => insert,
        1 => (0..12i64).prop_map(Step::Sweep),
        2 => (2..5usize).prop_map(Step::Read),
    ]
}

proptest! {
    /// Merged entries live as long as each of their revocations, and longer ones revoke nothing else. A watcher that reads a
    /// snapshot while the index changes, and then the events, gives the same guarantee.
    #[test]
    fn every_needed_revocation_is_in_force_in_the_index_and_at_a_watcher(
        steps in proptest::collection::vec(steps(), 0..60),
        asked in proptest::collection::vec(revocation_subject(), 1..8),
    ) {
        let (index, watcher) = (Index::new(), Index::new());
        let (mut cursor, mut events) = (SnapshotCursor::default(), Vec::new());
        let (mut rows, mut now) = (Vec::new(), UnixMillis(0));
        for step in steps {
            match step {
                Step::Insert(row) => {
                    if index.insert(&row) {
                        events.push(row.clone());
                    }
                    rows.push(row);
                }
                Step::Sweep(hours) => {
                    now = UnixMillis(now.0 + hours * HOUR);
                    let before = index.len();
                    prop_assert_eq!(index.sweep(now), before - index.len());
                }
                Step::Read(max_rows) => {
                    let part = index.part(&mut cursor, max_rows);
                    prop_assert!(part.len() <= max_rows && (cursor.is_at_end() || !part.is_empty()));
                    for row in part {
                        watcher.insert(&row);
                    }
                }
            }
        }
        while !cursor.is_at_end() {
            for row in index.part(&mut cursor, 2) {
                watcher.insert(&row);
            }
        }
        for event in events {
            watcher.insert(&event);
        }
        watcher.sweep(now);
        for subject in &asked {
            let by = |row: &&Revocation| subject.is_revoked_by(row);
            let was_revoked = rows.iter().any(|row| by(&row));
            let is_needed = rows.iter().filter(|row| retained_until(row) >= now).any(|row| by(&row));
            for answer in [index.is_revoked(subject), watcher.is_revoked(subject)] {
                prop_assert!(answer || !is_needed, "a revocation that is needed is in force");
                prop_assert!(!answer || was_revoked, "only what was revoked is revoked");
            }
        }
        let targets: HashSet<_> = rows.iter().map(|row| (row.target.level(), row.target.id(), row.target.keep().is_some())).collect();
        prop_assert!(index.len() <= targets.len());
        index.sweep(UnixMillis(200 * HOUR));
        prop_assert!(index.is_empty());
        for subject in &asked {
            prop_assert!(!index.is_revoked(subject), "nothing is left");
        }
    }

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
        for row in snapshot(&index).into_iter().flatten() {
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
    assert!(index.sessions.get(&uuid(3)).is_some());
    // A row of the far future is not swept early.
    index.insert(&row(4, 253_402_300_799_000, 253_402_300_799_000));
    assert_eq!(index.sweep(UnixMillis(253_402_300_799_000)), 1);
    assert!(index.sessions.get(&uuid(4)).is_some());
}

/// A revocation of a user that keeps a session, and a token of the user.
fn keeping(user: u8, keep: u128, epoch: i64) -> Revocation {
    Revocation {
        target: Target::User {
            id: UserId(uuid(user)),
            keep: Some(SessionId(Uuid::from_u128(keep))),
        },
        epoch,
        expires: UnixMillis(HOUR),
        revoked: UnixMillis(0),
    }
}

fn token_of(user: u8, session: u128, epoch: i64) -> RevocationSubject {
    let epochs = Epochs {
        user: epoch,
        ..Epochs::default()
    };
    let session = SessionId(Uuid::from_u128(session));
    RevocationSubject::of_session(UserId(uuid(user)), session, ClientId::default(), epochs)
}

#[test]
fn many_revocations_of_one_user_are_one_entry() {
    const ROWS: u32 = 400_000;
    let index = Index::new();
    // User 1 always keeps the same session, user 2 another one each time.
    for n in 1..=ROWS {
        assert!(index.insert(&keeping(1, 7, n.into())));
        assert!(index.insert(&keeping(2, n.into(), n.into())));
    }
    let last = i64::from(ROWS);
    assert!(!index.insert(&keeping(1, 7, 1)), "the entry covers it");
    assert!(!index.insert(&keeping(2, 1, 1)), "the entry covers it");
    assert_eq!(index.len(), 2, "one entry for each user");
    assert_eq!(snapshot(&index).concat().len(), 3, "user 2 needs two revocations");

    assert!(!index.is_revoked(&token_of(1, 7, 0)), "the kept session");
    assert!(index.is_revoked(&token_of(1, 8, last - 1)));
    assert!(!index.is_revoked(&token_of(1, 8, last)), "a later login");
    assert!(index.is_revoked(&token_of(2, 3, last - 1)));
    let newest = ROWS.into();
    assert!(
        !index.is_revoked(&token_of(2, newest, last - 1)),
        "kept by the last one"
    );
    assert!(
        index.is_revoked(&token_of(2, newest, last - 2)),
        "revoked by the last but one"
    );
}

/// One user's revocations with decreasing life: the entry must live as long as the first one.
#[test]
fn a_merged_entry_lives_as_long_as_each_of_its_revocations() {
    let index = Index::new();
    let lives = |epoch, hours: i64| Revocation {
        expires: UnixMillis(hours * HOUR),
        ..keeping(1, 7, epoch)
    };
    assert!(index.insert(&lives(5, 20)));
    assert!(index.insert(&lives(9, 1)), "a larger epoch");
    assert!(index.insert(&lives(3, 22)), "a smaller epoch that lives longer");
    assert_eq!(index.sweep(UnixMillis(22 * HOUR)), 0);
    assert!(index.is_revoked(&token_of(1, 8, 4)));
    assert_eq!(index.sweep(UnixMillis(22 * HOUR + 60_000)), 1);
    assert!(!index.is_revoked(&token_of(1, 8, 4)));
}

/// The longest values that each field can have.
fn long(n: u32) -> Revocation {
    let id = Uuid::from_u128(u128::MAX - u128::from(n));
    let target = match n % 16 {
        0 => Target::Token(TokenId(id)),
        1 => Target::Client(ClientId::parse(&format!("{n:c>64}"), "client_id").unwrap()),
        2 => Target::Key(KeyId::parse(&format!("{n:k>43}"), "key_id").unwrap()),
        3 => Target::User {
            id: UserId(id),
            keep: None,
        },
        4 | 5 => Target::User {
            id: UserId(id),
            keep: Some(SessionId(id)),
        },
        6 if n == 6 => Target::Global,
        // Most are sessions, so that a single shard has more than a part holds.
        _ => Target::Session(SessionId(id)),
    };
    Revocation {
        target,
        epoch: -1,
        expires: UnixMillis(253_402_300_799_999),
        revoked: UnixMillis(-1),
    }
}

#[test]
fn every_part_of_a_snapshot_is_bounded_and_nothing_is_missing() {
    const ROWS: u32 = 200_000;
    let index = Index::new();
    let mut expected = HashSet::new();
    for n in 0..ROWS {
        let row = long(n);
        assert!(
            proto::Revocation::from(&row).encoded_len() + 3 <= MAX_ENCODED_BYTES,
            "{row:?}"
        );
        assert!(index.insert(&row));
        expected.insert(row.target);
    }
    assert!(
        ROWS as usize * 10 / 16 > MAX_PART_ROWS * shards::SHARDS,
        "a shard is cut"
    );
    let parts = snapshot(&index);
    // Each part is full, except for an odd place before two revocations that stay together.
    assert!(
        parts.len() <= ROWS as usize / (MAX_PART_ROWS - 1) + 1,
        "{}",
        parts.len()
    );
    let mut rows = 0;
    for (n, part) in parts.iter().enumerate() {
        rows += part.len();
        let message = proto::WatchRevocationsResponse {
            message: Some(Message::Snapshot(proto::RevocationList {
                revocations: part.iter().map(proto::Revocation::from).collect(),
                last: n + 1 == parts.len(),
            })),
        };
        let bytes = message.encoded_len();
        assert!(bytes <= MAX_PART_BYTES, "part {n} has {bytes} bytes");
        for row in part {
            expected.remove(&row.target);
        }
    }
    assert_eq!(rows, ROWS as usize);
    assert!(expected.is_empty(), "{} are missing", expected.len());
}

/// The largest number of bytes for each entry, over all sizes of a table from a thousand entries on.
fn bytes_per_entry<K: Hash + Eq, V: Entry>(key: impl Fn(u128) -> K, value: &V) -> usize {
    let (hasher, mut table) = (RandomState::new(), Table::default());
    let sizes = (1..40_000).map(|n| {
        let key = key(n);
        table.merge(&hasher, hasher.hash_one(&key), key, value);
        table.bytes().div_ceil(table.len())
    });
    sizes.skip(1000).max().unwrap()
}

#[test]
fn a_million_entries_stay_small() {
    let row = Row::of(&keeping(1, 7, 1));
    let epoch = EpochRow { epoch: split(1), row };
    let kept = KeptRow::new(SessionId(uuid(7)), 1, row);
    let bytes = [
        bytes_per_entry(Uuid::from_u128, &row),
        bytes_per_entry(Uuid::from_u128, &epoch),
        bytes_per_entry(Uuid::from_u128, &kept),
    ];
    assert!(bytes[0] <= 64 && bytes[1] <= 64, "{bytes:?} B an entry");
    assert!(bytes[2] <= 112, "{bytes:?} B a user with kept sessions");
}
