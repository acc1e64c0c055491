//! Cancelled calls: each takes effect completely or not at all, and the next call works.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{AuditType, KeyState, User};
use countersign::store::accounts::{Authority, UserChange};
use countersign::store::{AuditQuery, Expiry, NewRevocation};
use tokio::time::timeout;

use super::fresh::{self, TestStore};
use super::samples::*;
use crate::support::eventually;

on_each!([sqlite, postgres, pooled] [
    a_cancelled_call_takes_effect_completely_or_not_at_all,
    a_store_works_after_many_cancelled_calls,
]);

async fn a_cancelled_call_takes_effect_completely_or_not_at_all(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    for micros in (0..1_500).step_by(25) {
        let event = event(AuditType::UserDisabled, &user.id);
        let change = disabled(true);
        let call = fresh.update_user(user.id, &change, None, Authority::Admin, &event);
        let _ = timeout(Duration::from_micros(micros), call).await;
    }
    // Cancelled calls may still complete; a part that is missing would stay missing.
    let whole = async || {
        let rows = fresh.load_revocations(UnixMillis(0)).await.ok()?.rows;
        let newest = rows.iter().map(|row| row.epoch).max().unwrap_or(0);
        let events = fresh.list_audit(&of(&user), None, 10_000).await.ok()?.items.len();
        let login = fresh.login(&user.username, &client_id("web")).await.ok()?;
        (rows.len() == events && newest == login.epochs.user).then_some(events)
    };
    eventually("each row with its epoch and its event", Duration::from_secs(20), whole).await;
}

fn of(user: &User) -> AuditQuery {
    AuditQuery {
        subject: user.id.to_string(),
        ..AuditQuery::default()
    }
}

async fn a_store_works_after_many_cancelled_calls(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let change = UserChange {
        display_name: Some("Ada".into()),
        ..UserChange::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200_u64 {
        let (fresh, change) = (fresh.clone(), change.clone());
        calls.spawn(async move {
            let limit = Duration::from_micros(n * 37 % 4_000);
            let (event, client) = (some_event(), client_id("web"));
            let _ = match n % 5 {
                0 => timeout(limit, fresh.login(&name("ada"), &client)).await.map(drop),
                1 => {
                    let update = fresh.update_user(user.id, &change, None, Authority::Admin, &event);
                    timeout(limit, update).await.map(drop)
                }
                2 => {
                    let new = NewRevocation {
                        target: everything_of(user.id),
                        expires: Expiry::LongestSession,
                    };
                    // On a busy machine it may be refused: cancelled calls go on, and there is room for so many.
                    timeout(limit, fresh.revoke(&new, &event)).await.map(drop)
                }
                3 => {
                    let key = signing(KeyState::Retired);
                    timeout(limit, fresh.import_key(&key, &event)).await.map(drop)
                }
                _ => timeout(
                    limit,
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
    // The row is not locked, and a written value can be read.
    let updated = async || {
        let event = some_event();
        let done = fresh
            .update_user(user.id, &change, None, Authority::Admin, &event)
            .await;
        done.ok().map(|(user, _)| user)
    };
    // A call whose caller has gone may still go on, and change the row once more.
    eventually("the row is free", Duration::from_secs(20), || async {
        let updated = updated().await?;
        (fresh.user(user.id).await.unwrap() == Some(updated)).then_some(())
    })
    .await;
    fresh.ping().await.unwrap();
}
