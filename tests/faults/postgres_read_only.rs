//! Postgres becomes read-only under open connections, as in a failover, or closes all of them.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tonic::Code;

use crate::support::{Caller, Load, PASSWORD, Servers, assert_refused, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_connection_is_replaced() {
    let servers = Servers::start(&[]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    let turn = async |on: &str| {
        servers
            .database
            .execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"))
            .await;
        servers.database.execute("SELECT pg_reload_conf()").await;
    };
    turn("on").await;
    eventually("it is read-only", Duration::from_secs(10), || async {
        (servers.database.scalar("SHOW default_transaction_read_only").await == "on").then_some(())
    })
    .await;
    for _ in 0..20 {
        let refused = caller.revoke(Target::Token(session.refresh_token.clone())).await;
        assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
        caller.assert_active(&session.access_token).await;
    }
    turn("off").await;
    eventually("logins work", Duration::from_secs(10), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    caller
        .refresh(&session.refresh_token)
        .await
        .expect("no revocation was half made");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_are_replaced() {
    let servers = Servers::start(&[]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    let load = Load::start(100, {
        let (caller, session) = (caller.clone(), session.clone());
        move |n| {
            let (caller, session) = (caller.clone(), session.clone());
            async move {
                match n % 3 {
                    0 => caller.issue("ada", PASSWORD).await.map(drop),
                    1 => caller.validate(&session.access_token).await.map(drop),
                    _ => caller
                        .revoke(Target::SessionId("0190b6a8-1111-7000-8000-000000000000".into()))
                        .await
                        .map(drop),
                }
            }
        }
    });
    for _ in 0..100 {
        servers
            .database
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
    }
    let report = load.stop().await;
    println!("{report}");
    report.assert_only(&["Ok", "Unavailable STORE_UNAVAILABLE", "ResourceExhausted OVERLOADED"]);
    for _ in 0..20 {
        eventually("logins work", Duration::from_secs(5), || async {
            caller.issue("ada", PASSWORD).await.ok()
        })
        .await;
    }
    caller.assert_active(&session.access_token).await;
}
