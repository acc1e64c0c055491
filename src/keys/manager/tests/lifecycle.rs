use super::*;

#[tokio::test]
async fn a_key_signs_for_its_period_and_is_published_as_long_as_its_tokens_live() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let (first, second) = (active(&replica), standby(&replica));
    deployment.run_for(MINUTE * 59, &[&replica]).await;
    assert_eq!(active(&replica), first);
    let token = deployment.token(&replica).await; // good for 15 minutes
    deployment.run_for(MINUTE, &[&replica]).await;
    assert_eq!(active(&replica), second);
    assert_eq!(ids(&replica, KeyState::Retired), std::slice::from_ref(&first));
    for _ in 0..14 {
        assert_eq!(verdict(&replica, &token).await, Ok(()));
        deployment.run_for(MINUTE, &[&replica]).await;
    }
    assert!(replica.current().verifying().knows(&first));
    deployment.run_for(MINUTE * 2, &[&replica]).await;
    assert!(
        !replica.current().verifying().knows(&first),
        "removed when nothing that it signed can be good"
    );
    assert_eq!(replica.listed().len(), 2);
}

#[tokio::test]
async fn one_of_many_replicas_rotates() {
    let deployment = Deployment::new();
    let replicas = futures_util::future::join_all((0..4).map(|_| deployment.replica())).await;
    let next = standby(&replicas[0]);
    deployment.clock.advance(Duration::from_hours(1));
    for _ in 0..2 {
        // The key counts as loaded everywhere only after another heartbeat of each replica.
        let ticks = replicas.iter().map(Keys::tick);
        for tick in futures_util::future::join_all(ticks).await {
            tick.unwrap();
        }
    }
    for replica in &replicas {
        replica.reload().await.unwrap();
        assert_eq!(active(replica), next);
        assert_eq!(replica.listed().len(), 3, "one ACTIVE, one RETIRED, one standby");
        standby(replica);
    }
}

#[tokio::test]
async fn a_key_does_not_sign_before_every_live_replica_has_loaded_it() {
    let deployment = Deployment::new();
    let (lively, frozen) = (deployment.replica().await, deployment.replica().await);
    let first = active(&lively);
    // Another standby replaces the first one; the frozen replica does not reload.
    lively.revoke(&standby(&lively), "test", &Origin::cli()).await.unwrap();
    deployment.run_for(Duration::from_hours(1), &[&lively]).await;
    frozen.heartbeat().await.unwrap();
    lively.tick().await.unwrap();
    assert_ne!(active(&lively), first, "an hour of silence is long enough");

    let second = active(&lively);
    let third = standby(&lively);
    deployment.run_for(MINUTE * 59, &[&lively]).await;
    frozen.heartbeat().await.unwrap(); // alive, with an old ring
    deployment.clock.advance(MINUTE);
    frozen.heartbeat().await.unwrap();
    lively.tick().await.unwrap();
    assert_eq!(active(&lively), second, "a live one has not loaded it");
    deployment
        .clock
        .advance(REPLICA_TTL.saturating_sub(Duration::from_millis(1)));
    lively.tick().await.unwrap();
    assert_eq!(active(&lively), second);
    deployment.clock.advance(Duration::from_millis(1));
    lively.tick().await.unwrap();
    assert_eq!(
        active(&lively),
        third,
        "silent for ten seconds: it does not count any more"
    );

    // The frozen replica resumes with a ring that is an hour old: it must not sign with it, and must accept valid tokens.
    assert_eq!(active(&frozen), first);
    let token = deployment.token(&frozen).await;
    assert_eq!(active(&frozen), third);
    assert_eq!(verdict(&lively, &token).await, Ok(()));
}

#[tokio::test]
async fn a_replica_that_wakes_up_asks_for_the_key_of_a_token_that_it_does_not_know() {
    let deployment = Deployment::new();
    let (lively, frozen) = (deployment.replica().await, deployment.replica().await);
    deployment.run_for(Duration::from_hours(3), &[&lively]).await;
    let token = deployment.token(&lively).await;
    assert_eq!(verdict(&frozen, &token).await, Ok(()));
}

#[tokio::test]
async fn another_algorithm_takes_over_without_a_gap() {
    let deployment = Deployment::new();
    let before = deployment.replica().await;
    let old_token = deployment.token(&before).await;
    let mut signs = active(&before);
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
        let changed = KeysConfig { algorithm, ..config() };
        let replica = deployment.start_with(changed).await.unwrap();
        if algorithm != Algorithm::EdDsa {
            assert_eq!(active(&replica), signs, "not before others have seen the new one");
        }
        deployment.run_for(MINUTE * 11, &[&replica]).await;
        signs = active(&replica);
        assert_eq!(replica.current().active().unwrap().algorithm(), algorithm);
        let token = deployment.token(&replica).await;
        assert_eq!(verdict(&before, &token).await, Ok(()));
        if algorithm == Algorithm::Es256 {
            assert_eq!(verdict(&replica, &old_token).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn an_unknown_kid_is_asked_for_once_in_an_interval() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    let mut versions = other.watch();
    let garbage = |number: usize| Claimed {
        key: format!("{number:0>43}").parse().unwrap(),
        issued: deployment.clock.now(),
    };
    for number in 0..1000 {
        assert!(
            !other
                .look_up_kid(&garbage(number), deployment.clock.monotonic())
                .await
                .unwrap()
        );
    }
    // The load of this interval has happened; a valid token of an unknown key waits for the next interval.
    one.rotate(true, &Origin::cli()).await.unwrap();
    let token = deployment.token(&one).await;
    one.rotate(true, &Origin::cli()).await.unwrap();
    one.rotate(true, &Origin::cli()).await.unwrap();
    let later = deployment.token(&one).await;
    assert_eq!(verdict(&other, &token).await, Ok(()), "the standby was known all along");
    deployment.clock.advance(Duration::from_millis(1));
    assert_eq!(verdict(&other, &later).await, Ok(()));
    assert!(versions.has_changed().unwrap());
    versions.mark_unchanged();
    // An id that was not found before is not looked up again in the next interval.
    deployment.clock.advance(Duration::from_secs(1));
    assert!(
        !other
            .look_up_kid(&garbage(0), deployment.clock.monotonic())
            .await
            .unwrap()
    );
    assert!(!versions.has_changed().unwrap());
    // A token issued well before the last load, which would have found its key, needs no lookup.
    let old = Claimed {
        issued: deployment.clock.now().minus(MINUTE),
        ..garbage(2000)
    };
    assert!(!other.look_up_kid(&old, deployment.clock.monotonic()).await.unwrap());
}

#[tokio::test]
async fn a_random_id_each_moment_hides_no_new_key() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    for _ in 0..2 {
        one.rotate(true, &Origin::cli()).await.unwrap();
    }
    let token = deployment.token(&one).await;
    let garbage = |number: usize| Claimed {
        key: format!("{number:0>43}").parse().unwrap(),
        issued: deployment.clock.now(),
    };
    assert!(
        !other
            .look_up_kid(&garbage(0), deployment.clock.monotonic())
            .await
            .unwrap(),
        "the load of this interval"
    );
    assert_eq!(verdict(&other, &token).await, Ok(()), "that load found it");

    for _ in 0..2 {
        one.rotate(true, &Origin::cli()).await.unwrap();
    }
    let token = deployment.token(&one).await;
    deployment.clock.advance(Duration::from_millis(1));
    let now = deployment.clock.monotonic();
    let crowd = futures_util::future::join_all((1..200).map(|n| {
        let (garbage, other) = (garbage(n), &other);
        async move { other.look_up_kid(&garbage, now).await.unwrap() }
    }));
    let (crowd, verdict) = tokio::join!(crowd, verdict(&other, &token));
    assert!(crowd.iter().all(|known| !known));
    assert_eq!(verdict, Ok(()), "one load answered all of them");
}

#[tokio::test]
async fn a_ring_that_differs_from_the_store_is_loaded_again() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    let old = active(&other);
    one.rotate(true, &Origin::cli()).await.unwrap();
    other.reload_if_active_differs(Some(&old)).await.unwrap();
    assert_eq!(active(&other), old, "the ring has this ACTIVE key already");
    other.reload_if_active_differs(Some(&active(&one))).await.unwrap();
    assert_eq!(active(&other), active(&one));
    assert!(!other.reload().await.unwrap(), "the same rows make no other ring");
}

#[tokio::test]
async fn pauses_differ_and_leave_room_for_three_heartbeats() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|_| replica.pause()).collect();
    assert!(pauses.len() > 10);
    assert!(
        pauses
            .iter()
            .all(|pause| *pause * 3 < REPLICA_TTL && *pause > Duration::from_secs(1))
    );
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_rotates_and_removes_nothing() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let token = deployment.token(&replica).await;
    replica.rotate(true, &Origin::cli()).await.unwrap();
    deployment.run_for(MINUTE, &[&replica]).await;
    let before = deployment.rows().await;
    let ages = Duration::from_hours(24 * 3660);
    for _ in 0..2 {
        deployment.clock.leap(ages);
        replica.tick().await.unwrap();
    }
    assert_eq!(deployment.rows().await, before);
    deployment.clock.leap_back(ages * 2);
    replica.tick().await.unwrap();
    assert_eq!(deployment.rows().await, before);
    assert_eq!(verdict(&replica, &token).await, Ok(()));
    // A rotation that is due by the elapsed time happens.
    let signs = active(&replica);
    deployment.run_for(MINUTE * 60, &[&replica]).await;
    assert_ne!(active(&replica), signs);
}
