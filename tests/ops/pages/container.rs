//! A container, a pod or a unit: the program with an environment of its own, and files at other places.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::guard::{self, Ending};
use crate::support::{Process, poll};

const TIMEOUT: Duration = Duration::from_mins(1);

/// Longer than the stores take on a busy machine, which is no fault of a page.
pub(crate) const PATIENCE: [(&str, &str); 3] = [
    ("COUNTERSIGN_STORAGE__ACQUIRE_TIMEOUT", "10s"),
    ("COUNTERSIGN_STORAGE__STATEMENT_TIMEOUT", "10s"),
    ("COUNTERSIGN_STORAGE__REDIS_TIMEOUT", "5s"),
];

/// The variable for the address of a replica.
pub(crate) const LISTEN: &str = "COUNTERSIGN_SERVER__LISTEN";

/// What a page says about the environment of the program.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its environment variables.
    pub(crate) environment: Vec<(String, String)>,
    /// Paths inside, and where they are here.
    pub(crate) paths: Vec<(&'static str, PathBuf)>,
}

/// A running replica.
pub(crate) struct Replica {
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
}

impl Container {
    /// The text with the paths of this machine.
    pub(crate) fn outside(&self, text: &str) -> String {
        self.paths.iter().fold(text.to_owned(), |text, (inside, here)| {
            text.replace(inside, here.to_str().expect("the path is text"))
        })
    }

    fn environment(&self) -> Vec<(String, String)> {
        let outside = |(name, value): &(String, String)| (name.clone(), self.outside(value));
        let patience = PATIENCE
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment.iter().map(outside).chain(patience).collect()
    }

    /// Writes the script by which the stand-ins run a command in it, `Shell::container`. The replica there, if any, listens on a port that no
    /// page knows.
    pub(crate) fn install(&self, file: &Path, replica: Option<&Replica>) {
        let mut script = "#!/usr/bin/env bash\nwords=(\"$@\")\n".to_owned();
        for (inside, here) in &self.paths {
            let _ = writeln!(script, "words=(\"${{words[@]//'{inside}'/'{}'}}\")", here.display());
        }
        script.push_str("exec env -i");
        let listen = replica.map(|replica| (LISTEN.to_owned(), replica.grpc.to_string()));
        for (name, value) in self.environment().into_iter().chain(listen) {
            let _ = write!(script, " '{name}={value}'");
        }
        let _ = writeln!(script, " '{}' \"${{words[@]}}\"", env!("CARGO_BIN_EXE_countersign"));
        std::fs::write(file, script).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts a replica with these arguments, and waits until it answers.
    pub(crate) fn serve(&self, words: &[&str]) -> Replica {
        let own = guard::scratch("serve");
        let ready = own.join("ready.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env_clear().envs(self.environment()).current_dir(&own);
        command.args(words.iter().map(|word| self.outside(word)));
        // The last one of an option counts.
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--ready-file",
        ]);
        let mut process = Process::spawn(command.arg(&ready), &own.join("log"), Ending::Kill);
        let told = poll(TIMEOUT, || match process.exited() {
            Some(status) => panic!("{words:?}: {status}\n{}", process.log()),
            None => read(&ready),
        });
        let told = told.unwrap_or_else(|| panic!("{words:?}: no answer\n{}", process.log()));
        Replica {
            process,
            grpc: address(&told, "grpc"),
        }
    }
}

/// The addresses that a server has written to its ready file.
pub(crate) fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// One of these addresses.
pub(crate) fn address(told: &Value, name: &str) -> SocketAddr {
    told[name].as_str().expect("an address").parse().expect("an address")
}
