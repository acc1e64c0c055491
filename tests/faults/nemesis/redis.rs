//! The Redis of a run, and its faults.

use std::ops::Range;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::kinds::{Deployment, Partition, RedisFault};
use crate::support::proxy::LinkState;
use crate::support::redis_groups::{ClusterGroup, SentinelGroup};
use crate::support::{History, Proxy, Redis, poll};

/// Redis writes every change to its disk before it acknowledges it.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A slot of each master of the cluster.
const SLOTS: [u16; 3] = [1_000, 7_000, 13_000];

/// How long a group may need until it is whole again, on a busy machine.
const REPAIR: Duration = Duration::from_mins(5);

/// Before a fault of a master: what it acknowledged so shortly before may not be copied yet.
const LAG: Duration = Duration::from_secs(1);

/// After a repair: the other servers may still replace a master that is back already.
const LATE_FAILOVER: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Servers {
    /// One server, and a proxy before it for each replica of Countersign.
    Single(Redis, Vec<Proxy>),
    Sentinel(SentinelGroup),
    Cluster(ClusterGroup),
}

/// The servers.
#[derive(Debug)]
pub(crate) struct RedisSide {
    servers: Servers,
    history: Arc<History>,
    /// When a group may have lost what it had acknowledged.
    pub(crate) losses: Vec<Range<Duration>>,
}

/// Proxies that lead nowhere yet.
async fn proxies(number: usize) -> Vec<Proxy> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(Proxy::start(([127, 0, 0, 1], 1).into()).await);
    }
    all
}

/// Bytes pass, or not, until the time is over.
pub(crate) fn partition(links: &[Proxy], how: Partition, time: Duration) {
    let state = match how {
        Partition::Cut => LinkState::Cut,
        Partition::Held => LinkState::Blackhole,
    };
    for link in links {
        link.set(state);
    }
    sleep(time);
    for link in links {
        link.set(LinkState::Up(Duration::ZERO));
    }
}

impl RedisSide {
    /// Starts the servers of this deployment, for so many replicas of Countersign.
    pub(crate) async fn start(deployment: Deployment, replicas: usize, history: Arc<History>) -> Self {
        let number = match deployment {
            Deployment::Sentinel => 3,
            Deployment::Cluster => 6,
            Deployment::Single | Deployment::Streaming | Deployment::Pooled => replicas,
        };
        let links = proxies(number).await;
        let start = move || match deployment {
            Deployment::Sentinel => Servers::Sentinel(SentinelGroup::start_behind(links, 2, 3, &DURABLE)),
            Deployment::Cluster => Servers::Cluster(ClusterGroup::start_behind(links, 3, 1, &DURABLE)),
            Deployment::Single | Deployment::Streaming | Deployment::Pooled => {
                let redis = Redis::start(&DURABLE);
                for link in &links {
                    link.redirect(redis.address());
                }
                Servers::Single(redis, links)
            }
        };
        Self {
            servers: tokio::task::spawn_blocking(start).await.unwrap(),
            history,
            losses: Vec::new(),
        }
    }

    /// The URL for a replica of Countersign.
    pub(crate) fn url(&self, replica: usize) -> String {
        match &self.servers {
            Servers::Single(_, links) => format!("redis://{}", links[replica].address()),
            Servers::Sentinel(group) => group.url(),
            Servers::Cluster(group) => group.url(),
        }
    }

    /// Makes the fault, and repairs it.
    pub(crate) fn apply(&mut self, fault: RedisFault) {
        let begun = self.history.now().saturating_sub(LAG);
        match &mut self.servers {
            Servers::Single(redis, links) => return single(redis, links, fault),
            Servers::Sentinel(group) => {
                sentinel(group, fault);
                settle("the Sentinels", || group.is_whole());
            }
            Servers::Cluster(group) => {
                cluster(group, fault);
                settle("the cluster", || group.is_whole());
            }
        }
        self.losses.push(begun..self.history.now() + LATE_FAILOVER);
    }
}

fn single(redis: &mut Redis, links: &[Proxy], fault: RedisFault) {
    match fault {
        RedisFault::Kill { down, .. } => {
            redis.kill();
            sleep(down);
            redis.launch();
        }
        RedisFault::Pause { time, .. } => {
            redis.freeze();
            sleep(time);
            redis.thaw();
        }
        RedisFault::Isolate { replica, how, time, .. } => partition(&links[replica..=replica], how, time),
        RedisFault::KillReplica { .. }
        | RedisFault::KillSentinel { .. }
        | RedisFault::Promote { .. }
        | RedisFault::MoveSlots { .. } => panic!("one server has no {fault:?}"),
    }
}

fn sentinel(group: &mut SentinelGroup, fault: RedisFault) {
    let master = group.announced_master().expect("the Sentinels announce a master");
    match fault {
        RedisFault::Kill { down, .. } => {
            group.servers[master].kill();
            sleep(down);
            group.servers[master].launch();
        }
        RedisFault::Pause { time, .. } => {
            group.servers[master].freeze();
            sleep(time);
            group.servers[master].thaw();
        }
        RedisFault::Isolate { how, time, .. } => partition(&group.links[master..=master], how, time),
        RedisFault::KillReplica { shard, down } => {
            let replica = (master + 1 + shard % 2) % group.servers.len();
            group.servers[replica].kill();
            sleep(down);
            group.servers[replica].launch();
        }
        RedisFault::KillSentinel { sentinel, down } => {
            group.kill_sentinel(sentinel);
            sleep(down);
            group.launch_sentinel(sentinel);
        }
        RedisFault::Promote { .. } => {
            if group.replace_master() {
                group.wait_for_successor(master);
            }
        }
        RedisFault::MoveSlots { .. } => panic!("Sentinels have no {fault:?}"),
    }
}

fn cluster(group: &mut ClusterGroup, fault: RedisFault) {
    let master_of = |shard: usize| {
        group
            .master_of(SLOTS[shard % SLOTS.len()], 0)
            .expect("each slot has a master")
    };
    match fault {
        RedisFault::Kill { shard, down } => {
            let master = master_of(shard);
            group.nodes[master].kill();
            sleep(down);
            group.nodes[master].launch();
        }
        RedisFault::Pause { shard, time } => {
            let master = master_of(shard);
            group.nodes[master].freeze();
            sleep(time);
            group.nodes[master].thaw();
        }
        RedisFault::Isolate { shard, how, time, .. } => {
            let master = master_of(shard);
            partition(&group.links[master..=master], how, time);
        }
        RedisFault::KillReplica { shard, down } => {
            let replica = group.replica_of(master_of(shard)).expect("each master has a replica");
            group.nodes[replica].kill();
            sleep(down);
            group.nodes[replica].launch();
        }
        RedisFault::Promote { shard } => {
            let replica = group.replica_of(master_of(shard)).expect("each master has a replica");
            group.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
        }
        RedisFault::MoveSlots { shard, slots } => {
            let (from, to) = (master_of(shard), master_of(shard + 1));
            if from != to {
                group.move_slots(from, to, slots);
            }
        }
        RedisFault::KillSentinel { .. } => panic!("a cluster has no {fault:?}"),
    }
}

/// Waits until a group is whole, and stays so for a second.
fn settle(group: &str, is_whole: impl Fn() -> bool) {
    let mut seen = 0;
    let settled = poll(REPAIR, || {
        seen = if is_whole() { seen + 1 } else { 0 };
        sleep(Duration::from_millis(200));
        (seen == 5).then_some(())
    });
    assert!(settled.is_some(), "{group} did not repair themselves");
}
