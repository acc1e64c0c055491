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
