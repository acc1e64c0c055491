use super::*;

fn newest(keys: &Keys) -> u32 {
    keys.current().newest_refresh().unwrap().0
}

#[tokio::test]
async fn refresh_keys_rotate_and_old_ones_stay_for_the_longest_session() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let tag = replica.current().refresh_key(1).unwrap().tag(b"a refresh token");
    deployment.run_for(MINUTE * 60, &[&replica]).await;
    assert!(replica.current().refresh_key(2).is_some());
    assert_eq!(newest(&replica), 1, "published, not used");
    deployment.run_for(MINUTE * 10, &[&replica]).await;
    assert_eq!(newest(&replica), 2);
    // A session that began just now under key 1 lives five hours, and its refresh token keeps that tag.
    deployment.run_for(Duration::from_hours(5), &[&replica]).await;
    assert_eq!(replica.current().refresh_key(1).unwrap().tag(b"a refresh token"), tag);
    deployment.run_for(MINUTE * 2, &[&replica]).await;
    assert!(replica.current().refresh_key(1).is_none());
    assert!(replica.current().refresh_key(2).is_some());
}

#[tokio::test]
async fn one_of_many_replicas_makes_the_next_refresh_key() {
    let deployment = Deployment::new();
    let replicas = futures_util::future::join_all((0..4).map(|_| deployment.replica())).await;
    deployment.clock.advance(Duration::from_hours(1));
    for tick in futures_util::future::join_all(replicas.iter().map(Keys::tick)).await {
        tick.unwrap();
    }
    let rows = deployment.rows().await;
    assert_eq!(rows.secrets.iter().map(|row| row.id).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_refresh_key_that_is_not_known_is_asked_for_once_in_an_interval() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    assert!(!other.look_up_refresh_key(7).await.unwrap());
    deployment.run_for(MINUTE * 60, &[&one]).await;
    assert!(other.current().refresh_key(2).is_none());
    assert!(other.look_up_refresh_key(2).await.unwrap());
    assert!(!other.look_up_refresh_key(3).await.unwrap());
}

#[tokio::test]
async fn a_made_up_refresh_key_costs_no_load_and_hides_no_new_key() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    deployment.clock.advance(Duration::from_secs(3));
    let loaded = *other.last_loaded_at.lock();
    for made_up in 2..=8 {
        assert!(!other.look_up_presented_refresh_key(made_up).await.unwrap());
    }
    assert_eq!(*other.last_loaded_at.lock(), loaded, "no load");

    // `one` rotates and, once the key is published for long enough, tags with it. A replica that has not loaded since then,
    // because it was frozen, loads now.
    deployment.run_for(MINUTE * 70, &[&one]).await;
    assert_eq!(newest(&one), 2);
    assert!(other.look_up_presented_refresh_key(2).await.unwrap());
    assert!(!other.look_up_presented_refresh_key(3).await.unwrap());
}

#[tokio::test]
async fn a_published_refresh_key_is_loaded_before_it_tags() {
    let deployment = Deployment::new();
    let (one, other) = (deployment.replica().await, deployment.replica().await);
    // However often unknown keys are asked for, the key is known wherever a token with its tag may be presented.
    for _ in 0..80 {
        deployment.run_for(MINUTE, &[&one, &other]).await;
        assert!(other.look_up_presented_refresh_key(newest(&one)).await.unwrap());
        assert!(!other.look_up_presented_refresh_key(9).await.unwrap());
    }
    assert_eq!(newest(&one), 2);
}
