//! Revocations that a replaced database has lost are written back.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{Level, Revocation, SessionId, Target, TokenId, UserId};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    every_level_is_written_back_once_with_its_epoch_and_expiry,
    epochs_are_raised_and_never_lowered,
    several_replicas_write_back_at_once,
    a_covered_or_expired_row_is_not_written,
    a_row_of_an_unknown_user_or_client_is_kept,
]);

fn lost(target: Target, epoch: i64) -> Revocation {
    Revocation {
        target,
        epoch,
        expires: now().plus(Duration::from_hours(1)),
        revoked: UnixMillis(now().0 - 5_000),
    }
}

fn of_user(id: UserId, keep: Option<SessionId>, epoch: i64) -> Revocation {
    lost(Target::User { id, keep }, epoch)
}

async fn rows(fresh: &TestStore) -> Vec<Revocation> {
    let mut rows = fresh.load_revocations(UnixMillis(0)).await.unwrap().rows;
    rows.sort_by_key(|row| (row.target.level().as_str(), row.epoch));
    rows
}

async fn write_back(fresh: &TestStore, lost: &[Revocation]) -> u64 {
    let written = fresh.write_back(lost, &some_event()).await.unwrap();
    written.iter().map(|(_, rows)| rows).sum()
}

async fn every_level_is_written_back_once_with_its_epoch_and_expiry(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let client = make_client(&fresh, "web").await;
    let epoch = now().0 + 1_000_000;
    let mut all = vec![
        lost(Target::Token(TokenId(uuid())), 0),
        lost(Target::Session(session()), 0),
        lost(Target::Key(key_id()), 0),
        of_user(user.id, Some(session()), epoch + 1),
        of_user(user.id, None, epoch),
        lost(Target::Client(client.id.clone()), epoch),
        lost(Target::Global, epoch),
    ];
    let position = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    let mut written = fresh.write_back(&all, &some_event()).await.unwrap();
    written.sort_by_key(|(level, _)| level.as_str());
    let of_levels = [
        (Level::Client, 1),
        (Level::Global, 1),
        (Level::Key, 1),
        (Level::Session, 1),
        (Level::Token, 1),
        (Level::User, 1),
    ];
    // The one without a kept session has the smaller epoch; it does not cover the other, which comes after it.
    assert_eq!(
        written.iter().map(|(level, _)| *level).collect::<Vec<_>>(),
        of_levels.map(|(level, _)| level)
    );
    all.sort_by_key(|row| (row.target.level().as_str(), row.epoch));
    assert_eq!(rows(&fresh).await, all);
    // Other replicas find them like any new row.
    match fresh.revocations_since(&position).await.unwrap() {
        countersign::store::Changes::Since(news) => assert_eq!(news.rows.len(), all.len()),
        countersign::store::Changes::Reload(reason) => panic!("{reason:?}"),
    }
    assert_eq!(write_back(&fresh, &all).await, 0, "the second time nothing is written");
    assert_eq!(rows(&fresh).await, all);
    assert!(fresh.write_back(&[], &some_event()).await.unwrap().is_empty());
}

async fn epochs_are_raised_and_never_lowered(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let client = make_client(&fresh, "web").await;
    let ahead = now().0 + 1_000_000;
    let all = [
        of_user(user.id, None, ahead),
        lost(Target::Client(client.id.clone()), ahead + 1),
        lost(Target::Global, ahead + 2),
    ];
    write_back(&fresh, &all).await;
    let raised = epochs(&fresh, &user, "web").await;
    assert_eq!(
        (raised.user, raised.client, raised.global),
        (ahead, ahead + 1, ahead + 2)
    );
    let next = revoke(&fresh, everything_of(user.id)).await.unwrap();
    assert_eq!(next.epoch, ahead + 1, "the next revocation has a larger epoch");
    let older = [of_user(user.id, Some(session()), 5), lost(Target::Global, 7)];
    write_back(&fresh, &older).await;
    let after = epochs(&fresh, &user, "web").await;
    assert_eq!((after.user, after.global), (ahead + 1, ahead + 2));
}

async fn several_replicas_write_back_at_once(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let epoch = now().0;
    let mut all: Vec<Revocation> = (0..40).map(|_| lost(Target::Session(session()), 0)).collect();
    all.extend((0..10).map(|n| of_user(user.id, Some(session()), epoch + n)));
    let replicas = (0..4).map(|_| {
        let (fresh, all) = (fresh.clone(), all.clone());
        tokio::spawn(async move { write_back(&fresh, &all).await })
    });
    let written = futures_util::future::join_all(replicas).await;
    let written: u64 = written.into_iter().map(Result::unwrap).sum();
    assert_eq!(written, 50);
    assert_eq!(rows(&fresh).await.len(), 50);
}

async fn a_covered_or_expired_row_is_not_written(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let (one, other) = (session(), session());
    let keeping = revoke(
        &fresh,
        Target::User {
            id: user.id,
            keep: Some(one),
        },
    )
    .await
    .unwrap();
    let covered = of_user(user.id, Some(one), keeping.epoch - 1);
    assert_eq!(write_back(&fresh, &[covered]).await, 0);
    let keeps_another = of_user(user.id, Some(other), keeping.epoch - 1);
    assert_eq!(
        write_back(&fresh, &[keeps_another]).await,
        1,
        "it revokes the kept session"
    );
    let all = revoke(&fresh, everything_of(user.id)).await.unwrap();
    let covered = [
        of_user(user.id, Some(session()), all.epoch),
        of_user(user.id, None, all.epoch - 1),
    ];
    assert_eq!(write_back(&fresh, &covered).await, 0);
    let expired = Revocation {
        expires: UnixMillis(now().0 - 1),
        ..lost(Target::Session(session()), 0)
    };
    assert_eq!(write_back(&fresh, &[expired]).await, 0);
    let events = events_on(&fresh, &some_event().subject).await;
    assert!(events > 0);
    write_back(&fresh, &[lost(Target::Session(session()), 0)]).await;
    assert_eq!(
        events_on(&fresh, &some_event().subject).await,
        events + 1,
        "an event if a row is new, else none"
    );
}

async fn a_row_of_an_unknown_user_or_client_is_kept(fresh: TestStore) {
    let all = [
        of_user(UserId(uuid()), None, now().0),
        lost(Target::Client(client_id("gone")), now().0),
    ];
    assert_eq!(write_back(&fresh, &all).await, 2);
    let again = make_client(&fresh, "gone").await;
    assert_eq!(again.id, client_id("gone"));
}
