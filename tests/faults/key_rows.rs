//! Keys at rest: tampered rows, files that are not private keys, another master key. Each of them is refused and
//! logged as an error; all other keys go on working.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::proto::{InactiveReason, KeyState, RefreshOutcome};
use rstest::rstest;

use crate::support::caller::refresh_bytes;
use crate::support::keys::{kid, part, published};
use crate::support::{Caller, Deployment, DeploymentKind, Keys, eventually, get};

/// Changes a byte in the middle of a key's encrypted private half, as an attacker with write access to the database
/// could.
async fn tamper(deployment: &Deployment, id: &str) {
    if let Some(database) = &deployment.database {
        let change = "UPDATE signing_keys SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)";
        database.execute(&format!("{change} WHERE id = '{id}'")).await;
        return;
    }
    let connection = rusqlite::Connection::open(deployment.storage.data().join("countersign.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let read = "SELECT sealed FROM signing_keys WHERE id = ?1";
    let mut sealed: Vec<u8> = connection.query_row(read, [id], |row| row.get(0)).unwrap();
    sealed[40] ^= 1;
    let write = "UPDATE signing_keys SET sealed = ?2 WHERE id = ?1";
    assert_eq!(connection.execute(write, (id, &sealed)).unwrap(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_key_is_refused_and_logged_and_the_others_go_on(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (caller, keys) = (Caller::of(&server), Keys::of(&server));
    let retired = caller.login("ada").await;
    keys.rotate(true).await.unwrap();
    let session = caller.login("ada").await;
    assert_ne!(kid(&session.access_token), kid(&retired.access_token));

    // A retired key: its tokens become unknown and nothing else changes, also after a restart.
    tamper(&deployment, &kid(&retired.access_token)).await;
    eventually("the tampered key is refused", Duration::from_secs(15), || async {
        let reason = caller.inactive_reason(&retired.access_token).await?;
        assert_eq!(reason, InactiveReason::UnknownKey);
        Some(())
    })
    .await;
    caller.assert_active(&session.access_token).await;
    assert!(server.log().contains("tampered with"), "{}", server.log());
    let set = published(
        &get(&format!("{}/.well-known/jwks.json", server.http_url()), &[])
            .await
            .body,
    );
    assert!(!set.contains(&kid(&retired.access_token)) && set.contains(&kid(&session.access_token)));
    assert_eq!(server.stop().code(), Some(0));
    let server = deployment.serve();
    let (caller, keys) = (Caller::of(&server), Keys::of(&server));
    assert!(server.log().contains("tampered with"), "{}", server.log());
    caller.assert_active(&session.access_token).await;
    assert_eq!(
        caller.inactive_reason(&retired.access_token).await,
        Some(InactiveReason::UnknownKey)
    );

    // The active key: the standby key replaces it by itself, and sessions go on.
    let [standby] = keys.in_state(KeyState::Pending).await.try_into().unwrap();
    tamper(&deployment, &kid(&session.access_token)).await;
    let fresh = eventually("the standby signs", Duration::from_secs(15), || async {
        caller
            .issue("ada", crate::support::PASSWORD)
            .await
            .ok()
            .filter(|fresh| kid(&fresh.access_token) == standby)
    })
    .await;
    caller.assert_active(&fresh.access_token).await;
    let (refreshed, _) = caller
        .refresh(&session.refresh_token)
        .await
        .expect("the session survives");
    caller.assert_active(&refreshed.access_token).await;

    // Resealing skips the key that it cannot open, reports it, and reseals the rest.
    let resealed = deployment.storage.run(&["key", "reseal"]).finish();
    assert_eq!(resealed.code(), Some(1), "{resealed:?}");
    assert!(
        resealed.stderr.contains("could not be decrypted") && resealed.stdout.contains("refused"),
        "{resealed:?}"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_private_keys_are_refused() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (caller, keys) = (Caller::of(&server), Keys::of(&server));
    let before = keys.list().await.unwrap();
    let pem = |name: &str| format!("{}/tests/vectors/pem/{name}", env!("CARGO_MANIFEST_DIR"));
    let garbage = deployment.storage.folder().join("garbage");
    let nothing = deployment.storage.folder().join("nothing").display().to_string();
    let mut cases: Vec<(String, Option<Vec<u8>>, i32, &str)> = [
        ("rsa1024.pkcs8.pem", "2048"),
        ("rsa1024.pkcs1.pem", "2048"),
        ("rsa2048-e3.pkcs8.pem", "exponent"),
        ("rsa2048.pkcs1-public.pem", "public key"),
        ("ed25519.public.pem", "public key"),
        ("certificate.pem", "public key"),
        ("ed25519.encrypted.pem", "encrypted"),
        ("p384.pkcs8.pem", "P-256"),
        ("x25519.pkcs8.pem", "Ed25519, P-256 and RSA"),
    ]
    .map(|(name, why)| (pem(name), None, 1, why))
    .to_vec();
    cases.push((nothing, None, 64, "cannot read"));
    for (content, why) in [
        (&b""[..], "neither PEM"),
        (b"\x00\xff\xfe", "neither PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "malformed"),
        (
            b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
            "malformed",
        ),
        (b"{}", "JSON Web Key"),
        (
            b"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
            "private",
        ),
        (b"{\"kty\":\"oct\",\"k\":\"AAAA\"}", "OKP, EC and RSA"),
    ] {
        cases.push((garbage.display().to_string(), Some(content.to_vec()), 1, why));
    }
    for (file, content, code, why) in cases {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        for flags in [&["key", "import", &file][..], &["key", "import", &file, "--activate"]] {
            let refused = deployment.storage.run(flags).finish();
            assert_eq!(refused.code(), Some(code), "{file}: {refused:?}");
            assert!(refused.stderr.contains(why), "{file}: {}", refused.stderr);
            assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
        }
    }
    assert_eq!(keys.list().await.unwrap(), before);

    // A good key is active at once, whatever algorithm is configured, and is refused the second time.
    for (name, algorithm) in [
        ("p256.sec1.pem", "ES256"),
        ("rsa2048.pkcs1.pem", "RS256"),
        ("ed25519.pkcs8.pem", "EdDSA"),
    ] {
        let file = pem(name);
        let imported = deployment.storage.run(&["key", "import", &file, "--activate"]).json();
        let id = imported["key"]["keyId"].as_str().unwrap().to_owned();
        let token = eventually("the imported key signs", Duration::from_secs(15), || async {
            let token = caller.login("ada").await.access_token;
            (kid(&token) == id).then_some(token)
        })
        .await;
        assert_eq!(part(&token, 0)["alg"], algorithm);
        caller.assert_active(&token).await;
        let again = deployment.storage.run(&["key", "import", &file]).finish();
        assert!(again.code() == Some(1) && again.stderr.contains("already"), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_can_be_replaced_while_sessions_go_on() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    deployment.add_user("ada", &[]);
    let old = crate::support::serve::MASTER_KEY;
    let new = STANDARD.encode([5; 32]);
    let both = format!("{new},{old}");
    let server = deployment.serve();
    let session = Caller::of(&server).login("ada").await;
    assert_eq!(server.stop().code(), Some(0));
    for (wrong, why) in [
        (STANDARD.encode([5; 31]), "32 bytes"),
        (STANDARD.encode([5; 33]), "32 bytes"),
        ("not base64!".to_owned(), "32 bytes"),
        (new.clone(), "keys.master_key"),
    ] {
        let refused = deployment
            .storage
            .clone()
            .set("keys.master_key", &wrong)
            .try_serve(&[])
            .unwrap_err();
        assert_eq!(refused.code(), Some(64), "{}", refused.stderr);
        assert!(
            refused.stderr.contains(why) && !refused.stderr.contains(&wrong),
            "{}",
            refused.stderr
        );
    }

    let storage = deployment.storage.clone().set("keys.master_key", &both);
    let during = storage.serve(&[]);
    Caller::of(&during).assert_active(&session.access_token).await;
    // A replica without the new master key could open nothing after a reseal.
    let behind = deployment.storage.serve(&[]);
    let refused = storage.run(&["key", "reseal"]).finish();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("live replicas"), "{refused:?}");
    assert_eq!(behind.stop().code(), Some(0));
    // A replica counts as live until its heartbeat is ten seconds old.
    eventually("all live replicas hold the new key", Duration::from_mins(1), || async {
        (storage.run(&["key", "reseal"]).finish().code() == Some(0)).then_some(())
    })
    .await;
    // The old master key opens nothing any more, and is not needed.
    let after = deployment.storage.clone().set("keys.master_key", &new).serve(&[]);
    let caller = Caller::of(&after);
    caller.assert_active(&session.access_token).await;
    let (fresh, _) = caller.refresh(&session.refresh_token).await.unwrap();
    Caller::of(&during).assert_active(&fresh.access_token).await;
    assert_eq!(deployment.storage.try_serve(&[]).unwrap_err().code(), Some(64));
}

/// The id of the service key that tagged this refresh token.
fn refresh_key(token: &str) -> u32 {
    u32::from_be_bytes(refresh_bytes(token)[1..5].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_refresh_gives_the_same_bytes_after_a_refresh_key_rotation() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("keys.rotation_period", "2s")
        .set("keys.prepublish", "1s")
        .set("keys.jwks_max_age", "1s")
        .set("tokens.refresh_grace", "5m");
    deployment.add_user("ada", &[]);
    let (one, other) = (deployment.serve(), deployment.serve());
    let (one, other) = (Caller::of(&one), Caller::of(&other));
    let first = one.login("ada").await;
    let (second, _) = one.refresh(&first.refresh_token).await.unwrap();
    eventually("another refresh key tags", Duration::from_secs(30), || async {
        let tagged = refresh_key(&other.login("ada").await.refresh_token);
        (tagged > refresh_key(&second.refresh_token)).then_some(())
    })
    .await;
    for caller in [&one, &other] {
        let (again, outcome) = caller.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(
            (outcome, &again.refresh_token),
            (RefreshOutcome::Replayed, &second.refresh_token)
        );
    }
    // The next successor is tagged by the new key, though the presented token was tagged by the old one.
    let (third, _) = other.refresh(&second.refresh_token).await.unwrap();
    assert!(refresh_key(&third.refresh_token) > refresh_key(&second.refresh_token));
    let (again, outcome) = one.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(
        (outcome, &again.refresh_token),
        (RefreshOutcome::Replayed, &third.refresh_token)
    );
}
