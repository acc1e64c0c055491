//! Copies of the stores and recordings of their traffic contain no token, password or private key.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::keys::seal::{MasterKeyring, SealedItem};
use countersign::model::{Algorithm, KeyId};
use countersign::proto::Tokens;
use countersign::secret::SecretText;
use sqlx::Row as _;

use crate::support::caller::{refresh_bytes, session_secret};
use crate::support::deployment::{add_user, for_tests};
use crate::support::guard::{Ending, scratch};
use crate::support::process::Process;
use crate::support::secrets::{Secrets, assert_holds_none};
use crate::support::serve::{MASTER_KEY, Storage};
use crate::support::{Caller, Database, PASSWORD, Redis, eventually};

fn secrets_of(sessions: &[Tokens]) -> Secrets {
    let mut secrets: Secrets = vec![("the password", PASSWORD.into())];
    for tokens in sessions {
        let signature = tokens.access_token.rsplit_once('.').unwrap().1;
        secrets.extend([
            ("an access token", tokens.access_token.clone().into_bytes()),
            (
                "the signature of an access token",
                URL_SAFE_NO_PAD.decode(signature).unwrap(),
            ),
            ("a refresh token", refresh_bytes(&tokens.refresh_token)),
            ("a session secret", session_secret(&tokens.refresh_token)),
        ]);
    }
    secrets
}

/// The private half of a signing key, decrypted as `serve` decrypts it.
fn private_half(master: &str, id: &str, algorithm: &str, sealed: &[u8]) -> Vec<u8> {
    let master = MasterKeyring::parse(&SecretText::new(master.trim())).unwrap();
    let (id, algorithm) = (
        KeyId::parse(id, "key_id").unwrap(),
        Algorithm::named(algorithm).unwrap(),
    );
    master
        .unseal(SealedItem::SigningKey(&id, algorithm), sealed)
        .expect("the key is encrypted under the master key")
        .to_vec()
}

/// Makes two logins, a refresh, its repetition, and a reuse.
async fn use_tokens(caller: &Caller) -> Vec<Tokens> {
    let (one, other) = (caller.login("ada").await, caller.login("ada").await);
    let (next, _) = caller.refresh(&one.refresh_token).await.unwrap();
    let (again, _) = caller.refresh(&one.refresh_token).await.unwrap();
    let (last, _) = caller.refresh(&next.refresh_token).await.unwrap();
    caller.refresh(&one.refresh_token).await.unwrap_err();
    vec![one, other, next, again, last]
}

#[test]
fn the_search_finds_a_secret() {
    let secrets: Secrets = vec![("it", b"0123456789abcdef".to_vec())];
    for dump in [
        "x0123456789abcdefy",
        "\\x30313233343536373839616263646566",
        "eHgwMTIzNDU2Nzg5YWJjZGVmeQ",
    ] {
        let found = std::panic::catch_unwind(|| assert_holds_none("a dump", dump.as_bytes(), &secrets));
        assert!(found.is_err(), "{dump}");
    }
}

#[tokio::test]
async fn the_embedded_store_holds_no_secret_in_the_clear() {
    let storage = for_tests(Storage::embedded());
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let mut secrets = secrets_of(&use_tokens(&Caller::of(&server)).await);
    server.kill();

    let mut master = None;
    let mut dumps = Vec::new();
    for entry in std::fs::read_dir(storage.data()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        match std::str::from_utf8(&bytes) {
            // The master key itself: it decrypts the rest and lies in the same folder, which is why its mode is 0600.
            Ok(text) if MasterKeyring::parse(&SecretText::new(text.trim())).is_ok() => master = Some(text.to_owned()),
            _ if bytes.is_empty() => {}
            _ => dumps.push((path, bytes)),
        }
    }
    let master = master.expect("the first start made a master key");
    let database = dumps
        .iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "db"))
        .unwrap();
    let connection = rusqlite::Connection::open(&database.0).unwrap();
    let mut keys = connection
        .prepare("SELECT id, algorithm, sealed FROM signing_keys")
        .unwrap();
    let mut rows = keys.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (id, algorithm, sealed): (String, String, Vec<u8>) = row.try_into().unwrap();
        secrets.push(("a private key", private_half(&master, &id, &algorithm, &sealed)));
    }
    assert!(secrets.iter().any(|(name, _)| *name == "a private key"));
    for (path, bytes) in &dumps {
        assert_holds_none(&path.display().to_string(), bytes, &secrets);
    }
}

#[tokio::test]
async fn postgres_and_redis_neither_store_nor_receive_a_secret() {
    let database = Database::fresh().await;
    // MONITOR and the slow log have everything that Redis is sent, the two files everything that it stores.
    let redis = Redis::start(&[
        "--appendonly",
        "yes",
        "--slowlog-log-slower-than",
        "0",
        "--slowlog-max-len",
        "100000",
    ]);
    let log = scratch("monitor").join("log");
    let _monitor = Process::spawn(
        Command::new("redis-cli").args(["-u", &redis.url(), "MONITOR"]),
        &log,
        Ending::Kill,
    );
    let read = || std::fs::read(&log).unwrap_or_default();
    eventually("MONITOR begins", Duration::from_secs(10), || async {
        (!read().is_empty()).then_some(())
    })
    .await;

    let storage = for_tests(Storage::clustered(database.url(), &redis.url(), "cs"));
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let mut secrets = secrets_of(&use_tokens(&Caller::of(&server)).await);
    let mut connection = database.connect().await;
    for row in sqlx::query("SELECT id, algorithm, sealed FROM signing_keys")
        .fetch_all(&mut connection)
        .await
        .unwrap()
    {
        secrets.push((
            "a private key",
            private_half(MASTER_KEY, row.get(0), row.get(1), row.get(2)),
        ));
    }
    assert!(secrets.iter().any(|(name, _)| *name == "a private key"));

    assert_holds_none("pg_dump", &database.dump(), &secrets);
    redis.command(&["SAVE"]);
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    assert!(!keys.is_empty());
    for key in keys {
        let dump = Command::new("redis-cli")
            .args(["-u", &redis.url(), "--raw", "DUMP", &key])
            .output();
        assert_holds_none(&key, &dump.unwrap().stdout, &secrets);
    }
    let mut folders = vec![redis.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.metadata().unwrap().len() > 0 {
                assert_holds_none(&path.display().to_string(), &std::fs::read(&path).unwrap(), &secrets);
            }
        }
    }
    assert_holds_none(
        "SLOWLOG",
        redis.command(&["SLOWLOG", "GET", "100000"]).as_bytes(),
        &secrets,
    );
    let monitored = String::from_utf8_lossy(&read()).to_lowercase();
    assert!(monitored.contains("evalsha"), "the scripts were seen: {monitored}");
    // MONITOR escapes bytes as \x..: without the escapes they are hexadecimal.
    assert_holds_none("MONITOR", monitored.replace("\\x", "").as_bytes(), &secrets);
    assert_holds_none("MONITOR", monitored.as_bytes(), &secrets);
    assert_holds_none("the log", server.log().as_bytes(), &secrets);
}
