use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::model::grant::Allowed;
use crate::model::session::{MAX_EVICTED, max_records};

const GRACE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_hours(1);
const START: UnixMillis = UnixMillis(1_000_000);

fn new_session() -> NewSession {
    NewSession {
        id: SessionId(Uuid::from_u128(1)),
        user: UserId(Uuid::from_u128(2)),
        client: ClientId::default(),
        secret_hash: [7; 32],
        refresh_key: 1,
        scope: vec!["read".into(), "write".into()],
        audience: vec!["api".into()],
        created: START,
        idle_ttl: IDLE,
        expires: START.plus(IDLE * 3),
        epochs: Epochs::default(),
        era: 1,
        context: SessionContext::default(),
    }
}

fn everything() -> Allowed {
    Allowed {
        any: true,
        ..Allowed::default()
    }
}

fn present(generation: u32, attempt: &str) -> Presented {
    Presented {
        user: UserId(Uuid::from_u128(2)),
        session: SessionId(Uuid::from_u128(1)),
        secret_hash: [7; 32],
        generation,
        attempt_id: attempt.into(),
        grace: GRACE,
        policy: ReusePolicy::Strict,
        idle_ttl: IDLE,
        refresh_key: 2,
        era: 1,
        scope: Vec::new(),
        audience: Vec::new(),
        allowed_scope: everything(),
        allowed_audience: everything(),
        own_audience: "countersign".into(),
        max_claims_bytes: 2000,
        context: SessionContext::default(),
        may_be_late: false,
        not_after: None,
    }
}

/// Presents a refresh token and applies the result to the record.
fn step(record: &mut SessionRecord, presented: &Presented, now: UnixMillis) -> Rotation {
    let (rotation, next) = record.present(presented, now);
    if let Next::Become(next) = next {
        *record = *next;
    }
    rotation
}

fn generation(rotation: &Rotation) -> u32 {
    rotation.success().expect("a token").generation
}

#[test]
fn the_current_token_rotates_and_its_idle_expiry_moves_up_to_the_absolute_one() {
    let mut record = SessionRecord::begin(&new_session(), START);
    assert_eq!(record.idle_expires, START.plus(IDLE));
    let now = START.plus(IDLE / 2);
    let Rotation::Rotated(rotated) = step(&mut record, &present(0, "a"), now) else {
        panic!()
    };
    assert_eq!((rotated.generation, rotated.refresh_key), (1, 2));
    assert_eq!(rotated.idle_expires, now.plus(IDLE));
    for g in 1..5 {
        let now = now.plus(IDLE / 2 * g);
        assert_eq!(generation(&step(&mut record, &present(g, ""), now)), g + 1);
    }
    assert_eq!(record.idle_expires, record.expires, "never after the absolute expiry");
    let end = record.expires;
    assert_eq!(step(&mut record, &present(5, ""), end), Rotation::Expired);
}

#[test]
fn the_previous_token_is_accepted_again_within_the_grace_and_the_record_stays() {
    let mut record = SessionRecord::begin(&new_session(), START);
    step(&mut record, &present(0, "a"), START);
    let before = record.clone();
    let last = START.plus(GRACE).minus(Duration::from_millis(1));
    for now in [START, START.plus(GRACE / 2), last] {
        let rotation = step(&mut record, &present(0, "a"), now);
        assert!(
            matches!(&rotation, Rotation::Replayed(r) if r.generation == 1),
            "{rotation:?}"
        );
    }
    assert_eq!(record, before, "a replay changes nothing: the window never restarts");
    assert!(matches!(
        step(&mut record, &present(0, "a"), START.plus(GRACE)),
        Rotation::Reused(Evidence { first: true, .. })
    ));
}

#[test]
fn a_clock_that_stepped_back_does_not_open_a_grace_of_zero() {
    let mut record = SessionRecord::begin(&new_session(), START);
    step(&mut record, &present(0, ""), START);
    let mut again = present(0, "");
    again.grace = Duration::ZERO;
    let earlier = START.minus(Duration::from_secs(5));
    assert!(matches!(record.present(&again, earlier).0, Rotation::Reused(_)));
}

#[test]
fn strict_needs_the_same_attempt_id_and_tolerant_accepts_any() {
    for (first, second, strict) in [
        ("a", "a", true),
        ("", "", true),
        ("a", "b", false),
        ("a", "", false),
        ("", "a", false),
    ] {
        let mut record = SessionRecord::begin(&new_session(), START);
        step(&mut record, &present(0, first), START);
        let mut again = present(0, second);
        let replayed = matches!(record.present(&again, START).0, Rotation::Replayed(_));
        assert_eq!(replayed, strict, "{first:?} then {second:?}");
        again.policy = ReusePolicy::Tolerant;
        assert!(matches!(record.present(&again, START).0, Rotation::Replayed(_)));
    }
}

#[test]
fn reuse_leaves_a_tombstone_for_every_generation() {
    let mut record = SessionRecord::begin(&new_session(), START);
    for g in 0..3 {
        step(&mut record, &present(g, ""), START);
    }
    let made = Evidence {
        first: true,
        presented: 0,
        current: 3,
        rotated: START,
        successor_used: true,
        expires: record.expires,
    };
    assert_eq!(
        step(&mut record, &present(0, ""), START),
        Rotation::Reused(made.clone())
    );
    for g in [0, 1, 2, 3, 4, 500] {
        let found = step(&mut record, &present(g, ""), START);
        assert_eq!(
            found,
            Rotation::Reused(Evidence {
                first: false,
                ..made.clone()
            }),
            "{g}"
        );
    }
    assert!(!record.is_live(START));
}

#[test]
fn a_tombstone_keeps_no_attempt_scopes_or_context() {
    let mut record = SessionRecord::begin(&new_session(), START);
    let mut presented = present(0, "a");
    presented.context.device_name = "phone".into();
    step(&mut record, &presented, START);
    step(&mut record, &present(0, "thief"), START);
    let kept = (record.attempt_id, record.scope, record.audience, record.context);
    assert_eq!(kept, Default::default());
}

#[test]
fn evidence_says_whether_the_successor_was_used() {
    let mut record = SessionRecord::begin(&new_session(), START);
    step(&mut record, &present(0, "a"), START);
    let Rotation::Reused(evidence) = record.present(&present(0, "thief"), START).0 else {
        panic!()
    };
    assert!(
        !evidence.successor_used,
        "generation 1 was not used: a lost response may be the reason"
    );
    step(&mut record, &present(1, "b"), START);
    let Rotation::Reused(evidence) = record.present(&present(0, "a"), START).0 else {
        panic!()
    };
    assert!(evidence.successor_used);
}

#[test]
fn a_token_ahead_of_the_record_is_accepted_for_a_hundred_generations() {
    let fresh = SessionRecord::begin(&new_session(), START);
    assert_eq!(
        fresh.present(&present(101, ""), START),
        (Rotation::TooFarAhead, Next::Gone)
    );
    let mut record = fresh.clone();
    let Rotation::FastForwarded { rotated, lost } = step(&mut record, &present(100, "a"), START) else {
        panic!()
    };
    assert_eq!((rotated.generation, lost), (101, 100));
    assert_eq!(generation(&step(&mut record, &present(99, "whatever"), START)), 101);
    assert_eq!(generation(&step(&mut record, &present(100, "a"), START)), 101);
    assert!(matches!(
        record.present(&present(98, "a"), START).0,
        Rotation::Reused(_)
    ));
    assert!(matches!(
        record.present(&present(100, "b"), START).0,
        Rotation::Reused(_)
    ));
    assert!(matches!(
        record.present(&present(99, "a"), START.plus(GRACE)).0,
        Rotation::Reused(_)
    ));
    step(&mut record, &present(101, "c"), START);
    let two_back = record.present(&present(100, "a"), START).0;
    assert!(
        matches!(two_back, Rotation::Reused(_)),
        "the exception lasts for one rotation: {two_back:?}"
    );
}

#[test]
fn another_session_is_unknown_and_an_ended_session_is_expired() {
    let record = SessionRecord::begin(&new_session(), START);
    let mut wrong_secret = present(0, "");
    wrong_secret.secret_hash = [8; 32];
    let mut other_era = present(0, "");
    other_era.era = 2;
    for other in [wrong_secret, other_era] {
        assert_eq!(record.present(&other, START), (Rotation::Unknown, Next::Same));
    }
    let end = START.plus(IDLE);
    let just_before = end.minus(Duration::from_millis(1));
    assert!(matches!(
        record.present(&present(0, ""), just_before).0,
        Rotation::Rotated(_)
    ));
    assert_eq!(record.present(&present(0, ""), end).0, Rotation::Expired);
    let mut over = record.clone();
    over.expires = START;
    assert_eq!(
        over.present(&present(0, ""), START).0,
        Rotation::Expired,
        "the earlier expiry counts"
    );
    let still_kept = end.plus(EXPIRED_RECORD_TTL).minus(Duration::from_millis(1));
    assert_eq!(record.present(&present(500, ""), still_kept).0, Rotation::Expired);
    assert_eq!(
        record.present(&present(0, ""), end.plus(EXPIRED_RECORD_TTL)).0,
        Rotation::Unknown
    );
}

#[test]
fn a_refused_request_changes_nothing_and_reuse_is_reported_first() {
    let mut record = SessionRecord::begin(&new_session(), START);
    let mut wider = present(0, "");
    wider.scope = vec!["admin".into()];
    let refused = Rotation::Refused(Refusal::WiderScope("admin".into()));
    assert_eq!(record.present(&wider, START), (refused, Next::Same));
    let mut lost = present(0, "");
    lost.scope = vec!["write".into()];
    lost.allowed_scope = Allowed::audiences(&["read".into()]);
    assert_eq!(
        record.present(&lost, START).0,
        Rotation::Refused(Refusal::LostScope("write".into()))
    );
    let mut audience = present(0, "");
    audience.audience = vec!["other".into()];
    assert_eq!(
        record.present(&audience, START).0,
        Rotation::Refused(Refusal::WiderAudience("other".into()))
    );
    step(&mut record, &present(0, "a"), START);
    assert!(
        matches!(record.present(&wider, START).0, Rotation::Reused(_)),
        "another attempt"
    );
    wider.attempt_id = "a".into();
    assert!(
        matches!(record.present(&wider, START).0, Rotation::Refused(_)),
        "a replay is narrowed as well"
    );
}

#[test]
fn a_refresh_keeps_context_fields_that_it_does_not_set() {
    let mut new = new_session();
    new.context.user_agent = "old".into();
    new.context.device_name = "phone".into();
    let mut record = SessionRecord::begin(&new, START);
    let mut presented = present(0, "");
    presented.context.user_agent = "new".into();
    step(&mut record, &presented, START);
    let context = record.view().context;
    assert_eq!(
        (context.user_agent.as_str(), context.device_name.as_str()),
        ("new", "phone")
    );
}

fn record(id: u128, state: RecordState, idle_expires: UnixMillis) -> SessionRecord {
    SessionRecord {
        id: SessionId(Uuid::from_u128(id)),
        state,
        idle_expires,
        ..SessionRecord::begin(&new_session(), START)
    }
}

/// The ids of the removed and of the evicted records.
fn gone(records: &[SessionRecord], total: usize) -> (Vec<u128>, Vec<u128>) {
    let admission = admit(&new_session(), records, total, 1, START);
    let id = |id: SessionId| id.0.as_u128();
    (
        admission.removed.into_iter().map(id).collect(),
        admission.evicted.into_iter().map(|session| id(session.id)).collect(),
    )
}

#[test]
fn records_give_way_in_the_order_of_their_use() {
    let max = max_records(1) as usize;
    let (live, reused) = (RecordState::Live, RecordState::Tombstone { presented: 0 });
    let later = START.plus(IDLE);
    let mut records = vec![
        record(14, live, later),
        record(13, reused, later),
        record(12, live, later),
        record(11, reused, later),
        record(10, live, START),
        record(9, live, START.minus(EXPIRED_RECORD_TTL)),
    ];
    let mut elsewhere = record(8, live, later);
    elsewhere.client = ClientId::parse("other", "client_id").unwrap();
    let mut earlier_era = record(7, live, later);
    earlier_era.era = 0;
    records.extend([elsewhere, earlier_era]);

    assert_eq!(gone(&records, records.len()), (vec![9], vec![]), "there is room");
    assert_eq!(gone(&records, max), (vec![9], vec![]), "the absent one makes room");
    assert_eq!(
        gone(&records, max + 1),
        (vec![9, 10, 7], vec![]),
        "expired ones at once"
    );
    assert_eq!(gone(&records, max + 3), (vec![9, 10, 7], vec![11]));
    assert_eq!(gone(&records, max + 5), (vec![9, 10, 7], vec![11, 13, 12]));
    assert_eq!(
        gone(&records, max + 90),
        (vec![9, 10, 7], vec![11, 13, 12, 14]),
        "a session elsewhere stays"
    );
    let many: Vec<_> = (1..100).map(|id| record(id, live, later)).collect();
    assert_eq!(gone(&many, max + 90).1, (1..=MAX_EVICTED as u128).collect::<Vec<_>>());
}

#[test]
fn sessions_over_the_limit_are_those_that_were_not_evicted() {
    let later = START.plus(IDLE);
    let records: Vec<_> = (1..4).map(|id| record(id, RecordState::Live, later)).collect();
    let over_limit = |total: usize, limit: u32| -> Vec<u128> {
        let admission = admit(&new_session(), &records, total, limit, START);
        admission.over_limit.iter().map(|view| view.id.0.as_u128()).collect()
    };
    assert_eq!(over_limit(3, 4), Vec::<u128>::new());
    assert_eq!(over_limit(3, 3), [1, 2, 3]);
    assert_eq!(over_limit(max_records(2) as usize, 2), [2, 3]);
    assert_eq!(
        over_limit(max_records(2) as usize + 1, 2),
        Vec::<u128>::new(),
        "one is left"
    );
}
