//! Redis refuses connections, or accepts them and does not answer.

use std::time::Duration;

use countersign::proto::RefreshOutcome;
use countersign::proto::revoke_request::Target;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::caller::generation;
use crate::support::{Caller, Load, PASSWORD, Servers, assert_refused, eventually};

const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";

/// Starts a load of logins and one of validations, so that the effect on each shows separately.
fn logins_and_validations(caller: &Caller, access_token: &str) -> (Load, Load) {
    let logins = Load::start(50, {
        let caller = caller.clone();
        move |_| {
            let caller = caller.clone();
            async move { caller.issue("ada", PASSWORD).await }
        }
    });
    let validations = Load::start(200, {
        let (caller, token) = (caller.clone(), access_token.to_owned());
        move |_| {
            let (caller, token) = (caller.clone(), token.clone());
            async move {
                let answer = caller.validate(&token).await?;
                assert!(answer.active);
                Ok(answer)
            }
        }
    });
    (logins, validations)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_logins_and_refreshes_fail_and_the_rest_goes_on() {
    let mut servers = Servers::start(&["--appendonly", "yes", "--appendfsync", "always"])
        .await
        .with_default_timeouts()
        // The logins below are a load, not an attack: their rate limit is off.
        .set("password.queue", "1000");
    let ben = servers.add_user("ben").await;
    let (one, other) = (servers.serve().await, servers.serve().await);
    let (here, there) = (Caller::of(&one), Caller::of(&other));
    let bystander = here.login("ada").await;
    let by_token = here.login("ada").await;
    let by_user = here.login("ben").await;

    let (logins, validations) = logins_and_validations(&here, &bystander.access_token);
    servers.redis.kill();
    eventually("logins are refused", Duration::from_secs(30), || async {
        here.issue("ada", PASSWORD).await.is_err().then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_refused(
            here.issue("ada", PASSWORD).await,
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        );
        let refresh = here.refresh(&bystander.refresh_token).await;
        assert!(retry_info(refresh.as_ref().unwrap_err()), "the error has RetryInfo");
        assert_refused(refresh, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    here.revoke(Target::Token(by_token.refresh_token.clone()))
        .await
        .expect("a revocation in Postgres is enough");
    here.revoke(Target::UserId(ben))
        .await
        .expect("a revocation in Postgres is enough");

    // Without the stream, the other replica and one that starts now learn of the revocations from Postgres alone.
    let third = servers.serve().await;
    let late = Caller::of(&third);
    for replica in [&here, &there, &late] {
        replica.until_revoked(&by_token.access_token).await;
        replica.until_revoked(&by_user.access_token).await;
        replica.assert_active(&bystander.access_token).await;
    }

    // Redis returns with all its data, including the records of sessions that were revoked meanwhile.
    servers.redis.launch();
    let back = Instant::now();
    for replica in [&here, &there, &late] {
        eventually("logins work", Duration::from_secs(30), || async {
            replica.issue("ada", PASSWORD).await.ok()
        })
        .await;
    }
    println!("logins worked {:?} after Redis returned", back.elapsed());
    for replica in [&here, &there, &late] {
        for tokens in [&by_token, &by_user] {
            assert_refused(
                replica.refresh(&tokens.refresh_token).await,
                Code::Unauthenticated,
                "SESSION_REVOKED",
            );
            replica.until_revoked(&tokens.access_token).await;
        }
    }
    here.refresh_until_answered(&bystander.refresh_token)
        .await
        .expect("the session survived the outage");

    let (logins, validations) = (logins.stop().await, validations.stop().await);
    println!("logins: {logins}\nvalidations: {validations}");
    logins.assert_only(&["Ok", UNAVAILABLE]);
    assert!(logins.count("Ok") > 0 && logins.count(UNAVAILABLE) > 0, "{logins}");
    validations.assert_only(&["Ok"]);
    for server in [&one, &other, &third] {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

fn retry_info(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    status
        .get_details_retry_info()
        .is_some_and(|info| info.retry_delay.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_queues_nothing_and_rotates_no_session_twice() {
    let mut servers = Servers::start(&[]).await.with_default_timeouts();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let bystander = caller.login("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(caller.login("ada").await);
    }
    let before = server.resident_kib();

    servers.redis.freeze();
    // Each session is refreshed once while Redis does not answer. The commands that were sent run when Redis thaws.
    let mut waits = Vec::new();
    for session in &sessions {
        let start = Instant::now();
        assert_refused(
            caller.refresh(&session.refresh_token).await,
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        );
        waits.push(start.elapsed());
    }
    waits.sort_unstable();
    let usual = waits[waits.len() / 2];
    assert!(usual < Duration::from_secs(2), "timed out after {usual:?}");
    let refreshes = Load::start(250, {
        let (caller, tokens) = (caller.clone(), sessions.clone());
        move |n| {
            let (caller, token) = (caller.clone(), tokens[n % tokens.len()].refresh_token.clone());
            async move { caller.refresh(&token).await }
        }
    });
    let (logins, validations) = logins_and_validations(&caller, &bystander.access_token);
    sleep(Duration::from_secs(8)).await;
    let frozen = server.resident_kib();
    servers.redis.thaw();
    let (refreshes, logins, validations) = (refreshes.stop().await, logins.stop().await, validations.stop().await);
    println!(
        "refreshes: {refreshes}\nlogins: {logins}\nvalidations: {validations}\n{before} KiB before, {frozen} KiB frozen"
    );
    validations.assert_only(&["Ok"]);
    let may = ["Ok", UNAVAILABLE, "ResourceExhausted OVERLOADED"];
    refreshes.assert_only(&may);
    logins.assert_only(&may);
    assert!(refreshes.quantile(0.5) < Duration::from_secs(2), "{refreshes}");
    assert!(frozen < before + 64 * 1024, "{before} KiB became {frozen} KiB");

    for session in &sessions {
        let (next, _) = caller.refresh_until_answered(&session.refresh_token).await.unwrap();
        assert_eq!(
            generation(&next.refresh_token),
            1,
            "rotated once, however often the client retried"
        );
        let (_, outcome) = caller.refresh_until_answered(&next.refresh_token).await.unwrap();
        assert_eq!(outcome, RefreshOutcome::Rotated);
    }
}
