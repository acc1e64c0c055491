//! The reply of Redis is lost after the rotation script ran, or the script is held up on its way to Redis.

use std::time::Duration;

use countersign::proto::{RefreshOutcome, Tokens};
use tonic::Code;

use crate::support::caller::{assert_refused, generation};
use crate::support::proxy::{AfterLoss, LinkState};
use crate::support::{Caller, PASSWORD, Servers, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_lost_reply_gets_the_same_successor() {
    let servers = Servers::start(&[]).await.with_default_timeouts();
    let ada = servers.database.scalar("SELECT id FROM users").await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    // Redis now knows the script, so the lost reply is not NOSCRIPT.
    caller.refresh(&caller.login("ada").await.refresh_token).await.unwrap();
    for (round, afterwards) in (1..).zip([AfterLoss::Close, AfterLoss::Silence].repeat(5)) {
        let session = until_every_connection_works(&caller).await;
        let key = ada.clone().into_bytes();
        let rotates = move |request: &[u8]| {
            let has = |word: &[u8]| request.windows(word.len()).any(|window| window == word);
            has(b"EVALSHA") && has(&key)
        };
        servers.to_redis.lose_reply(rotates, afterwards);
        // The script may have run, so Countersign must not send it again by itself.
        let refused = caller.refresh(&session.refresh_token).await;
        assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
        assert_eq!(servers.to_redis.lost(), round);
        let (retried, outcome) = caller.refresh_until_answered(&session.refresh_token).await.unwrap();
        assert_eq!(
            (outcome, generation(&retried.refresh_token)),
            (RefreshOutcome::Replayed, 1),
            "round {round}, {afterwards:?}"
        );
        let (again, _) = caller.refresh_until_answered(&session.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, retried.refresh_token);
        // A silent connection may swallow several replies before it times out.
        let (next, _) = caller.refresh_until_answered(&retried.refresh_token).await.unwrap();
        assert_eq!(generation(&next.refresh_token), 2);
    }
}

/// The link from one replica to Redis is stuck. Its client goes on at another replica; then the link delivers what it held back.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_the_network_held_up_ends_no_session() {
    let servers = Servers::start(&[]).await.with_default_timeouts();
    let stuck = servers.serve().await;
    let direct = servers.storage.clone().set("storage.redis_url", &servers.redis.url());
    let other = tokio::task::spawn_blocking(move || direct.serve(&[])).await.unwrap();
    let (slow, fast) = (Caller::of(&stuck), Caller::of(&other));
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let session = slow.login("ada").await;
        sessions.push(slow.refresh(&session.refresh_token).await.unwrap().0);
    }
    servers.to_redis.set(LinkState::Blackhole);
    for session in &sessions {
        let refused = slow.refresh_as(&session.refresh_token, "first").await;
        assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    let mut current = Vec::new();
    for session in &sessions {
        let again = fast.refresh_as(&session.refresh_token, "first").await.unwrap();
        let next = fast.refresh(&again.tokens.unwrap().refresh_token).await.unwrap();
        current.push(next.0.refresh_token);
    }
    servers.to_redis.set(LinkState::Up(Duration::ZERO));
    // When the replica uses Redis again, the link has delivered what it held back.
    until_every_connection_works(&slow).await;
    for token in current {
        fast.refresh(&token).await.expect("the session goes on");
    }
}

/// Waits until so many commands succeeded in a row that all connections are back: commands use a replica's four
/// connections in turn.
async fn until_every_connection_works(caller: &Caller) -> Tokens {
    eventually("every connection works", Duration::from_secs(30), || async {
        let mut last = None;
        for _ in 0..12 {
            last = Some(caller.issue("ada", PASSWORD).await.ok()?);
        }
        last
    })
    .await
}
