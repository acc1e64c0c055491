//! Redis has lost all its data, or its last writes.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, RefreshOutcome, Tokens};
use tonic::Code;

use crate::support::caller::generation;
use crate::support::{Caller, Load, PASSWORD, Redis, Servers, assert_refused, eventually};

/// Validates revoked tokens a hundred times a second, and fails if one is ever active.
fn watch_revoked(caller: &Caller, revoked: &[Tokens]) -> Load {
    let (caller, revoked) = (caller.clone(), revoked.to_owned());
    Load::start(100, move |n| {
        let (caller, token) = (caller.clone(), revoked[n % revoked.len()].access_token.clone());
        async move {
            let answer = caller.validate(&token).await?;
            assert!(!answer.active, "a revoked token became active again");
            Ok(answer)
        }
    })
}

async fn until_logins_work(caller: &Caller) -> Tokens {
    eventually("logins work", Duration::from_mins(1), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_ends_sessions_and_reactivates_no_revoked_token() {
    let mut servers = Servers::start(&[]).await;
    let replicas = [servers.serve().await, servers.serve().await];
    let callers = [Caller::of(&replicas[0]), Caller::of(&replicas[1])];
    let mut revoked = Vec::new();
    for n in 0..10 {
        let session = callers[0].login("ada").await;
        callers[n % 2]
            .revoke(Target::Token(session.access_token.clone()))
            .await
            .unwrap();
        revoked.push(session);
    }
    for caller in &callers {
        for session in &revoked {
            caller.until_revoked(&session.access_token).await;
        }
    }
    let watching = [
        watch_revoked(&callers[0], &revoked),
        watch_revoked(&callers[1], &revoked),
    ];

    for fault in [
        "emptied while running",
        "restarted empty",
        "frozen, then restarted empty",
    ] {
        let session = until_logins_work(&callers[0]).await;
        match fault {
            "emptied while running" => drop(servers.redis.command(&["FLUSHALL"])),
            "restarted empty" => servers.redis.launch_empty(),
            _ => {
                servers.redis.freeze();
                assert_refused(
                    callers[0].refresh(&session.refresh_token).await,
                    Code::Unavailable,
                    "STORE_UNAVAILABLE",
                );
                servers.redis.launch_empty();
            }
        }
        for caller in &callers {
            until_logins_work(caller).await;
            assert_refused(
                caller.refresh_until_answered(&session.refresh_token).await,
                Code::Unauthenticated,
                "SESSION_NOT_FOUND",
            );
            // The session was lost, not revoked: its access token is valid until it expires.
            caller.assert_active(&session.access_token).await;
            for session in &revoked {
                assert_refused(
                    caller.refresh_until_answered(&session.refresh_token).await,
                    Code::Unauthenticated,
                    "SESSION_REVOKED",
                );
            }
        }
    }
    for watching in watching {
        let report = watching.stop().await;
        println!("{report}");
        report.assert_only(&["Ok"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_writes_loses_no_revocation_and_no_rotation() {
    let servers = Servers::start(&["--repl-diskless-sync-delay", "0"]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let rotated = caller.login("ada").await;
    let deleted = caller.login("ada").await;
    let reused = caller.login("ada").await;

    let replica = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let port = servers.redis.address().port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    eventually("the replica has caught up", Duration::from_secs(20), || async {
        replica
            .command(&["INFO", "replication"])
            .contains("master_link_status:up")
            .then_some(())
    })
    .await;
    // Replication is cut: from now on only the old master has the writes.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    let mut newest = rotated.clone();
    for _ in 0..3 {
        newest = caller.refresh(&newest.refresh_token).await.unwrap().0;
    }
    caller
        .revoke(Target::Token(deleted.access_token.clone()))
        .await
        .unwrap();
    let (second, _) = caller.refresh(&reused.refresh_token).await.unwrap();
    let (third, _) = caller.refresh(&second.refresh_token).await.unwrap();
    assert_refused(
        caller.refresh(&reused.refresh_token).await,
        Code::Unauthenticated,
        "REFRESH_TOKEN_REUSED",
    );
    let created = caller.login("ada").await;

    servers.to_redis.redirect(replica.address());
    until_logins_work(&caller).await;

    // A lost rotation: the tag proves that Countersign issued the newer token, so it is accepted.
    let (next, outcome) = caller.refresh_until_answered(&newest.refresh_token).await.unwrap();
    assert_eq!((outcome, generation(&next.refresh_token)), (RefreshOutcome::Rotated, 4));
    // A lost deletion and a lost tombstone: the revocations in Postgres refuse these sessions.
    for revoked in [&deleted, &reused, &second, &third] {
        assert_refused(
            caller.refresh_until_answered(&revoked.refresh_token).await,
            Code::Unauthenticated,
            "SESSION_REVOKED",
        );
        assert_eq!(
            caller.inactive_reason(&revoked.access_token).await,
            Some(InactiveReason::Revoked)
        );
    }
    // A lost creation: the user has to log in again.
    assert_refused(
        caller.refresh_until_answered(&created.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_NOT_FOUND",
    );
}
