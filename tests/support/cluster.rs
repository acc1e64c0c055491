//! Redis with several servers: Cluster and Sentinel.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::guard::{self, Ending};
use super::process::{Process, find};
use super::redis::try_command;
use super::{Redis, poll, ports};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A Redis Cluster on loopback, of masters only, each with a share of the slots.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters.
    pub masters: Vec<Redis>,
}

impl RedisCluster {
    /// Starts `masters` servers (a cluster needs at least three) with these extra options, and joins them.
    pub fn start(masters: usize, options: &[&str]) -> Self {
        let masters: Vec<Redis> = (0..masters)
            .map(|_| {
                let bus = ports::free().to_string();
                let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
                // Without the delay a replica is synchronised at once, so the first failover does not wait. With a
                // long node timeout, a master on a busy machine does not count as down; tests of failover set a
                // shorter one.
                all.extend(["--cluster-node-timeout", "15000", "--repl-diskless-sync-delay", "0"]);
                all.extend(options);
                Redis::start(&all)
            })
            .collect();
        let joined = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(masters.iter().map(|master| master.address().to_string()))
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli starts");
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stdout));
        let cluster = Self { masters };
        cluster.settle();
        cluster
    }

    /// Waits until every master knows all others and all slots are served.
    ///
    /// # Panics
    ///
    /// If they do not agree within a minute.
    pub fn settle(&self) {
        let known = format!("cluster_known_nodes:{}", self.masters.len());
        let agreed = poll(TIMEOUT, || {
            self.masters
                .iter()
                .all(|master| {
                    try_command(&master.url(), &["CLUSTER", "INFO"])
                        .is_ok_and(|info| info.contains("cluster_state:ok") && info.contains(&known))
                })
                .then_some(())
        });
        assert!(
            agreed.is_some(),
            "the cluster does not settle; the first says:\n{}",
            self.masters[0].log()
        );
    }

    /// A `redis-cluster://` URL that names all masters.
    pub fn url(&self) -> String {
        let mut url = format!("redis-cluster://{}", self.masters[0].address());
        for (n, master) in self.masters.iter().enumerate().skip(1) {
            let separator = if n == 1 { '?' } else { '&' };
            let _ = write!(url, "{separator}node={}", master.address());
        }
        url
    }
}

/// A master, its replica, and one sentinel that promotes the replica after a second of silence.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The master, until it fails.
    pub master: Redis,
    /// Its replica.
    pub replica: Redis,
    sentinel: Process,
    address: SocketAddr,
    folder: PathBuf,
}

impl RedisSentinel {
    /// The sentinel's name for the master.
    pub const SERVICE: &'static str = "countersign";

    /// Starts all three, and waits until the replica has caught up and the sentinel knows it.
    pub fn start() -> Self {
        let master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
        let port = master.address().port().to_string();
        let replica = Redis::start(&[
            "--replicaof",
            &format!("127.0.0.1 {port}"),
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let folder = guard::scratch("sentinel");
        let own = ports::free();
        let configuration = folder.join("sentinel.conf");
        let name = Self::SERVICE;
        std::fs::write(
            &configuration,
            format!(
                "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 3000\n",
                folder.display()
            ),
        )
        .unwrap();
        let sentinel = Process::spawn(
            Command::new(find("redis-server").expect("redis-server is installed"))
                .arg(&configuration)
                .arg("--sentinel"),
            &folder.join("log"),
            Ending::Kill,
        );
        let started = Self {
            master,
            replica,
            sentinel,
            address: ([127, 0, 0, 1], own).into(),
            folder,
        };
        let ready = poll(TIMEOUT, || {
            let known = try_command(&format!("redis://{}", started.address), &["SENTINEL", "REPLICAS", name]);
            let caught_up = started
                .replica
                .command(&["INFO", "replication"])
                .contains("master_link_status:up");
            (caught_up && known.is_ok_and(|list| !list.is_empty())).then_some(())
        });
        assert!(
            ready.is_some(),
            "the sentinel does not see the replica; it said:\n{}",
            started.sentinel.log()
        );
        started
    }

    /// `redis://…` of the sentinel itself, as a mistaken operator may write.
    pub fn own_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// `redis-sentinel://…?sentinelServiceName=…`.
    pub fn url(&self) -> String {
        format!(
            "redis-sentinel://{}?sentinelServiceName={}",
            self.address,
            Self::SERVICE
        )
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        self.sentinel.kill();
        guard::discard(&self.folder);
    }
}
