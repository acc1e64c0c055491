//! What a refresh may request: the Lua script and the Rust functions decide the same.

use countersign::model::Rotation;
use countersign::model::grant::{Allowed, Narrowing, json_len, narrow, narrow_audience};
use countersign::model::session::{NewSession, Presented, Refusal};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::backends::{Backend, attempt, names, present, session, successor};

pub async fn a_refusal_changes_nothing(backend: Backend) {
    let session = backend.begin(session()).await;
    let wide = present(&session, 0);
    let ask = |scope: &[&str], audience: &[&str]| Presented {
        scope: names(scope),
        audience: names(audience),
        ..wide.clone()
    };
    let mut narrowed = ask(&["write"], &[]);
    narrowed.allowed_scope = Allowed::audiences(&names(&["read"]));
    let mut elsewhere = ask(&[], &["api"]);
    elsewhere.allowed_audience = Allowed::default();
    for (presented, refusal) in [
        (ask(&["read", "admin"], &[]), Refusal::WiderScope("admin".into())),
        (ask(&[], &["other"]), Refusal::WiderAudience("other".into())),
        (ask(&["no"], &["other"]), Refusal::WiderScope("no".into())),
        (narrowed.clone(), Refusal::LostScope("write".into())),
        (elsewhere, Refusal::LostAudience("api".into())),
    ] {
        assert_eq!(backend.rotate(&presented).await, Rotation::Refused(refusal));
    }
    let silent = Presented {
        scope: Vec::new(),
        ..narrowed.clone()
    };
    assert_eq!(
        successor(&backend.rotate(&silent).await).scope,
        ["read"],
        "a loss is silent unless it was asked for"
    );
    assert_eq!(
        successor(&backend.rotate(&present(&session, 1)).await).scope,
        ["read", "write"],
        "the session keeps its grant"
    );
    let mut replay = attempt(&session, 1, "");
    replay.scope = names(&["write"]);
    assert_eq!(
        successor(&backend.rotate(&replay).await).scope,
        ["write"],
        "a replay is narrowed as it requests"
    );
    replay.scope = names(&["admin"]);
    assert!(matches!(backend.rotate(&replay).await, Rotation::Refused(_)));
    replay.attempt_id = "thief".into();
    assert!(
        matches!(backend.rotate(&replay).await, Rotation::Reused(_)),
        "reuse is reported before the refusal"
    );
}

pub async fn a_token_needs_an_audience(backend: Backend) {
    let session = backend.begin(session()).await;
    let gone = Presented {
        allowed_audience: Allowed::audiences(&names(&["elsewhere"])),
        ..present(&session, 0)
    };
    // Also without a requested audience: the token would have no audience.
    let lost = Rotation::Refused(Refusal::LostAudience("api".into()));
    assert_eq!(backend.rotate(&gone).await, lost);
    assert_eq!(
        successor(&backend.rotate(&present(&session, 0)).await).audience,
        ["api"],
        "the refusal changed nothing"
    );
    assert_eq!(backend.rotate(&gone).await, lost, "a replay is refused as well");
}

pub async fn a_token_that_would_be_too_large_moves_nothing(backend: Backend) {
    let audience = names(&["api", "a\"b", "c\\\\"]);
    let session = backend
        .begin(NewSession {
            audience: audience.clone(),
            ..session()
        })
        .await;
    let needed = u32::try_from(json_len(&names(&["read", "write"]), &audience)).unwrap();
    let with = |generation, max_claims_bytes| Presented {
        max_claims_bytes,
        ..present(&session, generation)
    };
    let large = Rotation::Refused(Refusal::TooLarge);
    assert_eq!(backend.rotate(&with(0, needed - 1)).await, large);
    let fits = backend.rotate(&with(0, needed)).await;
    assert!(
        matches!(fits, Rotation::Rotated(_)),
        "the refusal changed nothing: {fits:?}"
    );
    assert_eq!(
        backend.rotate(&with(0, needed - 1)).await,
        large,
        "a replay is refused as well"
    );
    let less = Presented {
        scope: names(&["read"]),
        ..with(1, needed - 1)
    };
    assert_eq!(
        successor(&backend.rotate(&less).await).scope,
        ["read"],
        "a smaller request is granted"
    );
}

pub async fn a_caller_scope_brings_countersigns_audience(backend: Backend) {
    for (scope, comes) in [
        (&["countersign:users"][..], true),
        (&["read", "countersign:users"], true),
        (&["read", "xcountersign:users"], false),
    ] {
        let session = backend
            .begin(NewSession {
                scope: names(scope),
                audience: names(&["countersign"]),
                ..session()
            })
            .await;
        let presented = Presented {
            allowed_audience: Allowed::audiences(&names(&["api"])),
            ..present(&session, 0)
        };
        let rotation = backend.rotate(&presented).await;
        if comes {
            assert_eq!(successor(&rotation).audience, ["countersign"]);
        } else {
            let lost = Refusal::LostAudience("countersign".into());
            assert_eq!(rotation, Rotation::Refused(lost), "{scope:?}");
        }
    }
}

pub async fn random_requests_are_narrowed_as_by_the_model(backend: Backend) {
    // `%` and `-` are special in Lua patterns, `countersign:` is the prefix of caller scopes.
    let name = prop::sample::select(vec![
        "a",
        "b",
        "a.b",
        "%a",
        "a-",
        "[a]",
        "*",
        "countersign:users",
        "countersign:",
        "countersign",
        "(x",
        "^$",
        "~",
    ]);
    let list =
        |most| prop::collection::hash_set(name.clone(), 0..most).prop_map(|set| set.into_iter().map(String::from));
    let list = move |most| list(most).prop_map(Iterator::collect::<Vec<String>>);
    let allowed = (any::<bool>(), any::<bool>(), list(5)).prop_map(|(any, own, names)| Allowed { any, own, names });
    let case = (
        list(3),
        list(8),
        allowed.clone(),
        list(3),
        list(8),
        allowed,
        name.clone(),
    );
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let (scope, granted_scope, allowed_scope, audience, granted_audience, allowed_audience, own) =
            case.new_tree(&mut runner).unwrap().current();
        let session = backend
            .begin(NewSession {
                scope: granted_scope.clone(),
                audience: granted_audience.clone(),
                ..session()
            })
            .await;
        let presented = Presented {
            scope: scope.clone(),
            audience: audience.clone(),
            allowed_scope: allowed_scope.clone(),
            allowed_audience: allowed_audience.clone(),
            own_audience: own.to_owned(),
            ..present(&session, 0)
        };
        let rotation = backend.rotate(&presented).await;
        let narrowed_scope = narrow(&scope, &granted_scope, &allowed_scope);
        let audience = narrow_audience(&audience, &granted_audience, &allowed_audience, own, &granted_scope);
        let agrees = match (narrowed_scope, audience, &rotation) {
            (Narrowing::Wider(name), _, Rotation::Refused(Refusal::WiderScope(reported)))
            | (Narrowing::Lost(name), _, Rotation::Refused(Refusal::LostScope(reported)))
            | (Narrowing::To(_), Narrowing::Wider(name), Rotation::Refused(Refusal::WiderAudience(reported)))
            | (Narrowing::To(_), Narrowing::Lost(name), Rotation::Refused(Refusal::LostAudience(reported))) => {
                name == *reported
            }
            (Narrowing::To(scope), Narrowing::To(audience), Rotation::Rotated(rotated)) => {
                scope == rotated.scope && audience == rotated.audience
            }
            _ => false,
        };
        assert!(agrees, "{presented:?}: {rotation:?}");
    }
}
