use super::*;

#[tokio::test]
async fn only_the_first_start_generates_keys() {
    let deployment = Deployment::new();
    let first = deployment.replica().await;
    let ring = first.current();
    assert!(ring.active().is_some() && ring.newest_refresh().is_some() && ring.newest_pepper().is_none());
    assert_ne!(active(&first), standby(&first));
    assert_eq!(ring.verifying().ids().count(), 2);
    let rows = deployment.rows().await;
    let second = deployment.replica().await;
    assert_eq!(deployment.rows().await, rows);
    let token = deployment.token(&first).await;
    assert_eq!(verdict(&second, &token).await, Ok(()));
}

#[tokio::test]
async fn replicas_that_start_at_once_agree_on_one_ring() {
    let deployment = Deployment::new();
    let starts = (0..8).map(|_| deployment.replica());
    let replicas = futures_util::future::join_all(starts).await;
    let rows = deployment.rows().await;
    assert_eq!((rows.signing.len(), rows.secrets.len(), rows.checks.len()), (2, 1, 1));
    for replica in &replicas {
        assert_eq!(active(replica), active(&replicas[0]));
        let token = deployment.token(replica).await;
        for other in &replicas {
            assert_eq!(verdict(other, &token).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn a_pepper_is_made_when_it_is_first_asked_for() {
    let deployment = Deployment::new();
    deployment.replica().await;
    let with_pepper = KeysConfig {
        pepper: true,
        ..config()
    };
    let replica = deployment.start_with(with_pepper.clone()).await.unwrap();
    let (id, _) = replica
        .current()
        .newest_pepper()
        .map(|(id, pepper)| (id, pepper.clone()))
        .unwrap();
    assert_eq!(id, 1);
    let again = deployment.start_with(with_pepper).await.unwrap();
    assert_eq!(
        again.current().pepper(1).unwrap().expose(),
        replica.current().pepper(1).unwrap().expose()
    );
}

#[tokio::test]
async fn another_master_key_ends_the_start_before_any_write() {
    let deployment = Deployment::new();
    deployment.replica().await;
    let before = deployment.rows().await;
    let wrong = deployment.vault(&MasterKeyring::generate(&SystemEntropy));
    let error = Keys::start(wrong, config()).await.unwrap_err();
    assert!(error.message.contains("keys.master_key"), "{error}");
    assert_eq!(deployment.rows().await, before);
}

#[tokio::test]
async fn others_must_have_the_time_to_see_a_key_before_it_signs() {
    let deployment = Deployment::new();
    let hasty = KeysConfig {
        prepublish: MINUTE * 4,
        ..config()
    };
    let error = deployment.start_with(hasty).await.unwrap_err();
    assert!(error.message.contains("keys.prepublish"), "{error}");
    assert_eq!(deployment.rows().await, KeyRows::default());
}

#[tokio::test]
async fn a_tampered_key_is_replaced_and_the_others_go_on() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let (broken, next) = (active(&replica), standby(&replica));
    let token = deployment.token(&replica).await;
    deployment
        .tamper("UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'active'")
        .await;
    let restarted = deployment.replica().await;
    assert_eq!(active(&restarted), next, "the standby signs");
    assert_eq!(restarted.current().active().unwrap().id(), &next);
    assert_eq!(verdict(&restarted, &token).await, Err(InactiveReason::UnknownKey));
    assert!(restarted.current().is_tampered(&broken));
    let token = deployment.token(&restarted).await;
    assert_eq!(verdict(&replica, &token).await, Ok(()));
}

#[tokio::test]
async fn a_tampered_standby_is_revoked_and_another_one_published() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let (signs, broken) = (active(&replica), standby(&replica));
    deployment
        .tamper("UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'pending'")
        .await;
    replica.tick().await.unwrap();
    assert_eq!(active(&replica), signs);
    assert_eq!(ids(&replica, KeyState::Revoked), [broken]);
    assert_ne!(standby(&replica), signs);
    assert!(replica.current().unusable_rows().is_empty());
}

#[tokio::test]
async fn a_tampered_refresh_key_is_replaced() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    deployment.tamper("UPDATE secrets SET sealed = zeroblob(80)").await;
    replica.tick().await.unwrap();
    assert_eq!(replica.current().newest_refresh().unwrap().0, 2);
    assert!(replica.current().refresh_key(1).is_none());
}
