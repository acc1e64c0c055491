//! `countersign doctor` finds faults in the deployment and changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::pki::{Folder, Layout, Pki};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Database, KeySpace, Redis, ports};

/// The exit code, whether the deployment is healthy, the worst state of each check, and the whole report.
fn examine(storage: &Storage, flags: &[&str]) -> (Option<i32>, bool, BTreeMap<String, String>, Value) {
    let storage = on_free_ports(storage);
    let done = storage.run(&[&["doctor", "--output", "json"], flags].concat()).finish();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{}{}", done.stdout, done.stderr));
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    for check in report["checks"].as_array().unwrap() {
        let state = check["state"].as_str().unwrap();
        let known = states.entry(check["check"].as_str().unwrap().to_owned()).or_default();
        if known.is_empty() || known == "OK" {
            state.clone_into(known);
        }
    }
    (done.code(), report["healthy"].as_bool().unwrap(), states, report)
}

/// The same with addresses that are free: another process may have the default ones.
fn on_free_ports(storage: &Storage) -> Storage {
    let on_any = |storage: Storage, key| storage.set(key, "127.0.0.1:0");
    on_any(on_any(storage.clone(), "server.listen"), "server.http_listen")
}

/// The files of a folder, with their contents and modes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>, u32)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            (path.display().to_string(), std::fs::read(&path).unwrap(), mode)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_new_deployment_is_healthy_and_nothing_is_created() {
    let storage = Storage::embedded();
    let (code, healthy, states, report) = examine(&storage, &[]);
    assert_eq!((code, healthy), (Some(0), true), "{report}");
    assert_eq!(states["database"], "OK");
    assert!(!storage.data().exists(), "it created the data folder");
    let text = on_free_ports(&storage).run(&["doctor"]).succeed();
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
}

#[test]
fn cookies_of_every_client_are_a_warning() {
    let storage = Storage::embedded().set("gateway.cookies", "true");
    let (code, healthy, states, report) = examine(&storage, &[]);
    assert_eq!(
        (code, healthy, states["cookies"].as_str()),
        (Some(0), true, "WARNING"),
        "{report}"
    );
    let (_, _, states, report) = examine(&storage.set("gateway.client_id", "web"), &[]);
    assert_eq!(states["cookies"], "OK", "{report}");
}

#[test]
fn an_embedded_store_is_examined_without_a_change() {
    let storage = for_tests(Storage::embedded());
    assert_eq!(storage.serve(&[]).stop().code(), Some(0));
    let before = contents(&storage.data());
    let (code, healthy, states, report) = examine(&storage, &[]);
    assert_eq!((code, healthy), (Some(0), true), "{report}");
    for check in [
        "configuration",
        "issuer",
        "data folder",
        "database",
        "master key",
        "key ring",
    ] {
        assert_eq!(states[check], "OK", "{report}");
    }
    assert_eq!(contents(&storage.data()), before);

    // It can read the store of a running server.
    let server = storage.serve(&[]);
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!((code, states["key ring"].as_str()), (Some(0), "OK"), "{report}");
    drop(server);

    let file = storage.data().join("countersign.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, healthy, states, report) = examine(&storage, &[]);
    assert_eq!((code, healthy), (Some(1), false), "{report}");
    assert_eq!(states["data folder"], "FAILED");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "it reports the mode and does not change it");

    let wrong = storage.set("keys.master_key", "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=");
    let (code, _, states, report) = examine(&wrong, &[]);
    assert_eq!(code, Some(64), "{report}");
    assert_eq!(states["master key"], "MISCONFIGURED");
}

#[tokio::test]
async fn a_clustered_deployment_is_examined_completely() {
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let storage = for_tests(Storage::shared(&database, &keys));
    let empty = database.dump();
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!((code, states["database"].as_str()), (Some(0), "OK"), "{report}");
    assert_eq!(lines(&database.dump()), lines(&empty), "it created a schema");
    assert_eq!(storage.serve(&[]).stop().code(), Some(0));
    let before = database.dump();
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!(code, Some(0), "{report}");
    for check in ["database", "clock", "master key", "key ring"] {
        assert_eq!(states[check], "OK", "{report}");
    }
    assert_eq!(lines(&database.dump()), lines(&before));
    assert!(!report.to_string().contains(crate::support::serve::MASTER_KEY));

    database.execute("UPDATE schema_version SET version = 9999").await;
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!((code, states["database"].as_str()), (Some(1), "FAILED"), "{report}");
}

/// A dump without the random names that newer `pg_dump`s put around it.
fn lines(dump: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(dump);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn each_faulty_store_is_named() {
    let database = Database::fresh().await;
    let redis = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let evicting = Storage::clustered(database.url(), &redis.url(), "cs");
    let (code, _, states, report) = examine(&evicting, &[]);
    assert_eq!((code, states["redis"].as_str()), (Some(1), "FAILED"), "{report}");
    assert!(report.to_string().contains("noeviction"), "{report}");

    let gone = format!("redis://127.0.0.1:{}", ports::free());
    let (code, _, states, report) = examine(&Storage::clustered(database.url(), &gone, "cs"), &[]);
    assert_eq!((code, states["redis"].as_str()), (Some(69), "UNREACHABLE"), "{report}");

    let nowhere = format!("postgres://nobody:hush-hush@127.0.0.1:{}/none", ports::free());
    let (code, _, states, report) = examine(&Storage::clustered(&nowhere, &gone, "cs"), &[]);
    assert_eq!(
        (code, states["database"].as_str()),
        (Some(69), "UNREACHABLE"),
        "{report}"
    );
    assert!(!report.to_string().contains("hush-hush"), "{report}");

    let volatile = Redis::start(&["--save", "", "--appendonly", "no"]);
    let (_, _, states, report) = examine(&Storage::clustered(database.url(), &volatile.url(), "cs"), &[]);
    assert_eq!(states["redis"], "WARNING", "{report}");
}

#[test]
fn certificates_are_examined_and_an_invalid_configuration_exits_with_64() {
    let (pki, storage) = (Pki::new(), Storage::embedded());
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let storage = storage
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap());
    let mut put = |pair: &crate::pki::Pair| folder.put(&[("tls.key", &pair.key), ("tls.crt", &pair.cert)]);
    put(&pki.server(1));
    assert_eq!(examine(&storage, &[]).2["certificate"], "OK");
    put(&pki.expired(2));
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!((code, states["certificate"].as_str()), (Some(1), "FAILED"), "{report}");
    let other = pki.server(3).key;
    put(&crate::pki::Pair {
        key: other,
        ..pki.server(4)
    });
    let (code, _, states, report) = examine(&storage, &[]);
    assert_eq!(
        (code, states["certificate"].as_str()),
        (Some(64), "MISCONFIGURED"),
        "{report}"
    );

    let wrong = Storage::embedded().set("tokens.access_ttl", "soon");
    assert_eq!(wrong.run(&["doctor"]).finish().code(), Some(64));
}
