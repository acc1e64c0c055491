//! gRPC clients of others, over TLS and with a client certificate: grpcurl, `buf curl`, grpcio, grpc-js, grpc-go.
//!
//! Each does the same: lists nothing it is not shown, logs in, validates, refreshes, revokes over TLS; and watches what a
//! certificate alone lets it watch. `tests/run` installs them; grpc-go only where a Go toolchain is found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

use crate::support::deployment::add_user;
use crate::support::process::find;
use crate::support::serve::Storage;
use crate::support::{Countersign, PASSWORD};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAME: &str = "spiffe://example.org/peer";

/// A server under TLS that knows one client by its certificate, and the files that its callers need.
struct World {
    server: Countersign,
    folder: PathBuf,
}

impl World {
    fn start() -> Self {
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
        // Of the same name as what it signs, OpenSSL would take that for self-signed.
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

fn tool(name: &str) -> PathBuf {
    let own = Path::new(ROOT).join("target/tools/bin").join(name);
    if own.is_file() {
        return own;
    }
    find(name).unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"))
}

fn said(done: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

/// The four calls and a refusal, by a program that is asked one call at a time: method and request to answer or
/// complaint; `with_certificate` says whether it shows one.
fn four_calls(call: impl Fn(&str, &Value, bool) -> Result<Value, String>) {
    let login = json!({"password": {"username": "ada", "password": PASSWORD}});
    let first = call("Issue", &login, false).unwrap()["tokens"].clone();
    let asked = json!({"access_token": first["accessToken"]});
    // Validating is for callers that are known.
    let refused = call("Validate", &asked, false).unwrap_err();
    assert!(refused.to_lowercase().contains("unauthenticated"), "{refused}");
    let valid = call("Validate", &asked, true).unwrap();
    assert_eq!(valid["active"], true, "{valid}");
    let second = call("Refresh", &json!({"refresh_token": first["refreshToken"]}), false).unwrap();
    assert_eq!(second["outcome"], "REFRESH_OUTCOME_ROTATED");
    let token = &second["tokens"]["refreshToken"];
    let ended = call("Revoke", &json!({"token": token}), false).unwrap();
    assert_eq!(ended["sessionsRevoked"], 1, "{ended}");
    let dead = call("Validate", &asked, true).unwrap();
    assert_eq!(dead["reason"], "INACTIVE_REASON_REVOKED", "{dead}");
}

#[test]
fn grpcurl_calls_over_tls_and_with_a_certificate() {
    let world = World::start();
    four_calls(|method, request, with_certificate| {
        let mut command = Command::new(tool("grpcurl"));
        command.args(["-cacert", &world.file("ca.crt"), "-d", &request.to_string()]);
        if with_certificate {
            command.args(["-cert", &world.file("client.crt"), "-key", &world.file("client.key")]);
        }
        let method = format!("countersign.v1.TokenService/{method}");
        let done = command.args([&world.address(), &method]).output().unwrap();
        if done.status.success() {
            Ok(serde_json::from_slice(&done.stdout).unwrap())
        } else {
            Err(said(&done))
        }
    });
    // Without the authority it does not believe the server; in the clear nobody answers.
    for flags in [&[][..], &["-plaintext"]] {
        let done = Command::new(tool("grpcurl"))
            .args(flags)
            .args([&world.address(), "list"])
            .output();
        assert!(!done.unwrap().status.success(), "{flags:?}");
    }
}

#[test]
fn buf_curl_calls_over_tls_and_with_a_certificate() {
    let world = World::start();
    four_calls(|method, request, with_certificate| {
        let mut command = Command::new(tool("buf"));
        command.args([
            "curl",
            "--protocol",
            "grpc",
            "--cacert",
            &world.file("ca.crt"),
            "--data",
            &request.to_string(),
        ]);
        if with_certificate {
            command.args(["--cert", &world.file("client.crt"), "--key", &world.file("client.key")]);
        }
        let url = format!("https://{}/countersign.v1.TokenService/{method}", world.address());
        let done = command.arg(url).env("HOME", &world.folder).output().unwrap();
        if done.status.success() {
            Ok(serde_json::from_slice(&done.stdout).unwrap())
        } else {
            Err(said(&done))
        }
    });
}

/// A program that makes the calls itself, given the address and the folder with the files; it prints "good" at the end.
fn runs(world: &World, command: &mut Command) {
    let done = command
        .arg(world.address())
        .arg(&world.folder)
        .env("PEER_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(
        done.status.success() && said(&done).trim_end().ends_with("good"),
        "{:?}: {}",
        done.status,
        said(&done)
    );
}

#[test]
fn grpcio_calls_over_tls_and_with_a_certificate() {
    let world = World::start();
    let generated = world.folder.join("generated");
    std::fs::create_dir(&generated).unwrap();
    let done = Command::new(tool("python3"))
        .args(["-m", "grpc_tools.protoc", "-Iproto"])
        .arg(format!("--python_out={}", generated.display()))
        .arg(format!("--grpc_python_out={}", generated.display()))
        .args(["token", "reason", "key"].map(|name| format!("proto/countersign/v1/{name}.proto")))
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let mut command = Command::new(tool("python3"));
    runs(
        &world,
        command
            .arg(format!("{ROOT}/tests/peers/grpcio/calls.py"))
            .env("PYTHONPATH", generated),
    );
}

#[test]
fn grpc_js_calls_over_tls_and_with_a_certificate() {
    let world = World::start();
    let mut command = Command::new(tool("node"));
    runs(&world, command.arg(format!("{ROOT}/tests/peers/grpc-js/calls.js")));
}

/// Only where Go and grpc-go are (`apt-get install golang-go golang-google-grpc-dev golang-google-protobuf-dev`): they
/// take a minute to install, and `tests/run` does not.
#[test]
fn grpc_go_calls_over_tls_and_with_a_certificate() {
    let packaged = Path::new("/usr/share/gocode");
    let Some(go) = find("go").filter(|_| packaged.join("src/google.golang.org/grpc").is_dir()) else {
        eprintln!("there is no Go with grpc-go here: it was not tried");
        return;
    };
    let world = World::start();
    let target = Path::new(ROOT).join("target");
    let program = target.join("peer-go");
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(format!("{ROOT}/tests/peers/grpc-go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", packaged)
        .env("GOCACHE", target.join("go"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let mut command = Command::new(program);
    runs(
        &world,
        command.env("PEER_PROTOSET", format!("{ROOT}/deploy/countersign.protoset")),
    );
}
