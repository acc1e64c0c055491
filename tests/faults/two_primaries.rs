//! A standby is promoted while the old primary goes on: nothing fences it, and the connections to it stay open. A replica that
//! stays there learns of the other side from the other replicas, and stops.

use std::time::Duration;

use countersign::proto::Tokens;
use countersign::proto::revoke_request::Target;
use tonic::Code;

use crate::support::caller::reason;
use crate::support::deployment::{PASSWORD, add_user, for_tests};
use crate::support::replicated::{Replicated, serve};
use crate::support::serve::Storage;
use crate::support::{Caller, Database, Proxy, assert_refused, eventually, get};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_a_replaced_primary_answers_and_records_nothing() {
    let Replicated {
        primary,
        standby,
        redis,
        database,
    } = Replicated::start().await;
    let proxies = [
        Proxy::start(primary.address()).await,
        Proxy::start(primary.address()).await,
    ];
    let storage = |proxy: &Proxy| {
        let url = database.url_through(proxy.address());
        for_tests(Storage::clustered(&url, &redis.url(), "cs"))
    };
    let storages = [storage(&proxies[0]), storage(&proxies[1])];
    let made = storages[0].clone();
    tokio::task::spawn_blocking(move || add_user(&made, "ada", &[]))
        .await
        .unwrap();
    let [staying, moving] = [serve(&storages[0]).await, serve(&storages[1]).await];
    let (stays, moves) = (Caller::of(&staying), Caller::of(&moving));
    let mut sessions: Vec<Tokens> = Vec::new();
    for _ in 0..6 {
        sessions.push(stays.login("ada").await);
    }
    standby.until_caught_up(&primary);
    standby.stop_receiving();
    standby.promote();
    // Acknowledged by the old primary, before any replica can know.
    stays
        .revoke(Target::Token(sessions[0].refresh_token.clone()))
        .await
        .unwrap();
    moves.until_revoked(&sessions[0].access_token).await;

    let begun = tokio::time::Instant::now();
    proxies[1].redirect(standby.address());
    let refused = eventually(
        "the replica on the old side notices",
        Duration::from_secs(15),
        || async { stays.validate(&sessions[1].access_token).await.err() },
    )
    .await;
    println!("the replica on the old side stopped after {:?}", begun.elapsed());
    assert_eq!(reason(&refused).0, Code::Unavailable);
    let old_side = Database::at(database.url());
    let rows = async || old_side.scalar("SELECT count(*) FROM revocations").await;
    let before = rows().await;
    for session in &sessions[2..4] {
        let revoked = stays.revoke(Target::Token(session.refresh_token.clone())).await;
        assert_eq!(reason(&revoked.unwrap_err()).0, Code::Unavailable);
    }
    let refreshed = stays.refresh(&sessions[1].refresh_token).await;
    assert_refused(refreshed, Code::Unavailable, "STORE_UNAVAILABLE");
    let issued = stays.issue("ada", PASSWORD).await;
    assert_refused(issued, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(rows().await, before, "nothing is recorded on the old side");
    let ready = get(&format!("{}/readyz", staying.http_url()), &[]).await;
    assert_eq!(ready.status, 503, "it is not ready");
    let log = staying.log();
    assert_eq!(log.matches("two primaries").count(), 1, "{log}");
    assert!(!moving.log().contains("two primaries"));

    // The other replica goes on, and its revocations are in force.
    moves.assert_active(&sessions[1].access_token).await;
    moves
        .revoke(Target::Token(sessions[4].refresh_token.clone()))
        .await
        .unwrap();

    // The operator lets the address lead to the later side: the replica moves, and nothing that it acknowledged is lost.
    proxies[0].redirect(standby.address());
    eventually("it answers again", SOON, || async {
        stays.validate(&sessions[1].access_token).await.ok()
    })
    .await;
    for session in [&sessions[0], &sessions[4]] {
        stays.until_revoked(&session.access_token).await;
    }
    let later_side = Database::at(&database.url_through(standby.address()));
    let all = later_side.scalar("SELECT count(*) FROM revocations").await;
    assert_eq!(all, "2", "the one of the old side was written back");
    stays.assert_active(&sessions[1].access_token).await;
}
