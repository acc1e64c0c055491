//! Envoy's `jwt_authn` in front of a service, with Countersign's key set as its remote JWKS: it admits valid tokens
//! through rotations from one algorithm to the next, and refuses tokens of a revoked key once its copy of the set has
//! expired.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::proto::KeyState;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::support::get::try_get;
use crate::support::guard::{self, Ending};
use crate::support::keys::{kid, part};
use crate::support::process::find;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, Keys, Process, eventually, ports};

/// How long Envoy keeps the key set; equal to `keys.jwks_max_age`.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// How long a key is published before it signs: Envoy's copy lives for [`CACHE_TTL`], and a replica looks for new keys
/// of others every three seconds.
const PREPUBLISH: Duration = Duration::from_secs(5);

fn program() -> PathBuf {
    let installed = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/envoy"));
    if installed.is_file() {
        return installed;
    }
    find("envoy").expect("Envoy is not installed: tests/run does that")
}

/// Envoy in front of a service that answers 200 to every request with a valid token.
struct Envoy {
    _process: Process,
    url: String,
}

impl Envoy {
    async fn before(server: &Countersign) -> Self {
        let folder = guard::scratch("envoy");
        let port = ports::free();
        let file = folder.join("envoy.json");
        std::fs::write(&file, configuration(port, server).to_string()).unwrap();
        let process = Process::spawn(
            Command::new(program()).arg("--config-path").arg(&file).args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ]),
            &folder.join("log"),
            Ending::Kill,
        );
        let started = Self {
            url: format!("http://127.0.0.1:{port}/"),
            _process: process,
        };
        eventually("Envoy listens", Duration::from_secs(30), || async {
            assert_eq!(
                try_get(&started.url, &[]).await?.status,
                401,
                "a request without a token is refused"
            );
            Some(())
        })
        .await;
        started
    }

    async fn status(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let answer = try_get(&self.url, &[("authorization", &bearer)]).await;
        answer.expect("Envoy answers").status
    }
}

fn configuration(port: u16, server: &Countersign) -> Value {
    let of_type = |name: &str, mut value: Value| {
        value["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{name}").into();
        value
    };
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let http = server.http_url();
    let (_, http_port) = http.rsplit_once(':').unwrap();
    let jwt_authn = of_type(
        "http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": {"countersign": {
                "issuer": "https://countersign.local",
                "audiences": ["api"],
                "remote_jwks": {
                    "http_uri": {
                        "uri": format!("{http}/.well-known/jwks.json"),
                        "cluster": "countersign",
                        "timeout": "5s",
                    },
                    "cache_duration": format!("{}s", CACHE_TTL.as_secs()),
                },
            }},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "countersign"}}],
        }),
    );
    let service = json!({
        "name": "service",
        "domains": ["*"],
        "routes": [{
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "let in\n"}},
        }],
    });
    let manager = of_type(
        "network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "service",
            "route_config": {"virtual_hosts": [service]},
            "http_filters": [
                {"name": "jwt_authn", "typed_config": jwt_authn},
                {"name": "router", "typed_config": of_type("http.router.v3.Router", json!({}))},
            ],
        }),
    );
    json!({"static_resources": {
        "listeners": [{
            "address": address(port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "countersign",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": "countersign",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(http_port.parse().unwrap())}}]}],
            },
        }],
    }})
}

/// Logs in and sends Envoy the tokens so far, repeatedly: all of them must be admitted until `done`.
async fn all_tokens_are_admitted(
    envoy: Arc<Envoy>,
    caller: Caller,
    tokens: Arc<Mutex<Vec<String>>>,
    done: watch::Receiver<bool>,
) -> usize {
    let mut asked = 0;
    while !*done.borrow() {
        let new = caller.login("ada").await.access_token;
        tokens.lock().unwrap().push(new);
        let all = tokens.lock().unwrap().clone();
        // The newest, and one of each key.
        for (index, token) in all.iter().enumerate() {
            let is_last_of_its_key = all[index + 1..].iter().all(|later| kid(later) != kid(token));
            if is_last_of_its_key {
                let status = envoy.status(token).await;
                assert_eq!(status, 200, "a valid {} token is not admitted", part(token, 0)["alg"]);
                asked += 1;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_rotations_and_revocations() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("keys.jwks_max_age", &format!("{}s", CACHE_TTL.as_secs()))
        .set("keys.prepublish", &format!("{}s", PREPUBLISH.as_secs()));
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (caller, keys) = (Caller::of(&server), Keys::of(&server));
    let envoy = Arc::new(Envoy::before(&server).await);
    for garbage in ["x", "a.b.c", "csr_AAAA"] {
        assert_eq!(envoy.status(garbage).await, 401);
    }

    let tokens = Arc::new(Mutex::new(Vec::new()));
    let (done, watching) = watch::channel(false);
    let pump = tokio::spawn(all_tokens_are_admitted(
        Arc::clone(&envoy),
        caller.clone(),
        Arc::clone(&tokens),
        watching,
    ));
    // Imported keys are published first, and then sign, one after another.
    for file in ["p256.pkcs8.pem", "rsa2048.pkcs8.pem"] {
        let file = format!("{}/tests/vectors/pem/{file}", env!("CARGO_MANIFEST_DIR"));
        deployment.storage.run(&["key", "import", &file]).succeed();
    }
    // With some time for a replica that was slow to look.
    sleep(PREPUBLISH + Duration::from_secs(5)).await;
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let key = keys.rotate(false).await.unwrap();
        assert_eq!((key.algorithm.as_str(), key.state()), (algorithm, KeyState::Active));
        // On a busy machine a round of the tokens so far may take longer than the copy lives.
        eventually("a token of the new key was shown", Duration::from_mins(1), || async {
            let newest = tokens.lock().unwrap().last().map(|token| kid(token));
            (pump.is_finished() || newest.as_ref() == Some(&key.key_id)).then_some(())
        })
        .await;
        sleep(CACHE_TTL * 2).await;
    }
    done.send(true).unwrap();
    let asked = pump.await.expect("every valid token is admitted");
    let mut last: Vec<String> = Vec::new();
    for token in tokens.lock().unwrap().iter().rev() {
        if last.iter().all(|known| kid(known) != kid(token)) {
            last.push(token.clone());
        }
    }
    println!("Envoy admitted {asked} tokens through {} keys", last.len());
    let algorithms: Vec<Value> = last.iter().rev().map(|token| part(token, 0)["alg"].clone()).collect();
    assert_eq!(algorithms, ["EdDSA", "ES256", "RS256", "EdDSA"]);

    // The active key first, then the retired ones: each revocation affects the tokens of its key only.
    for (index, token) in last.iter().enumerate() {
        assert_eq!(envoy.status(token).await, 200);
        keys.revoke(&kid(token)).await.unwrap();
        let start = Instant::now();
        eventually("tokens of the revoked key are refused", CACHE_TTL * 30, || async {
            (envoy.status(token).await == 401).then_some(())
        })
        .await;
        println!(
            "{}: refused {:?} after the revocation",
            part(token, 0)["alg"],
            start.elapsed()
        );
        for other in &last[index + 1..] {
            assert_eq!(envoy.status(other).await, 200, "a token of another key");
        }
        let new = caller.login("ada").await.access_token;
        assert_eq!(envoy.status(&new).await, 200, "Envoy had the standby key already");
    }
}
