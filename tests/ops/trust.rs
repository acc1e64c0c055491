//! Private authorities, self-signed certificates and client certificates: at Redis, at Postgres, from the command line, from the
//! agent, and from clients.

use std::path::Path;
use std::time::Duration;

use crate::connections::{clustered, works};
use crate::pki::{Pair, Pki};
use crate::support::agent::listen_anywhere;
use crate::support::deployment::{PASSWORD, add_user, for_tests};
use crate::support::guard::Ending;
use crate::support::{Caller, KeySpace, Postgres, Process, Redis, Storage, eventually, guard, ports};

/// Longer than a connection takes on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// The files of a certificate in a folder.
fn write(folder: &Path, name: &str, pair: &Pair) -> (String, String) {
    let put = |kind: &str, text: &str| {
        let path = folder.join(format!("{name}.{kind}"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (put("crt", &pair.cert), put("key", &pair.key))
}

/// A self-signed certificate for this machine, as `openssl req -x509` makes it: it says that it is an authority.
fn self_signed() -> Pair {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    Pair {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_can_have_its_own_authority_and_want_a_certificate() {
    let folder = guard::scratch("tls");
    let (pki, stranger) = (Pki::new(), Pki::new());
    let own = self_signed();
    for (name, server, authority) in [
        ("signed", pki.server(1), pki.pem()),
        ("self-signed", own.clone(), own.cert),
    ] {
        let (cert, key) = write(&folder, name, &server);
        let authority_file = folder.join(format!("{name}-ca.pem")).display().to_string();
        std::fs::write(&authority_file, authority).unwrap();
        // The server accepts clients of `pki`.
        let clients = folder.join("clients.pem").display().to_string();
        std::fs::write(&clients, pki.pem()).unwrap();
        let port = ports::free();
        let options = [
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            "yes",
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &clients,
        ];
        let _redis = Redis::start(&options);
        let (client_cert, client_key) = write(&folder, "client", &pki.client("spiffe://example.org/countersign"));
        let examine = |parameters: &str| {
            let url = format!("rediss://localhost:{port}?{parameters}");
            let database = "postgres://127.0.0.1:1/none";
            let done = clustered(database, &url, "cs").run(&["doctor"]).finish();
            done.stdout
        };
        let client = format!("sslcert={client_cert}&sslkey={client_key}");
        let good = examine(&format!("sslrootcert={authority_file}&{client}"));
        assert!(good.contains("writes nothing to disk"), "{name}: {good}");
        for (parameters, what) in [
            (format!("sslrootcert={authority_file}"), "no client certificate"),
            (client.clone(), "the authority is not that of the system"),
        ] {
            let bad = examine(&parameters);
            assert!(!bad.contains("writes nothing to disk"), "{name}, {what}: {bad}");
        }
        std::fs::write(&authority_file, stranger.pem()).unwrap();
        let bad = examine(&format!("sslrootcert={authority_file}&{client}"));
        assert!(
            !bad.contains("writes nothing to disk"),
            "{name}, another authority: {bad}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_the_agent_trust_the_authority_that_they_are_given() {
    let folder = guard::scratch("tls");
    let pki = Pki::new();
    let own = self_signed();
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    let scopes = ["--scope", "countersign:watch", "--scope", "countersign:validate"];
    let made = storage.run(&[&["client", "add", "agent", "--grant", "client_secret"][..], &scopes].concat());
    let secret = made.json()["clientSecret"].as_str().unwrap().to_owned();
    for (name, pair, authority) in [
        ("signed", pki.server(1), pki.pem()),
        ("self-signed", own.clone(), own.cert),
    ] {
        let (cert, key) = write(&folder, name, &pair);
        let ca = folder.join(format!("{name}-ca.pem")).display().to_string();
        std::fs::write(&ca, authority).unwrap();
        let server = storage
            .clone()
            .set("server.tls.cert", &cert)
            .set("server.tls.key", &key)
            .serve(&[]);
        let url = format!("https://localhost:{}", server.grpc().port());
        let issue = ["token", "issue", "--user", "ada"];
        let password = format!("{PASSWORD}\n");
        let done = storage
            .run(&[&issue[..], &["--server", &url]].concat())
            .input(&password)
            .finish();
        assert_eq!(done.code(), Some(69), "{name}: {}", done.stderr);
        assert!(name != "signed" || done.stderr.contains("--ca-file"), "{}", done.stderr);
        let by_option = [&issue[..], &["--server", &url, "--ca-file", &ca]].concat();
        storage.run(&by_option).input(&password).succeed();
        let issued = storage.run(&issue).input(&password);
        let issued = issued
            .env("COUNTERSIGN_SERVER", &url)
            .env("COUNTERSIGN_CA_FILE", &format!("\"{ca}\""));
        let token = issued.json()["tokens"]["accessToken"].as_str().unwrap().to_owned();

        let listen = listen_anywhere();
        let mut command = storage.command();
        command
            .args(["agent", "--upstream", &url, "--listen", &listen, "--ca-file", &ca])
            .env("COUNTERSIGN_AGENT__CLIENT_ID", "agent")
            .env("COUNTERSIGN_AGENT__CLIENT_SECRET", &secret);
        let agent = Process::spawn(&mut command, &folder.join(format!("{name}.log")), Ending::Kill);
        let caller = Caller::at(&format!("http://{listen}"));
        let what = format!("{name}: the agent validates");
        eventually(&what, RECOVERY, || async {
            caller.validate(&token).await.ok().filter(|answer| answer.active)
        })
        .await;
        drop(agent);
    }
    // A file that is wrong is named.
    let done = storage
        .run(&[
            "token",
            "validate",
            "--server",
            "https://localhost:1",
            "--ca-file",
            "/nonexistent/ca.pem",
        ])
        .input("x\n")
        .finish();
    assert!(
        done.code() == Some(64) && done.stderr.contains("/nonexistent/ca.pem"),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_own_certificate_is_in_the_file_of_authorities_is_accepted() {
    use countersign::proto::WatchRevocationsRequest;
    use countersign::proto::token_service_client::TokenServiceClient;
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

    let folder = guard::scratch("tls");
    let (pki, own) = (Pki::new(), self_signed());
    let (cert, key) = write(&folder, "server", &pki.server(1));
    let clients = folder.join("clients.pem").display().to_string();
    std::fs::write(&clients, &own.cert).unwrap();
    let storage = for_tests(Storage::embedded())
        .set("server.tls.cert", &cert)
        .set("server.tls.key", &key)
        .set("server.tls.client_ca", &clients)
        .set("server.tls.client_identities", "localhost=watcher")
        .set("server.anonymous_scopes", "");
    storage.run(&["migrate"]).succeed();
    storage
        .run(&["client", "add", "watcher", "--scope", "countersign:watch"])
        .succeed();
    let server = storage.serve(&[]);
    let watch = async |pair: &Pair| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pki.pem()))
            .domain_name("localhost")
            .identity(Identity::from_pem(&pair.cert, &pair.key));
        let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc())).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        TokenServiceClient::new(channel)
            .watch_revocations(WatchRevocationsRequest::default())
            .await
            .map(drop)
    };
    watch(&own).await.unwrap();
    assert!(
        watch(&self_signed()).await.is_err(),
        "another certificate of the same names"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_postgres_may_say_that_it_is_an_authority() {
    let pki = Pki::new();
    let own = self_signed();
    let keys = KeySpace::fresh();
    for (name, pair, authority) in [
        ("signed", pki.server(1), pki.pem()),
        ("self-signed", own.clone(), own.cert),
    ] {
        let folder = guard::scratch("tls");
        let (cert, key) = write(&folder, name, &pair);
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if nix::unistd::Uid::effective().is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            for path in [folder.as_path(), cert.as_ref(), key.as_ref()] {
                std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        let postgres = Postgres::start(&[("ssl", "on"), ("ssl_cert_file", &cert), ("ssl_key_file", &key)]);
        let database = postgres.database().await;
        let ca = guard::scratch("tls").join("ca.pem").display().to_string();
        std::fs::write(&ca, authority).unwrap();
        let port = postgres.address().port();
        let url = |host: &str, mode: &str| {
            let path = format!("{host}:{port}/{}", database.name());
            format!("postgres://postgres@{path}?sslmode={mode}&sslrootcert={ca}")
        };
        let storage = clustered(&url("localhost", "verify-full"), keys.url(), keys.prefix());
        add_user(&storage, "ada", &[]);
        let server = storage.serve(&[]);
        Caller::of(&server).login("ada").await;
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE ssl AND application_name = 'countersign'";
        assert_ne!(
            database.scalar(encrypted).await,
            "0",
            "{name}: the connections are encrypted"
        );
        works(&clustered(&url("localhost", "verify-ca"), keys.url(), "cs"), name);

        // Another authority, and another certificate of the same name.
        std::fs::write(&ca, self_signed().cert).unwrap();
        let refused = storage.run(&["doctor"]).finish();
        assert_eq!(refused.code(), Some(69), "{name}: {}", refused.stdout);
    }
}
