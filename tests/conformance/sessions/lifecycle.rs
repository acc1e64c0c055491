//! Sessions: created, listed, limited in number, ended.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::session::{EXPIRED_RECORD_TTL, NewSession, SessionView};
use countersign::model::{ClientId, Epochs, Rotation, SessionContext, SessionId};

use super::backends::{Backend, IDLE, attempt, now, present, session, session_of, successor, user};

fn ids(views: &[SessionView]) -> Vec<SessionId> {
    views.iter().map(|view| view.id).collect()
}

fn client(id: &str) -> ClientId {
    ClientId::parse(id, "client_id").unwrap()
}

pub async fn a_session_is_listed_as_it_was_made(backend: Backend) {
    let new = NewSession {
        client: client("web.app"),
        context: SessionContext {
            user_agent: "Mozilla/5.0".into(),
            ip_address: "2001:db8::1".into(),
            device_name: "Ada's phone".into(),
        },
        ..session()
    };
    let created = backend.store.create(&new, 10).await.unwrap();
    assert!(created.over_limit.is_empty());
    let listed = backend.store.list(new.user, 1).await.unwrap();
    let view = SessionView {
        id: new.id,
        client: new.client.clone(),
        created: new.created,
        refreshed: new.created,
        expires: created.idle_expires,
        absolute_expires: new.expires,
        scope: new.scope.clone(),
        epochs: new.epochs,
        context: new.context.clone(),
    };
    assert_eq!(listed, [view]);
    assert!(created.idle_expires >= new.created.plus(IDLE) && created.idle_expires < now().plus(IDLE * 2));
    assert!(
        backend.store.list(new.user, 2).await.unwrap().is_empty(),
        "a session of another era"
    );
    assert!(
        backend.store.list(user(), 1).await.unwrap().is_empty(),
        "a user without sessions"
    );
}

pub async fn a_refresh_updates_the_fields_it_names(backend: Backend) {
    let mut new = session();
    new.context.user_agent = "old".into();
    new.context.device_name = "phone".into();
    let new = backend.begin(new).await;
    let mut presented = present(&new, 0);
    presented.context.user_agent = "new".into();
    presented.context.ip_address = "192.0.2.1".into();
    let rotated = successor(&backend.rotate(&presented).await).clone();
    let listed = backend.store.list(new.user, 1).await.unwrap();
    let context = SessionContext {
        user_agent: "new".into(),
        ip_address: "192.0.2.1".into(),
        device_name: "phone".into(),
    };
    assert_eq!(listed[0].context, context);
    assert_eq!(
        (listed[0].refreshed, listed[0].expires),
        (rotated.now, rotated.idle_expires)
    );
}

pub async fn sessions_over_the_limit_are_returned_and_not_removed(backend: Backend) {
    let user = user();
    let start = now();
    let at = |age: u64| NewSession {
        created: start.minus(Duration::from_secs(age)),
        ..session_of(user)
    };
    let elsewhere = NewSession {
        client: client("other"),
        ..at(50)
    };
    let other_era = NewSession { era: 2, ..at(50) };
    let expired = NewSession {
        idle_ttl: Duration::ZERO,
        ..at(50)
    };
    let reused = at(50);
    for session in [elsewhere, other_era, expired, reused.clone()] {
        backend.begin(session).await;
    }
    backend.rotate(&present(&reused, 0)).await;
    assert!(matches!(
        backend.rotate(&attempt(&reused, 0, "x")).await,
        Rotation::Reused(_)
    ));

    let (young, old) = (at(1), at(9));
    assert!(backend.store.create(&young, 2).await.unwrap().over_limit.is_empty());
    assert!(
        backend.store.create(&old, 2).await.unwrap().over_limit.is_empty(),
        "at the limit"
    );
    let newest = at(0);
    let over_limit = backend.store.create(&newest, 2).await.unwrap().over_limit;
    assert_eq!(
        ids(&over_limit),
        [old.id, young.id],
        "over the limit: the other sessions, oldest first"
    );
    assert_eq!(
        backend.store.list(user, 1).await.unwrap().len(),
        4,
        "the store removed nothing"
    );
}

pub async fn a_session_ends_once(backend: Backend) {
    let session = backend.begin(session()).await;
    assert!(
        !backend.store.end(user(), session.id).await.unwrap(),
        "a session of another user"
    );
    assert!(backend.store.end(session.user, session.id).await.unwrap());
    assert!(!backend.store.end(session.user, session.id).await.unwrap());
    assert_eq!(backend.rotate(&present(&session, 0)).await, Rotation::Unknown);
}

pub async fn ending_a_user_keeps_later_logins_and_the_kept_session(backend: Backend) {
    let user = user();
    let with_epoch = |epoch| NewSession {
        epochs: Epochs {
            user: epoch,
            ..Epochs::default()
        },
        ..session_of(user)
    };
    let (early, kept, same, later) = (with_epoch(1), with_epoch(2), with_epoch(5), with_epoch(9));
    let expired = NewSession {
        idle_ttl: Duration::ZERO,
        ..with_epoch(1)
    };
    for session in [&early, &kept, &same, &later, &expired] {
        backend.begin(session.clone()).await;
    }
    assert_eq!(
        backend.store.end_user(user, 5, Some(kept.id)).await.unwrap(),
        1,
        "only live ones are counted"
    );
    for (session, lives) in [
        (&early, false),
        (&kept, true),
        (&same, true),
        (&later, true),
        (&expired, false),
    ] {
        let rotation = backend.rotate(&present(session, 0)).await;
        assert_eq!(rotation != Rotation::Unknown, lives, "{rotation:?}");
    }
    assert_eq!(
        backend.store.end_user(user, i64::from(u32::MAX), None).await.unwrap(),
        3
    );
    assert!(backend.store.list(user, 1).await.unwrap().is_empty());
    assert_eq!(
        backend.store.end_user(user, i64::from(u32::MAX), None).await.unwrap(),
        0
    );
}

pub async fn any_text_is_stored_unchanged(backend: Backend) {
    let mut texts: Vec<String> = serde_json::from_str(include_str!("../../vectors/strings/blns.json")).unwrap();
    texts.retain(|text| text.len() <= 255);
    let more = [
        "\r\nFLUSHALL\r\n",
        "{tag}",
        "}{",
        "a\0b",
        "\0",
        "%s%n",
        "QUEUED",
        "message",
        "subscribe",
        "nil",
    ];
    texts.extend(more.map(ToOwned::to_owned));
    texts.push("é".repeat(64));
    for text in &texts {
        let context = SessionContext {
            user_agent: text.into(),
            ip_address: text.into(),
            device_name: text.into(),
        };
        let mut new = session();
        new.context = context.clone();
        let new = backend.begin(new).await;
        assert_eq!(
            backend.store.list(new.user, 1).await.unwrap()[0].context,
            context,
            "{text:?}"
        );
        let mut presented = present(&new, 0);
        presented.attempt_id = text.chars().take(16).collect();
        presented.context = context.clone();
        assert_eq!(successor(&backend.rotate(&presented).await).generation, 1);
        let again = backend.rotate(&presented).await;
        assert!(matches!(again, Rotation::Replayed(_)), "{text:?}: {again:?}");
        assert_eq!(
            backend.store.list(new.user, 1).await.unwrap()[0].context,
            context,
            "{text:?}"
        );
    }
}

pub async fn a_thousand_sessions_end_in_one_call(backend: Backend) {
    let user = user();
    for _ in 0..1000 {
        backend.store.create(&session_of(user), u32::MAX).await.unwrap();
    }
    assert_eq!(backend.store.list(user, 1).await.unwrap().len(), 1000);
    let long_ago = NewSession {
        expires: UnixMillis(1).plus(EXPIRED_RECORD_TTL),
        ..session_of(user)
    };
    backend.begin(long_ago).await;
    assert_eq!(
        backend.store.end_user(user, i64::from(u32::MAX), None).await.unwrap(),
        1000
    );
}
