//! Groups of Redis servers that replace a master by themselves: several Sentinels with a master and its replicas, and a
//! cluster whose masters have replicas.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::guard::{self, Ending};
use super::process::{Process, find};
use super::redis::try_command;
use super::{Redis, poll, ports};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A server is taken to be down after so long, in milliseconds.
const DOWN_AFTER: u32 = 1_000;

/// A master, its replicas and several Sentinels.
#[derive(Debug)]
pub struct SentinelGroup {
    /// All servers. The first one is the master at the start.
    pub servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    address: SocketAddr,
    process: Process,
    folder: PathBuf,
}

impl SentinelGroup {
    /// The Sentinels' name for the master.
    pub const SERVICE: &'static str = "countersign";

    /// Starts a master with these options, so many replicas and Sentinels, and waits until all know each other.
    pub fn start(replicas: usize, sentinels: usize, options: &[&str]) -> Self {
        let mut all = vec!["--repl-diskless-sync-delay", "0"];
        all.extend(options);
        let master = Redis::start(&all);
        let port = master.address().port();
        let of = format!("127.0.0.1 {port}");
        let mut servers = vec![master];
        all.extend(["--replicaof", &of]);
        servers.extend((0..replicas).map(|_| Redis::start(&all)));
        let quorum = sentinels / 2 + 1;
        let sentinels = (0..sentinels).map(|_| Sentinel::start(port, quorum)).collect();
        let group = Self { servers, sentinels };
        let ready = poll(TIMEOUT, || {
            let caught_up = group.servers[1..].iter().all(|replica| {
                replica
                    .command(&["INFO", "replication"])
                    .contains("master_link_status:up")
            });
            let known = group.sentinels.iter().all(|sentinel| {
                let count = |what: &str| {
                    sentinel
                        .ask(&["SENTINEL", what, Self::SERVICE])
                        .map(|list| records(&list))
                };
                count("REPLICAS") == Some(replicas) && count("SENTINELS") == Some(group.sentinels.len() - 1)
            });
            (caught_up && known).then_some(())
        });
        assert!(
            ready.is_some(),
            "the Sentinels do not agree; the first said:\n{}",
            group.sentinels[0].process.log()
        );
        group
    }

    /// `redis-sentinel://…?sentinelServiceName=…` with all Sentinels.
    pub fn url(&self) -> String {
        let service = Self::SERVICE;
        let mut url = format!(
            "redis-sentinel://{}?sentinelServiceName={service}",
            self.sentinels[0].address
        );
        for sentinel in &self.sentinels[1..] {
            let _ = write!(url, "&node={}", sentinel.address);
        }
        url
    }

    /// The index of the master that most Sentinels announce.
    pub fn announced_master(&self) -> Option<usize> {
        let announced: Vec<u16> = self.sentinels.iter().filter_map(Sentinel::announced).collect();
        (0..self.servers.len()).find(|&index| {
            let port = self.servers[index].address().port();
            announced.iter().filter(|&&other| other == port).count() > self.sentinels.len() / 2
        })
    }

    /// Waits until most Sentinels announce another master than this one; returns its index.
    ///
    /// # Panics
    ///
    /// If they do not within a minute.
    pub fn wait_for_successor(&self, of: usize) -> usize {
        let successor = poll(TIMEOUT, || self.announced_master().filter(|&index| index != of));
        successor.unwrap_or_else(|| {
            panic!(
                "no replica is promoted; a Sentinel said:\n{}",
                self.sentinels[0].process.log()
            )
        })
    }

    /// Waits until this server is a replica that follows the announced master.
    ///
    /// # Panics
    ///
    /// If it is not within a minute.
    pub fn wait_until_follows(&self, index: usize) {
        let follows = poll(TIMEOUT, || {
            let info = try_command(&self.servers[index].url(), &["INFO", "replication"]).ok()?;
            (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
        });
        assert!(follows.is_some(), "server {index} does not follow the new master");
    }

    /// A URL that names one Sentinel.
    pub fn url_of(&self, sentinel: usize) -> String {
        let (address, service) = (self.sentinels[sentinel].address, Self::SERVICE);
        format!("redis-sentinel://{address}?sentinelServiceName={service}")
    }

    /// Ends one of the Sentinels.
    pub fn kill_sentinel(&mut self, index: usize) {
        self.sentinels[index].process.kill();
    }

    /// Starts a Sentinel again that was ended.
    pub fn launch_sentinel(&mut self, index: usize) {
        let sentinel = &mut self.sentinels[index];
        sentinel.process = Sentinel::spawn(&sentinel.folder);
    }

    /// Ends one of the Sentinels, and starts one of another deployment at its address: it watches this master under the same name,
    /// and has seen so many failovers. The Sentinels of this group may not write to it: they would otherwise take it into their group,
    /// and believe its epoch themselves.
    pub fn replace_sentinel(&mut self, index: usize, master: &Redis, epoch: u32) {
        self.kill_sentinel(index);
        let own = self.sentinels[index].address.port();
        let stray = Sentinel::start_at(
            own,
            master.address().port(),
            1,
            epoch,
            "user default on nopass ~* &* +@all -publish\n",
        );
        let announces = poll(TIMEOUT, || {
            (stray.announced() == Some(master.address().port())).then_some(())
        });
        assert!(announces.is_some(), "it does not answer:\n{}", stray.process.log());
        self.sentinels[index] = stray;
    }
}

impl Sentinel {
    fn start(port: u16, quorum: usize) -> Self {
        Self::start_at(ports::free(), port, quorum, 0, "")
    }

    fn start_at(own: u16, port: u16, quorum: usize, epoch: u32, options: &str) -> Self {
        let folder = guard::scratch("sentinel");
        let configuration = folder.join("sentinel.conf");
        let name = SentinelGroup::SERVICE;
        std::fs::write(
            &configuration,
            format!(
                "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {port} {quorum}\n\
                 sentinel down-after-milliseconds {name} {DOWN_AFTER}\nsentinel failover-timeout {name} 6000\n\
                 sentinel config-epoch {name} {epoch}\nsentinel current-epoch {epoch}\n{options}",
                folder.display()
            ),
        )
        .unwrap();
        Self {
            address: ([127, 0, 0, 1], own).into(),
            process: Self::spawn(&folder),
            folder,
        }
    }

    fn spawn(folder: &Path) -> Process {
        Process::spawn(
            Command::new(find("redis-server").expect("redis-server is installed"))
                .arg(folder.join("sentinel.conf"))
                .arg("--sentinel"),
            &folder.join("log"),
            Ending::Kill,
        )
    }

    fn ask(&self, words: &[&str]) -> Option<String> {
        try_command(&format!("redis://{}", self.address), words).ok()
    }

    /// The port of the master that it announces.
    fn announced(&self) -> Option<u16> {
        let answer = self.ask(&["SENTINEL", "get-master-addr-by-name", SentinelGroup::SERVICE])?;
        answer.lines().nth(1)?.trim().parse().ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.process.kill();
        guard::discard(&self.folder);
    }
}

/// The number of records in a list of `redis-cli`: each has one line `name`.
fn records(list: &str) -> usize {
    list.lines().filter(|line| line.trim() == "name").count()
}

/// A cluster of masters with replicas.
#[derive(Debug)]
pub struct ClusterGroup {
    /// All nodes, masters first.
    pub nodes: Vec<Redis>,
}

impl ClusterGroup {
    /// Starts so many masters (at least three), each with so many replicas, with these options, and joins them.
    pub fn start(masters: usize, replicas: usize, options: &[&str]) -> Self {
        let down_after = DOWN_AFTER.to_string();
        let nodes: Vec<Redis> = (0..masters * (replicas + 1))
            .map(|_| {
                let bus = ports::free().to_string();
                let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
                all.extend(["--cluster-node-timeout", &down_after, "--repl-diskless-sync-delay", "0"]);
                all.extend([
                    "--cluster-replica-validity-factor",
                    "0",
                    "--cluster-require-full-coverage",
                    "no",
                ]);
                all.extend(options);
                Redis::start(&all)
            })
            .collect();
        let joined = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(nodes.iter().map(|node| node.address().to_string()))
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .expect("redis-cli starts");
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stdout));
        let group = Self { nodes };
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
        let mut url = format!("redis-cluster://{}", self.nodes[0].address());
        for (n, node) in self.nodes.iter().enumerate().skip(1) {
            let separator = if n == 1 { '?' } else { '&' };
            let _ = write!(url, "{separator}node={}", node.address());
        }
        url
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
        let address = line.split(' ').nth(1)?.split('@').next()?;
        self.nodes.iter().position(|node| node.address().to_string() == address)
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
