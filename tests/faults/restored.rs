//! Redis is restored from an old backup while the service runs. Its sessions are outdated, so all users log in again.
//! The counter that reveals the restore is compared at each reconnection, not only once a minute.

use std::time::Duration;

use tonic::Code;

use crate::support::{Admin, Caller, Servers, assert_refused, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_of_redis_is_noticed_on_reconnection() {
    let mut servers = Servers::start(&["--dbfilename", "dump.rdb"]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers.redis.command(&["SAVE"]);
    let dump = servers.redis.folder().join("dump.rdb");
    let backup = std::fs::read(&dump).unwrap();
    let (rotated, _) = caller.refresh(&session.refresh_token).await.unwrap();

    // The counter advances each time the connections are made anew, so the test need not wait for a minute.
    let counter = || {
        servers
            .redis
            .command(&["GET", "cs:counter:{0}"])
            .parse::<i64>()
            .unwrap_or(0)
    };
    let first = counter();
    for n in 1..=8 {
        servers
            .redis
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        eventually("the counter is compared", Duration::from_secs(20), || async {
            (counter() >= first + n).then_some(())
        })
        .await;
    }
    let stored = eventually("and stored", Duration::from_secs(10), || async {
        let stored: i64 = servers
            .database
            .scalar("SELECT max(value) FROM counters")
            .await
            .parse()
            .ok()?;
        (stored >= first + 8).then_some(stored)
    })
    .await;
    println!("the counter stands at {stored}");

    servers.redis.kill();
    std::fs::write(&dump, &backup).unwrap();
    servers.redis.launch();
    eventually("the loss is noticed", Duration::from_secs(20), || async {
        (servers.database.scalar("SELECT era FROM meta").await != "1"
            && !Admin::of(&server).events("sessions.lost").await.is_empty())
        .then_some(())
    })
    .await;
    // Both sessions belong to the previous era: the older one, whose generation is current in the backup, and the
    // newer one.
    for token in [&session.refresh_token, &rotated.refresh_token] {
        let refused = caller.refresh_until_answered(token).await;
        assert_refused(refused, Code::Unauthenticated, "SESSION_NOT_FOUND");
    }
    let again = eventually("logins work", Duration::from_secs(20), || async {
        caller.issue("ada", crate::support::PASSWORD).await.ok()
    })
    .await;
    caller.refresh_until_answered(&again.refresh_token).await.unwrap();
}
