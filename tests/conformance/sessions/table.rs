//! What a presented generation means: one case for each row of the table in `ARCHITECTURE.md`.

use std::time::Duration;

use countersign::model::session::{EXPIRED_RECORD_TTL, Evidence, NewSession};
use countersign::model::{ReusePolicy, Rotation, SessionId};
use countersign::secret::SystemEntropy;

use super::backends::{Backend, IDLE, attempt, now, present, session, successor, user};

pub async fn the_current_token_rotates(backend: Backend) {
    let session = backend.begin(session()).await;
    for generation in 0..3 {
        let rotation = backend.rotate(&present(&session, generation)).await;
        let Rotation::Rotated(rotated) = rotation else {
            panic!("{rotation:?}")
        };
        assert_eq!((rotated.generation, rotated.refresh_key), (generation + 1, 4));
        assert_eq!(
            (rotated.scope, rotated.audience),
            (session.scope.clone(), session.audience.clone())
        );
        assert_eq!((rotated.created, rotated.expires), (session.created, session.expires));
        assert_eq!(rotated.idle_expires, rotated.now.plus(IDLE));
    }
    let mut long = present(&session, 3);
    long.idle_ttl = IDLE * 1000;
    let rotation = backend.rotate(&long).await;
    assert_eq!(
        successor(&rotation).idle_expires,
        session.expires,
        "never after the absolute expiry"
    );
}

pub async fn the_previous_token_gets_the_same_successor_and_nothing_changes(backend: Backend) {
    let session = backend.begin(session()).await;
    let first = backend.rotate(&attempt(&session, 0, "a")).await;
    let before = backend.store.list(session.user, 1).await.unwrap();
    for _ in 0..3 {
        let mut again = attempt(&session, 0, "a");
        // A replay changes none of these.
        again.idle_ttl = IDLE * 2;
        again.refresh_key = 99;
        again.context.user_agent = "other".into();
        let rotation = backend.rotate(&again).await;
        let Rotation::Replayed(replayed) = &rotation else {
            panic!("{rotation:?}")
        };
        let first = successor(&first);
        assert_eq!((replayed.generation, replayed.refresh_key), (1, 4));
        assert_eq!(
            (replayed.idle_expires, replayed.expires),
            (first.idle_expires, first.expires)
        );
        assert!(replayed.now >= first.now);
    }
    assert_eq!(backend.store.list(session.user, 1).await.unwrap(), before);
}

pub async fn with_a_grace_of_zero_the_previous_token_is_reuse(backend: Backend) {
    let session = backend.begin(session()).await;
    backend.rotate(&present(&session, 0)).await;
    let mut again = present(&session, 0);
    again.grace = Duration::ZERO;
    assert!(matches!(
        backend.rotate(&again).await,
        Rotation::Reused(Evidence { first: true, .. })
    ));
}

pub async fn attempts_are_compared_exactly_unless_tolerant(backend: Backend) {
    let longest = "x".repeat(64);
    for (first, second, same) in [
        ("a", "a", true),
        ("", "", true),
        (longest.as_str(), longest.as_str(), true),
        ("a\0b", "a\0b", true),
        ("a", "A", false),
        ("a", "", false),
        ("", "a", false),
        (&longest, &longest[1..], false),
    ] {
        for policy in [ReusePolicy::Tolerant, ReusePolicy::Strict] {
            let session = backend.begin(session()).await;
            backend.rotate(&attempt(&session, 0, first)).await;
            let mut again = attempt(&session, 0, second);
            again.policy = policy;
            let rotation = backend.rotate(&again).await;
            let replayed = matches!(rotation, Rotation::Replayed(_));
            assert_eq!(
                replayed,
                same || policy == ReusePolicy::Tolerant,
                "{first:?}, {second:?}, {policy:?}"
            );
            assert_eq!(!replayed, matches!(rotation, Rotation::Reused(_)));
        }
    }
}

pub async fn three_rotations_and_a_replay_in_one_second(backend: Backend) {
    let session = backend.begin(session()).await;
    for generation in 0..3 {
        backend
            .rotate(&attempt(&session, generation, &format!("a{generation}")))
            .await;
    }
    let replay = backend.rotate(&attempt(&session, 2, "a2")).await;
    assert!(
        matches!(&replay, Rotation::Replayed(r) if r.generation == 3),
        "{replay:?}"
    );
    let grandparent = backend.rotate(&attempt(&session, 1, "a1")).await;
    assert!(
        matches!(grandparent, Rotation::Reused(Evidence { first: true, .. })),
        "{grandparent:?}"
    );
    let current = backend.rotate(&attempt(&session, 3, "a3")).await;
    assert!(
        matches!(current, Rotation::Reused(Evidence { first: false, .. })),
        "{current:?}"
    );
}

pub async fn after_a_reuse_every_generation_is_reuse(backend: Backend) {
    let session = backend.begin(session()).await;
    let mut rotated = now();
    for generation in 0..4 {
        rotated = successor(&backend.rotate(&present(&session, generation)).await).now;
    }
    let mut made = Evidence {
        first: true,
        presented: 1,
        current: 4,
        rotated,
        successor_used: true,
        expires: session.expires,
    };
    assert_eq!(
        backend.rotate(&present(&session, 1)).await,
        Rotation::Reused(made.clone())
    );
    made.first = false;
    for generation in [0, 1, 3, 4, 5, 104, 105, u32::MAX] {
        let found = backend.rotate(&present(&session, generation)).await;
        assert_eq!(found, Rotation::Reused(made.clone()), "{generation}");
    }
    assert!(backend.store.list(session.user, 1).await.unwrap().is_empty());
    assert!(
        !backend.store.end(session.user, session.id).await.unwrap(),
        "a reused session is not live"
    );
}

pub async fn evidence_says_whether_the_successor_was_used(backend: Backend) {
    for (rotations, used) in [(1, false), (2, true), (3, true)] {
        let session = backend.begin(session()).await;
        for generation in 0..rotations {
            backend.rotate(&present(&session, generation)).await;
        }
        let reused = backend.rotate(&attempt(&session, 0, "thief")).await;
        let Rotation::Reused(evidence) = reused else {
            panic!("{reused:?}")
        };
        assert_eq!(evidence.successor_used, used, "after {rotations} rotations");
    }
}

pub async fn the_record_follows_a_token_that_is_ahead(backend: Backend) {
    for lost in [1, 7, 100] {
        let session = backend.begin(session()).await;
        let ahead = backend.rotate(&attempt(&session, lost, "a")).await;
        let Rotation::FastForwarded {
            rotated,
            lost: reported,
        } = ahead
        else {
            panic!("{ahead:?}")
        };
        assert_eq!((rotated.generation, rotated.refresh_key, reported), (lost + 1, 4, lost));
        for (generation, id) in [(lost, "a"), (lost - 1, "whatever"), (lost - 1, "")] {
            let replay = backend.rotate(&attempt(&session, generation, id)).await;
            assert!(
                matches!(&replay, Rotation::Replayed(r) if r.generation == lost + 1),
                "{replay:?}"
            );
        }
        backend.rotate(&attempt(&session, lost + 1, "b")).await;
        let two_back = backend.rotate(&attempt(&session, lost, "a")).await;
        assert!(
            matches!(two_back, Rotation::Reused(_)),
            "the exception lasts for one rotation: {two_back:?}"
        );
    }
    let session = backend.begin(session()).await;
    backend.rotate(&attempt(&session, 1, "a")).await;
    let mut late = attempt(&session, 0, "a");
    late.grace = Duration::ZERO;
    assert!(
        matches!(backend.rotate(&late).await, Rotation::Reused(_)),
        "and only within the grace"
    );
}

pub async fn a_call_that_may_be_late_ends_no_session(backend: Backend) {
    let session = backend.begin(session()).await;
    for generation in 0..2 {
        let mut current = present(&session, generation);
        current.may_be_late = true;
        let rotation = backend.rotate(&current).await;
        assert!(matches!(rotation, Rotation::Rotated(_)), "{rotation:?}");
    }
    let mut used = present(&session, 0);
    used.may_be_late = true;
    assert_eq!(backend.rotate(&used).await, Rotation::Late);
    used.generation = 1;
    let replay = backend.rotate(&used).await;
    assert!(
        matches!(&replay, Rotation::Replayed(r) if r.generation == 2),
        "{replay:?}"
    );
    used.generation = 0;
    used.may_be_late = false;
    assert!(matches!(
        backend.rotate(&used).await,
        Rotation::Reused(Evidence { first: true, .. })
    ));
    used.may_be_late = true;
    let again = backend.rotate(&used).await;
    assert!(
        matches!(again, Rotation::Reused(Evidence { first: false, .. })),
        "the session has ended: {again:?}"
    );
}

pub async fn after_its_deadline_a_call_moves_nothing(backend: Backend) {
    let session = backend.begin(session()).await;
    let minute = Duration::from_mins(1);
    let within = |generation| {
        let mut within = present(&session, generation);
        within.not_after = Some(now().plus(minute));
        within
    };
    for generation in 0..2 {
        let rotation = backend.rotate(&within(generation)).await;
        assert!(matches!(rotation, Rotation::Rotated(_)), "{rotation:?}");
    }
    for generation in [0, 2, 3, 500] {
        let mut overdue = present(&session, generation);
        overdue.not_after = Some(now().minus(minute));
        assert_eq!(backend.rotate(&overdue).await, Rotation::Late, "{generation}");
    }
    let rotation = backend.rotate(&within(2)).await;
    assert!(
        matches!(&rotation, Rotation::Rotated(r) if r.generation == 3),
        "{rotation:?}"
    );
}

pub async fn too_far_ahead_drops_the_record(backend: Backend) {
    let session = backend.begin(session()).await;
    assert_eq!(backend.rotate(&present(&session, 101)).await, Rotation::TooFarAhead);
    assert_eq!(backend.rotate(&present(&session, 0)).await, Rotation::Unknown);
}

pub async fn a_wrong_secret_era_user_or_session_is_unknown(backend: Backend) {
    let session = backend.begin(session()).await;
    let mut wrong_secret = present(&session, 0);
    wrong_secret.secret_hash[31] ^= 1;
    let mut other_era = present(&session, 0);
    other_era.era = 2;
    let mut other_user = present(&session, 0);
    other_user.user = user();
    let mut other_session = present(&session, 0);
    other_session.session = SessionId::generate(now(), &SystemEntropy);
    for wrong in [wrong_secret, other_era, other_user, other_session] {
        assert_eq!(backend.rotate(&wrong).await, Rotation::Unknown);
    }
    assert!(
        matches!(backend.rotate(&present(&session, 0)).await, Rotation::Rotated(_)),
        "the refusal changed nothing"
    );
}

pub async fn an_expired_session_is_not_an_absent_one(backend: Backend) {
    let idle = NewSession {
        idle_ttl: Duration::ZERO,
        ..session()
    };
    let over = NewSession {
        expires: now().minus(Duration::from_secs(1)),
        ..session()
    };
    let nearly_absent = NewSession {
        expires: now().minus(EXPIRED_RECORD_TTL).plus(Duration::from_mins(1)),
        ..session()
    };
    for expired in [idle, over, nearly_absent] {
        let expired = backend.begin(expired).await;
        for generation in [0, 1, 500] {
            assert_eq!(backend.rotate(&present(&expired, generation)).await, Rotation::Expired);
        }
        assert!(backend.store.list(expired.user, 1).await.unwrap().is_empty());
    }
    let user = user();
    let absent = NewSession {
        expires: now().minus(EXPIRED_RECORD_TTL),
        ..super::backends::session_of(user)
    };
    // Another session of the user keeps Redis from expiring the whole hash.
    backend.begin(absent.clone()).await;
    backend.begin(super::backends::session_of(user)).await;
    assert_eq!(backend.rotate(&present(&absent, 0)).await, Rotation::Unknown);
}
