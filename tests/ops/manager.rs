//! Service managers (`sd_listen_fds(3)`, `sd_notify(3)`): inherited sockets, status notifications, and a socket file
//! instead of a port.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign::proto::token_service_client::TokenServiceClient;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use tonic::transport::Endpoint;

use crate::support::deployment::{add_user, for_tests};
use crate::support::guard::{self, Ending};
use crate::support::serve::Storage;
use crate::support::{Caller, Process, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Starts `serve` as a service manager does: with these sockets as descriptors 3, 4, ….
fn started_with(storage: &Storage, sockets: &[&TcpListener], words: &[&str], log: &Path) -> Process {
    let (mut aside, mut moved) = (Vec::new(), Vec::new());
    for (n, socket) in sockets.iter().enumerate() {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        // First to high numbers, because a socket may have a number that another one must get.
        aside.push(format!("{}<&{}", n + 200, socket.as_raw_fd()));
        moved.push(format!("{}<&{}", n + 3, n + 200));
    }
    let (redirected, count) = ([aside, moved].concat().join(" "), sockets.len());
    let script = format!("exec {redirected}; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\"");
    let serve = storage.command();
    // Not sh: some shells support no descriptor above 9.
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, "bash"])
        .arg(serve.get_program())
        .arg("serve");
    command.args(words).current_dir(serve.get_current_dir().unwrap());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process::spawn(&mut command, log, Ending::Kill)
}

/// Waits for a notification that starts with `prefix`.
fn wait_for_notification(manager: &UnixDatagram, prefix: &str) {
    let mut message = [0; 256];
    loop {
        let len = manager
            .recv(&mut message)
            .unwrap_or_else(|error| panic!("{prefix}: {error}"));
        if message[..len].starts_with(prefix.as_bytes()) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_on_inherited_sockets() {
    let own = guard::scratch("manager");
    let notify = own.join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let storage = for_tests(Storage::embedded())
        .env("NOTIFY_SOCKET", notify.to_str().unwrap())
        .env("WATCHDOG_USEC", "400000");
    add_user(&storage, "ada", &[]);
    let [grpc, http] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let mut process = started_with(&storage, &[&grpc, &http], &[], &own.join("log"));

    // A call before the server is ready waits in the queue of the socket, which exists already.
    let url = format!("http://{}", grpc.local_addr().unwrap());
    let endpoint = Endpoint::from_shared(url).unwrap().timeout(TIMEOUT);
    let caller = Caller {
        tokens: TokenServiceClient::new(endpoint.connect_lazy()),
    };
    let token = caller.login("ada").await.access_token;
    caller.assert_active(&token).await;
    let ready = crate::side_port::get(http.local_addr().unwrap(), "/readyz").await;
    assert_eq!(ready.map(|(status, _)| status), Some(200));

    for prefix in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        wait_for_notification(&manager, prefix);
    }
    process.signal(Signal::SIGTERM);
    wait_for_notification(&manager, "STOPPING=1");
    assert!(process.wait(TIMEOUT).success(), "{}", process.log());
}

#[test]
fn an_inherited_socket_that_the_network_reaches_needs_tls() {
    let own = guard::scratch("manager");
    let storage = for_tests(Storage::embedded());
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut process = started_with(&storage, &[&open], &["--http-listen", "127.0.0.1:0"], &own.join("log"));
    assert_eq!(process.wait(TIMEOUT).code(), Some(64), "{}", process.log());
    assert!(process.log().contains("server.listen"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_answers_on_a_socket_file_that_only_its_owner_can_use() {
    let own = guard::scratch("manager");
    let (path, ready) = (own.join("s"), own.join("ready.json"));
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    let listen = format!("unix:{}", path.display());
    let mut command = storage.command();
    command.args([
        "serve",
        "--listen",
        &listen,
        "--http-listen",
        "127.0.0.1:0",
        "--ready-file",
    ]);
    let mut process = Process::spawn(command.arg(&ready), &own.join("log"), Ending::Kill);
    let there = eventually("it is ready", TIMEOUT, || async {
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()?;
        Some(told["grpc"].as_str().unwrap().to_owned())
    })
    .await;
    assert_eq!(there, listen);
    let file = path.symlink_metadata().unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let endpoint = Endpoint::from_shared(listen).unwrap();
    let caller = Caller {
        tokens: TokenServiceClient::new(endpoint.connect_lazy()),
    };
    let token = caller.login("ada").await.access_token;
    caller.assert_active(&token).await;
    process.signal(Signal::SIGTERM);
    assert!(process.wait(TIMEOUT).success(), "{}", process.log());
    assert!(!path.exists());
}
