//! The Postgres of a run, and its faults.

use std::thread::sleep;

use nix::sys::signal::Signal;

use super::kinds::{BeforePromotion, Deployment, PostgresFault};
use super::redis::partition;
use crate::support::replication::{Replication, url_of};
use crate::support::{Database, Pooler, Postgres, Proxy};

/// The server connections of the pooler: more than the writes of all replicas.
const POOLED: u32 = 42;

/// The servers.
#[derive(Debug)]
pub(crate) struct PostgresSide {
    /// Without standbys if the deployment has one server.
    servers: Replication,
    database: Database,
    pooler: Option<Pooler>,
    /// For each replica of Countersign a proxy before each server, or one before the pooler.
    links: Vec<Vec<Proxy>>,
}

impl PostgresSide {
    /// Starts the servers of this deployment, for so many replicas of Countersign.
    pub(crate) async fn start(deployment: Deployment, replicas: usize) -> Self {
        let start = move || match deployment {
            Deployment::Streaming | Deployment::Pooled => Replication::synchronous(2),
            Deployment::Single | Deployment::Sentinel | Deployment::Cluster => Replication::asynchronous(0),
        };
        let servers = tokio::task::spawn_blocking(start).await.unwrap();
        let database = servers.primary.database().await;
        let pooler = (deployment == Deployment::Pooled).then(|| Pooler::with_size(&database, POOLED));
        let addresses = pooler
            .as_ref()
            .map_or_else(|| servers.addresses(), |pooler| vec![pooler.address()]);
        let mut links = Vec::new();
        for _ in 0..replicas {
            let mut own = Vec::new();
            for &address in &addresses {
                own.push(Proxy::start(address).await);
            }
            links.push(own);
        }
        Self {
            servers,
            database,
            pooler,
            links,
        }
    }

    /// The URL for a replica of Countersign.
    pub(crate) fn url(&self, replica: usize) -> String {
        let addresses: Vec<_> = self.links[replica].iter().map(Proxy::address).collect();
        match addresses[..] {
            [one] => self.database.url_through(one),
            _ => url_of(&addresses, &self.database),
        }
    }

    /// Makes the fault, and repairs it.
    pub(crate) fn apply(&mut self, fault: PostgresFault) {
        let primary = &mut self.servers.primary;
        match fault {
            PostgresFault::Kill { down } => {
                primary.kill();
                sleep(down);
                primary.launch();
                self.servers.wait_for_standbys();
            }
            PostgresFault::Pause { time } => {
                primary.freeze();
                sleep(time);
                primary.thaw();
            }
            PostgresFault::Isolate { replica, how, time } => partition(&self.links[replica], how, time),
            PostgresFault::Promote { first, after } => {
                match first {
                    BeforePromotion::Kill => primary.kill(),
                    BeforePromotion::Pause => primary.freeze(),
                    BeforePromotion::Stop => primary.stop(Signal::SIGINT),
                }
                sleep(after);
                self.servers.promote();
                if first == BeforePromotion::Pause {
                    self.servers.primary.kill();
                }
                if let Some(pooler) = &mut self.pooler {
                    pooler.switch(self.servers.promoted());
                }
                self.servers.rebuild();
            }
            PostgresFault::StopStandbys { time } => {
                let standbys = &mut self.servers.standbys;
                standbys.iter_mut().for_each(Postgres::freeze);
                sleep(time);
                standbys.iter_mut().for_each(Postgres::thaw);
            }
            PostgresFault::KillStandby { standby, down } => {
                let standby = &mut self.servers.standbys[standby];
                standby.kill();
                sleep(down);
                standby.launch();
                self.servers.wait_for_standbys();
            }
            PostgresFault::KillPooler { down } => {
                let pooler = self.pooler.as_mut().expect("this deployment has a pooler");
                pooler.kill();
                sleep(down);
                pooler.launch();
            }
        }
    }
}
