//! Broken set-ups: `doctor` names the cause and the cure of each, and `serve` refuses it in one line or starts.

mod addresses;
mod database;
mod embedded;
mod redis;
mod volumes;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::deployment::for_tests;
use crate::support::serve::Storage;

/// What `serve` does with a set-up.
enum Serve {
    /// It ends with this exit code and one line, which has these words too.
    Refuses(i32, &'static str),
    /// It starts: the fault may pass, or is none for `serve`.
    Starts,
}
use Serve::{Refuses, Starts};

/// A broken set-up, and what `doctor` must say about it.
struct Broken {
    name: &'static str,
    storage: Storage,
    /// The check and its state.
    check: (&'static str, &'static str),
    /// The exit code of `doctor`.
    code: i32,
    /// Words of the cause and of the cure.
    says: &'static [&'static str],
    serve: Serve,
}

/// The part of a secret that must not be shown.
const CANARY: &str = "hush-hush";

impl Broken {
    fn check(self) {
        let (name, storage) = (self.name, &self.storage);
        let done = storage.run(&["doctor", "--output", "json"]).finish();
        let report: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{name}: {}{}", done.stdout, done.stderr));
        let checks = report["checks"].as_array().unwrap();
        let (about, state) = self.check;
        let said = checks
            .iter()
            .filter(|check| check["check"] == about && check["state"] == state);
        let said: Vec<&str> = said.map(|check| check["message"].as_str().unwrap()).collect();
        let matches = |message: &&str| self.says.iter().all(|words| message.contains(words));
        assert!(said.iter().any(matches), "{name}: {:?} is not in {report:#}", self.says);
        assert!(said.iter().all(|message| !message.contains('\n')), "{name}: {said:?}");
        assert_eq!(done.code(), Some(self.code), "{name}: {report:#}");
        assert!(!format!("{}{}", done.stdout, done.stderr).contains(CANARY), "{name}");

        match (self.serve, storage.try_serve(&[])) {
            (Starts, Ok(server)) => assert_eq!(server.stop().code(), Some(0), "{name}"),
            (Refuses(code, words), Err(refused)) => {
                assert_eq!(refused.code(), Some(code), "{name}: {}", refused.stderr);
                let lines = complaints(&refused.stderr);
                assert!(
                    matches!(&lines[..], [line] if line.contains(words)),
                    "{name}: {words} is not in {}",
                    refused.stderr
                );
                assert!(!refused.stderr.contains(CANARY), "{name}");
            }
            (Starts, Err(refused)) => panic!("{name}: {}", refused.stderr),
            (Refuses(..), Ok(server)) => panic!("{name}: it starts:\n{}", server.log()),
        }
    }
}

/// The lines that say why a service ends; its log may have warnings beside them.
pub(super) fn complaints(stderr: &str) -> Vec<&str> {
    let is_log = |line: &&str| line.starts_with('{') && !line.contains("\"exit_code\":");
    stderr.lines().filter(|line| !is_log(line)).collect()
}

/// An embedded deployment that has run once.
fn used() -> Storage {
    let storage = embedded();
    assert_eq!(storage.serve(&[]).stop().code(), Some(0));
    storage
}

fn embedded() -> Storage {
    on_free_ports(for_tests(Storage::embedded()))
}

/// `doctor` looks at the configured addresses; the defaults may be taken on this machine.
fn on_free_ports(storage: Storage) -> Storage {
    storage
        .set("server.listen", "127.0.0.1:0")
        .set("server.http_listen", "127.0.0.1:0")
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A data folder that this function has filled.
fn folder_with(fill: impl FnOnce(&Path)) -> Storage {
    let storage = embedded();
    std::fs::create_dir(storage.data()).unwrap();
    mode(&storage.data(), 0o700);
    fill(&storage.data());
    storage
}
