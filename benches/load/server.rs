//! The server under test, with production defaults. The benchmark imports its signing key, so it can make any number of tokens.

use std::sync::Arc;

use base64::Engine as _;
use countersign::client::{Client, Credential};
use countersign::clock::{Clock as _, SystemClock};
use countersign::keys::signing::SigningKey;
use countersign::keys::verify::unverified_claims;
use countersign::model::{Algorithm, Claims, SessionId, TokenId, new_uuid};
use countersign::secret::SystemEntropy;

use crate::cores;
use crate::generator::Target;
use crate::support::deployment::add_user;
use crate::support::serve::Storage;
use crate::support::{Countersign, PASSWORD};

/// The server, a client, and the key and claims of its tokens.
pub struct Server {
    process: Countersign,
    pub client: Client,
    caller: String,
    key: Arc<SigningKey>,
    claims: Claims,
}

impl Server {
    pub async fn start() -> Self {
        let storage = Storage::embedded();
        let key = SigningKey::generate(Algorithm::EdDsa, &SystemEntropy).unwrap();
        let file = storage.folder().join("key.pem");
        let der = base64::engine::general_purpose::STANDARD.encode(key.to_pkcs8().unwrap());
        std::fs::write(
            &file,
            format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"),
        )
        .unwrap();
        storage
            .run(&["key", "import", file.to_str().unwrap(), "--activate"])
            .succeed();
        add_user(&storage, "ada", &["--email", "ada@example.org", "--role", "editor"]);
        let (client_id, secret) = add_caller(&storage);
        let server = cores::on_server_core(|| storage.serve(&[]));
        let client = caller(&server, client_id, secret);
        let session = client.log_in("ada", PASSWORD).await.unwrap();
        let claims = unverified_claims(&session.tokens().access_token).unwrap();
        let own = client.own_token().await.unwrap().unwrap();
        Self {
            caller: format!("Bearer {}", own.expose()),
            process: server,
            client,
            key: Arc::new(key),
            claims,
        }
    }

    /// This many different valid tokens, as if as many users were logged in.
    pub fn tokens(&self, count: usize) -> Vec<String> {
        let now = SystemClock::new().now();
        let fresh = || new_uuid(now, &SystemEntropy);
        (0..count)
            .map(|_| {
                let claims = Claims {
                    jti: TokenId(fresh()),
                    sid: Some(SessionId(fresh())),
                    iat: now.secs(),
                    exp: now.secs() + 3600,
                    ..self.claims.clone()
                };
                self.key.sign(&claims).unwrap()
            })
            .collect()
    }

    /// The target of calls to a method of this server.
    pub fn target(&self, path: &'static str) -> Target {
        Target {
            address: self.process.grpc(),
            path,
            bearer: self.caller.clone(),
            pid: self.process.pid(),
            alone: true,
        }
    }

    /// The same calls to a baseline server.
    pub fn against(&self, baseline: &crate::baseline::Baseline, path: &'static str) -> Target {
        Target {
            address: baseline.address,
            pid: baseline.pid(),
            ..self.target(path)
        }
    }

    /// The time of a signature check alone, in microseconds, averaged over these tokens on this core.
    pub fn bare_verification(&self, tokens: &[String]) -> f64 {
        let key = self.key.public().clone();
        let parts: Vec<_> = tokens
            .iter()
            .map(|token| {
                let (signed, signature) = token.rsplit_once('.').unwrap();
                let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
                (signed.as_bytes(), engine.decode(signature).unwrap())
            })
            .collect();
        let start = std::time::Instant::now();
        assert!(parts.iter().all(|(signed, signature)| key.verifies(signed, signature)));
        start.elapsed().as_secs_f64() * 1e6 / parts.len() as f64
    }

    /// The public key of the signing key, in base64url.
    pub fn public_key(&self) -> String {
        let jwk: serde_json::Value = serde_json::from_str(self.key.public().canonical_jwk()).unwrap();
        jwk["x"].as_str().unwrap().to_owned()
    }

    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// The resident memory of the server, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }
}

/// The caller scopes of the benchmark's client.
const SCOPES: [&str; 6] = ["issue", "refresh", "revoke", "validate", "watch", "users"];

/// Registers a client with the scopes that the calls need; returns its id and secret.
pub fn add_caller(storage: &Storage) -> (String, String) {
    let mut words = vec![
        "client",
        "add",
        "bench",
        "--grant",
        "client_secret",
        "--grant",
        "password",
    ];
    for scope in SCOPES {
        words.extend(["--scope", Box::leak(format!("countersign:{scope}").into_boxed_str())]);
    }
    let made = storage.run(&words).json();
    ("bench".to_owned(), made["client_secret"].as_str().unwrap().to_owned())
}

/// The client of the client library with these credentials.
pub fn caller(server: &Countersign, client_id: String, secret: String) -> Client {
    let scope = SCOPES.map(|scope| format!("countersign:{scope}"));
    let credential = Credential::Secret {
        client_id,
        secret: secret.into(),
        scope: scope.to_vec(),
    };
    Client::builder(server.grpc_url())
        .credential(credential)
        .connect_lazy()
        .unwrap()
}
