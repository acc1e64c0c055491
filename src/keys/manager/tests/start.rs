use super::*;

#[tokio::test]
async fn the_first_start_makes_what_is_needed_and_the_next_ones_nothing() {
    let world = World::new();
    let first = world.replica().await;
    let ring = first.current();
    assert!(ring.active().is_some() && ring.newest_refresh().is_some() && ring.newest_pepper().is_none());
    assert_ne!(active(&first), standby(&first));
    assert_eq!(ring.verifying().ids().count(), 2);
    let rows = world.rows().await;
    let second = world.replica().await;
    assert_eq!(world.rows().await, rows);
    let token = world.token(&first).await;
    assert_eq!(verdict(&second, &token).await, Ok(()));
}

#[tokio::test]
async fn replicas_that_start_at_once_agree_on_one_ring() {
    let world = World::new();
    let starts = (0..8).map(|_| world.replica());
    let replicas = futures_util::future::join_all(starts).await;
    let rows = world.rows().await;
    assert_eq!((rows.signing.len(), rows.secrets.len(), rows.checks.len()), (2, 1, 1));
    for replica in &replicas {
        assert_eq!(active(replica), active(&replicas[0]));
        let token = world.token(replica).await;
        for other in &replicas {
            assert_eq!(verdict(other, &token).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn a_pepper_is_made_when_it_is_first_asked_for() {
    let world = World::new();
    world.replica().await;
    let with_pepper = KeysConfig {
        pepper: true,
        ..config()
    };
    let replica = world.start_with(with_pepper.clone()).await.unwrap();
    let (id, _) = replica
        .current()
        .newest_pepper()
        .map(|(id, pepper)| (id, pepper.clone()))
        .unwrap();
    assert_eq!(id, 1);
    let again = world.start_with(with_pepper).await.unwrap();
    assert_eq!(
        again.current().pepper(1).unwrap().expose(),
        replica.current().pepper(1).unwrap().expose()
    );
}

#[tokio::test]
async fn another_master_key_ends_the_start_before_any_write() {
    let world = World::new();
    world.replica().await;
    let before = world.rows().await;
    let wrong = world.parts(&Master::generate(&SystemEntropy));
    let error = Keys::start(wrong, config()).await.unwrap_err();
    assert!(error.message.contains("keys.master_key"), "{error}");
    assert_eq!(world.rows().await, before);
}

#[tokio::test]
async fn others_must_have_the_time_to_see_a_key_before_it_signs() {
    let world = World::new();
    let hasty = KeysConfig {
        prepublish: MINUTE * 4,
        ..config()
    };
    let error = world.start_with(hasty).await.unwrap_err();
    assert!(error.message.contains("keys.prepublish"), "{error}");
    assert_eq!(world.rows().await, KeyRows::default());
}

#[tokio::test]
async fn a_tampered_key_is_replaced_and_the_others_go_on() {
    let world = World::new();
    let replica = world.replica().await;
    let (broken, next) = (active(&replica), standby(&replica));
    let token = world.token(&replica).await;
    world
        .tamper("UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'active'")
        .await;
    let restarted = world.replica().await;
    assert_eq!(active(&restarted), next, "the standby signs");
    assert_eq!(restarted.current().active().unwrap().id(), &next);
    assert_eq!(verdict(&restarted, &token).await, Err(InactiveReason::UnknownKey));
    assert!(restarted.current().is_tampered(&broken));
    let token = world.token(&restarted).await;
    assert_eq!(verdict(&replica, &token).await, Ok(()));
}

#[tokio::test]
async fn a_tampered_standby_is_revoked_and_another_one_published() {
    let world = World::new();
    let replica = world.replica().await;
    let (signs, broken) = (active(&replica), standby(&replica));
    world
        .tamper("UPDATE signing_keys SET sealed = zeroblob(80) WHERE state = 'pending'")
        .await;
    replica.tick().await.unwrap();
    assert_eq!(active(&replica), signs);
    assert_eq!(ids(&replica, KeyState::Revoked), [broken]);
    assert_ne!(standby(&replica), signs);
    assert!(replica.current().refused().is_empty());
}

#[tokio::test]
async fn a_tampered_refresh_key_is_replaced() {
    let world = World::new();
    let replica = world.replica().await;
    world.tamper("UPDATE secrets SET sealed = zeroblob(80)").await;
    replica.tick().await.unwrap();
    assert_eq!(replica.current().newest_refresh().unwrap().0, 2);
    assert!(replica.current().refresh_key(1).is_none());
}
