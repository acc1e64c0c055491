//! `rediss://`: the system must trust the authority of the certificate.

use std::process::Command;

use countersign::store::SessionStore as _;

use super::connect;
use crate::support::{Redis as Server, guard, ports};

/// The test below runs itself in other processes, whose environment says which authority they trust.
const URL: &str = "COUNTERSIGN_TEST_REDISS_URL";

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_certificate_is_accepted() {
    if let Some(url) = std::env::var_os(URL) {
        let store = connect(url.to_str().unwrap(), "cs").await.unwrap();
        store.ping().await.unwrap();
        return;
    }
    let folder = guard::scratch("tls");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let port = ports::free();
    let options: Vec<String> = [
        "--tls-port",
        &port.to_string(),
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-ca-cert-file",
        certificate.to_str().unwrap(),
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    let _server =
        tokio::task::spawn_blocking(move || Server::start(&options.iter().map(String::as_str).collect::<Vec<_>>()))
            .await
            .unwrap();
    let url = format!("rediss://localhost:{port}");
    let trusting = |trusts: bool| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "redis::tls::only_a_trusted_certificate_is_accepted"])
            .env(URL, &url);
        if trusts {
            command.env("SSL_CERT_FILE", &certificate);
        }
        tokio::task::block_in_place(|| command.output().unwrap().status.success())
    };
    assert!(trusting(true));
    assert!(!trusting(false));
}
