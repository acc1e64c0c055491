//! The wall clock of a replica steps while it runs, by an hour or by many years, and comes back. Nothing panics, no
//! record that is still needed is deleted, and revoked tokens stay revoked.
//!
//! `COUNTERSIGN_TEST_LEAP_SECONDS=75 cargo test --all-features --test faults clock_steps` stays in each leap long
//! enough for the clean-up that runs once a minute. The default is long enough only for tasks that run every few
//! seconds.

use std::time::{Duration, SystemTime};

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, KeyState};
use rstest::rstest;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::get::try_get;
use crate::support::keys::published;
use crate::support::{
    Caller, Countersign, Deployment, DeploymentKind, Keys, PASSWORD, WallTime, assert_refused, eventually, get,
};

/// How long each leap lasts by default, in seconds: longer than the interval of key maintenance.
const LEAP: u64 = 4;

/// 9999-12-31T23:59:59Z, the last second of RFC 3339 and `google.protobuf.Timestamp`.
const END_OF_TIME: i64 = 253_402_300_799;

/// The time that the clock is set to.
enum LeapTo {
    /// This much from the real time, in libfaketime's format.
    Offset(&'static str),
    /// This many seconds after [`END_OF_TIME`].
    End(i64),
}

/// Two revoked and two live sessions from before the steps.
struct Sessions {
    kept: Vec<countersign::proto::Tokens>,
    revoked: Vec<countersign::proto::Tokens>,
    keys: Vec<String>,
}

async fn key_set(server: &Countersign) -> Vec<String> {
    let url = format!("{}/.well-known/jwks.json", server.http_url());
    published(&get(&url, &[]).await.body)
}

/// While its clock is wrong the replica must answer every call, and must never accept a revoked token.
async fn assert_sane_during_leap(leap: Duration, server: &Countersign, before: &Sessions, dated: bool) {
    let caller = Caller::of(server);
    let start = Instant::now();
    while start.elapsed() < leap {
        for revoked in &before.revoked {
            match caller.validate(&revoked.access_token).await {
                Ok(answer) => assert!(!answer.active, "{answer:?}"),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
        for kept in &before.kept {
            match caller.validate(&kept.access_token).await {
                Ok(answer) if answer.active => {}
                Ok(answer) => assert!(
                    matches!(answer.reason(), InactiveReason::Expired | InactiveReason::NotYetValid),
                    "{answer:?}"
                ),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
        for name in ["ada", "eve"] {
            match caller.issue(name, PASSWORD).await {
                Ok(_) => {}
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
        for path in [".well-known/jwks.json", "metrics", "healthz"] {
            let url = format!("{}/{path}", server.http_url());
            let answer = try_get(&url, &[]).await;
            if !dated {
                continue;
            }
            assert_eq!(
                answer.map(|answer| answer.status),
                Some(200),
                "{path}\n{}",
                server.log()
            );
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "by the tests' own clock, which is right")]
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs().try_into().unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_and_comes_back_loses_no_session_and_no_revocation(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let leap = std::env::var_os("COUNTERSIGN_TEST_LEAP_SECONDS")
        .map_or(LEAP, |seconds| seconds.to_str().unwrap().parse().unwrap());
    let deployment = Deployment::fresh(deployment_kind).await;
    let wall = WallTime::shifted("+0s");
    let storage = wall.apply_to(&deployment.storage);
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("eve", &[]);
    let bob = deployment.add_user("bob", &[]);
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    let (by_session, by_user) = (caller.login("ada").await, caller.login("bob").await);
    caller
        .revoke(Target::Token(by_session.refresh_token.clone()))
        .await
        .unwrap();
    caller.revoke(Target::UserId(bob)).await.unwrap();
    let before = Sessions {
        kept: vec![caller.login("ada").await, caller.login("eve").await],
        revoked: vec![by_session, by_user],
        keys: key_set(&server).await,
    };
    for revoked in &before.revoked {
        caller.until_revoked(&revoked.access_token).await;
    }

    for leap_to in [
        LeapTo::Offset("-1h"),
        // Before 1970, where Unix times are negative.
        LeapTo::Offset("-70y"),
        // After 2038-01-19, where 32-bit Unix times overflow.
        LeapTo::Offset("+13y"),
        LeapTo::End(-2),
        LeapTo::End(86_400),
    ] {
        let offset = match leap_to {
            LeapTo::Offset(offset) => offset.to_owned(),
            LeapTo::End(seconds) => format!("+{}s", END_OF_TIME - now() + seconds),
        };
        wall.set(&offset);
        // The HTTP Date header can only express the years 1970 to 9999, so it is absent outside them.
        let dated = matches!(leap_to, LeapTo::Offset(offset) if offset != "-70y");
        assert_sane_during_leap(Duration::from_secs(leap), &server, &before, dated).await;
        wall.set("+0s");
        let back = eventually(
            "a token is active again after the clock came back",
            Duration::from_secs(10),
            || async {
                for kept in &before.kept {
                    if !caller.validate(&kept.access_token).await.ok()?.active {
                        return None;
                    }
                }
                Some(())
            },
        );
        if tokio::time::timeout(Duration::from_secs(9), back).await.is_err() {
            let said = caller.validate(&before.kept[0].access_token).await;
            panic!("{offset}: a good token is rejected: {said:?}\n{}", server.log());
        }
        for revoked in &before.revoked {
            assert_eq!(
                caller.inactive_reason(&revoked.access_token).await,
                Some(InactiveReason::Revoked),
                "{offset}"
            );
        }
        let keys = key_set(&server).await;
        assert!(before.keys.iter().all(|key| keys.contains(key)), "{offset}: {keys:?}");
        assert!(!server.log().contains("panicked"), "{offset}: {}", server.log());
    }

    // The live sessions still work, the revoked ones do not, and Revoke and Validate answer for both.
    for kept in &before.kept {
        // Refresh answers UNAVAILABLE until the clock has been compared with the store's again.
        let (fresh, _) = caller
            .refresh_until_answered(&kept.refresh_token)
            .await
            .expect("the session is there");
        caller.assert_active(&fresh.access_token).await;
    }
    for revoked in &before.revoked {
        assert_refused(
            caller.refresh(&revoked.refresh_token).await,
            Code::Unauthenticated,
            "SESSION_REVOKED",
        );
    }
    let trail = deployment.storage.run(&["audit", "query", "--subject", &ada]).json();
    assert!(
        trail["events"].as_array().is_some_and(|events| !events.is_empty()),
        "{trail}"
    );

    // Keys rotate as before: the wrong times of the leaps have no lasting effect.
    let keys = Keys::of(&server);
    let signed = keys.active().await;
    keys.rotate(true).await.unwrap();
    assert_ne!(keys.active().await, signed);
    assert_eq!(keys.in_state(KeyState::Pending).await.len(), 1);
    let session = caller.login("ada").await;
    caller.assert_active(&session.access_token).await;
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
