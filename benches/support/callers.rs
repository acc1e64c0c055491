//! The client as which the benchmarks call, and the key of the tokens that they make.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::client::{Client, Credential};
use countersign::keys::signing::SigningKey;
use countersign::model::Algorithm;
use countersign::secret::SystemEntropy;

use crate::support::Countersign;
use crate::support::serve::Storage;

/// The caller scopes of most benchmarks, without `countersign:`.
pub const SCOPES: &[&str] = &["issue", "refresh", "revoke", "validate", "watch", "users"];

fn full_names(scopes: &[&str]) -> Vec<String> {
    scopes.iter().map(|scope| format!("countersign:{scope}")).collect()
}

/// Registers the client `bench` with these caller scopes; returns its id and secret.
pub fn add_caller(storage: &Storage, scopes: &[&str]) -> (String, String) {
    let scopes = full_names(scopes);
    let mut words = vec![
        "client",
        "add",
        "bench",
        "--grant",
        "client_secret",
        "--grant",
        "password",
    ];
    words.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let made = storage.run(&words).json();
    ("bench".to_owned(), made["clientSecret"].as_str().unwrap().to_owned())
}

/// The client of the client library with these credentials and caller scopes. If the server serves TLS, `ca` signed its
/// certificate.
pub fn caller(
    server: &Countersign,
    (client_id, secret): (String, String),
    scopes: &[&str],
    ca: Option<&Path>,
) -> Client {
    let credential = Credential::Secret {
        client_id,
        secret: secret.into(),
        scope: full_names(scopes),
    };
    let builder = match ca {
        Some(file) => Client::builder(format!("https://localhost:{}", server.grpc().port())).ca_file(file),
        None => Client::builder(server.grpc_url()),
    };
    builder.credential(credential).connect_lazy().unwrap()
}

/// Makes a signing key the active one. The benchmark can then make any number of tokens.
pub fn import_key(storage: &Storage, algorithm: Algorithm) -> Arc<SigningKey> {
    let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
    let file = storage.folder().join("key.pem");
    let der = STANDARD.encode(key.to_pkcs8().unwrap());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    std::fs::write(&file, pem).unwrap();
    storage
        .run(&["key", "import", file.to_str().unwrap(), "--activate"])
        .succeed();
    Arc::new(key)
}

/// These stores with hashes that cost nearly nothing, and without limits that a busy machine would reach.
pub fn patient(storage: Storage) -> Storage {
    storage
        .set("password.memory_kib", "1024")
        .set("password.iterations", "1")
        .set("throttle.enabled", "false")
        .set("storage.redis_timeout", "3s")
        .set("storage.acquire_timeout", "5s")
        .set("storage.statement_timeout", "5s")
        .set("server.default_deadline", "15s")
        .set("server.max_deadline", "15s")
}
