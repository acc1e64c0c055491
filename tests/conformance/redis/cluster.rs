//! Redis Cluster: slots that move, and failover.

use std::process::Command;
use std::time::Duration;

use countersign::model::Rotation;
use countersign::store::{Announcements as _, SessionStore as _};

use super::{RECOVERY, connect};
use crate::sessions::backends::{attempt, present, session, successor};
use crate::support::{Redis as Server, RedisCluster, eventually, ports};

fn id(server: &Server) -> String {
    server.command(&["CLUSTER", "MYID"])
}

fn set_slot(server: &Server, slot: &str, words: &[&str]) {
    let mut command = vec!["CLUSTER", "SETSLOT", slot];
    command.extend(words);
    assert_eq!(server.command(&command), "OK");
}

/// Starts a replica that replaces `master` when it fails.
fn replica_of(master: &Server) -> Server {
    let bus = ports::free().to_string();
    let options = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "2000",
    ];
    let replica = Server::start(&options);
    let addresses = [replica.address().to_string(), master.address().to_string()];
    let joined = Command::new("redis-cli")
        .args(["--cluster", "add-node", &addresses[0], &addresses[1]])
        .args(["--cluster-slave", "--cluster-master-id", &id(master)])
        .output()
        .unwrap();
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stdout));
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_while_its_slot_moves_and_after() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3, &[]))
        .await
        .unwrap();
    let store = connect(&cluster.url(), "cs").await.unwrap();
    let session = session();
    store.create(&session, 9).await.unwrap();
    let key = format!("cs:s:{{{}}}", session.user);
    let slot = cluster.masters[0].command(&["CLUSTER", "KEYSLOT", &key]);
    let holds = |server: &&Server| server.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) == "1";
    let from = cluster.masters.iter().find(holds).unwrap();
    let to = cluster.masters.iter().find(|server| !holds(server)).unwrap();

    set_slot(to, &slot, &["IMPORTING", &id(from)]);
    set_slot(from, &slot, &["MIGRATING", &id(to)]);
    assert_eq!(
        successor(&store.rotate(&present(&session, 0)).await.unwrap()).generation,
        1,
        "not moved yet"
    );
    let port = to.address().port().to_string();
    from.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
    // The key is between its masters, which answer ASK. The call waits for its timeout and then fails.
    let between = store.rotate(&present(&session, 1)).await;
    assert!(between.is_err(), "{between:?}");
    for master in [to, from] {
        set_slot(master, &slot, &["NODE", &id(to)]);
    }
    // The masters answer MOVED: the next call follows it.
    let rotation = store.rotate(&present(&session, 1)).await.unwrap();
    assert!(
        matches!(&rotation, Rotation::Rotated(r) if r.generation == 2),
        "{rotation:?}"
    );
    assert_eq!(
        successor(&store.rotate(&present(&session, 2)).await.unwrap()).generation,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_until_a_moving_key_arrives() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3, &[]))
        .await
        .unwrap();
    let store = connect(&cluster.url(), "cs").await.unwrap();
    let session = session();
    store.create(&session, 9).await.unwrap();
    let key = format!("cs:s:{{{}}}", session.user);
    let slot = cluster.masters[0].command(&["CLUSTER", "KEYSLOT", &key]);
    let count = |server: &Server| server.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]);
    let from = cluster.masters.iter().find(|server| count(server) == "1").unwrap();
    let to = cluster.masters.iter().find(|server| count(server) == "0").unwrap();
    set_slot(to, &slot, &["IMPORTING", &id(from)]);
    set_slot(from, &slot, &["MIGRATING", &id(to)]);
    let port = to.address().port().to_string();
    from.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
    let presented = present(&session, 0);
    let (rotation, ()) = tokio::join!(store.rotate(&presented), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::task::block_in_place(|| {
            for master in [to, from] {
                set_slot(master, &slot, &["NODE", &id(to)]);
            }
        });
    });
    // Whether the call or the move was faster, the session rotated at most once, and the next call finds it.
    let retry = eventually("the session is found", RECOVERY, || async {
        store.rotate(&presented).await.ok()
    })
    .await;
    assert_eq!(successor(&retry).generation, 1, "{rotation:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_cross_a_cluster() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3, &[]))
        .await
        .unwrap();
    let (one, other) = (
        connect(&cluster.url(), "cs").await.unwrap(),
        connect(&cluster.url(), "cs").await.unwrap(),
    );
    let mut heard = super::stream::StreamListener::new(other.listen()).await;
    let revocation = super::stream::revocation();
    one.announce(std::slice::from_ref(&revocation)).await.unwrap();
    assert_eq!(heard.revocations().await, [revocation]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_found_after_the_only_seed_is_lost() {
    let (mut cluster, replica) = tokio::task::spawn_blocking(|| {
        let cluster = RedisCluster::start(3, &["--cluster-node-timeout", "2000"]);
        let replica = replica_of(&cluster.masters[0]);
        (cluster, replica)
    })
    .await
    .unwrap();
    let seed = format!("redis-cluster://{}", cluster.masters[0].address());
    let store = connect(&seed, "cs").await.unwrap();
    let sessions: Vec<_> = (0..12).map(|_| session()).collect();
    for session in &sessions {
        store.create(session, 9).await.unwrap();
    }
    let keys = cluster.masters[0].command(&["DBSIZE"]);
    eventually("the replica has all keys", RECOVERY, || async {
        (replica.command(&["DBSIZE"]) == keys).then_some(())
    })
    .await;
    cluster.masters[0].kill();
    for session in &sessions {
        let presented = attempt(session, 0, "a");
        let rotation = eventually("the replica is promoted and found", Duration::from_mins(1), || async {
            store.rotate(&presented).await.ok()
        })
        .await;
        assert_eq!(successor(&rotation).generation, 1);
    }
}
