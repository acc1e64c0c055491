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

    // Twenty minutes of service later: the counter advances once a minute, which a test need not wait for.
    servers.redis.command(&["INCRBY", "cs:counter:{0}", "20"]);
    servers
        .redis
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually(
        "the counter is compared and stored",
        Duration::from_secs(20),
        || async {
            let stored = servers.database.scalar("SELECT max(value) FROM counters").await;
            (stored.parse::<i64>().ok()? > 20).then_some(())
        },
    )
    .await;

    servers.redis.kill();
    std::fs::write(&dump, &backup).unwrap();
    servers.redis.launch();
    eventually("the loss is noticed", Duration::from_secs(20), || async {
        (servers.database.scalar("SELECT era FROM meta").await != "1"
            && !Admin::of(&server).events("sessions.lost").await.is_empty())
        .then_some(())
    })
    .await;
    assert!(server.log().contains("is 20 min behind"), "{}", server.log());
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
