//! Row 3: the script ran, and its reply was lost.

use std::time::Duration;

use countersign::proto::{RefreshOutcome, Tokens};
use tonic::Code;

use crate::support::caller::{assert_refused, generation};
use crate::support::proxy::Afterwards;
use crate::support::{Caller, PASSWORD, Servers, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_successor() {
    let servers = Servers::start(&[]).await.giving_up_early();
    let ada = servers.database.scalar("SELECT id FROM users").await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    // Redis now knows the script: the reply that is lost is not "send me the script".
    caller.refresh(&caller.login("ada").await.refresh_token).await.unwrap();
    for (round, afterwards) in (1..).zip([Afterwards::Close, Afterwards::Silence].repeat(5)) {
        let session = until_every_connection_works(&caller).await;
        let key = ada.clone().into_bytes();
        let rotates = move |request: &[u8]| {
            let has = |word: &[u8]| request.windows(word.len()).any(|window| window == word);
            has(b"EVALSHA") && has(&key)
        };
        servers.to_redis.lose_reply(rotates, afterwards);
        // Nobody may send the script again on their own: it may have run.
        let refused = caller.refresh(&session.refresh_token).await;
        assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
        assert_eq!(servers.to_redis.lost(), round);
        let (retried, outcome) = caller.insist(&session.refresh_token).await.unwrap();
        assert_eq!(
            (outcome, generation(&retried.refresh_token)),
            (RefreshOutcome::Replayed, 1),
            "round {round}, {afterwards:?}"
        );
        let (again, _) = caller.insist(&session.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, retried.refresh_token);
        // However many replies a silent connection swallows before it is given up.
        let (next, _) = caller.insist(&retried.refresh_token).await.unwrap();
        assert_eq!(generation(&next.refresh_token), 2);
    }
}

/// Commands take turns on a replica's four connections: so many that succeed in a row, and all have come back.
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
