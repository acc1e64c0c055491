//! The rules for the configuration: a file, and the environment over it.
//!
//! An input is the text of a file, a separator, and environment variables, one `NAME=value` a line.

use std::ffi::OsString;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex};

use countersign::config::{Config, ConfigError, DEFAULTS, Layers};
use tempfile::NamedTempFile;
use toml::Table;

use super::input::{SEPARATOR, split};
use super::target::Target;

/// The properties of configurations.
pub(crate) const TARGET: Target = Target {
    name: "config",
    inputs: 600,
    seeds,
    check,
};

/// Options whose value is a secret, or a URL that may contain one, by section and name.
const SECRETS: [(&str, &str); 7] = [
    ("keys", "master_key"),
    ("storage", "database_url"),
    ("storage", "database_password"),
    ("storage", "redis_url"),
    ("storage", "redis_password"),
    ("gateway", "forward_auth_secret"),
    ("agent", "client_secret"),
];

/// The shortest secret that is looked for. Shorter ones are in other words by chance.
const SHORTEST: usize = 8;

/// Stands for every secret in the seeds.
const CANARY: &str = "3q2+7wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxw=";
const CANARY_IN_URL: &str = "kT7vQ2xLpW9zR4mB";

static FILE: LazyLock<Mutex<NamedTempFile>> = LazyLock::new(|| Mutex::new(NamedTempFile::new().unwrap()));

fn seeds() -> Vec<Vec<u8>> {
    let with = |file: &str, environment: &str| [file.as_bytes(), &[SEPARATOR], environment.as_bytes()].concat();
    let clustered = format!(
        "[storage]\ndatabase_url = \"postgres://cs:{CANARY_IN_URL}@db.example/cs?sslmode=verify-full\"\nredis_url = \"rediss://redis.example\"\n[keys]\nmaster_key = \"{CANARY}\"\n"
    );
    vec![
        with("[tokens]\nissuer = \"https://id.example\"\naccess_ttl = \"10m\"\n", ""),
        with(&clustered, ""),
        with(
            "[server]\nanonymous_scopes = []\nlisten = \"0.0.0.0:50051\"\n[server.tls]\ncert = \"/a\"\nkey = \"/b\"\nclient_identities = {\"spiffe://x\" = \"web\"}\n",
            "COUNTERSIGN_TOKENS__LEEWAY=1s\n",
        ),
        with(
            "",
            "COUNTERSIGN_GATEWAY__ATTRIBUTES=a,b\nCOUNTERSIGN_THROTTLE__ACCOUNT=\"10/1m\"\n",
        ),
        with(DEFAULTS, ""),
        with("", &format!("COUNTERSIGN_KEYS__MASTER_KEY={CANARY}\n")),
        with(
            "",
            &format!(
                "COUNTERSIGN_STORAGE__REDIS_URL=redis-sentinel://u:{CANARY_IN_URL}@a:1,b:2/?sentinelServiceName=m\n"
            ),
        ),
        with(&format!("[keys]\nmaster_key = {CANARY}\n"), ""),
        with(&format!("[keys]\nmaster_key = \"{CANARY}\nx = 1\n"), ""),
        with(
            &format!("[keys]\nmaster_key = [\"{CANARY}\"]\n[agent]\nclient_secret = 7\n"),
            "",
        ),
    ]
}

/// Loads a configuration of a file and environment variables.
fn load(file: &[u8], environment: Vec<(OsString, OsString)>) -> Result<Config, ConfigError> {
    let named = FILE.lock().unwrap();
    let mut written = named.as_file();
    written.set_len(0).unwrap();
    std::io::Seek::rewind(&mut written).unwrap();
    written.write_all(file).unwrap();
    Config::load(&Layers {
        file: Some(named.path()),
        environment,
        ..Layers::default()
    })
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    let (file, environment) = split(input);
    let environment = String::from_utf8_lossy(environment).into_owned();
    let variables: Vec<(&str, &str)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        // Such a variable names a file of this machine.
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .collect();
    let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    let loaded = load(file, variables.iter().map(owned).collect());
    let secrets = secrets(file, &variables);
    match loaded {
        Ok(config) => {
            let shown = config.show();
            for secret in &secrets {
                assert!(!shown.contains(secret), "shown: {secret:?} in {shown}");
                let debug = format!("{config:?}");
                assert!(!debug.contains(secret), "in the debug form: {secret:?}");
            }
            comes_back(&config, &shown);
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "more than one line: {text:?}");
            for secret in &secrets {
                assert!(!text.contains(secret), "quotes {secret:?}: {text}");
            }
            false
        }
    }
}

/// A configuration that is shown is a file that gives the same configuration, unless it has secrets.
fn comes_back(config: &Config, shown: &str) {
    if shown.contains("redacted") {
        return;
    }
    let again = load(shown.as_bytes(), Vec::new());
    let again = again.unwrap_or_else(|error| panic!("what is shown is refused: {error}: {shown}"));
    assert_eq!(
        serde_json::to_value(&again).unwrap(),
        serde_json::to_value(config).unwrap()
    );
}

/// The secrets of an input that are in no other part of it.
fn secrets(file: &[u8], variables: &[(&str, &str)]) -> Vec<String> {
    let file = String::from_utf8_lossy(file).into_owned();
    let mut found = Vec::new();
    if let Ok(table) = file.trim_start_matches('\u{feff}').parse::<Table>() {
        for (section, name) in SECRETS {
            let value = table.get(section).and_then(|section| section.get(name));
            found.extend(value.and_then(toml::Value::as_str).map(str::to_owned));
        }
    } else {
        // Whatever a canary is in a file that cannot be read, the reason does not quote it.
        found.push(CANARY.to_owned());
    }
    for (section, name) in SECRETS {
        let known = format!("COUNTERSIGN_{section}__{name}").to_uppercase();
        let values = variables.iter().filter(|(name, _)| *name == known);
        found.extend(values.map(|(_, value)| value.trim().trim_matches(['"', '\'']).trim().to_owned()));
    }
    let all = variables
        .iter()
        .fold(file, |all, (name, value)| format!("{all}\n{name}={value}"));
    found
        .iter()
        .map(|value| password_of_url(value).unwrap_or(value).to_owned())
        .filter(|secret| secret.len() >= SHORTEST && all.matches(&**secret).count() == 1)
        .filter(|secret| !secret.contains("redacted") && !DEFAULTS.contains(&**secret))
        .collect()
}

/// The password of a URL. Of text that only resembles one, nothing is sought.
fn password_of_url(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let password = rest.split_once('@').and_then(|(login, _)| login.split_once(':'));
    let password = password.filter(|(user, password)| user.chars().all(is_plain) && password.chars().all(is_plain));
    Some(password.map_or("", |(_, password)| password))
}
