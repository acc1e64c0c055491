//! Streaming replication of Postgres: a primary, its standbys, and the promotion of one of them.

use std::net::SocketAddr;

use super::{Database, Postgres};

/// A primary and its standbys.
#[derive(Debug)]
pub struct Replication {
    /// The server that can be written, until [`Replication::promote`].
    pub primary: Postgres,
    /// The servers that follow it.
    pub standbys: Vec<Postgres>,
    /// Whether one standby must confirm each commit.
    is_synchronous: bool,
}

impl Replication {
    /// A primary and so many standbys, one of which must confirm each commit.
    pub fn synchronous(standbys: usize) -> Self {
        let mut servers = Self::asynchronous(standbys);
        servers.is_synchronous = true;
        servers.primary.wait_for_standbys(ANY);
        servers
    }

    /// A primary and so many standbys that are not synchronous.
    pub fn asynchronous(standbys: usize) -> Self {
        let primary = Postgres::start(&[("wal_keep_size", "64MB")]);
        let name = |n: usize| format!("standby{n}");
        Self {
            standbys: (0..standbys).map(|n| primary.streaming_standby(&name(n))).collect(),
            primary,
            is_synchronous: false,
        }
    }

    /// The addresses of all servers, the primary first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        std::iter::once(&self.primary)
            .chain(&self.standbys)
            .map(Postgres::address)
            .collect()
    }

    /// A URL that names all servers, for a database on them.
    pub fn url(&self, database: &Database) -> String {
        url_of(&self.addresses(), database)
    }

    /// The standby that has received most, which a manager of failovers promotes.
    fn most_advanced(&self) -> &Postgres {
        let received = |server: &&Postgres| {
            let bytes = server.sql("SELECT coalesce(pg_last_wal_receive_lsn(), '0/0') - '0/0'::pg_lsn");
            bytes.parse::<u64>().expect("a number of bytes")
        };
        self.standbys.iter().max_by_key(received).expect("there are standbys")
    }

    fn promoted_index(&self) -> usize {
        let is_primary = |server: &Postgres| server.sql("SELECT pg_is_in_recovery()") == "f";
        let promoted = self.standbys.iter().position(is_primary);
        promoted.expect("a standby was promoted")
    }

    /// The address of the promoted standby.
    pub fn promoted(&self) -> SocketAddr {
        self.standbys[self.promoted_index()].address()
    }

    /// Takes all standbys from the primary, so that it acknowledges nothing that needs one, and promotes one of them.
    pub fn promote(&self) {
        for standby in &self.standbys {
            standby.stop_receiving();
        }
        let chosen = self.most_advanced();
        chosen.set("synchronous_standby_names", "");
        chosen.promote();
    }

    /// After a promotion: the promoted standby becomes the primary, the other standbys follow it, and so does the old primary with
    /// a new copy of the data, at its old address.
    pub fn rebuild(&mut self) {
        // The old primary takes the place of the promoted standby.
        let promoted = self.promoted_index();
        std::mem::swap(&mut self.primary, &mut self.standbys[promoted]);
        for (n, standby) in self.standbys.iter_mut().enumerate() {
            let name = format!("standby{n}");
            if n == promoted {
                standby.rebuild_behind(&self.primary, &name);
            } else {
                standby.follow(&self.primary, &name);
            }
        }
        self.wait_for_standbys();
    }

    /// Waits until all standbys follow the primary, and confirm its commits if they shall.
    pub fn wait_for_standbys(&self) {
        for (n, standby) in self.standbys.iter().enumerate() {
            self.primary.wait_for_follower(&format!("standby{n}"), standby);
        }
        if self.is_synchronous {
            self.primary.wait_for_standbys(ANY);
        }
    }
}

/// Any one standby must confirm a commit.
const ANY: &str = "ANY 1 (*)";

/// A URL that names servers, or the proxies before them, for a database on them.
pub fn url_of(addresses: &[SocketAddr], database: &Database) -> String {
    let hosts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (hosts, name) = (hosts.join(","), database.name());
    format!("postgres://postgres@{hosts}/{name}?target_session_attrs=read-write")
}
