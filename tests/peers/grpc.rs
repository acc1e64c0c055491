//! gRPC clients of other projects, over TLS and with a client certificate: grpcurl, `buf curl`, grpc-js.
//!
//! Each logs in, validates, refreshes and revokes over TLS; validating needs its certificate. `tests/run` installs the
//! clients. `stubs` has the clients whose code is generated from the protos.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

use crate::support::deployment::add_user;
use crate::support::process::find;
use crate::support::serve::Storage;
use crate::support::{Countersign, PASSWORD};

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAME: &str = "spiffe://example.org/peer";

/// A server with TLS that knows one client by its certificate, and the files that its callers need.
pub(crate) struct TlsServer {
    server: Countersign,
    pub(crate) folder: PathBuf,
}

impl TlsServer {
    pub(crate) fn start() -> Self {
        let storage = Storage::embedded()
            .set("password.memory_kib", "1024")
            .set("password.iterations", "1");
        add_user(&storage, "ada", &[]);
        storage
            .run(&["client", "add", "peer", "--scope", "countersign:validate"])
            .succeed();
        let folder = storage.folder().to_owned();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With the same name as the certificates it signs, OpenSSL would take them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str, names: Vec<SanType>| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        std::fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
        issue(
            "server",
            vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
            ],
        );
        issue("client", vec![SanType::URI(NAME.try_into().unwrap())]);
        let config = format!(
            "[server]\nreflection = true\n\
             anonymous_scopes = [\"countersign:issue\", \"countersign:refresh\", \"countersign:revoke\"]\n\
             [server.tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\nclient_identities = {{ {NAME:?} = \"peer\" }}\n",
            folder.join("server.crt").display(),
            folder.join("server.key").display(),
            folder.join("ca.crt").display(),
        );
        std::fs::write(folder.join("countersign.toml"), config).unwrap();
        let server = storage.serve(&["--config", folder.join("countersign.toml").to_str().unwrap()]);
        Self { server, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn address(&self) -> String {
        format!("localhost:{}", self.server.grpc().port())
    }
}

pub(crate) fn tool(name: &str) -> PathBuf {
    let own = Path::new(ROOT).join("target/tools/bin").join(name);
    if own.is_file() {
        return own;
    }
    find(name).unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"))
}

pub(crate) fn output(done: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

/// Makes four calls, and one that is refused. `call` runs a program for one call: it takes the method, the request and
/// whether to present the certificate, and returns the response or the program's error output.
fn four_calls(call: impl Fn(&str, &Value, bool) -> Result<Value, String>) {
    let login = json!({"password": {"username": "ada", "password": PASSWORD}});
    let first = call("Issue", &login, false).unwrap()["tokens"].clone();
    let asked = json!({"access_token": first["accessToken"]});
    // An anonymous caller may not validate.
    let refused = call("Validate", &asked, false).unwrap_err();
    assert!(refused.to_lowercase().contains("unauthenticated"), "{refused}");
    let valid = call("Validate", &asked, true).unwrap();
    assert_eq!(valid["active"], true, "{valid}");
    let second = call("Refresh", &json!({"refresh_token": first["refreshToken"]}), false).unwrap();
    assert_eq!(second["outcome"], "REFRESH_OUTCOME_ROTATED");
    let token = &second["tokens"]["refreshToken"];
    let ended = call("Revoke", &json!({"token": token}), false).unwrap();
    assert_eq!(ended["sessionsRevoked"], 1, "{ended}");
    let inactive = call("Validate", &asked, true).unwrap();
    assert_eq!(inactive["reason"], "INACTIVE_REASON_REVOKED", "{inactive}");
}

#[test]
fn grpcurl_calls_over_tls_and_with_a_certificate() {
    let tls = TlsServer::start();
    four_calls(|method, request, with_certificate| {
        let mut command = Command::new(tool("grpcurl"));
        command.args(["-cacert", &tls.file("ca.crt"), "-d", &request.to_string()]);
        if with_certificate {
            command.args(["-cert", &tls.file("client.crt"), "-key", &tls.file("client.key")]);
        }
        let method = format!("countersign.v1.TokenService/{method}");
        let done = command.args([&tls.address(), &method]).output().unwrap();
        if done.status.success() {
            Ok(serde_json::from_slice(&done.stdout).unwrap())
        } else {
            Err(output(&done))
        }
    });
    // Without the authority grpcurl does not trust the server, and without TLS the server does not answer.
    for flags in [&[][..], &["-plaintext"]] {
        let done = Command::new(tool("grpcurl"))
            .args(flags)
            .args([&tls.address(), "list"])
            .output();
        assert!(!done.unwrap().status.success(), "{flags:?}");
    }
}

#[test]
fn buf_curl_calls_over_tls_and_with_a_certificate() {
    let tls = TlsServer::start();
    four_calls(|method, request, with_certificate| {
        let mut command = Command::new(tool("buf"));
        command.args([
            "curl",
            "--protocol",
            "grpc",
            "--cacert",
            &tls.file("ca.crt"),
            "--data",
            &request.to_string(),
        ]);
        if with_certificate {
            command.args(["--cert", &tls.file("client.crt"), "--key", &tls.file("client.key")]);
        }
        let url = format!("https://{}/countersign.v1.TokenService/{method}", tls.address());
        let done = command.arg(url).env("HOME", &tls.folder).output().unwrap();
        if done.status.success() {
            Ok(serde_json::from_slice(&done.stdout).unwrap())
        } else {
            Err(output(&done))
        }
    });
}

/// Runs a program that makes all the calls. Its arguments are the address and the folder with the files; it prints
/// "good" at the end.
pub(crate) fn runs(tls: &TlsServer, command: &mut Command) {
    let done = command
        .arg(tls.address())
        .arg(&tls.folder)
        .env("PEER_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(
        done.status.success() && output(&done).trim_end().ends_with("good"),
        "{:?}: {}",
        done.status,
        output(&done)
    );
}

#[test]
fn grpc_js_calls_over_tls_and_with_a_certificate() {
    let tls = TlsServer::start();
    let mut command = Command::new(tool("node"));
    runs(&tls, command.arg(format!("{ROOT}/tests/peers/grpc-js/calls.js")));
}
