//! Rows 1 and 2: Redis refuses connections, or accepts them and says nothing.

use std::time::Duration;

use countersign::proto::RefreshOutcome;
use countersign::proto::revoke_request::Target;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::caller::generation;
use crate::support::{Caller, Load, PASSWORD, Servers, assert_refused, eventually};

const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";

/// Logins and validations at once, so that each shows what it costs the other.
fn load(caller: &Caller, access_token: &str) -> (Load, Load) {
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
async fn without_redis_logins_wait_and_everything_else_goes_on() {
    let mut servers = Servers::start(&["--appendonly", "yes", "--appendfsync", "always"])
        .await
        .giving_up_early()
        // The logins below are a load, not a flood.
        .set("password.queue", "1000");
    let ben = servers.add_user("ben").await;
    let (one, other) = (servers.serve().await, servers.serve().await);
    let (here, there) = (Caller::of(&one), Caller::of(&other));
    let bystander = here.login("ada").await;
    let by_token = here.login("ada").await;
    let by_user = here.login("ben").await;

    let (logins, validations) = load(&here, &bystander.access_token);
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
        assert!(retry_info(refresh.as_ref().unwrap_err()), "it says when to try again");
        assert_refused(refresh, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    here.revoke(Target::Token(by_token.refresh_token.clone()))
        .await
        .expect("Postgres has it: that is enough");
    here.revoke(Target::UserId(ben))
        .await
        .expect("Postgres has it: that is enough");

    // Without the stream the other replica, and one that starts now, know it from Postgres alone.
    let third = servers.serve().await;
    let late = Caller::of(&third);
    for replica in [&here, &there, &late] {
        replica.until_revoked(&by_token.access_token).await;
        replica.until_revoked(&by_user.access_token).await;
        replica.assert_active(&bystander.access_token).await;
    }

    // It returns with everything that it had: the records of sessions that have been revoked meanwhile.
    servers.redis.launch();
    let back = Instant::now();
    for replica in [&here, &there, &late] {
        eventually("logins work", Duration::from_secs(30), || async {
            replica.issue("ada", PASSWORD).await.ok()
        })
        .await;
    }
    println!("logins worked {:?} after Redis was back", back.elapsed());
    for replica in [&here, &there, &late] {
        for dead in [&by_token, &by_user] {
            assert_refused(
                replica.refresh(&dead.refresh_token).await,
                Code::Unauthenticated,
                "SESSION_REVOKED",
            );
            replica.until_revoked(&dead.access_token).await;
        }
    }
    here.insist(&bystander.refresh_token)
        .await
        .expect("the session outlived Redis");

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
async fn a_frozen_redis_piles_nothing_up_and_rotates_nothing_twice() {
    let mut servers = Servers::start(&[]).await.giving_up_early();
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let bystander = caller.login("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(caller.login("ada").await);
    }
    let before = server.resident_kib();

    servers.redis.freeze();
    // Each is asked for once while nothing answers: what was sent is done when Redis thaws.
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
    assert!(usual < Duration::from_secs(2), "given up after {usual:?}");
    let refreshes = Load::start(250, {
        let (caller, tokens) = (caller.clone(), sessions.clone());
        move |n| {
            let (caller, token) = (caller.clone(), tokens[n % tokens.len()].refresh_token.clone());
            async move { caller.refresh(&token).await }
        }
    });
    let (logins, validations) = load(&caller, &bystander.access_token);
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
        let (next, _) = caller.insist(&session.refresh_token).await.unwrap();
        assert_eq!(generation(&next.refresh_token), 1, "however often it was asked");
        let (_, outcome) = caller.insist(&next.refresh_token).await.unwrap();
        assert_eq!(outcome, RefreshOutcome::Rotated);
    }
}
