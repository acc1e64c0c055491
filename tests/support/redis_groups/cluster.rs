//! A cluster whose masters have replicas.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use super::super::redis::try_command;
use super::super::{Proxy, Redis, poll, ports};
use super::{DOWN_AFTER, TIMEOUT};

/// A cluster of masters with replicas.
#[derive(Debug)]
pub struct ClusterGroup {
    /// All nodes, masters first.
    pub nodes: Vec<Redis>,
    /// The proxies before the nodes, if there are any. The bus of the cluster has none.
    pub links: Vec<Proxy>,
}

impl ClusterGroup {
    /// Starts so many masters (at least three), each with so many replicas, with these options, and joins them.
    pub fn start(masters: usize, replicas: usize, options: &[&str]) -> Self {
        Self::start_behind(Vec::new(), masters, replicas, options)
    }

    /// The same with proxies before the nodes, one for each or none: clients and replicas connect through them.
    pub fn start_behind(links: Vec<Proxy>, masters: usize, replicas: usize, options: &[&str]) -> Self {
        let down_after = DOWN_AFTER.to_string();
        let start = |n: usize| {
            let bus = ports::free().to_string();
            let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
            all.extend(["--cluster-node-timeout", &down_after, "--repl-diskless-sync-delay", "0"]);
            all.extend([
                "--cluster-replica-validity-factor",
                "0",
                "--cluster-require-full-coverage",
                "no",
            ]);
            let announced = links.get(n).map(|link| link.address().port().to_string());
            if let Some(port) = &announced {
                all.extend(["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", port]);
                all.extend(["--cluster-announce-bus-port", &bus]);
            }
            all.extend(options);
            let node = Redis::start(&all);
            if let Some(link) = links.get(n) {
                link.redirect(node.address());
            }
            node
        };
        let nodes: Vec<Redis> = (0..masters * (replicas + 1)).map(start).collect();
        let group = Self { nodes, links };
        let joined = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args((0..group.nodes.len()).map(|n| group.address(n).to_string()))
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .expect("redis-cli starts");
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stdout));
        let ready = poll(TIMEOUT, || {
            let known = format!("cluster_known_nodes:{}", group.nodes.len());
            group
                .nodes
                .iter()
                .all(|node| {
                    let info = try_command(&node.url(), &["CLUSTER", "INFO"]).unwrap_or_default();
                    let replication = try_command(&node.url(), &["INFO", "replication"]).unwrap_or_default();
                    info.contains("cluster_state:ok")
                        && info.contains(&known)
                        && (replication.contains("role:master") || replication.contains("master_link_status:up"))
                })
                .then_some(())
        });
        assert!(
            ready.is_some(),
            "the cluster does not settle; the first says:\n{}",
            group.nodes[0].log()
        );
        group
    }

    /// A `redis-cluster://` URL that names all nodes.
    pub fn url(&self) -> String {
        let mut url = format!("redis-cluster://{}", self.address(0));
        for n in 1..self.nodes.len() {
            let separator = if n == 1 { '?' } else { '&' };
            let _ = write!(url, "{separator}node={}", self.address(n));
        }
        url
    }

    /// The address at which others find a node: that of its proxy, if it has one.
    fn address(&self, node: usize) -> SocketAddr {
        super::address(&self.links, node, &self.nodes[node])
    }

    /// Moves so many slots with their keys from one master to another, as an operator does; the cluster goes on.
    ///
    /// # Panics
    ///
    /// If they cannot be moved.
    pub fn move_slots(&self, from: usize, to: usize, number: u32) {
        let id = |index: usize| self.nodes[index].command(&["CLUSTER", "MYID"]);
        let moved = Command::new("redis-cli")
            .args(["--cluster", "reshard", &self.nodes[from].address().to_string()])
            .args(["--cluster-from", &id(from), "--cluster-to", &id(to)])
            .args(["--cluster-slots", &number.to_string(), "--cluster-yes"])
            .output()
            .expect("redis-cli starts");
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stdout));
    }

    /// Whether all nodes agree that all slots are served, and each master has a replica that follows it.
    pub fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| {
            let info = try_command(&node.url(), &["CLUSTER", "INFO"]).unwrap_or_default();
            let replication = try_command(&node.url(), &["INFO", "replication"]).unwrap_or_default();
            let is_followed = replication.contains("role:master") && replication.contains("state=online");
            let is_served = info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
            is_served && (is_followed || replication.contains("master_link_status:up"))
        })
    }

    /// A replica of this master, as the master knows it.
    pub fn replica_of(&self, master: usize) -> Option<usize> {
        let nodes = try_command(&self.nodes[master].url(), &["CLUSTER", "NODES"]).ok()?;
        let own = self.nodes[master].command(&["CLUSTER", "MYID"]);
        let line = nodes.lines().find(|line| line.split(' ').nth(3) == Some(&own))?;
        self.of_line(line)
    }

    fn of_line(&self, line: &str) -> Option<usize> {
        let address = line.split(' ').nth(1)?.split('@').next()?;
        (0..self.nodes.len()).find(|&node| self.address(node).to_string() == address)
    }

    /// The index of the master that serves this slot, as `asked` knows it.
    pub fn master_of(&self, slot: u16, asked: usize) -> Option<usize> {
        let nodes = try_command(&self.nodes[asked].url(), &["CLUSTER", "NODES"]).ok()?;
        let line = nodes.lines().find(|line| {
            let mut fields = line.split(' ');
            let is_master = fields
                .nth(2)
                .is_some_and(|flags| flags.contains("master") && !flags.contains("fail"));
            is_master && fields.skip(5).any(|range| contains(range, slot))
        })?;
        self.of_line(line)
    }

    /// Waits until another node than this one serves the slot; returns its index.
    ///
    /// # Panics
    ///
    /// If none does within a minute.
    pub fn wait_for_successor(&self, of: usize, slot: u16) -> usize {
        let successor = poll(TIMEOUT, || {
            let others = (0..self.nodes.len()).filter(|&index| index != of);
            let served: Vec<Option<usize>> = others.map(|asked| self.master_of(slot, asked)).collect();
            let first = served.first().copied().flatten().filter(|&index| index != of)?;
            served.iter().all(|&index| index == Some(first)).then_some(first)
        });
        successor.expect("a replica is promoted")
    }
}

/// Whether a range of CLUSTER NODES (`0-5460`, `7`) contains the slot.
fn contains(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}
