//! An attacker with an account on the machine plants links where the service is about to write.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use crate::support::deployment::for_tests;
use crate::support::guard::{self, Ending};
use crate::support::serve::Storage;
use crate::support::{Process, poll};

#[test]
fn the_ready_file_is_written_through_no_planted_link() {
    let shared = guard::scratch("shared");
    let victim = shared.join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let ready = shared.join("ready.json");
    symlink(&victim, &ready).unwrap();
    // The next process ids: the name of a draft must not be one that can be guessed.
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let max: u32 = max.trim().parse().unwrap();
    for n in 1..=max.min(20_000) {
        let pid = (std::process::id() + n) % max;
        symlink(&victim, shared.join(format!("ready.{pid}.tmp"))).unwrap();
    }
    let storage = for_tests(Storage::embedded());
    let mut serve: Command = storage.command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    serve.arg("--ready-file").arg(&ready);
    let process = Process::spawn(&mut serve, &storage.folder().join("log"), Ending::Kill);
    let is_ready = || ready.symlink_metadata().unwrap().is_file().then_some(());
    let written = poll(Duration::from_secs(30), is_ready);
    written.unwrap_or_else(|| panic!("no ready file:\n{}", process.log()));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    let text = std::fs::read_to_string(&ready).unwrap();
    assert!(text.contains(&format!("\"pid\":{}", process.pid())), "{text}");
}
