//! Without free file descriptors, the process waits instead of spinning, and accepts connections again when some are
//! free.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::side_port::get;
use crate::support::deployment::for_tests;
use crate::support::guard::{self, Ending};
use crate::support::serve::Storage;
use crate::support::{Caller, Process, eventually};

/// Processor time that the process has used, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime and stime are the 14th and 15th of proc(5); two stand before the bracket.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_it_waits_and_then_goes_on() {
    let storage = for_tests(Storage::embedded());
    let own = guard::scratch("starved");
    let (ready, log) = (own.join("ready.json"), own.join("log"));
    let template = storage.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(template.get_program());
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--ready-file",
    ]);
    command.arg(&ready).current_dir(storage.folder());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let process = Process::spawn(&mut command, &log, Ending::Kill);
    let told: Value = eventually("it serves", Duration::from_secs(30), || async {
        serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
    })
    .await;
    let address = |name: &str| -> SocketAddr { told[name].as_str().unwrap().parse().unwrap() };
    let (grpc, http) = (address("grpc"), address("http"));
    let caller = Caller::at(&format!("http://{grpc}"));
    assert!(caller.inactive_reason("garbage").await.is_some());

    // More connections than descriptors: the kernel accepts them, the process cannot.
    let mut taken = Vec::new();
    for _ in 0..100 {
        taken.push(TcpStream::connect(http).await.unwrap());
    }
    eventually("it logs that it cannot accept", Duration::from_secs(10), || async {
        process.log().contains("connections cannot be accepted").then_some(())
    })
    .await;
    let before = ticks(process.pid());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = ticks(process.pid()) - before;
    assert!(
        used < 60,
        "{used} hundredths of a second in three seconds: the process spins"
    );
    // Connected callers are still served: Validate needs no file.
    assert!(caller.inactive_reason("garbage").await.is_some());

    drop(taken);
    let (status, scrape) = eventually("it accepts connections again", Duration::from_secs(20), || {
        get(http, "/metrics")
    })
    .await;
    assert_eq!(status, 200);
    let failures = crate::side_port::value(&scrape, "countersign_accept_failures_total").unwrap();
    assert!(
        (1.0..200.0).contains(&failures),
        "{failures} failures: it does not back off"
    );
}
