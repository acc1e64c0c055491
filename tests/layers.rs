//! Checks the direction of imports, the modules that may name a foreign crate or a backend, and the length of files.
//!
//! It reads the source text: every path that starts at `crate`, `super` or a watched crate, in `use` or inside an
//! expression, without comments and strings. Test modules are exempt. Where a rule is in the way, change it here, with
//! the reason, and in `ARCHITECTURE.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "layers/paths.rs"]
mod paths;

/// The top-level modules and what each may import, lowest layer first: a module names only modules that stand earlier in
/// this table.
const MODULES: &[(&str, &str)] = &[
    ("secret", ""),
    // The certificates that clients and listeners trust.
    ("trust", ""),
    // What tests/interleavings replaces.
    ("sync", ""),
    ("clock", ""),
    // The target of all spans.
    ("spans", ""),
    ("model", "secret clock"),
    // Server and client share the conversions between messages and the model.
    ("proto", "secret clock model"),
    // Each section is a small struct of values, which the rules may take; the whole configuration they may not: see
    // ONLY_IN.
    ("config", "secret clock model"),
    ("shutdown", "clock"),
    ("telemetry", "secret clock spans model config"),
    ("store", "secret trust clock spans model config"),
    // The key ring opens the rows that the store's trait returns. Signing and verifying do not use the store: a calling
    // service compiles those files without the feature `server`, so the compiler checks that.
    ("keys", "secret clock model config store"),
    ("password", "secret sync clock spans model config"),
    // The accept loop of both ports.
    ("listener", "secret trust clock spans model config shutdown telemetry"),
    // Counters of failed attempts, for every rule that checks a password; their keys are HMACs under the master key.
    ("throttle", "secret clock spans model config store keys"),
    // The audit rows of failed attempts, for every rule that checks a credential.
    ("attempts", "secret clock model store keys"),
    (
        "revocation",
        "secret sync clock spans model config shutdown store keys password",
    ),
    // The client library has it without the feature `server`.
    ("validator", "secret sync clock model keys revocation"),
    (
        "token",
        "secret clock spans model config shutdown store keys password throttle attempts revocation validator",
    ),
    (
        "account",
        "secret clock spans model config shutdown store keys password throttle attempts revocation",
    ),
    (
        "client",
        "secret trust sync clock proto model keys revocation validator",
    ),
    // The part in the client library uses secrets only; the compiler checks that without the feature `server`.
    ("gateway", "secret clock model keys validator token"),
    (
        "grpc",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation validator token account gateway",
    ),
    (
        "http",
        "secret clock spans proto model config shutdown telemetry listener store keys password throttle revocation validator token account gateway",
    ),
    (
        "app",
        "secret trust clock spans proto model config shutdown telemetry listener store keys password throttle attempts revocation validator token account gateway client grpc http",
    ),
    (
        "cli",
        "secret trust clock spans proto model config shutdown telemetry listener store keys password throttle attempts revocation validator token account gateway client grpc http app",
    ),
    ("main", "config telemetry app cli"),
];

/// A path, and the only modules that may name it.
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
    // The results of the rules are independent of the transport.
    ("tonic", &["proto", "client", "grpc", "app", "cli"]),
    ("axum", &["http", "app"]),
    ("clap", &["cli", "main"]),
];

const MAX_FILE_LINES: usize = 400;

#[test]
fn imports_run_one_way() {
    let violations: Vec<String> = sources("src")
        .iter()
        .flat_map(|file| violations(&module_of(file), &fs::read_to_string(file).unwrap()))
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = ["src", "tests", "benches", "examples"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > MAX_FILE_LINES)
        .map(|(lines, file)| format!("{}: {lines} lines, more than {MAX_FILE_LINES}", file.display()))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn the_table_of_modules_has_one_direction() {
    for (n, (module, imports)) in MODULES.iter().enumerate() {
        for import in imports.split(' ').filter(|import| !import.is_empty()) {
            assert!(
                MODULES[..n].iter().any(|(lower, _)| *lower == import),
                "{module} → {import}"
            );
        }
    }
}

#[test]
fn forbidden_imports_are_found() {
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
        assert!(!violations(module, source).is_empty(), "{module}: {source}");
    }
}

#[test]
fn allowed_imports_are_accepted() {
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
        assert_eq!(violations(module, source), [""; 0], "{module}: {source}");
    }
}

/// The violations in one file.
fn violations(module: &str, source: &str) -> Vec<String> {
    if module.split("::").any(|name| name == "tests") {
        return Vec::new();
    }
    let top = module.split("::").next().unwrap_or_default();
    let Some((_, may)) = MODULES.iter().find(|(name, _)| *name == top) else {
        return vec![format!("{module}: `{top}` is not in the table of modules")];
    };
    let production = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for path in paths::named(production, module) {
        let target = path
            .strip_prefix("crate::")
            .map(|rest| rest.split("::").next().unwrap_or_default());
        if let Some(target) = target
            && target != top
            && MODULES.iter().any(|(name, _)| *name == target)
            && !may.split(' ').any(|allowed| allowed == target)
        {
            found.insert(format!("{module}: `{top}` may not import `{path}`"));
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
