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
use super::{Proxy, Redis, poll, ports};

mod cluster;

pub use cluster::ClusterGroup;

const TIMEOUT: Duration = Duration::from_mins(1);

/// A server is taken to be down after so long, in milliseconds.
const DOWN_AFTER: u32 = 1_000;

/// A master, its replicas and several Sentinels.
#[derive(Debug)]
pub struct SentinelGroup {
    /// All servers. The first one is the master at the start.
    pub servers: Vec<Redis>,
    /// The proxies before the servers, if there are any.
    pub links: Vec<Proxy>,
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
        Self::start_behind(Vec::new(), replicas, sentinels, options)
    }

    /// The same with proxies before the servers, one for each or none: clients, Sentinels and servers connect through them.
    pub fn start_behind(links: Vec<Proxy>, replicas: usize, sentinels: usize, options: &[&str]) -> Self {
        let mut servers: Vec<Redis> = Vec::new();
        for n in 0..=replicas {
            let mut all = vec!["--repl-diskless-sync-delay", "0"];
            all.extend(options);
            let announced = links.get(n).map(|link| link.address().port().to_string());
            if let Some(port) = &announced {
                all.extend(["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", port]);
            }
            let master = servers.first().map(|master| address(&links, 0, master).port());
            let settings = master.map(|port| format!("replicaof 127.0.0.1 {port}\n"));
            let server = Redis::with_file(&settings.unwrap_or_default(), &all);
            if let Some(link) = links.get(n) {
                link.redirect(server.address());
            }
            servers.push(server);
        }
        let port = address(&links, 0, &servers[0]).port();
        let quorum = sentinels / 2 + 1;
        let sentinels = (0..sentinels).map(|_| Sentinel::start(port, quorum)).collect();
        let group = Self {
            servers,
            links,
            sentinels,
        };
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
            let port = address(&self.links, index, &self.servers[index]).port();
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

    /// Whether one server is the announced master, and all others follow it.
    pub fn is_whole(&self) -> bool {
        let Some(master) = self.announced_master() else {
            return false;
        };
        let port = address(&self.links, master, &self.servers[master]).port();
        (0..self.servers.len()).all(|index| {
            let info = try_command(&self.servers[index].url(), &["INFO", "replication"]).unwrap_or_default();
            let follows = info.contains("master_link_status:up") && info.contains(&format!("master_port:{port}"));
            let is_master = info.contains("role:master");
            if index == master { is_master } else { follows }
        })
    }

    /// Tells the Sentinels to replace the master, as an operator does; whether they agreed.
    pub fn replace_master(&self) -> bool {
        self.sentinels
            .iter()
            .any(|sentinel| sentinel.ask(&["SENTINEL", "FAILOVER", Self::SERVICE]).is_some())
    }

    /// The number of Sentinels.
    pub fn sentinels(&self) -> usize {
        self.sentinels.len()
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

/// The address at which others find a server: that of its proxy, if it has one.
fn address(links: &[Proxy], index: usize, server: &Redis) -> SocketAddr {
    links.get(index).map_or_else(|| server.address(), Proxy::address)
}

/// The number of records in a list of `redis-cli`: each has one line `name`.
fn records(list: &str) -> usize {
    list.lines().filter(|line| line.trim() == "name").count()
}
