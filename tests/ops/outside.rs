//! `countersign doctor --server` checks a running server as its callers meet it: each fault is named with its cure.

use std::net::TcpListener;

use serde_json::Value;

use crate::pki::{Folder, Layout, Pair, Pki};
use crate::support::deployment::for_tests;
use crate::support::{Countersign, Deployment, DeploymentKind, Storage, ports};

/// The exit code, and the checks as `check`, `state` and `message`.
fn examine(storage: &Storage, url: &str, flags: &[&str]) -> (Option<i32>, Vec<[String; 3]>) {
    let words = [&["doctor", "--server", url, "--output", "json"], flags].concat();
    let done = storage.run(&words).finish();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{}{}", done.stdout, done.stderr));
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let checks = checks.map(|check| ["check", "state", "message"].map(|name| text(check, name)));
    (done.code(), checks.collect())
}

/// Asserts that the worst finding is this one, with these words.
#[track_caller]
fn assert_finding(
    storage: &Storage,
    url: &str,
    flags: &[&str],
    code: i32,
    (about, state): (&str, &str),
    says: &[&str],
) {
    let (exit, checks) = examine(storage, url, flags);
    let is_it = |[check, found, message]: &&[String; 3]| {
        check == about && found == state && says.iter().all(|words| message.contains(words)) && !message.contains('\n')
    };
    assert!(
        checks.iter().any(|check| is_it(&check)),
        "{says:?} is not in {checks:#?}"
    );
    assert_eq!(exit, Some(code), "{checks:#?}");
}

/// How a subcommand looks for the side port of this server.
fn beside(server: &Countersign) -> Storage {
    Storage::embedded().set("server.http_listen", server.http_url().trim_start_matches("http://"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_is_described_on_every_deployment() {
    for kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let server = Deployment::fresh(kind).await.serve();
        let (code, checks) = examine(&beside(&server), &server.grpc_url(), &[]);
        assert_eq!(code, Some(0), "{checks:#?}");
        let names: Vec<&str> = checks.iter().map(|[check, ..]| check.as_str()).collect();
        assert_eq!(
            names,
            ["server", "health", "keys", "side port", "clock", "version"],
            "{checks:#?}"
        );
        assert!(checks.iter().all(|[_, state, _]| state == "OK"), "{checks:#?}");
        // By the environment, and as text.
        let environment = beside(&server).env("COUNTERSIGN_SERVER", &server.grpc_url());
        for words in [&["doctor"][..], &["doctor", "--server"]] {
            let text = environment.run(words).succeed();
            assert!(
                text.lines().count() == 6 && text.lines().all(|line| line.starts_with("ok ")),
                "{text}"
            );
        }
        // Without the side port, which is closed to most callers.
        let (code, checks) = examine(
            &Storage::embedded().set("server.http_listen", &format!("127.0.0.1:{}", ports::free())),
            &server.grpc_url(),
            &[],
        );
        assert_eq!(code, Some(0), "{checks:#?}");
        assert!(
            checks
                .iter()
                .any(|[check, _, message]| check == "side port" && message.contains("not reached")),
            "{checks:#?}"
        );
        // The port of another protocol.
        let http = server.http_url();
        assert_finding(
            &Storage::embedded(),
            &http,
            &[],
            69,
            ("server", "UNREACHABLE"),
            &["does not speak gRPC", "server.listen"],
        );
    }
}

#[test]
fn addresses_without_a_server_are_told_apart() {
    let storage = Storage::embedded();
    let nothing = format!("http://127.0.0.1:{}", ports::free());
    assert_finding(
        &storage,
        &nothing,
        &[],
        69,
        ("server", "UNREACHABLE"),
        &["refuses connections", "countersign serve"],
    );
    let unknown = "http://no-such-host.invalid:50051";
    assert_finding(
        &storage,
        unknown,
        &[],
        69,
        ("server", "UNREACHABLE"),
        &["no-such-host.invalid has no address"],
    );
    assert_finding(
        &storage,
        "localhost:50051",
        &[],
        64,
        ("server", "MISCONFIGURED"),
        &["http://HOST:PORT"],
    );
    assert_finding(
        &storage,
        "unix:/nowhere/cs.sock",
        &[],
        69,
        ("server", "UNREACHABLE"),
        &["/nowhere/cs.sock", "server.listen"],
    );
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    assert_finding(
        &storage,
        &url,
        &[],
        69,
        ("server", "UNREACHABLE"),
        &["does not answer within"],
    );
}

#[test]
fn a_unix_socket_is_checked() {
    let storage = for_tests(Storage::embedded());
    let socket = storage.folder().join("cs.sock");
    let url = format!("unix:{}", socket.display());
    let server = storage.serve(&[]);
    drop(server);
    let mut serving = storage.command();
    serving.args(["serve", "--listen", &url, "--http-listen", "127.0.0.1:0"]);
    let log = storage.folder().join("log");
    let _serving = crate::support::Process::spawn(&mut serving, &log, crate::support::guard::Ending::Kill);
    let done = crate::support::poll(std::time::Duration::from_secs(30), || {
        let (code, checks) = examine(&storage, &url, &[]);
        (code == Some(0)).then_some(checks)
    });
    let names: Vec<String> = done.expect("it serves").into_iter().map(|[check, ..]| check).collect();
    assert_eq!(names, ["server", "health", "keys"]);
}

#[test]
fn faults_of_the_certificate_are_named_with_their_cure() {
    let (pki, storage) = (Pki::new(), for_tests(Storage::embedded()));
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let mut put = |pair: &Pair| folder.put(&[("tls.key", &pair.key), ("tls.crt", &pair.cert)]);
    let ca = storage.folder().join("ca.pem");
    std::fs::write(&ca, pki.pem()).unwrap();
    let trusted = ["--ca-file", ca.to_str().unwrap()];
    let tls = storage.folder().join("tls");
    let configured = storage
        .clone()
        .set("server.tls.cert", tls.join("tls.crt").to_str().unwrap())
        .set("server.tls.key", tls.join("tls.key").to_str().unwrap());
    let ended = |server: Countersign| assert_eq!(server.stop().code(), Some(0));

    put(&pki.server(1));
    let server = configured.serve(&[]);
    let url = |host: &str| format!("https://{host}:{}", server.grpc().port());
    let beside = beside(&server);
    let (code, checks) = examine(&beside, &url("localhost"), &trusted);
    assert_eq!(code, Some(0), "{checks:#?}");
    assert!(checks.iter().all(|[_, state, _]| state == "OK"), "{checks:#?}");
    assert!(checks.iter().any(|[check, ..]| check == "certificate"), "{checks:#?}");
    let by_environment = beside.clone().env("COUNTERSIGN_CA_FILE", ca.to_str().unwrap());
    assert_eq!(examine(&by_environment, &url("localhost"), &[]).0, Some(0));
    let bad = ("server", "FAILED");
    let says = ["not trusted here", "--ca-file"];
    assert_finding(
        &beside,
        &url("localhost"),
        &["--ca-file", &other_authority(&storage)],
        1,
        bad,
        &says,
    );
    let says = ["not for 127.0.0.2", "localhost, 127.0.0.1"];
    assert_finding(
        &beside.clone(),
        &url("127.0.0.2"),
        &trusted,
        69,
        ("server", "UNREACHABLE"),
        &["refuses connections"],
    );
    let second = storage.folder().join("second");
    let everywhere = configured
        .clone()
        .set("storage.data_dir", second.to_str().unwrap())
        .serve_at("0.0.0.0:0");
    let other = format!("https://127.0.0.2:{}", everywhere.grpc().port());
    assert_finding(&beside, &other, &trusted, 1, bad, &says);
    ended(everywhere);
    let plain = url("localhost").replace("https", "http");
    assert_finding(
        &beside,
        &plain,
        &[],
        64,
        ("server", "MISCONFIGURED"),
        &["speaks TLS", "call it as https://"],
    );
    let missing = ["--ca-file", "/nowhere/ca.pem"];
    assert_finding(
        &beside,
        &url("localhost"),
        &missing,
        64,
        ("server", "MISCONFIGURED"),
        &["/nowhere/ca.pem"],
    );
    ended(server);

    put(&pki.expired(2));
    let server = configured.serve(&[]);
    let url = format!("https://localhost:{}", server.grpc().port());
    assert_finding(&beside, &url, &trusted, 1, bad, &["has expired", "server.tls.cert"]);
    ended(server);

    let server = storage.serve(&[]);
    let url = format!("https://localhost:{}", server.grpc().port());
    assert_finding(&beside, &url, &trusted, 64, ("server", "MISCONFIGURED"), &["http://"]);
    ended(server);
}

/// A PEM file of an authority that has signed nothing.
fn other_authority(storage: &Storage) -> String {
    let path = storage.folder().join("other.pem");
    std::fs::write(&path, Pki::new().pem()).unwrap();
    path.display().to_string()
}
