//! `rotate.lua` and `SessionRecord::present`.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::grant::Allowed;
use countersign::model::record::{RecordState, SessionRecord};
use countersign::model::session::{EXPIRED_RECORD_TTL, Presented, Rotation, SessionContext};
use countersign::model::{ReusePolicy, SessionId};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::runner::{Case, ROTATION, run};
use super::samples::{GRACE, HOUR, after, packed, presented, record, rotation_case, rotation_reply};

/// Runs the cases, compares each with the model, and returns how often each result came up.
async fn compare(cases: &[(SessionRecord, Presented, UnixMillis)]) -> Vec<(&'static str, usize)> {
    let run_on = |(record, presented, now): &(SessionRecord, Presented, UnixMillis)| {
        rotation_case(packed([record]), presented, *now)
    };
    let on_redis: Vec<Case> = cases.iter().map(run_on).collect();
    let done = run(ROTATION, &on_redis).await;
    let mut results: Vec<&str> = Vec::new();
    for (((record, presented, now), case), done) in cases.iter().zip(on_redis).zip(done) {
        let (rotation, next) = record.present(presented, *now);
        let what = || format!("{presented:#?}\nat {now:?}, on {record:#?}");
        assert_eq!(done.reply, rotation_reply(&rotation, *now), "{}", what());
        assert_eq!(
            done.records,
            after(case.records, record.id, &next),
            "the bytes after {}",
            what()
        );
        results.push(match rotation {
            Rotation::Rotated(_) => "rotated",
            Rotation::FastForwarded { .. } => "fast_forwarded",
            Rotation::Replayed(_) => "replayed",
            Rotation::Reused(evidence) if evidence.first => "reused",
            Rotation::Reused(_) => "tombstone",
            Rotation::Refused(_) => "refused",
            Rotation::Late => "late",
            Rotation::Expired => "expired",
            Rotation::Unknown => "unknown",
            Rotation::TooFarAhead => "too_far_ahead",
        });
    }
    let count = |name: &'static str| (name, results.iter().filter(|result| **result == name).count());
    RESULTS.map(count).into()
}

const RESULTS: [&str; 10] = [
    "rotated",
    "fast_forwarded",
    "replayed",
    "reused",
    "tombstone",
    "refused",
    "late",
    "expired",
    "unknown",
    "too_far_ahead",
];

/// Generations beside each limit: the first and the last ones, and those about the current one and a fast-forward.
fn generations() -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    for current in [0, 1, 2, 3, 101, u32::MAX - 101, u32::MAX - 1, u32::MAX] {
        for offset in [-101, -3, -2, -1, 0, 1, 2, 100, 101, 102_i64] {
            let presented = i64::from(current) + offset;
            pairs.extend(u32::try_from(presented).map(|presented| (current, presented)));
        }
        pairs.push((current, u32::MAX));
    }
    pairs
}

/// One millisecond before, at and after each limit of the record in time.
fn times(record: &SessionRecord) -> Vec<UnixMillis> {
    let limits = [
        record.rotated,
        record.rotated.plus(GRACE),
        record.idle_expires,
        record.idle_expires.plus(EXPIRED_RECORD_TTL),
    ];
    let around = |limit: UnixMillis| [limit.0 - 1, limit.0, limit.0 + 1].map(UnixMillis);
    limits.into_iter().flat_map(around).collect()
}

const STATES: [RecordState; 3] = [
    RecordState::Live,
    RecordState::FastForwarded,
    RecordState::Tombstone { presented: 1 },
];

/// What the record and the call have as attempt id, and the policy.
const ATTEMPTS: [(&str, &str, ReusePolicy); 6] = [
    ("a", "a", ReusePolicy::Strict),
    ("a", "b", ReusePolicy::Strict),
    ("", "", ReusePolicy::Strict),
    ("", "a", ReusePolicy::Strict),
    ("a", "", ReusePolicy::Strict),
    ("a", "b", ReusePolicy::Tolerant),
];

/// Calls whose deadline passes, or that waited while the process stood still.
fn late_calls() -> Vec<(SessionRecord, Presented, UnixMillis)> {
    let mut cases = Vec::new();
    for (current, generation) in generations()
        .into_iter()
        .filter(|(current, _)| [2, 101].contains(current))
    {
        for (state, (stored, attempt_id, policy)) in STATES.into_iter().flat_map(|state| ATTEMPTS.map(|it| (state, it)))
        {
            let record = SessionRecord {
                generation: current,
                state,
                attempt_id: stored.into(),
                ..record(1)
            };
            for now in [record.rotated, record.rotated.plus(GRACE), record.idle_expires] {
                let late = |may_be_late: bool, after: i64| Presented {
                    generation,
                    attempt_id: attempt_id.into(),
                    policy,
                    may_be_late,
                    not_after: Some(UnixMillis(now.0 + after)),
                    ..presented(&record)
                };
                let calls = [
                    late(false, -1),
                    late(false, 0),
                    late(false, 1),
                    late(true, -1),
                    late(true, 1),
                ];
                cases.extend(calls.map(|presented| (record.clone(), presented, now)));
            }
        }
    }
    cases
}

/// Calls with no grace, another secret, another era, and other idle times.
fn other_calls() -> Vec<(SessionRecord, Presented, UnixMillis)> {
    let mut cases = Vec::new();
    for (_, generation) in generations().into_iter().filter(|(current, _)| *current == 2) {
        let record = SessionRecord {
            generation: 2,
            ..record(1)
        };
        let other = |change: fn(&mut Presented)| {
            let mut presented = Presented {
                generation,
                ..presented(&record)
            };
            change(&mut presented);
            presented
        };
        let others = [
            other(|presented| presented.grace = Duration::ZERO),
            other(|presented| presented.secret_hash[31] = 8),
            other(|presented| presented.secret_hash[0] = 0),
            other(|presented| presented.era = 0),
            other(|presented| presented.era = 2),
            other(|presented| presented.idle_ttl = Duration::ZERO),
            other(|presented| presented.idle_ttl = HOUR * 1000),
        ];
        for (presented, now) in others
            .iter()
            .flat_map(|other| times(&record).into_iter().map(move |now| (other, now)))
        {
            cases.push((record.clone(), presented.clone(), now));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn small_values_rotate_as_in_the_model() {
    let mut cases = Vec::new();
    for (current, generation) in generations() {
        for state in STATES {
            for (stored, attempt_id, policy) in ATTEMPTS {
                let record = SessionRecord {
                    generation: current,
                    state,
                    attempt_id: stored.into(),
                    ..record(1)
                };
                for now in times(&record) {
                    let presented = Presented {
                        generation,
                        attempt_id: attempt_id.into(),
                        policy,
                        ..presented(&record)
                    };
                    cases.push((record.clone(), presented, now));
                }
            }
        }
    }
    cases.extend(other_calls());
    cases.extend(late_calls());
    assert!(cases.len() > 20_000, "{}", cases.len());
    let results = compare(&cases).await;
    let missing = results
        .iter()
        .filter(|(name, count)| *count < 100 && *name != "refused");
    assert_eq!(missing.collect::<Vec<_>>(), [&("", 0); 0], "{results:?}");
}

#[tokio::test]
async fn a_missing_session_is_unknown() {
    let presented = Presented {
        session: SessionId(Uuid::from_u128(2)),
        ..presented(&record(1))
    };
    let case = rotation_case(packed([&record(1)]), &presented, record(1).rotated);
    let done = run(ROTATION, std::slice::from_ref(&case)).await.remove(0);
    assert_eq!(done.reply, rotation_reply(&Rotation::Unknown, record(1).rotated));
    assert_eq!(done.records, case.records);
}

#[tokio::test]
async fn a_rotation_moves_the_expiry_of_the_key_later_only() {
    let record = record(1);
    let now = record.rotated.plus(HOUR);
    let ends = now.plus(HOUR * 2).plus(EXPIRED_RECORD_TTL).0;
    for (before, after) in [(ends - 1, ends), (ends, ends), (ends + 1, ends + 1)] {
        let case = Case {
            expires: before,
            ..rotation_case(packed([&record]), &presented(&record), now)
        };
        assert_eq!(run(ROTATION, &[case]).await[0].expires, after);
    }
}

fn name() -> impl Strategy<Value = String> {
    // `%`, `-` and brackets are special in Lua patterns; `countersign:` is the prefix of caller scopes.
    let names = [
        "a",
        "b",
        "%a",
        "a-",
        "[a]",
        "(x",
        "*",
        "countersign:users",
        "countersign:",
        "countersign",
        "\u{7f}",
    ];
    prop::sample::select(names.map(String::from).to_vec())
}

fn names(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::hash_set(name(), 0..most).prop_map(|set| set.into_iter().collect())
}

fn allowed() -> impl Strategy<Value = Allowed> {
    let usually = || prop::bool::weighted(0.8);
    (usually(), usually(), names(5)).prop_map(|(any, own, names)| Allowed { any, own, names })
}

fn context() -> impl Strategy<Value = SessionContext> {
    let text = || prop::sample::select(vec![String::new(), "x".to_owned(), "y".repeat(128), "a\0b".to_owned()]);
    (text(), text(), text()).prop_map(|(user_agent, ip_address, device_name)| SessionContext {
        user_agent,
        ip_address,
        device_name,
    })
}

fn attempt_id() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        String::new(),
        "a".to_owned(),
        "b".to_owned(),
        "x".repeat(64),
        "a\0".to_owned(),
    ])
}

fn state() -> impl Strategy<Value = RecordState> {
    prop_oneof![
        4 => Just(RecordState::Live),
        2 => Just(RecordState::FastForwarded),
        1 => any::<u32>().prop_map(|presented| RecordState::Tombstone { presented }),
    ]
}

/// Any record. Its last rotation and its expiries are within hours of each other, in any order.
fn any_record() -> impl Strategy<Value = SessionRecord> {
    let generation = prop_oneof![4 => 0..5_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    let era = prop_oneof![9 => Just(1_i64), 1 => 0..3_i64];
    let ends = || prop_oneof![3 => 15_000..20_000_i64, 1 => 0..10_000_i64];
    let numbers = (generation, any::<u32>(), era, 0..10_000_i64, ends(), ends());
    let texts = (attempt_id(), names(6), names(6), context());
    (numbers, texts, state()).prop_map(|(numbers, texts, state)| {
        let (generation, refresh_key, era, rotated, idle_expires, expires) = numbers;
        let (attempt_id, scope, audience, context) = texts;
        let sample = record(1);
        let later = |seconds: i64| sample.created.plus(Duration::from_secs(seconds.unsigned_abs()));
        SessionRecord {
            generation,
            refresh_key,
            era,
            rotated: later(rotated),
            idle_expires: later(idle_expires),
            expires: later(expires),
            attempt_id,
            scope,
            audience,
            state,
            context,
            ..sample
        }
    })
}

fn any_case() -> impl Strategy<Value = (SessionRecord, Presented, UnixMillis)> {
    let offset = prop_oneof![4 => Just(0_i64), 4 => Just(-1), 2 => Just(-2), 1 => -9..9_i64, 1 => 98..103_i64];
    let call = (
        offset,
        attempt_id(),
        any::<bool>(),
        0..60_u64,
        0..20_000_u64,
        any::<u32>(),
    );
    let lateness = (prop::bool::weighted(0.1), prop::option::weighted(0.2, -2..3_i64));
    let requested = || prop_oneof![3 => Just(Vec::new()), 1 => names(3)];
    let limit = prop_oneof![3 => Just(10_000_u32), 1 => 0..200_u32];
    let grant = (requested(), requested(), allowed(), allowed(), name(), limit);
    (
        any_record(),
        call,
        grant,
        context(),
        0..20_000_000_i64,
        0..40_000_i64,
        any::<bool>(),
        lateness,
    )
        .prop_map(
            |(record, call, grant, context, time, since_rotation, is_near, (may_be_late, left))| {
                let (offset, attempt_id, is_tolerant, grace, idle_ttl, refresh_key) = call;
                let (scope, audience, allowed_scope, allowed_audience, own_audience, max_claims_bytes) = grant;
                let generation = i64::from(record.generation).saturating_add(offset);
                let near = UnixMillis(record.rotated.0 + since_rotation);
                let now = if is_near {
                    near
                } else {
                    UnixMillis(record.created.0 + time)
                };
                let presented = Presented {
                    generation: u32::try_from(generation).unwrap_or(record.generation),
                    attempt_id,
                    policy: if is_tolerant {
                        ReusePolicy::Tolerant
                    } else {
                        ReusePolicy::Strict
                    },
                    grace: Duration::from_secs(grace),
                    idle_ttl: Duration::from_secs(idle_ttl),
                    refresh_key,
                    scope,
                    audience,
                    allowed_scope,
                    allowed_audience,
                    own_audience,
                    max_claims_bytes,
                    context,
                    may_be_late,
                    not_after: left.map(|left| UnixMillis(now.0 + left)),
                    ..presented(&record)
                };
                (record, presented, now)
            },
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn any_record_and_call_rotate_as_in_the_model() {
    let mut runner = TestRunner::deterministic();
    let cases = any_case();
    let cases: Vec<_> = (0..8_000)
        .map(|_| cases.new_tree(&mut runner).unwrap().current())
        .collect();
    let results = compare(&cases).await;
    let rare = results.iter().filter(|(_, count)| *count < 20);
    assert_eq!(rare.collect::<Vec<_>>(), [&("", 0); 0], "{results:?}");
}
