//! Writes the effective configuration as TOML, with redacted secrets and the source of each value.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::Config;
use super::layers::Source;

/// All keys in dotted form (`server.tls.cert`).
pub(super) fn keys(config: &Config) -> Vec<String> {
    leaves(config).into_iter().map(|(key, _)| key).collect()
}

/// The configuration as TOML, with redacted secrets.
pub(super) fn show(config: &Config) -> String {
    let mut text = String::new();
    let mut section = String::new();
    for (key, value) in leaves(config) {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
        if table != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{table}]");
            table.clone_into(&mut section);
        }
        let source = config.sources.get(&key).unwrap_or(&Source::Default);
        let _ = if value.is_null() {
            writeln!(text, "# {name} is not set")
        } else {
            writeln!(text, "{name} = {}  # {source}", toml(&value))
        };
    }
    text
}

/// All keys and values. In each section, values come before sub-tables, as TOML requires.
fn leaves(config: &Config) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    if let Ok(Value::Object(sections)) = serde_json::to_value(config) {
        collect("", sections, &mut found);
    }
    found
}

fn collect(prefix: &str, table: Map<String, Value>, found: &mut Vec<(String, Value)>) {
    let mut tables = Vec::new();
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        if let Value::Object(inner) = &value
            && key != "server.tls.client_identities"
        {
            tables.push((key, inner.clone()));
        } else {
            found.push((key, value));
        }
    }
    for (key, inner) in tables {
        collect(&key, inner, found);
    }
}

/// A value as TOML. JSON strings, numbers, booleans and arrays of them are also valid TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|(name, value)| format!("{} = {value}", Value::from(name.as_str())))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.to_string(),
    }
}
