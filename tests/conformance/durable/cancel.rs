//! Calls that are given up half-way: what they began is whole or not there, and the next call finds a store in order.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{AuditType, KeyState};
use countersign::store::AuditQuery;
use countersign::store::accounts::{Authority, UserChange};
use tokio::time::timeout;

use super::fresh::{self, Fresh};
use super::samples::*;

on_each!([sqlite] [
    a_call_given_up_is_whole_or_not_there,
    a_store_is_in_order_after_many_given_up,
]);

async fn a_call_given_up_is_whole_or_not_there(fresh: Fresh) {
    let user = make_user(&fresh, "ada").await;
    for micros in (0..1_500).step_by(25) {
        let event = event(AuditType::UserDisabled, &user.id);
        let call = fresh.set_user_disabled(user.id, true, Authority::Admin, &event);
        let _ = timeout(Duration::from_micros(micros), call).await;
    }
    settle(&fresh).await;
    let rows = fresh.load_revocations(UnixMillis(0)).await.unwrap().rows;
    let newest = rows.iter().map(|row| row.epoch).max().unwrap_or(0);
    assert_eq!(
        rows.len(),
        events_on(&fresh, &user.id).await,
        "a row, its epoch and its event go together"
    );
    assert_eq!(newest, epochs(&fresh, &user, "default").await.user);
}

async fn a_store_is_in_order_after_many_given_up(fresh: Fresh) {
    let user = make_user(&fresh, "ada").await;
    let change = UserChange {
        display_name: Some("Ada".into()),
        ..UserChange::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200_u64 {
        let (fresh, change) = (fresh.clone(), change.clone());
        calls.spawn(async move {
            let patience = Duration::from_micros(n * 37 % 4_000);
            let (event, client) = (some_event(), client_id("web"));
            let _ = match n % 5 {
                0 => timeout(patience, fresh.login(&name("ada"), &client)).await.map(drop),
                1 => {
                    let update = fresh.update_user(user.id, &change, None, Authority::Admin, &event);
                    timeout(patience, update).await.map(drop)
                }
                2 => timeout(patience, revoke(&fresh, everything_of(user.id)))
                    .await
                    .map(drop),
                3 => {
                    let key = signing(KeyState::Retired);
                    timeout(patience, fresh.import_key(&key, &event)).await.map(drop)
                }
                _ => timeout(
                    patience,
                    fresh.revocations_since(&countersign::store::Cursor(String::new())),
                )
                .await
                .map(drop),
            };
        });
        if calls.len() >= 4 {
            let _ = calls.join_next().await;
        }
    }
    while calls.join_next().await.is_some() {}
    settle(&fresh).await;
    fresh.ping().await.unwrap();
    let (read, _) = fresh
        .update_user(user.id, &change, None, Authority::Admin, &some_event())
        .await
        .unwrap();
    assert_eq!(fresh.user(user.id).await.unwrap(), Some(read));
}

/// Waits until what was given up has come to its end: the number of events stays as it is.
async fn settle(fresh: &Fresh) {
    let count = async || {
        fresh
            .list_audit(&AuditQuery::default(), None, 10_000)
            .await
            .unwrap()
            .items
            .len()
    };
    let mut before = count().await;
    loop {
        // A call behind all others, which any that still runs would come before.
        make_user(fresh, &format!("after{before}")).await;
        let after = count().await;
        if after == before + 1 {
            return;
        }
        before = after;
    }
}
