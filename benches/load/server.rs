//! The server under test, with production defaults. The benchmark imports its signing key, so it can make any number of tokens.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use countersign::client::Client;
use countersign::clock::{Clock as _, SystemClock};
use countersign::keys::signing::SigningKey;
use countersign::keys::verify::unverified_claims;
use countersign::model::{Algorithm, Claims, SessionId, TokenId, new_uuid};
use countersign::secret::SystemEntropy;

use crate::callers::{SCOPES, add_caller, caller, import_key};
use crate::cores;
use crate::generator::{Target, Transport};
use crate::support::deployment::add_user;
use crate::support::serve::Storage;
use crate::support::{Countersign, PASSWORD};

/// The server, a client, and the key and claims of its tokens.
pub struct Server {
    pub process: Countersign,
    pub storage: Storage,
    pub client: Client,
    caller: String,
    key: Arc<SigningKey>,
    claims: Claims,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_on(Storage::embedded(), Algorithm::EdDsa, None).await
    }

    /// Starts a server whose tokens have these signatures.
    pub async fn signing(algorithm: Algorithm) -> Self {
        let storage = Storage::embedded().set("tokens.algorithm", algorithm.as_str());
        Self::start_on(storage, algorithm, None).await
    }

    /// Starts a server with this configuration. If it serves TLS, `ca` signed its certificate.
    pub async fn start_on(storage: Storage, algorithm: Algorithm, ca: Option<&Path>) -> Self {
        add_user(&storage, "ada", &["--email", "ada@example.org", "--role", "editor"]);
        let key = import_key(&storage, algorithm);
        let (client_id, secret) = add_caller(&storage, SCOPES);
        let server = cores::on_server_core(|| storage.serve(&[]));
        let client = caller(&server, (client_id, secret), SCOPES, ca);
        let session = client.log_in("ada", PASSWORD).await.unwrap();
        let claims = unverified_claims(&session.tokens().access_token).unwrap();
        let own = client.own_token().await.unwrap().unwrap();
        Self {
            caller: format!("Bearer {}", own.expose()),
            process: server,
            storage,
            client,
            key,
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
            transport: Transport::Tcp,
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
            transport: Transport::Tcp,
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
