//! Standbys that follow a server by streaming replication.

use std::os::unix::fs::chown;

use super::super::{guard, poll, ports};
use super::{OTHER_USER, Postgres, TIMEOUT, as_owner, run};

impl Postgres {
    /// A standby that follows this server by streaming replication, and is connected under this name.
    pub fn streaming_standby(&self, name: &str) -> Self {
        let mut standby = Self {
            process: None,
            programs: self.programs.clone(),
            folder: guard::scratch("pg"),
            port: ports::free(),
            frozen: Vec::new(),
        };
        standby.copy(self, name);
        standby.launch();
        self.wait_for_follower(name, &standby);
        standby
    }

    /// Copies the data of a running server, to follow it under this name.
    fn copy(&self, primary: &Self, name: &str) {
        let folder = &self.folder;
        if let Some(user) = &*OTHER_USER {
            chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        run(as_owner(&self.programs.join("pg_basebackup"), folder)
            .args([
                "--checkpoint=fast",
                "--no-sync",
                "--wal-method=stream",
                "--write-recovery-conf",
            ])
            .args(["--dbname", &primary.conninfo(name)])
            .arg("--pgdata")
            .arg(folder.join("data")));
        let own = format!("unix_socket_directories = '{}'\n", folder.display());
        let configuration = folder.join("data/postgresql.conf");
        let written = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, written + &own).unwrap();
    }

    /// How a standby of this name connects to this server.
    fn conninfo(&self, name: &str) -> String {
        let port = self.port;
        format!("host=127.0.0.1 port={port} user=postgres application_name={name}")
    }

    /// Waits until a standby follows this server under this name.
    pub fn wait_for_follower(&self, name: &str, standby: &Self) {
        let query = format!("SELECT state FROM pg_stat_replication WHERE application_name = '{name}'");
        let streaming = poll(TIMEOUT, || (self.sql(&query) == "streaming").then_some(()));
        assert!(
            streaming.is_some(),
            "the standby does not follow; its log:\n{}",
            standby.log()
        );
    }

    /// Makes this standby follow another server from now on, under this name.
    pub fn follow(&self, primary: &Self, name: &str) {
        self.set("primary_conninfo", &primary.conninfo(name));
        primary.wait_for_follower(name, self);
    }

    /// Starts this server again, at its address, as a standby with a new copy of the data of another one.
    pub fn rebuild_behind(&mut self, primary: &Self, name: &str) {
        if self.process.is_some() {
            self.kill();
        }
        std::fs::remove_dir_all(self.folder.join("data")).unwrap();
        self.copy(primary, name);
        self.launch();
        primary.wait_for_follower(name, self);
    }

    /// Names the synchronous standbys (`ANY 1 (a, b)`), and waits until the server has taken them.
    pub fn wait_for_standbys(&self, names: &str) {
        self.set("synchronous_standby_names", names);
        let query = "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
        let taken = poll(TIMEOUT, || (self.sql(query) == "t").then_some(()));
        assert!(taken.is_some(), "no standby is synchronous");
    }

    /// Waits until this standby has replayed all that `primary` has written so far.
    pub fn until_caught_up(&self, primary: &Self) {
        let written = primary.sql("SELECT pg_current_wal_lsn()");
        let query = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        let caught_up = poll(TIMEOUT, || (self.sql(&query) == "t").then_some(()));
        assert!(caught_up.is_some(), "the standby lags; its log:\n{}", self.log());
    }

    /// Makes this standby lag from now on: it receives nothing more from its primary.
    pub fn stop_receiving(&self) {
        self.set("primary_conninfo", "");
        let query = "SELECT count(*) FROM pg_stat_wal_receiver";
        let stopped = poll(TIMEOUT, || (self.sql(query) == "0").then_some(()));
        assert!(stopped.is_some(), "the standby still receives");
    }

    /// Starts this server, which was stopped, as a standby of another one that has replaced it.
    pub fn launch_behind(&mut self, primary: &Self) {
        let data = self.folder.join("data");
        let connection = primary.conninfo("demoted");
        let configuration = data.join("postgresql.auto.conf");
        let written = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, format!("{written}primary_conninfo = '{connection}'\n")).unwrap();
        let signal = data.join("standby.signal");
        std::fs::write(&signal, "").unwrap();
        if let Some(user) = &*OTHER_USER {
            chown(&signal, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        self.launch();
    }

    /// Makes a standby a server that can be written.
    pub fn promote(&self) {
        let data = self.folder.join("data");
        run(as_owner(&self.programs.join("pg_ctl"), &self.folder)
            .args(["promote", "-w", "-D"])
            .arg(data));
    }
}
