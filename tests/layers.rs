//! The direction of imports, the rooms that a foreign crate or a backend may be named in, and the length of files.
//!
//! It reads the text, not the compiler's mind: every path that starts at `crate`, `super` or a watched crate, in `use`
//! or in the middle of an expression, with comments and strings left out. Test modules are left out as well: a test
//! may stand where it likes. Where a rule is in the way, change it here, with the reason, and in `ARCHITECTURE.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "layers/paths.rs"]
mod paths;

/// Rooms and what each may import, lowest first: a room names only rooms above it in this table.
const ROOMS: &[(&str, &str)] = &[
    ("secret", ""),
    ("clock", ""),
    // The name that every span has.
    ("spans", ""),
    ("model", "secret clock"),
    // The conversions between the wire and the model are the server's and the client's alike.
    ("proto", "secret clock model"),
    // Each section is a small struct of values, so rules may take the section that is theirs: see ONLY_IN.
    ("config", "secret clock model"),
    ("shutdown", "clock"),
    ("telemetry", "secret clock spans model config"),
    ("store", "secret clock spans model config"),
    // The ring opens the rows that the store's trait hands over. What signs and verifies has no store in it: a calling
    // service has those files too, without the feature `server`, so the compiler sees to that.
    ("keys", "secret clock model config store"),
    ("password", "secret clock spans model config"),
    // The accept loop of both ports.
    ("listener", "secret clock spans model config shutdown telemetry"),
    // Counters of failed attempts, for every rule that looks at a password; the names are HMACs of the master key.
    ("throttle", "secret clock spans model config store keys"),
    (
        "revocation",
        "secret clock spans model config shutdown store keys password",
    ),
    (
        "token",
        "secret clock spans model config shutdown store keys password throttle revocation",
    ),
    (
        "account",
        "secret clock spans model config shutdown store keys password throttle revocation",
    ),
    ("client", "secret clock proto model keys revocation"),
    // What the client library has of it knows of secrets alone; the compiler sees to that, without the feature `server`.
    ("gateway", "secret clock model keys token"),
    (
        "grpc",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation token account gateway",
    ),
    (
        "http",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation token account gateway",
    ),
    (
        "app",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation token account gateway client grpc http",
    ),
    (
        "cli",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation token account gateway client grpc http app",
    ),
    ("main", "config telemetry app cli"),
];

/// A path, and the only places that may name it: rooms, or folders and files of them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("crate::store::postgres", &["store::postgres", "app"]),
    ("crate::store::redis", &["store::redis", "app"]),
    ("crate::store::sqlite", &["store::sqlite", "app"]),
    // Below `app` a function takes the section that it needs, never the whole configuration.
    ("crate::config::Config", &["config", "app", "cli", "main"]),
    ("sqlx", &["store::postgres"]),
    ("fred", &["store::redis"]),
    ("rusqlite", &["store::sqlite"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("jsonwebtoken", &["keys"]),
    ("argon2", &["password"]),
    // What the rules answer is not tied to how it is carried.
    ("tonic", &["proto", "client", "grpc", "app", "cli"]),
    ("axum", &["http", "app"]),
    ("clap", &["cli", "main"]),
];

const LONGEST_FILE: usize = 400;

#[test]
fn imports_run_one_way() {
    let complaints: Vec<String> = sources("src")
        .iter()
        .flat_map(|file| complaints(&module_of(file), &fs::read_to_string(file).unwrap()))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = ["src", "tests", "benches", "examples"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, file)| format!("{}: {lines} lines, more than {LONGEST_FILE}", file.display()))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn the_table_itself_runs_one_way() {
    for (n, (room, imports)) in ROOMS.iter().enumerate() {
        for import in imports.split(' ').filter(|import| !import.is_empty()) {
            assert!(
                ROOMS[..n].iter().any(|(lower, _)| *lower == import),
                "{room} → {import}"
            );
        }
    }
}

#[test]
fn what_is_not_allowed_is_found() {
    for (module, source) in [
        ("model::user", "use crate::store::UserStore;"),
        ("store::keys", "use crate::keys::Ring;"),
        ("token::issue", "use crate::{clock::Clock, grpc::{self, Status}};"),
        ("token::issue", "use crate::store::{self, redis::RedisSessions as _};"),
        ("token::issue", "use super::super::grpc;"),
        ("token", "use super::account;"),
        ("token::issue", "use tonic::Status;"),
        ("token::issue", "fn f(s: tonic::Status) {}"),
        ("token::issue", "use {std::fmt, ::sqlx as sql};"),
        ("grpc", "use crate::config::{Config, Server};"),
        ("http", "use crate::grpc::Policy;"),
        ("app", "use fred::prelude::Client;"),
        ("cli::serve", "use crate::store::sqlite;"),
        ("store::sqlite::users", "use crate::store::postgres::users;"),
        ("surprise", "use crate::model::User;"),
        ("model", "/* a */ use /* b */ crate::app::App; // c"),
        ("model", "mod tests_of_mine { use crate::app::App; }"),
        ("main", "use countersign::store::DurableStore;"),
        (
            "client",
            "const C: char = '\"'; use crate::store::Page; const D: &str = \"\";",
        ),
    ] {
        assert!(!complaints(module, source).is_empty(), "{module}: {source}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_of() {
    for (module, source) in [
        (
            "token::issue",
            "use crate::{clock::Clock, store::{SessionStore, UserStore}, config::Tokens};",
        ),
        (
            "token::issue",
            "// use crate::grpc::Status;\n/* crate::app /* nested */ crate::cli */",
        ),
        (
            "token::issue",
            "const S: &str = \"use crate::grpc; \\\" crate::app\"; const R: &str = r#\"\"crate::app\"\"#;",
        ),
        (
            "token::issue",
            "//! [`crate::grpc`]\nuse super::rules;\nfn f<'a>(x: &'a u8) -> char { 'c' }",
        ),
        (
            "token::issue",
            "use crate::model;\n#[cfg(test)]\nmod tests {\n    use crate::app::App;\n}",
        ),
        ("token::tests", "use crate::app::App;"),
        (
            "store::redis::scripts",
            "use fred::types::Script;\nuse super::super::SessionStore;\nuse crate::store::redis::x;",
        ),
        ("store", "pub mod redis;\npub use sessions::SessionStore;"),
        (
            "app::embedded",
            "use crate::store::sqlite::Sqlite;\nuse crate::config::Config;",
        ),
        ("password::hash", "let x = argon2::Params::new(1);"),
        ("grpc", "let my_tonic = a.tonic; std::sqlx::x();"),
        ("main", "use countersign::cli;"),
    ] {
        assert_eq!(complaints(module, source), [""; 0], "{module}: {source}");
    }
}

/// What is wrong with one file.
fn complaints(module: &str, source: &str) -> Vec<String> {
    if module.split("::").any(|name| name == "tests") {
        return Vec::new();
    }
    let room = module.split("::").next().unwrap_or_default();
    let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{module}: the room `{room}` is not in the table of rooms")];
    };
    let shipped = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for path in paths::named(shipped, module) {
        let target = path
            .strip_prefix("crate::")
            .map(|rest| rest.split("::").next().unwrap_or_default());
        if let Some(target) = target
            && target != room
            && ROOMS.iter().any(|(name, _)| *name == target)
            && !may.split(' ').any(|allowed| allowed == target)
        {
            found.insert(format!("{module}: `{room}` may not import `{path}`"));
        }
        for (watched, places) in ONLY_IN {
            if within(&path, watched) && !places.iter().any(|place| within(module, place)) {
                found.insert(format!("{module}: `{path}` may be named only in {}", places.join(", ")));
            }
        }
    }
    found.into_iter().collect()
}

fn within(path: &str, start: &str) -> bool {
    path.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let names: Vec<&str> = inside
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| *name != "mod")
        .collect();
    names.join("::")
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != Path::new("src/lib.rs") {
                found.push(path);
            }
        }
    }
    found
}
