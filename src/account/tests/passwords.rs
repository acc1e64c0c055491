use super::*;
use crate::model::SessionId;
use uuid::Uuid;

fn session() -> SessionId {
    SessionId(Uuid::from_u128(5))
}

#[tokio::test]
async fn a_change_needs_the_old_password_and_keeps_the_callers_session() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada", &[]).await;
    let id = ada.id.to_string();
    let own = person(ada.id, session(), false, &[]);
    let change = async |principal: &Principal, old: &str, new: &str, keep: &str| {
        fixture
            .users
            .change_password(principal, &id, text(old), text(new), keep, fixture.deadline())
            .await
    };
    assert_eq!(
        kind(change(&own, "wrong", BETTER, "").await),
        ErrorKind::InvalidCredentials
    );
    assert_eq!(field(change(&own, "", BETTER, "").await), "old_password");
    assert_eq!(field(change(&own, &"x".repeat(1025), BETTER, "").await), "old_password");
    let weak = change(&own, GOOD, "short", "").await.unwrap_err();
    assert_eq!(
        (weak.kind, &*weak.violations[0].field),
        (ErrorKind::PasswordTooWeak, "new_password")
    );
    assert_eq!(
        field(change(&own, GOOD, BETTER, "not a session").await),
        "keep_session_id"
    );
    assert_eq!(
        kind(change(&anonymous(), GOOD, BETTER, "").await),
        ErrorKind::CallerUnauthenticated
    );
    assert_eq!(fixture.revocations().await, 0);

    change(&own, GOOD, BETTER, "").await.unwrap();
    assert!(fixture.logs_in(ada.id, BETTER).await && !fixture.logs_in(ada.id, GOOD).await);
    let rows = fixture
        .store
        .load_revocations(crate::clock::UnixMillis(0))
        .await
        .unwrap()
        .rows;
    assert_eq!(rows[0].target.keep(), Some(session()));
    let trail = fixture.trail_of(&ada.id).await;
    assert_eq!(
        trail,
        ["user.password.changed", "user.password.changed", "user.created"],
        "the failed attempt is an event too"
    );
}

#[tokio::test]
async fn guesses_at_the_old_password_are_counted() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada", &[]).await;
    let own = person(ada.id, session(), false, &[]);
    let change = async |old: &str| {
        fixture
            .users
            .change_password(
                &own,
                &ada.id.to_string(),
                text(old),
                text(BETTER),
                "",
                fixture.deadline(),
            )
            .await
            .map_err(|error| error.kind)
    };
    for _ in 0..5 {
        assert_eq!(change("a guess").await, Err(ErrorKind::InvalidCredentials));
    }
    assert_eq!(
        change(GOOD).await,
        Err(ErrorKind::InvalidCredentials),
        "refused like a wrong password"
    );
    assert!(fixture.logs_in(ada.id, GOOD).await);
    let trail = fixture.trail_of(&ada.id).await;
    assert_eq!(trail[0], "login.throttled");
}

#[tokio::test]
async fn a_disabled_user_and_one_without_password_cannot_change_it() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada", &[]).await;
    fixture
        .users
        .set_disabled(&manager(), &ada.id.to_string(), true)
        .await
        .unwrap();
    let draft = UserDraft {
        username: "bob".into(),
        ..UserDraft::default()
    };
    let bob = fixture
        .users
        .create(&manager(), &draft, text(""), fixture.deadline())
        .await
        .unwrap();
    for user in [ada.id, bob.id] {
        let id = user.to_string();
        let change = fixture
            .users
            .change_password(&manager(), &id, text(GOOD), text(BETTER), "", fixture.deadline())
            .await;
        assert_eq!(kind(change), ErrorKind::InvalidCredentials);
    }
}

#[tokio::test]
async fn a_reset_token_is_valid_once_and_until_the_password_changes() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada", &[]).await;
    let id = ada.id.to_string();
    let begin = async || fixture.users.begin_reset(&manager(), &id).await.unwrap();
    let complete = async |token: &SecretText, new: &str| {
        fixture
            .users
            .complete_reset(&anonymous(), token, text(new), fixture.deadline())
            .await
    };
    let first = begin().await;
    assert!(first.token.expose().starts_with("csp_"));
    let life = first.expires.since(fixture.clock.now());
    assert!(life > Duration::from_mins(14) && life <= Duration::from_mins(15));

    let second = begin().await;
    assert_eq!(
        kind(complete(&first.token, BETTER).await),
        ErrorKind::ResetTokenInvalid,
        "replaced"
    );
    assert_eq!(kind(complete(&second.token, "short").await), ErrorKind::PasswordTooWeak);
    assert_eq!(
        complete(&second.token, BETTER).await.unwrap(),
        ada.id,
        "a refused password leaves the token valid"
    );
    assert_eq!(
        kind(complete(&second.token, GOOD).await),
        ErrorKind::ResetTokenInvalid,
        "used"
    );
    assert!(fixture.logs_in(ada.id, BETTER).await);

    let third = begin().await;
    fixture
        .users
        .set_password(&manager(), &id, text(GOOD), fixture.deadline())
        .await
        .unwrap();
    assert_eq!(
        kind(complete(&third.token, BETTER).await),
        ErrorKind::ResetTokenInvalid,
        "invalid after a password change"
    );
    assert_eq!(fixture.revocations().await, 2);
    for bad in ["csp_", "csp_AAAA", "css_", &"x".repeat(5000), "\0"] {
        assert_eq!(
            kind(complete(&text(bad), BETTER).await),
            ErrorKind::ResetTokenInvalid,
            "{bad:?}"
        );
    }
    assert_eq!(field(complete(&text(""), BETTER).await), "reset_token");
}
