//! Row 10: Postgres is gone. Validate goes on for as long as it may know better than nobody, and no longer.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tokio::time::Instant;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::{Caller, Load, PASSWORD, Servers, assert_refused, eventually};

const STALENESS: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn validate_outlives_postgres_by_max_staleness_and_heals_with_it() {
    let mut servers = Servers::start(&[])
        .await
        .giving_up_early()
        .set("revocation.max_staleness", &format!("{}s", STALENESS.as_secs()));
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
    eventually("Validate gives up", STALENESS * 4, || async {
        let asked = stopped.elapsed();
        match caller.validate(&session.access_token).await {
            Ok(answer) => {
                assert!(answer.active);
                // When it was asked: the answer may have been given a moment later.
                assert!(
                    asked < STALENESS + Duration::from_secs(1),
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
    assert!(lasted > STALENESS * 5 / 8, "it gave up after {lasted:?} already");

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
        .expect("the session outlived Postgres");

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
