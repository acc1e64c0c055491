//! Postgres is down. Validate goes on until `max_staleness` and then fails; nothing else succeeds without the
//! database.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tokio::time::Instant;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::{Caller, Load, PASSWORD, Servers, assert_refused, eventually};

const MAX_STALENESS: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn validate_works_without_postgres_until_max_staleness() {
    let mut servers = Servers::start(&[])
        .await
        .with_default_timeouts()
        .set("revocation.max_staleness", &format!("{}s", MAX_STALENESS.as_secs()));
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    let revoked = caller.login("ada").await;
    caller
        .revoke(Target::Token(revoked.access_token.clone()))
        .await
        .unwrap();
    let load = Load::start(50, {
        let caller = caller.clone();
        move |n| {
            let (caller, name) = (caller.clone(), ["ada", "nobody"][n % 2]);
            async move { caller.issue(name, PASSWORD).await }
        }
    });

    let down = Instant::now();
    servers.postgres.stop(Signal::SIGQUIT);
    let stopped = Instant::now();
    eventually("Validate fails", MAX_STALENESS * 4, || async {
        let asked = stopped.elapsed();
        match caller.validate(&session.access_token).await {
            Ok(answer) => {
                assert!(answer.active);
                // The age when the call began: the answer may come a moment later.
                assert!(
                    asked < MAX_STALENESS + Duration::from_secs(1),
                    "still answered after {asked:?}"
                );
                None
            }
            Err(status) => {
                assert_eq!(
                    reason(&status),
                    (Code::Unavailable, "REVOCATIONS_STALE".into()),
                    "{status:?}"
                );
                Some(())
            }
        }
    })
    .await;
    let lasted = down.elapsed();
    println!("Validate answered for {lasted:?}");
    assert!(lasted > MAX_STALENESS * 5 / 8, "Validate failed after only {lasted:?}");

    for name in ["ada", "nobody"] {
        let start = Instant::now();
        assert_refused(
            caller.issue(name, PASSWORD).await,
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        );
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
    assert_refused(
        caller.refresh(&session.refresh_token).await,
        Code::Unavailable,
        "STORE_UNAVAILABLE",
    );
    assert_refused(
        caller.revoke(Target::Token(session.access_token.clone())).await,
        Code::Unavailable,
        "STORE_UNAVAILABLE",
    );

    servers.postgres.launch();
    let back = Instant::now();
    eventually("Validate works again", Duration::from_mins(1), || async {
        caller.validate(&session.access_token).await.ok()
    })
    .await;
    eventually("logins work again", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    println!("healed {:?} after Postgres was back", back.elapsed());
    caller.until_revoked(&revoked.access_token).await;
    caller
        .refresh(&session.refresh_token)
        .await
        .expect("the session survived the outage");

    let report = load.stop().await;
    println!("{report}");
    report.assert_only(&[
        "Ok",
        "Unauthenticated INVALID_CREDENTIALS",
        "Unavailable STORE_UNAVAILABLE",
        "ResourceExhausted OVERLOADED",
    ]);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
