//! `PyJWT`, `jose` and `jsonwebtoken` accept tokens of all algorithms through the key set, and refuse forged ones.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::keys::{kid, part};
use crate::support::process::find;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, Keys, PASSWORD, eventually};

/// The folder into which `tests/run` installs tools.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// Passes the tokens to a script, and returns the verdicts of each of its libraries.
fn verdicts(command: &mut Command, asked: &Value) -> Value {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what is needed"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(asked.to_string().as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {errors}");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{command:?}: {error}\n{errors}"))
}

fn python(asked: &Value) -> Value {
    verdicts(
        Command::new(format!("{TOOLS}/bin/python3")).arg(format!("{SCRIPTS}/verify.py")),
        asked,
    )
}

fn node(asked: &Value) -> Value {
    let node: PathBuf = find("node").expect("Node.js is not installed: tests/run does that");
    verdicts(
        Command::new(node)
            .env("NODE_PATH", format!("{TOOLS}/node/node_modules"))
            .arg(format!("{SCRIPTS}/verify.js")),
        asked,
    )
}

/// The token with another `scope` and the old signature.
fn forged(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut claims = part(token, 1);
    claims["scope"] = "everything".into();
    let parts: Vec<&str> = token.split('.').collect();
    format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(claims.to_string()),
        parts[2]
    )
}

/// A replica that signs with this algorithm, and one of its tokens.
async fn signing_with(algorithm: &str, deployment: &Deployment) -> (Countersign, String) {
    let server = deployment.storage.clone().set("tokens.algorithm", algorithm).serve(&[]);
    let caller = Caller::of(&server);
    let token = eventually("the configured algorithm signs", Duration::from_mins(1), || async {
        let token = caller.issue("ada", PASSWORD).await.expect("logins work").access_token;
        (part(&token, 0)["alg"] == algorithm).then_some(token)
    })
    .await;
    (server, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_javascript_verify_tokens_of_all_algorithms_through_the_key_set() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("keys.prepublish", "1s")
        .set("keys.jwks_max_age", "1s");
    let user = deployment.add_user("ada", &[]);
    // The configuration changes the algorithm, and tokens of the one before stay valid.
    let (eddsa_server, eddsa) = signing_with("EdDSA", &deployment).await;
    assert_eq!(eddsa_server.stop().code(), Some(0));
    let (es256_server, es256) = signing_with("ES256", &deployment).await;
    assert_eq!(es256_server.stop().code(), Some(0));
    let (server, rs256) = signing_with("RS256", &deployment).await;

    let algorithms = ["EdDSA", "ES256", "RS256"];
    let good = [eddsa, es256, rs256];
    for (token, algorithm) in good.iter().zip(algorithms) {
        assert_eq!(part(token, 0)["alg"], algorithm);
        Caller::of(&server).assert_active(token).await;
    }
    let forged = good.each_ref().map(|token| forged(token));
    let asked = json!({
        "jwks": format!("{}/.well-known/jwks.json", server.http_url()),
        "issuer": "https://countersign.local",
        "audience": "api",
        "tokens": good.iter().chain(&forged).collect::<Vec<_>>(),
    });
    let mut verdicts = python(&asked);
    verdicts
        .as_object_mut()
        .unwrap()
        .extend(node(&asked).as_object().unwrap().clone());

    for library in ["PyJWT", "jose", "jsonwebtoken"] {
        for (index, algorithm) in algorithms.into_iter().enumerate() {
            let (good, forged) = (&verdicts[library][index], &verdicts[library][index + algorithms.len()]);
            println!("{library} on {algorithm}: {good}, forged: {forged}");
            assert!(
                forged["refused"].is_string(),
                "{library} accepts a forged {algorithm}: {forged}"
            );
            if (library, algorithm) == ("jsonwebtoken", "EdDSA") {
                // jsonwebtoken 9.0 has no EdDSA: with it, set `tokens.algorithm` to ES256 or RS256.
                assert!(
                    good["refused"].is_string(),
                    "jsonwebtoken supports EdDSA now: update this test and its documentation"
                );
            } else {
                assert_eq!(good["subject"], json!(user), "{library} refuses {algorithm}: {good}");
            }
        }
    }

    // Tokens of another audience or issuer are refused: a valid signature is not enough.
    let mut other_audience = asked.clone();
    other_audience["audience"] = "billing".into();
    let mut other_issuer = asked;
    other_issuer["issuer"] = "https://elsewhere.example".into();
    for asked in [other_audience, other_issuer] {
        for (library, verdicts) in [("PyJWT", python(&asked)), ("jose", node(&asked))] {
            let verdicts = verdicts[library].as_array().unwrap().clone();
            assert!(
                verdicts.iter().all(|verdict| verdict["refused"].is_string()),
                "{library}: {verdicts:?}"
            );
        }
    }

    // A revoked key leaves the set, and the libraries refuse its tokens.
    let keys = Keys::of(&server);
    keys.revoke(&kid(&good[2])).await.unwrap();
    let asked = json!({
        "jwks": format!("{}/.well-known/jwks.json", server.http_url()),
        "issuer": "https://countersign.local",
        "audience": "api",
        "tokens": [good[1], good[2]],
    });
    for (library, verdicts) in [("PyJWT", python(&asked)), ("jose", node(&asked))] {
        assert_eq!(verdicts[library][0]["subject"], json!(user), "{library}");
        assert!(verdicts[library][1]["refused"].is_string(), "{library}");
    }
}
