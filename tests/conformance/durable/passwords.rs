use std::time::Duration;

use countersign::model::{AuditType, ErrorKind, Target, UserId};
use countersign::secret::SecretText;
use countersign::store::accounts::{Authority, NewPassword, UserChange};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    a_change_replaces_only_the_hash_that_was_verified,
    a_change_ends_all_sessions_except_the_kept_one,
    a_reset_token_works_once_and_until_it_expires,
    a_newer_reset_token_replaces_the_older,
    a_password_change_invalidates_the_reset_token,
    a_promotion_to_admin_invalidates_the_reset_token,
    of_many_uses_of_one_reset_token_one_succeeds,
]);

fn new_password(user: UserId, hash: &str, verified: Option<&str>) -> NewPassword {
    NewPassword {
        user,
        hash: SecretText::new(hash),
        verified: verified.map(SecretText::new),
        keep: None,
    }
}

async fn begin(fresh: &TestStore, user: UserId, token: [u8; 32], life: i64) {
    let expires = countersign::clock::UnixMillis(now().0 + life);
    fresh
        .begin_password_reset(user, token, expires, Authority::Ordinary, &some_event())
        .await
        .unwrap();
}

async fn complete(fresh: &TestStore, token: [u8; 32]) -> Result<Target, ErrorKind> {
    let done = fresh
        .complete_password_reset(token, &SecretText::new("$argon2id$reset"), &some_event())
        .await;
    done.map(|revocation| revocation.target).map_err(|error| error.kind)
}

async fn a_change_replaces_only_the_hash_that_was_verified(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let set = async |hash, verified| {
        fresh
            .set_password(
                &new_password(user.id, hash, verified),
                Authority::Ordinary,
                &some_event(),
            )
            .await
    };
    let attempts = (0..6).map(|n| {
        let new = new_password(user.id, &format!("$argon2id${n}"), Some("$argon2id$canary-of-a-hash"));
        let fresh = fresh.clone();
        async move {
            let event = event(AuditType::PasswordChanged, &new.user);
            fresh.set_password(&new, Authority::Ordinary, &event).await
        }
    });
    let done = futures_util::future::join_all(attempts).await;
    let lost: Vec<_> = done
        .iter()
        .filter_map(|done| done.as_ref().err().map(|e| e.kind))
        .collect();
    assert_eq!(
        lost,
        [ErrorKind::InvalidCredentials; 5],
        "only one attempt verified the stored hash"
    );
    assert_eq!(events_on(&fresh, &user.id).await, 1);

    let before = fresh.user(user.id).await.unwrap().unwrap();
    assert!(before.password_changed >= user.password_changed && before.updated > user.updated);
    set("$argon2id$by-an-admin", None).await.unwrap();
    let (_, hash) = fresh.password_hash(user.id).await.unwrap().unwrap();
    assert_eq!(hash.expose(), "$argon2id$by-an-admin");

    let missing = new_password(UserId(uuid()), "", None);
    let error = fresh
        .set_password(&missing, Authority::Admin, &some_event())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserNotFound);
}

async fn a_change_ends_all_sessions_except_the_kept_one(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let (kept, other) = (session(), session());
    let before = epochs(&fresh, &user, "default").await;
    let mut new = new_password(user.id, "$argon2id$new", None);
    new.keep = Some(kept);
    let revocation = fresh
        .set_password(&new, Authority::Ordinary, &some_event())
        .await
        .unwrap();
    assert_eq!(
        revocation.target,
        Target::User {
            id: user.id,
            keep: Some(kept)
        }
    );
    let is_revoked = async |session| {
        let view = fresh
            .refresh_view(user.id, &client_id("default"), session, before)
            .await
            .unwrap();
        view.revoked
    };
    assert!(is_revoked(other).await);
    assert!(!is_revoked(kept).await);
}

async fn a_reset_token_works_once_and_until_it_expires(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let token = [7; 32];
    assert_eq!(complete(&fresh, token).await, Err(ErrorKind::ResetTokenInvalid));
    begin(&fresh, user.id, token, 60_000).await;
    let moment = now();
    let user_of = async |at| fresh.password_reset_user(token, at).await.unwrap().map(|user| user.id);
    assert_eq!(user_of(moment).await, Some(user.id));
    assert_eq!(user_of(moment.plus(Duration::from_mins(2))).await, None, "expired");
    assert_eq!(
        user_of(moment).await,
        Some(user.id),
        "a lookup does not use the token up"
    );

    assert_eq!(complete(&fresh, token).await, Ok(everything_of(user.id)));
    let (_, hash) = fresh.password_hash(user.id).await.unwrap().unwrap();
    assert_eq!(hash.expose(), "$argon2id$reset");
    assert_eq!(complete(&fresh, token).await, Err(ErrorKind::ResetTokenInvalid));
    assert_eq!(user_of(moment).await, None);

    begin(&fresh, user.id, token, -1).await;
    assert_eq!(complete(&fresh, token).await, Err(ErrorKind::ResetTokenInvalid));

    let error = fresh
        .begin_password_reset(UserId(uuid()), token, moment, Authority::Admin, &some_event())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserNotFound);
}

async fn a_newer_reset_token_replaces_the_older(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    begin(&fresh, user.id, [1; 32], 60_000).await;
    begin(&fresh, user.id, [2; 32], 60_000).await;
    assert_eq!(complete(&fresh, [1; 32]).await, Err(ErrorKind::ResetTokenInvalid));
    assert_eq!(complete(&fresh, [2; 32]).await, Ok(everything_of(user.id)));
}

async fn a_password_change_invalidates_the_reset_token(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    begin(&fresh, user.id, [3; 32], 60_000).await;
    let new = new_password(user.id, "$argon2id$new", None);
    fresh
        .set_password(&new, Authority::Ordinary, &some_event())
        .await
        .unwrap();
    assert_eq!(complete(&fresh, [3; 32]).await, Err(ErrorKind::ResetTokenInvalid));
}

async fn a_promotion_to_admin_invalidates_the_reset_token(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let roles = async |roles: &[&str]| {
        let change = UserChange {
            roles: Some(roles.iter().map(ToString::to_string).collect()),
            ..UserChange::default()
        };
        fresh
            .update_user(user.id, &change, None, Authority::Admin, &some_event())
            .await
            .unwrap();
    };
    begin(&fresh, user.id, [5; 32], 60_000).await;
    roles(&["editor"]).await;
    assert!(fresh.password_reset_user([5; 32], now()).await.unwrap().is_some());
    // The caller that began the reset may not begin one for an admin.
    roles(&["admin", "editor"]).await;
    assert!(fresh.password_reset_user([5; 32], now()).await.unwrap().is_none());
    assert_eq!(complete(&fresh, [5; 32]).await, Err(ErrorKind::ResetTokenInvalid));
}

async fn of_many_uses_of_one_reset_token_one_succeeds(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    begin(&fresh, user.id, [4; 32], 60_000).await;
    let racers = (0..8).map(|_| {
        let fresh = fresh.clone();
        async move { complete(&fresh, [4; 32]).await.is_ok() }
    });
    let won = futures_util::future::join_all(racers).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}
