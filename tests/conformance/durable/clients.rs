use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{AuditType, Client, ClientChange, ErrorKind, Grant, ReusePolicy, Target};

use super::fresh::{self, TestStore};
use super::samples::*;
use crate::support::eventually;

on_each!([sqlite, postgres, pooled] [
    a_client_is_read_as_created,
    ids_are_unique,
    the_default_client_is_created_once,
    an_update_changes_the_fields_it_names,
    an_update_of_a_row_that_changed_since_it_was_read_is_refused,
    a_caller_cannot_change_a_client_with_a_caller_scope_it_lacks,
    losing_a_caller_scope_or_being_disabled_ends_older_sessions,
    deletion_keeps_the_revocations,
    a_rotated_secret_overlaps_with_the_old_one,
    without_an_overlap_older_secrets_and_tokens_end,
    pages_are_in_order,
]);

async fn a_client_is_read_as_created(fresh: TestStore) {
    let full = make_client(&fresh, "web").await;
    assert_eq!(fresh.client(&full.id).await.unwrap(), Some(full.clone()));
    let plain = Client {
        grants: Vec::new(),
        audiences: Vec::new(),
        scopes: Vec::new(),
        access_token_ttl: None,
        session_ttl: None,
        refresh_grace: None,
        reuse_policy: None,
        disabled: true,
        ..new_client("plain")
    };
    fresh.create_client(&plain, Some([9; 32]), &some_event()).await.unwrap();
    assert_eq!(fresh.client(&plain.id).await.unwrap(), Some(plain.clone()));
    assert_eq!(fresh.machine_login(&plain.id).await.unwrap().secret_hashes, [[9; 32]]);
    assert!(fresh.machine_login(&full.id).await.unwrap().secret_hashes.is_empty());

    let missing = client_id("missing");
    assert_eq!(fresh.client(&missing).await.unwrap(), None);
    let login = fresh.machine_login(&missing).await.unwrap();
    assert!(login.client.is_none() && login.secret_hashes.is_empty() && login.epochs.client == 0);
}

async fn ids_are_unique(fresh: TestStore) {
    let client = make_client(&fresh, "web").await;
    let taken = event(AuditType::ClientCreated, &"taken");
    let error = fresh.create_client(&client, Some([1; 32]), &taken).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ClientExists);
    assert_eq!(events_on(&fresh, &"taken").await, 0);
    assert!(fresh.machine_login(&client.id).await.unwrap().secret_hashes.is_empty());
}

async fn the_default_client_is_created_once(fresh: TestStore) {
    let racers = (0..8).map(|_| {
        let fresh = fresh.clone();
        async move {
            let event = event(AuditType::ClientCreated, &"default");
            let done = fresh.create_client(&new_client("default"), None, &event).await;
            done.map_err(|error| assert_eq!(error.kind, ErrorKind::ClientExists))
                .is_ok()
        }
    });
    let made = futures_util::future::join_all(racers).await;
    assert_eq!(made.into_iter().filter(|made| *made).count(), 1);
    assert_eq!(events_on(&fresh, &"default").await, 1);
}

async fn an_update_changes_the_fields_it_names(fresh: TestStore) {
    let before = make_client(&fresh, "web").await;
    let change = ClientChange {
        display_name: Some("New".into()),
        grants: Some(vec![Grant::Password]),
        audiences: Some(vec!["other".into()]),
        access_token_ttl: Some(None),
        refresh_idle_ttl: Some(Some(Duration::from_secs(3))),
        reuse_policy: Some(Some(ReusePolicy::Strict)),
        max_sessions_per_user: Some(0),
        ..ClientChange::default()
    };
    let event = event(AuditType::ClientUpdated, &before.id);
    let (after, revocation) = fresh
        .update_client(&before.id, &change, None, None, &event)
        .await
        .unwrap();
    assert_eq!(revocation, None);
    assert!(after.updated > before.updated);
    let expected = Client {
        display_name: "New".into(),
        grants: vec![Grant::Password],
        audiences: vec!["other".into()],
        access_token_ttl: None,
        refresh_idle_ttl: Some(Duration::from_secs(3)),
        reuse_policy: Some(ReusePolicy::Strict),
        max_sessions_per_user: 0,
        updated: after.updated,
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(fresh.client(&after.id).await.unwrap(), Some(after.clone()));
    assert_eq!(events_on(&fresh, &after.id).await, 1);
    let error = fresh
        .update_client(&client_id("missing"), &change, None, None, &some_event())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ClientNotFound);
}

async fn an_update_of_a_row_that_changed_since_it_was_read_is_refused(fresh: TestStore) {
    let client = make_client(&fresh, "web").await;
    let change = ClientChange::default();
    let update = async |seen| {
        let done = fresh
            .update_client(&client.id, &change, Some(seen), None, &some_event())
            .await;
        done.map(|(client, _)| client.updated).map_err(|error| error.kind)
    };
    let updated = update(client.updated).await.unwrap();
    assert_eq!(update(client.updated).await, Err(ErrorKind::StaleUpdate));
    assert!(update(updated).await.is_ok());
}

async fn a_caller_cannot_change_a_client_with_a_caller_scope_it_lacks(fresh: TestStore) {
    let refused = event(AuditType::ClientUpdated, &"refused");
    let client = make_client(&fresh, "web").await;
    let named = ["countersign:clients".to_owned()];
    let lacking = Some(named.as_slice());
    let held = ["countersign:issue".to_owned()];
    let holding = Some(held.as_slice());
    let change = ClientChange::default();
    let grant = ClientChange {
        scopes: Some(vec!["countersign:users".into()]),
        ..ClientChange::default()
    };
    let errors = [
        fresh
            .update_client(&client.id, &change, None, lacking, &refused)
            .await
            .unwrap_err(),
        fresh
            .update_client(&client.id, &grant, None, holding, &refused)
            .await
            .unwrap_err(),
        fresh.delete_client(&client.id, lacking, &refused).await.unwrap_err(),
        fresh
            .rotate_client_secret(&client.id, [1; 32], Duration::ZERO, lacking, &refused)
            .await
            .unwrap_err(),
    ];
    assert_eq!(errors.map(|error| error.kind), [ErrorKind::CallerNotAllowed; 4]);
    assert_eq!(events_on(&fresh, &"refused").await, 0);
    assert_eq!(fresh.client(&client.id).await.unwrap(), Some(client.clone()));
    fresh
        .update_client(&client.id, &change, None, holding, &some_event())
        .await
        .unwrap();
}

async fn losing_a_caller_scope_or_being_disabled_ends_older_sessions(fresh: TestStore) {
    let client = make_client(&fresh, "web").await;
    let update = async |change| {
        let done = fresh
            .update_client(&client.id, &change, None, None, &some_event())
            .await;
        done.unwrap().1
    };
    let epoch = async || fresh.machine_login(&client.id).await.unwrap().epochs.client;
    let scopes = |scopes: &[&str]| ClientChange {
        scopes: Some(scopes.iter().map(ToString::to_string).collect()),
        ..ClientChange::default()
    };
    let disabled = |disabled| ClientChange {
        disabled: Some(disabled),
        ..ClientChange::default()
    };
    assert_eq!(update(scopes(&["countersign:issue", "countersign:users"])).await, None);
    let first = update(scopes(&["countersign:issue", "read"])).await.unwrap();
    assert_eq!(first.target, Target::Client(client.id.clone()));
    assert_eq!(epoch().await, first.epoch);
    assert_eq!(
        update(scopes(&["countersign:issue"])).await,
        None,
        "an ordinary scope is lost at Refresh"
    );
    let second = update(disabled(true)).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(update(disabled(false)).await, None);
    assert_eq!(epoch().await, second.epoch);
}

async fn deletion_keeps_the_revocations(fresh: TestStore) {
    let client = new_client("web");
    fresh
        .create_client(&client, Some([1; 32]), &some_event())
        .await
        .unwrap();
    let revocation = fresh.delete_client(&client.id, None, &some_event()).await.unwrap();
    assert_eq!(fresh.client(&client.id).await.unwrap(), None);
    let login = fresh.machine_login(&client.id).await.unwrap();
    assert!(login.client.is_none() && login.secret_hashes.is_empty());
    assert_eq!(
        fresh.load_revocations(UnixMillis(0)).await.unwrap().rows,
        std::slice::from_ref(&revocation)
    );

    fresh.create_client(&client, None, &some_event()).await.unwrap();
    let login = fresh.machine_login(&client.id).await.unwrap();
    assert_eq!((login.epochs.client, login.secret_hashes.len()), (revocation.epoch, 0));
    let missing = fresh
        .delete_client(&client_id("missing"), None, &some_event())
        .await
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::ClientNotFound);
}

async fn a_rotated_secret_overlaps_with_the_old_one(fresh: TestStore) {
    let client = new_client("web");
    fresh
        .create_client(&client, Some([1; 32]), &some_event())
        .await
        .unwrap();
    let rotate = async |hash, overlap| {
        let done = fresh
            .rotate_client_secret(&client.id, hash, overlap, None, &some_event())
            .await;
        done.unwrap()
    };
    let good = async || {
        let mut good = fresh.machine_login(&client.id).await.unwrap().secret_hashes;
        good.sort_unstable();
        good
    };
    let before = now();
    let (ends, revocation) = rotate([2; 32], Duration::from_hours(1)).await;
    assert!(revocation.is_none());
    assert!(ends >= before.plus(Duration::from_hours(1)) && ends <= now().plus(Duration::from_hours(1)));
    assert_eq!(good().await, [[1; 32], [2; 32]]);
    // The overlap promised for the first secret still holds.
    rotate([3; 32], Duration::from_hours(2)).await;
    assert_eq!(good().await, [[1; 32], [2; 32], [3; 32]]);
    // A shorter overlap applies to all old secrets; a later longer one extends none.
    let soon = Duration::from_millis(100);
    rotate([4; 32], soon).await;
    rotate([5; 32], Duration::from_hours(1)).await;
    let ended = async || (good().await == [[4; 32], [5; 32]]).then_some(());
    eventually("the shortened overlaps end", Duration::from_secs(10), ended).await;
    let missing = fresh
        .rotate_client_secret(&client_id("missing"), [1; 32], Duration::ZERO, None, &some_event())
        .await;
    assert_eq!(missing.unwrap_err().kind, ErrorKind::ClientNotFound);
}

async fn without_an_overlap_older_secrets_and_tokens_end(fresh: TestStore) {
    let client = new_client("web");
    fresh
        .create_client(&client, Some([1; 32]), &some_event())
        .await
        .unwrap();
    let (_, revocation) = fresh
        .rotate_client_secret(&client.id, [2; 32], Duration::ZERO, None, &some_event())
        .await
        .unwrap();
    let login = fresh.machine_login(&client.id).await.unwrap();
    assert_eq!(
        (login.secret_hashes, login.epochs.client),
        (vec![[2; 32]], revocation.unwrap().epoch)
    );
}

async fn pages_are_in_order(fresh: TestStore) {
    for id in ["web", "a-b", "a.b", "a_b", "zoo"] {
        make_client(&fresh, id).await;
    }
    let page = async |after: Option<&str>, limit| {
        let after = after.map(client_id);
        let page = fresh.list_clients(after.as_ref(), limit).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|client| client.id.to_string()).collect();
        (ids, page.next)
    };
    // Ordered by bytes, whatever the locale of the database.
    let (first, next) = page(None, 2).await;
    assert_eq!(
        (first, next.as_deref()),
        (vec!["a-b".to_owned(), "a.b".to_owned()], Some("a.b"))
    );
    let (rest, next) = page(Some("a.b"), 3).await;
    assert_eq!(
        (rest, next),
        (vec!["a_b".to_owned(), "web".to_owned(), "zoo".to_owned()], None)
    );
}
