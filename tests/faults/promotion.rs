//! A standby that lags is promoted, and lacks revocations that were acknowledged. The replicas that know them refuse them all,
//! and write them back before they answer from the new primary; so a replica that starts later refuses them too.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::revoke_request::Target;
use countersign::proto::{RevokeRequest, Tokens};
use tonic::Code;

use crate::support::deployment::{PASSWORD, add_user, for_tests};
use crate::support::replicated::{Replicated, serve};
use crate::support::serve::Storage;
use crate::support::web::metric;
use crate::support::{Admin, Caller, Database, Proxy, Redis, assert_refused, eventually};

const SOON: Duration = Duration::from_secs(30);

/// How many sessions are revoked one by one.
const SESSIONS: usize = 36;

/// How many sessions of one user are revoked together, beside one that is kept.
const SESSIONS_OF_BOB: usize = 12;

/// Announces the revocation of a session that the database does not have, as an intruder in Redis can.
fn announce(redis: &Redis, session: &str) {
    let now = SystemClock::new().now();
    let message = serde_json::json!({
        "v": 1,
        "revocations": [{
            "level": "session",
            "id": session,
            "epoch": 0,
            "expires": now.plus(Duration::from_hours(1)),
            "revoked": now,
        }],
    });
    let last = redis.command(&["XREVRANGE", "cs:revocations", "+", "-", "COUNT", "1"]);
    let last = last.lines().next().expect("the stream has messages").to_owned();
    redis.command(&[
        "XADD",
        "cs:revocations",
        "*",
        "after",
        &last,
        "message",
        &message.to_string(),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one promotion, looked at from every side")]
async fn revocations_that_a_promoted_standby_lacks_are_written_back() {
    let Replicated {
        mut primary,
        standby,
        redis,
        database,
    } = Replicated::start().await;
    let proxy = Proxy::start(primary.address()).await;
    let storage = for_tests(Storage::clustered(
        &database.url_through(proxy.address()),
        &redis.url(),
        "cs",
    ));
    let made = storage.clone();
    let bob = tokio::task::spawn_blocking(move || {
        add_user(&made, "ada", &[]);
        add_user(&made, "bob", &[])
    });
    let bob = bob.await.unwrap();
    let servers = [serve(&storage).await, serve(&storage).await];
    let [first, second] = [Caller::of(&servers[0]), Caller::of(&servers[1])];

    let mut revoked: Vec<Tokens> = Vec::new();
    for _ in 0..SESSIONS {
        revoked.push(first.login("ada").await);
    }
    for _ in 0..SESSIONS_OF_BOB {
        revoked.push(first.login("bob").await);
    }
    let kept = [first.login("ada").await, second.login("bob").await];
    let forged = first.login("ada").await;
    standby.until_caught_up(&primary);
    standby.stop_receiving();

    for session in &revoked[..SESSIONS] {
        first
            .revoke(Target::SessionId(session.session_id.clone()))
            .await
            .unwrap();
    }
    let everything_of_bob = RevokeRequest {
        target: Some(Target::UserId(bob)),
        keep_session_id: kept[1].session_id.clone(),
        ..RevokeRequest::default()
    };
    first.tokens.clone().revoke(everything_of_bob).await.unwrap();
    for session in &revoked {
        second.until_revoked(&session.access_token).await;
    }
    announce(&redis, &forged.session_id);
    for caller in [&first, &second] {
        caller.until_revoked(&forged.access_token).await;
    }

    primary.kill();
    standby.promote();
    let promoted = Database::at(&database.url_through(standby.address()));
    let rows = async || promoted.scalar("SELECT count(*) FROM revocations").await;
    assert_eq!(rows().await, "0", "the standby lagged");
    let refuse =
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON revocations EXECUTE FUNCTION refuse()";
    promoted.execute(refuse).await;
    proxy.redirect(standby.address());

    // At once: the new primary itself does not know that these sessions are revoked.
    let mut refreshed = 0;
    for (n, session) in revoked.iter().enumerate() {
        let caller = if n % 2 == 0 { &first } else { &second };
        match caller.refresh_until_answered(&session.refresh_token).await {
            Ok(_) => refreshed += 1,
            Err(status) => assert_eq!(status.code(), Code::Unauthenticated),
        }
    }
    println!("{refreshed} of {} revoked sessions were refreshed", revoked.len());
    assert_eq!(refreshed, 0);

    // Its epoch of bob is too small: a login would get tokens that are revoked already.
    for caller in [&first, &second] {
        let issued = caller.issue("bob", PASSWORD).await;
        assert_refused(issued, Code::Unavailable, "STORE_UNAVAILABLE");
        let ada = eventually("ada is logged in", SOON, || async {
            caller.issue("ada", PASSWORD).await.ok()
        })
        .await;
        caller.assert_active_when_answered(&ada.access_token).await;
    }

    // As long as the revocations cannot be written back, nothing is answered from the new primary.
    let as_of = async || {
        let answer = first.validate(&kept[0].access_token).await.unwrap();
        answer.revocations_as_of.map(|at| (at.seconds, at.nanos))
    };
    let before = as_of().await;
    let failures = || metric(&servers[0], "countersign_reconciliations_total{outcome=\"failed\"}");
    let failed = failures();
    eventually("several attempts to write back fail", SOON, || async {
        (failures() >= failed + 2.0).then_some(())
    })
    .await;
    assert_eq!(as_of().await, before);
    assert_eq!(rows().await, "0");
    for server in &servers {
        let lines = || server.log().matches("they cannot be written back").count();
        eventually("the log says so", SOON, || async { (lines() > 0).then_some(()) }).await;
        assert_eq!(lines(), 1, "{}", server.log());
    }
    promoted.execute("DROP TRIGGER refuse ON revocations").await;

    let expected = (SESSIONS + 1).to_string();
    eventually("the lost revocations are written back", SOON, || async {
        (rows().await == expected).then_some(())
    })
    .await;
    let mut lacking = 0;
    for (server, caller) in servers.iter().zip([&first, &second]) {
        eventually("the replica answers from the new primary", SOON, || async {
            let log = server.log();
            // The second one may find that the first one has written all of them already.
            let is_done = log.contains("it has written them back") || log.contains("none is missing");
            is_done.then_some(())
        })
        .await;
        lacking += server
            .log()
            .matches("lacked revocations that this replica knows")
            .count();
        for session in &kept {
            caller.assert_active_when_answered(&session.access_token).await;
        }
    }
    assert!(lacking >= 1, "{}", servers[0].log());
    for caller in [&first, &second] {
        let again = eventually("bob is logged in", SOON, || async {
            caller.issue("bob", PASSWORD).await.ok()
        })
        .await;
        caller.assert_active_when_answered(&again.access_token).await;
    }
    let distinct = "SELECT count(DISTINCT (level, id, keep, epoch)) FROM revocations";
    assert_eq!(promoted.scalar(distinct).await, expected);
    assert_eq!(rows().await, expected, "two replicas wrote, and no row is there twice");
    let raised = "SELECT count(*) FROM users WHERE epoch > 0 AND epoch = (SELECT max(epoch) FROM revocations)";
    assert_eq!(
        promoted.scalar(raised).await,
        "1",
        "a later revocation has a larger epoch"
    );
    let events = Admin::of(&servers[0]).events("revocations.written_back").await;
    assert!((1..=2).contains(&events.len()), "{events:?}");

    // A replica that never knew them.
    let [old_first, old_second] = servers;
    drop((old_first, old_second));
    let restarted = serve(&storage).await;
    let caller = Caller::of(&restarted);
    let mut active = BTreeSet::new();
    for (n, session) in revoked.iter().enumerate() {
        if caller.inactive_reason(&session.access_token).await.is_none() {
            active.insert(n);
        }
    }
    println!(
        "{} of {} are active on a restarted replica",
        active.len(),
        revoked.len()
    );
    assert_eq!(active, BTreeSet::new());
    for session in &revoked {
        let refused = caller.refresh(&session.refresh_token).await;
        assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
    }
    for session in &kept {
        caller.assert_active(&session.access_token).await;
        caller.refresh(&session.refresh_token).await.unwrap();
    }
}
