//! What a refresh may ask for: the Lua script and the Rust function say the same.

use countersign::model::Rotation;
use countersign::model::grant::{Allowed, Narrowing, json_len, narrow, narrow_audience};
use countersign::model::session::{NewSession, Presented, Refusal};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::world::{World, attempt, names, present, session, successor};

pub async fn a_refusal_changes_nothing(world: World) {
    let session = world.begin(session()).await;
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
        assert_eq!(world.rotate(&presented).await, Rotation::Refused(refusal));
    }
    let silent = Presented {
        scope: Vec::new(),
        ..narrowed.clone()
    };
    assert_eq!(
        successor(&world.rotate(&silent).await).scope,
        ["read"],
        "a loss is silent unless it was asked for"
    );
    assert_eq!(
        successor(&world.rotate(&present(&session, 1)).await).scope,
        ["read", "write"],
        "the session keeps its grant"
    );
    let mut replay = attempt(&session, 1, "");
    replay.scope = names(&["write"]);
    assert_eq!(
        successor(&world.rotate(&replay).await).scope,
        ["write"],
        "a replay is narrowed as it asks"
    );
    replay.scope = names(&["admin"]);
    assert!(matches!(world.rotate(&replay).await, Rotation::Refused(_)));
    replay.attempt_id = "thief".into();
    assert!(
        matches!(world.rotate(&replay).await, Rotation::Reused(_)),
        "reuse is told first"
    );
}

pub async fn a_token_is_for_somebody(world: World) {
    let session = world.begin(session()).await;
    let gone = Presented {
        allowed_audience: Allowed::audiences(&names(&["elsewhere"])),
        ..present(&session, 0)
    };
    // Also a loss that nobody asked about: the token would be for nobody.
    let lost = Rotation::Refused(Refusal::LostAudience("api".into()));
    assert_eq!(world.rotate(&gone).await, lost);
    assert_eq!(
        successor(&world.rotate(&present(&session, 0)).await).audience,
        ["api"],
        "nothing was changed"
    );
    assert_eq!(world.rotate(&gone).await, lost, "nor by a replay");
}

pub async fn what_does_not_fit_moves_nothing(world: World) {
    let audience = names(&["api", "a\"b", "c\\\\"]);
    let session = world
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
    assert_eq!(world.rotate(&with(0, needed - 1)).await, large);
    let fits = world.rotate(&with(0, needed)).await;
    assert!(matches!(fits, Rotation::Rotated(_)), "nothing was changed: {fits:?}");
    assert_eq!(world.rotate(&with(0, needed - 1)).await, large, "nor by a replay");
    let less = Presented {
        scope: names(&["read"]),
        ..with(1, needed - 1)
    };
    assert_eq!(
        successor(&world.rotate(&less).await).scope,
        ["read"],
        "asking for less helps"
    );
}

pub async fn a_right_on_countersign_brings_its_audience(world: World) {
    for (scope, comes) in [
        (&["countersign:users"][..], true),
        (&["read", "countersign:users"], true),
        (&["read", "xcountersign:users"], false),
    ] {
        let session = world
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
        let rotation = world.rotate(&presented).await;
        if comes {
            assert_eq!(successor(&rotation).audience, ["countersign"]);
        } else {
            let lost = Refusal::LostAudience("countersign".into());
            assert_eq!(rotation, Rotation::Refused(lost), "{scope:?}");
        }
    }
}

pub async fn random_requests_are_narrowed_as_the_model_does(world: World) {
    // `%` and `-` mean something to Lua's patterns, and `countersign:` to us.
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
        let session = world
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
        let rotation = world.rotate(&presented).await;
        let narrowed_scope = narrow(&scope, &granted_scope, &allowed_scope);
        let audience = narrow_audience(&audience, &granted_audience, &allowed_audience, own, &granted_scope);
        let agrees = match (narrowed_scope, audience, &rotation) {
            (Narrowing::Wider(name), _, Rotation::Refused(Refusal::WiderScope(told)))
            | (Narrowing::Lost(name), _, Rotation::Refused(Refusal::LostScope(told)))
            | (Narrowing::To(_), Narrowing::Wider(name), Rotation::Refused(Refusal::WiderAudience(told)))
            | (Narrowing::To(_), Narrowing::Lost(name), Rotation::Refused(Refusal::LostAudience(told))) => {
                name == *told
            }
            (Narrowing::To(scope), Narrowing::To(audience), Rotation::Rotated(rotated)) => {
                scope == rotated.scope && audience == rotated.audience
            }
            _ => false,
        };
        assert!(agrees, "{presented:?}: {rotation:?}");
    }
}
