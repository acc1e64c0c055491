//! Redis: one server, Sentinel and Cluster.

use std::time::Duration;

use super::{Broken, CANARY, Refuses, Starts, on_free_ports};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Database, Redis, RedisCluster, RedisSentinel, eventually, ports};

/// `redis-cli` as the default user of a server without a password.
fn tell(redis: &Redis, words: &[&str]) {
    redis.command(words);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of set-ups")]
async fn faults_of_redis_are_named_with_their_cure() {
    let database = Database::fresh().await;
    let at = |url: &str| on_free_ports(for_tests(Storage::clustered(database.url(), url, "cs")));
    let evicting = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let locked = Redis::start(&[]);
    tell(&locked, &["CONFIG", "SET", "requirepass", "right"]);
    let open = Redis::start(&["--appendonly", "yes"]);
    tell(
        &open,
        &[
            "ACL", "SETUSER", "few", "on", ">right", "~cs:*", "+@all", "-hset", "-xadd",
        ],
    );
    tell(
        &open,
        &["ACL", "SETUSER", "elsewhere", "on", ">right", "~other:*", "+@all"],
    );
    tell(
        &open,
        &["ACL", "SETUSER", "mute", "on", ">right", "~*", "+@all", "-eval"],
    );
    let volatile = Redis::start(&[]);
    let port = open.address().port().to_string();
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {port}"), "--appendonly", "yes"]);
    let cluster = RedisCluster::start(3, &["--appendonly", "yes"]);
    let sentinel = RedisSentinel::start();
    let nowhere = ports::free();
    let with = |user: &str, redis: &Redis| redis.url().replace("://", &format!("://{user}@"));

    let broken = [
        Broken {
            name: "no server listens there",
            storage: at(&format!("redis://:{CANARY}@127.0.0.1:{nowhere}")),
            check: ("redis", "UNREACHABLE"),
            code: 69,
            says: &["127.0.0.1", "is Redis running there"],
            serve: Starts,
        },
        Broken {
            name: "it evicts keys",
            storage: at(&evicting.url()),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["maxmemory-policy allkeys-lru", "set it to noeviction"],
            serve: Refuses(1, "set it to noeviction"),
        },
        Broken {
            name: "it keeps nothing on disk",
            storage: at(&volatile.url()),
            check: ("redis", "WARNING"),
            code: 0,
            says: &["writes nothing to disk", "appendonly"],
            serve: Starts,
        },
        Broken {
            name: "it wants a password",
            storage: at(&locked.url()),
            check: ("redis", "UNREACHABLE"),
            code: 69,
            says: &["NOAUTH", "redis://USER:PASSWORD@HOST:PORT"],
            serve: Starts,
        },
        Broken {
            name: "the password is wrong",
            storage: at(&with(&format!("default:{CANARY}"), &locked)),
            check: ("redis", "UNREACHABLE"),
            code: 69,
            says: &["WRONGPASS", "check the user and password"],
            serve: Starts,
        },
        Broken {
            name: "the user lacks commands",
            storage: at(&with("few:right", &open)),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["may not run HSET, XADD:", "~cs:*", "+xadd"],
            serve: Refuses(1, "may not run HSET, XADD:"),
        },
        Broken {
            name: "the user has other keys",
            storage: at(&with("elsewhere:right", &open)),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["commands on keys cs:*", "~cs:*"],
            serve: Refuses(1, "commands on keys cs:*"),
        },
        Broken {
            name: "the user may not run scripts",
            storage: at(&with("mute:right", &open)),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["may not run EVAL:", "+eval"],
            serve: Refuses(1, "may not run EVAL:"),
        },
        Broken {
            name: "it is a replica",
            storage: at(&replica.url()),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["is a replica", "name its master"],
            serve: Starts,
        },
        Broken {
            name: "it is a node of a cluster",
            storage: at(&cluster.masters[0].url()),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["is a node of a cluster", "redis-cluster://"],
            serve: Refuses(1, "redis-cluster://"),
        },
        Broken {
            name: "it is no cluster",
            storage: at(&open.url().replace("redis://", "redis-cluster://")),
            check: ("redis", "UNREACHABLE"),
            code: 69,
            says: &["is not a node of a cluster", "redis:// in place of"],
            serve: Starts,
        },
        Broken {
            name: "it is a Sentinel",
            storage: at(&sentinel.own_url()),
            check: ("redis", "FAILED"),
            code: 1,
            says: &["is a Sentinel", "sentinelServiceName"],
            serve: Refuses(1, "is a Sentinel"),
        },
    ];
    for broken in broken {
        broken.check();
    }

    // Without a host name the masters cannot be reached.
    for master in &cluster.masters {
        tell(
            master,
            &["CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"],
        );
    }
    Broken {
        name: "the cluster announces no host names",
        storage: at(&cluster.url()),
        check: ("redis", "UNREACHABLE"),
        code: 69,
        says: &["without a host name", "cluster-announce-hostname"],
        serve: Starts,
    }
    .check();
    // As a container does that announces the address of its own network. The nodes keep each other's links meanwhile.
    for master in &cluster.masters {
        tell(master, &["CONFIG", "SET", "cluster-preferred-endpoint-type", "ip"]);
        tell(master, &["CONFIG", "SET", "cluster-node-timeout", "600000"]);
    }
    tell(
        &cluster.masters[0],
        &["CONFIG", "SET", "cluster-announce-ip", "127.0.0.99"],
    );
    // Any of them may be asked: replicas remember the nodes of a cluster.
    let announced = |master: &Redis| master.command(&["CLUSTER", "SLOTS"]).contains("127.0.0.99");
    eventually("every master tells the address", Duration::from_secs(30), || async {
        cluster.masters.iter().all(announced).then_some(())
    })
    .await;
    Broken {
        name: "the cluster announces an address that cannot be reached from here",
        storage: at(&format!("redis-cluster://{}", cluster.masters[0].address())),
        check: ("redis", "UNREACHABLE"),
        code: 69,
        says: &["announces its masters as", "127.0.0.99", "must be reachable from here"],
        serve: Starts,
    }
    .check();
}
