//! `countersign health`: the health of a running server or agent, for images without a shell.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::pki::{Folder, Layout, Pki};
use crate::support::agent::Agent;
use crate::support::deployment::for_tests;
use crate::support::guard::{self, Ending};
use crate::support::serve::Storage;
use crate::support::{Countersign, Database, Process, Redis, eventually, ports};

/// The configuration of a container with this server: it names the address at which the server listens.
fn beside(storage: &Storage, server: &Countersign) -> Storage {
    storage.clone().set("server.listen", &server.grpc().to_string())
}

/// The exit code and the JSON.
fn health(storage: &Storage, words: &[&str]) -> (Option<i32>, Value) {
    let done = storage.run(&[&["health", "--output", "json"], words].concat()).finish();
    let said = serde_json::from_str(&done.stdout).unwrap_or_else(|_| Value::String(done.stderr.clone()));
    (done.code(), said)
}

/// The JSON, once the server serves: on a busy machine an answer may take longer than the command waits.
async fn until_serving(storage: &Storage, words: &[&str]) -> Value {
    eventually("it serves", Duration::from_mins(1), || async {
        let (code, said) = health(storage, words);
        (code == Some(0)).then_some(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_by_its_configuration_or_its_url() {
    let storage = for_tests(Storage::embedded());
    let server = storage.serve(&[]);
    let beside_it = beside(&storage, &server);
    let (code, said) = health(&beside_it, &[]);
    assert_eq!((code, said["status"].as_str()), (Some(0), Some("SERVING")), "{said}");
    assert_eq!(said["notServing"], serde_json::json!([]));
    let (code, said) = health(&storage, &["--server", &server.grpc_url()]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = health(&storage.clone().env("COUNTERSIGN_SERVER", &server.grpc_url()), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        health(&beside_it, &["--service", "countersign.v1.TokenService"]).0,
        Some(0)
    );
    let (code, said) = health(&beside_it, &["--service", "nobody"]);
    assert_eq!(
        (code, said["status"].as_str()),
        (Some(1), Some("SERVICE_UNKNOWN")),
        "{said}"
    );
    for url in ["nonsense", "ftp://127.0.0.1:1"] {
        let (code, said) = health(&storage, &["--server", url]);
        assert_eq!(code, Some(64), "{said}");
    }
    // The side port speaks no gRPC.
    let (code, said) = health(&storage, &["--server", &server.http_url()]);
    assert_eq!(code, Some(69), "{said}");

    assert_eq!(server.stop().code(), Some(0));
    let (code, said) = health(&beside_it, &[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.to_string().contains("does `countersign serve` run there"),
        "{said}"
    );
    let text = beside_it.run(&["health"]).finish().stderr;
    assert_eq!(text.lines().count(), 1, "{text}");
    let nowhere = format!("http://127.0.0.1:{}", ports::free());
    assert_eq!(health(&storage, &["--server", &nowhere]).0, Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_is_named_and_can_be_asked_for() {
    let (database, mut redis) = (Database::fresh().await, Redis::start(&[]));
    let storage = for_tests(Storage::clustered(database.url(), &redis.url(), "cs"));
    let server = storage.serve(&[]);
    let storage = beside(&storage, &server);
    assert_eq!(health(&storage, &["--service", "store.sessions"]).0, Some(0));
    redis.kill();
    // The server as a whole serves: it answers Validate.
    eventually("the loss of Redis is reported", Duration::from_secs(30), || async {
        let (code, said) = health(&storage, &[]);
        assert_eq!(code, Some(0), "{said}");
        (said["notServing"] == serde_json::json!(["store.sessions"])).then_some(())
    })
    .await;
    let (code, said) = health(&storage, &["--service", "store.sessions"]);
    assert_eq!(
        (code, said["status"].as_str()),
        (Some(1), Some("NOT_SERVING")),
        "{said}"
    );
}

/// The certificate of a server has the name that its callers know, of an authority that the container does not trust.
#[tokio::test(flavor = "multi_thread")]
async fn with_tls_the_server_is_known_by_its_certificate_file_or_by_an_authority() {
    let (pki, storage) = (Pki::new(), for_tests(Storage::embedded()));
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let public = pki.client("spiffe://example.org/no-name-of-this-machine");
    let put = |folder: &mut Folder, pair: &crate::pki::Pair| {
        folder.put(&[("tls.key", &pair.key), ("tls.crt", &pair.cert), ("ca.pem", &pki.pem())]);
    };
    put(&mut folder, &public);
    let storage = storage
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap());
    let server = storage.serve(&[]);
    assert_eq!(
        until_serving(&beside(&storage, &server), &[]).await["status"],
        "SERVING"
    );
    // Another server answers there.
    let other = folder.file("other.crt");
    std::fs::write(&other, &pki.server(9).cert).unwrap();
    let mistaken = beside(&storage, &server).set("server.tls.cert", other.to_str().unwrap());
    let (code, said) = health(&mistaken, &[]);
    assert_eq!(code, Some(69), "{said}");
    server.kill();

    put(&mut folder, &pki.server(2));
    let server = storage.serve(&[]);
    let url = format!("https://localhost:{}", server.grpc().port());
    let ca = folder.file("ca.pem");
    until_serving(&storage, &["--server", &url, "--ca-file", ca.to_str().unwrap()]).await;
    let (code, said) = health(
        &storage.clone().env("COUNTERSIGN_CA_FILE", ca.to_str().unwrap()),
        &["--server", &url],
    );
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = health(&storage, &["--server", &url]);
    assert_eq!(code, Some(69), "the authority is not one of the system: {said}");
    let (code, said) = health(&storage, &["--server", &url, "--ca-file", "/nowhere"]);
    assert_eq!(code, Some(64), "{said}");
    let plain = url.replace("https", "http");
    let (code, said) = health(&storage, &["--server", &plain]);
    assert_eq!(code, Some(69), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_agents_are_asked_too() {
    let own = guard::scratch("sockets");
    let path = own.join("cs.sock");
    let listen = format!("unix:{}", path.display());
    let storage = for_tests(Storage::embedded());
    storage.run(&["migrate"]).succeed();
    let mut serve = storage.command();
    serve.args(["serve", "--http-listen", "127.0.0.1:0", "--listen", &listen]);
    let _server = Process::spawn(&mut serve, &own.join("log"), Ending::Kill);
    let on_socket = storage.clone().set("server.listen", &listen);
    eventually("it serves on the socket", Duration::from_secs(30), || async {
        (health(&on_socket, &[]).0 == Some(0)).then_some(())
    })
    .await;
    assert_eq!(health(&storage, &["--server", &listen]).0, Some(0));
    assert_eq!(health(&storage, &["--server", "unix:/nowhere/cs.sock"]).0, Some(69));

    let storage = for_tests(Storage::embedded());
    let upstream = storage.serve(&[]);
    let listen = format!("unix:{}", own.join("agent.sock").display());
    let _agent = Agent::start(&storage, &upstream, &listen, &[]);
    eventually("the agent serves", Duration::from_secs(30), || async {
        (health(&storage, &["--server", &listen]).0 == Some(0)).then_some(())
    })
    .await;
}

/// The check of the image is the command that these tests run, and needs no shell.
#[test]
fn the_image_and_the_compose_file_use_the_command() {
    let file =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap();
    let dockerfile = file("Dockerfile");
    let line = dockerfile
        .lines()
        .find(|line| line.contains("CMD") && line.contains("health"))
        .expect("a health check");
    let words: Vec<String> = serde_json::from_str(&line[line.find('[').unwrap()..]).expect("the form without a shell");
    assert_eq!(words, ["/usr/local/bin/countersign", "health"]);
    assert!(dockerfile.contains("HEALTHCHECK --interval="));
    let compose = file("compose.yaml");
    assert!(
        compose
            .contains("test: [CMD, /usr/local/bin/countersign, health, --config, /etc/countersign/countersign.toml]")
    );
}
