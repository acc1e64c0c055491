//! An OTLP trace collector: rotel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::guard::{self, Ending};
use super::{Process, poll, ports};

/// A collector that prints what it receives.
pub struct Collector {
    pub process: Process,
    pub address: SocketAddr,
}

impl Collector {
    /// Starts a collector and waits until it accepts traces.
    pub fn start() -> Self {
        Self::at(ports::free())
    }

    /// The same, on this port.
    pub fn at(grpc: u16) -> Self {
        let log = guard::scratch("collector").join("log");
        let http = ports::free();
        let process = Process::spawn(
            Command::new(program()).args([
                "start",
                "--otlp-grpc-endpoint",
                &format!("127.0.0.1:{grpc}"),
                "--otlp-http-endpoint",
                &format!("127.0.0.1:{http}"),
                "--exporter",
                "blackhole",
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
            ]),
            &log,
            Ending::Kill,
        );
        let address = SocketAddr::from(([127, 0, 0, 1], grpc));
        poll(Duration::from_secs(30), || std::net::TcpStream::connect(address).ok())
            .unwrap_or_else(|| panic!("the collector does not answer: {}", process.log()));
        Self { process, address }
    }
}

fn program() -> PathBuf {
    let folders = std::fs::read_dir("target/tools/lib").expect("tests/run installs rotel");
    let found = folders
        .flatten()
        .map(|python| python.path().join("site-packages/rotel/rotel-agent"))
        .find(|file| file.is_file());
    std::fs::canonicalize(found.expect("rotel is not installed: tests/run does that")).unwrap()
}
