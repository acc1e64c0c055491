use super::*;

#[tokio::test]
async fn a_forced_rotation_happens_at_once() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let (old, next) = (active(&replica), standby(&replica));
    let token = deployment.token(&replica).await;
    let key = replica.rotate(true, &Origin::cli()).await.unwrap();
    assert_eq!((key.id, key.state), (next.clone(), KeyState::Active));
    assert_eq!(active(&replica), next);
    assert_eq!(ids(&replica, KeyState::Retired), [old]);
    assert_eq!(verdict(&replica, &token).await, Ok(()));
}

#[tokio::test]
async fn a_rotation_that_must_wait_is_remembered_by_the_store() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let (old, next) = (active(&replica), standby(&replica));
    for _ in 0..3 {
        deployment.clock.advance(Duration::from_secs(1));
        let key = replica.rotate(false, &Origin::cli()).await.unwrap();
        assert_eq!((key.id, key.state), (next.clone(), KeyState::Pending));
    }
    assert_eq!(
        ids(&replica, KeyState::Pending).len(),
        2,
        "asking again asks for the same"
    );
    drop(replica);
    let other = deployment.replica().await;
    deployment.run_for(MINUTE * 9, &[&other]).await;
    assert_eq!(active(&other), old);
    deployment.run_for(MINUTE, &[&other]).await;
    assert_eq!(active(&other), next);
    deployment.run_for(MINUTE * 40, &[&other]).await;
    assert_eq!(active(&other), next, "once");
    standby(&other);
}

#[tokio::test]
async fn a_rotation_is_immediate_when_the_standby_is_known() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    deployment.run_for(MINUTE * 10, &[&replica]).await;
    let next = standby(&replica);
    let key = replica.rotate(false, &Origin::cli()).await.unwrap();
    assert_eq!((key.id, key.state), (next, KeyState::Active));
}

#[tokio::test]
async fn an_emergency_revocation_puts_the_standby_in_place() {
    let deployment = Deployment::new();
    let (replica, other) = (deployment.replica().await, deployment.replica().await);
    let (bad, next) = (active(&replica), standby(&replica));
    let token = deployment.token(&replica).await;
    let tag = replica.current().newest_refresh().unwrap().1.tag(b"a refresh token");
    let (key, revocation) = replica.revoke(&bad, "leaked", &Origin::cli()).await.unwrap();
    assert_eq!((key.id.clone(), key.state), (bad.clone(), KeyState::Revoked));
    assert!(revocation.is_some());
    assert_eq!(active(&replica), next);
    assert_ne!(standby(&replica), next, "and another standby is published");
    assert_eq!(verdict(&replica, &token).await, Err(InactiveReason::RevokedKey));
    assert!(!replica.current().jwks_json().contains(bad.as_str()));
    // Refresh tokens stay valid, and caches know the key that signs now.
    assert_eq!(
        replica.current().newest_refresh().unwrap().1.tag(b"a refresh token"),
        tag
    );
    assert_eq!(verdict(&other, &deployment.token(&replica).await).await, Ok(()));
    other.reload().await.unwrap();
    assert_eq!(verdict(&other, &token).await, Err(InactiveReason::RevokedKey));
    // Repeated calls make no second revocation, and there is always another standby.
    let (key, revocation) = replica.revoke(&bad, "leaked", &Origin::cli()).await.unwrap();
    assert_eq!((key.state, revocation), (KeyState::Revoked, None));
    for _ in 0..3 {
        replica
            .revoke(&active(&replica), "leaked", &Origin::cli())
            .await
            .unwrap();
        standby(&replica);
    }
}

#[tokio::test]
async fn a_refused_revocation_has_its_reason() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let unknown: KeyId = "x".repeat(43).parse().unwrap();
    let error = replica.revoke(&unknown, "", &Origin::cli()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound);
    deployment
        .tamper("UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'pending'")
        .await;
    let error = replica.revoke(&active(&replica), "", &Origin::cli()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::LastActiveKey);
}

#[tokio::test]
async fn an_imported_key_is_published_and_signs_next() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let old = active(&replica);
    let key = replica
        .import(&pem("ed25519.pkcs8.pem"), false, &Origin::cli())
        .await
        .unwrap();
    assert_eq!(key.state, KeyState::Pending);
    assert!(replica.current().jwks_json().contains(key.id.as_str()));
    deployment.run_for(MINUTE * 20, &[&replica]).await;
    assert_eq!(active(&replica), old, "importing is not rotating");
    assert_eq!(replica.rotate(false, &Origin::cli()).await.unwrap().id, key.id);
    let again = replica.import(&pem("ed25519.pkcs8.pem"), false, &Origin::cli()).await;
    assert!(again.unwrap_err().message.contains("already"));
}

#[tokio::test]
async fn an_imported_key_can_sign_at_once_and_keeps_its_place() {
    let deployment = Deployment::new();
    let (replica, other) = (deployment.replica().await, deployment.replica().await);
    let key = replica
        .import(&pem("rsa2048.pkcs1.pem"), true, &Origin::cli())
        .await
        .unwrap();
    assert_eq!((key.algorithm, key.state), (Algorithm::Rs256, KeyState::Active));
    assert_eq!(
        verdict(&other, &deployment.token(&replica).await).await,
        Ok(()),
        "unknown keys are asked for"
    );
    deployment.run_for(MINUTE * 59, &[&replica, &other]).await;
    assert_eq!(active(&replica), key.id, "though the configuration says EdDSA");
    deployment.run_for(MINUTE, &[&replica, &other]).await;
    assert_eq!(replica.current().active().unwrap().algorithm(), Algorithm::EdDsa);
}

#[tokio::test]
async fn a_file_that_is_no_private_key_changes_nothing() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let before = deployment.rows().await;
    for name in ["ed25519.public.pem", "rsa1024.pkcs8.pem", "ed25519.encrypted.pem"] {
        assert!(
            replica.import(&pem(name), true, &Origin::cli()).await.is_err(),
            "{name}"
        );
    }
    assert_eq!(deployment.rows().await, before);
}

#[tokio::test]
async fn resealing_frees_the_keyring_of_an_old_master_key() {
    let deployment = Deployment::new();
    let before = deployment.replica().await;
    let token = deployment.token(&before).await;
    let tag = before.current().newest_refresh().unwrap().1.tag(b"x");
    let new = MasterKeyring::generate(&SystemEntropy);
    let both = SecretText::new(format!("{},{}", new.expose(), deployment.master.expose()));
    let replica = Keys::start(deployment.vault(&both), config()).await.unwrap();
    let refused = replica.reseal(&Origin::cli()).await.unwrap_err();
    let behind = before.replica.to_string();
    assert!(refused.to_string().contains(&behind), "{refused} names {behind}");
    deployment.clock.advance(REPLICA_TTL);
    replica.heartbeat().await.unwrap();
    let resealed = replica.reseal(&Origin::cli()).await.unwrap();
    assert_eq!((resealed.rows, resealed.unusable.len()), (3, 0));
    assert_eq!(replica.reseal(&Origin::cli()).await.unwrap().rows, 0);
    let alone = Keys::start(deployment.vault(&new), config()).await.unwrap();
    assert_eq!(verdict(&alone, &token).await, Ok(()));
    assert_eq!(alone.current().newest_refresh().unwrap().1.tag(b"x"), tag);
    assert_eq!(active(&alone), active(&before));
    assert!(
        deployment.start_with(config()).await.is_err(),
        "the old key alone opens nothing any more"
    );
}

#[tokio::test]
async fn a_wrong_clock_does_not_say_when_a_key_took_over() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let fast = Arc::new(SetClock::new());
    fast.advance(MINUTE * 4);
    let vault = KeyVault {
        clock: fast,
        ..deployment.vault(&deployment.master)
    };
    let wrong = Keys::start(vault, config()).await.unwrap();
    let token = deployment.token(&replica).await;
    let first = active(&replica);
    wrong.rotate(true, &Origin::cli()).await.unwrap();
    replica.reload().await.unwrap();
    let now = deployment.clock.now();
    for key in replica.listed() {
        for moment in [key.activated, key.retired, key.revoked].into_iter().flatten() {
            assert!(moment <= now, "{key:?} at {now:?}");
        }
    }
    assert_eq!(ids(&replica, KeyState::Retired), [first]);
    assert_eq!(verdict(&replica, &token).await, Ok(()));
}
