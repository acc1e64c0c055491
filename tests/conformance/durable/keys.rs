use std::time::Duration;

use countersign::model::{Algorithm, AuditType, ErrorKind, KeyState, Revocation, Target};
use countersign::store::keys::{CheckRow, KeyRows, ReplicaKeys, SecretPurpose, SigningRow};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    the_first_keys_are_created_once,
    missing_keys_are_added_by_kind,
    one_pending_key_per_algorithm,
    an_imported_key_is_added_once,
    one_of_many_activations_succeeds,
    revoking_the_active_key_needs_a_standby,
    a_second_revocation_changes_nothing,
    a_key_whose_revocation_was_written_back_can_be_revoked,
    only_retired_and_revoked_keys_are_removed,
    secrets_are_added_one_after_the_other,
    the_newest_secret_cannot_be_removed,
    resealing_keeps_the_keys,
    a_live_replica_reports_the_keys_that_it_holds,
]);

fn proposal() -> KeyRows {
    KeyRows {
        signing: vec![signing(KeyState::Active), signing(KeyState::Pending)],
        secrets: vec![secret(SecretPurpose::Refresh, 1)],
        checks: vec![CheckRow {
            name: "m1".into(),
            sealed: vec![0, 1, 255],
        }],
    }
}

async fn import(fresh: &TestStore, state: KeyState) -> SigningRow {
    let key = signing(state);
    assert!(fresh.import_key(&key, &some_event()).await.unwrap());
    key
}

async fn states(fresh: &TestStore, keys: &[&SigningRow]) -> Vec<Option<KeyState>> {
    let stored = fresh.load_keys().await.unwrap().signing;
    let state = |key: &&SigningRow| stored.iter().find(|row| row.id == key.id).map(|row| row.state);
    keys.iter().map(state).collect()
}

async fn the_first_keys_are_created_once(fresh: TestStore) {
    assert_eq!(fresh.load_keys().await.unwrap(), KeyRows::default());
    let racers = (0..8).map(|_| {
        let fresh = fresh.clone();
        async move {
            let proposed = proposal();
            let event = event(AuditType::KeyCreated, &"keys");
            let stored = fresh.ensure_keys(&proposed, &event).await.unwrap();
            (proposed.signing == stored.signing, stored)
        }
    });
    let done = futures_util::future::join_all(racers).await;
    assert_eq!(done.iter().filter(|(won, _)| *won).count(), 1);
    let stored = fresh.load_keys().await.unwrap();
    assert!(
        done.iter().all(|(_, seen)| *seen == stored),
        "all see the keys of the winner"
    );
    assert_eq!(events_on(&fresh, &"keys").await, 1);
    let view = fresh
        .refresh_view(
            countersign::model::UserId(uuid()),
            &client_id("web"),
            session(),
            countersign::model::Epochs::default(),
        )
        .await
        .unwrap();
    assert_eq!(view.active_key, Some(stored.signing[0].id.clone()));
}

async fn missing_keys_are_added_by_kind(fresh: TestStore) {
    let first = proposal();
    fresh.ensure_keys(&first, &some_event()).await.unwrap();
    let mut second = proposal();
    second.secrets.push(secret(SecretPurpose::Pepper, 1));
    second.checks[0].sealed = vec![9];
    second.checks.push(CheckRow {
        name: "m2".into(),
        sealed: vec![2],
    });
    let stored = fresh.ensure_keys(&second, &some_event()).await.unwrap();
    assert_eq!(stored.signing, first.signing);
    let mut secrets = vec![first.secrets[0].clone(), second.secrets[1].clone()];
    secrets.sort_by_key(|secret| secret.purpose.as_str());
    assert_eq!(stored.secrets, secrets);
    assert_eq!(stored.checks, [first.checks[0].clone(), second.checks[1].clone()]);
}

async fn one_pending_key_per_algorithm(fresh: TestStore) {
    let racers = (0..8).map(|_| {
        let fresh = fresh.clone();
        async move {
            fresh
                .add_pending_key(&signing(KeyState::Pending), &some_event())
                .await
                .unwrap()
        }
    });
    let added = futures_util::future::join_all(racers).await;
    assert_eq!(added.into_iter().filter(|added| *added).count(), 1);
    let mut other = signing(KeyState::Pending);
    other.algorithm = Algorithm::Es256;
    assert!(fresh.add_pending_key(&other, &some_event()).await.unwrap());
}

async fn an_imported_key_is_added_once(fresh: TestStore) {
    import(&fresh, KeyState::Pending).await;
    let key = import(&fresh, KeyState::Pending).await;
    let again = event(AuditType::KeyImported, &"again");
    assert!(!fresh.import_key(&key, &again).await.unwrap());
    assert_eq!(events_on(&fresh, &"again").await, 0);
    assert_eq!(fresh.load_keys().await.unwrap().signing.len(), 2);
}

async fn one_of_many_activations_succeeds(fresh: TestStore) {
    let began = now();
    let first = import(&fresh, KeyState::Pending).await;
    let second = import(&fresh, KeyState::Pending).await;
    let activate = async |key: &SigningRow, active: Option<&SigningRow>| {
        let event = event(AuditType::KeyActivated, &key.id);
        let active = active.map(|key| &key.id);
        fresh.activate_key(&key.id, active, &event).await.unwrap()
    };
    let done = futures_util::future::join_all((0..6).map(|_| activate(&first, None))).await;
    assert_eq!(done.into_iter().filter(|done| *done).count(), 1);
    assert_eq!(events_on(&fresh, &first.id).await, 1);

    assert!(!activate(&second, None).await, "another one is active");
    assert!(!activate(&first, Some(&first)).await, "it is not pending");
    assert!(activate(&second, Some(&first)).await);
    assert_eq!(
        states(&fresh, &[&first, &second]).await,
        [Some(KeyState::Retired), Some(KeyState::Active)]
    );
    let stored = fresh.load_keys().await.unwrap().signing;
    let (retired, activated) = (stored[0].retired.unwrap(), stored[1].activated.unwrap());
    assert_eq!(retired, activated, "at the same time, by the store's clock");
    assert!(retired.since(began) < Duration::from_mins(1) && began <= retired.plus(Duration::from_secs(5)));
}

async fn revoking_the_active_key_needs_a_standby(fresh: TestStore) {
    let active = import(&fresh, KeyState::Active).await;
    let standby = import(&fresh, KeyState::Pending).await;
    let retired = import(&fresh, KeyState::Retired).await;
    for useless in [None, Some(&retired.id), Some(&active.id)] {
        let error = fresh.revoke_key(&active.id, useless, &some_event()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LastActiveKey);
    }
    let (row, revocation) = fresh
        .revoke_key(&active.id, Some(&standby.id), &some_event())
        .await
        .unwrap();
    assert!(row.state == KeyState::Revoked && row.revoked.is_some());
    assert_eq!(revocation.unwrap().target, Target::Key(active.id.clone()));
    let (_, revocation) = fresh.revoke_key(&retired.id, None, &some_event()).await.unwrap();
    assert!(revocation.is_some(), "tokens that it signed may not have expired");
    assert_eq!(
        states(&fresh, &[&active, &standby, &retired]).await,
        [KeyState::Revoked, KeyState::Active, KeyState::Revoked].map(Some)
    );
    let missing = fresh.revoke_key(&key_id(), None, &some_event()).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::KeyNotFound);
}

/// A promotion loses that a key was revoked, in its own row as well; the replicas write the revocation back, but not the state.
async fn a_key_whose_revocation_was_written_back_can_be_revoked(fresh: TestStore) {
    let active = import(&fresh, KeyState::Active).await;
    let standby = import(&fresh, KeyState::Pending).await;
    let known = Revocation {
        target: Target::Key(active.id.clone()),
        epoch: 0,
        expires: now().plus(Duration::from_hours(1)),
        revoked: now(),
    };
    fresh.write_back(&[known], &some_event()).await.unwrap();
    let event = event(AuditType::KeyRevoked, &active.id);
    let (row, revocation) = fresh.revoke_key(&active.id, Some(&standby.id), &event).await.unwrap();
    assert_eq!(
        (row.state, revocation),
        (KeyState::Revoked, None),
        "every replica knows the revocation"
    );
    assert_eq!(
        states(&fresh, &[&active, &standby]).await,
        [KeyState::Revoked, KeyState::Active].map(Some)
    );
    assert_eq!(events_on(&fresh, &active.id).await, 1);
}

async fn a_second_revocation_changes_nothing(fresh: TestStore) {
    let key = import(&fresh, KeyState::Retired).await;
    let event = event(AuditType::KeyRevoked, &key.id);
    let (first, _) = fresh.revoke_key(&key.id, None, &event).await.unwrap();
    let (second, revocation) = fresh.revoke_key(&key.id, None, &some_event()).await.unwrap();
    assert_eq!((first, None), (second, revocation));
    assert_eq!(events_on(&fresh, &key.id).await, 1);
}

async fn only_retired_and_revoked_keys_are_removed(fresh: TestStore) {
    for (state, removable) in [
        (KeyState::Pending, false),
        (KeyState::Active, false),
        (KeyState::Retired, true),
        (KeyState::Revoked, true),
    ] {
        let key = import(&fresh, state).await;
        let event = event(AuditType::KeyRemoved, &key.id);
        assert_eq!(fresh.remove_key(&key.id, &event).await.unwrap(), removable, "{state:?}");
        assert!(!removable || !fresh.remove_key(&key.id, &event).await.unwrap(), "once");
        assert_eq!(events_on(&fresh, &key.id).await, usize::from(removable));
    }
}

async fn secrets_are_added_one_after_the_other(fresh: TestStore) {
    let add = async |id, newest| {
        fresh
            .add_secret(&secret(SecretPurpose::Pepper, id), newest, &some_event())
            .await
            .unwrap()
    };
    let done = futures_util::future::join_all((0..6).map(|_| add(1, 0))).await;
    assert_eq!(done.into_iter().filter(|done| *done).count(), 1);
    assert!(!add(1, 0).await);
    assert!(add(2, 1).await);
    assert!(!add(4, 3).await, "the newest is 2");
}

async fn the_newest_secret_cannot_be_removed(fresh: TestStore) {
    for id in 1..=2 {
        let secret = secret(SecretPurpose::Refresh, id);
        assert!(fresh.add_secret(&secret, id - 1, &some_event()).await.unwrap());
    }
    let remove = async |id| {
        fresh
            .remove_secret(SecretPurpose::Refresh, id, &some_event())
            .await
            .unwrap()
    };
    assert!(!remove(2).await);
    assert!(remove(1).await);
    assert!(!remove(1).await);
    assert!(!remove(2).await);
    assert_eq!(fresh.load_keys().await.unwrap().secrets.len(), 1);
}

async fn resealing_keeps_the_keys(fresh: TestStore) {
    let stored = fresh.ensure_keys(&proposal(), &some_event()).await.unwrap();
    let mut resealed = stored.clone();
    resealed.signing[0].sealed = vec![1];
    resealed.secrets[0].sealed = vec![2];
    resealed.checks = vec![CheckRow {
        name: "m2".into(),
        sealed: vec![3],
    }];
    // A key that was removed in the meantime stays removed.
    let mut with_removed = resealed.clone();
    with_removed.signing.push(signing(KeyState::Retired));
    fresh.reseal_keys(&with_removed, &some_event()).await.unwrap();
    resealed.checks.insert(0, stored.checks[0].clone());
    assert_eq!(fresh.load_keys().await.unwrap(), resealed);
}

async fn a_live_replica_reports_the_keys_that_it_holds(fresh: TestStore) {
    let live = async |within| fresh.live_replicas(within).await.unwrap();
    assert_eq!(live(60_000).await, []);
    let mut replicas = [uuid(), uuid()].map(|replica| ReplicaKeys {
        replica,
        signing: vec![key_id(), key_id()],
        master: vec!["0123456789abcdef".to_owned()],
    });
    replicas.sort_by_key(|keys| keys.replica);
    for keys in &replicas {
        fresh.heartbeat(keys).await.unwrap();
    }
    assert_eq!(live(60_000).await, replicas);
    assert_eq!(live(-60_000).await, [], "no replica has sent a heartbeat that recently");
    replicas[1].signing.pop();
    replicas[1].master.insert(0, "fedcba9876543210".to_owned());
    fresh.heartbeat(&replicas[1]).await.unwrap();
    assert_eq!(live(60_000).await, replicas, "the newest heartbeat counts");
}
