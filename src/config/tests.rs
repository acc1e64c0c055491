use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;

use super::*;

/// A key as `openssl rand -base64 32` prints it.
const MASTER_KEY: &str = "3q2+7wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxw=";

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment(pairs);
    Config::load(&Layers {
        environment,
        ..Layers::default()
    })
}

fn load_file(text: &str, pairs: &[(&str, &str)], flags: Vec<Flag>) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::load(&Layers {
        file: Some(file.path()),
        environment: environment(pairs),
        flags,
    })
}

/// Sets `key` in the environment and returns the error.
fn refused(key: &str, value: &str) -> String {
    let name = environment::name_of(key);
    let error = load(&[(&name, value)]).expect_err(&format!("{key}={value} was accepted"));
    let text = error.to_string();
    assert!(text.contains(&name) || text.contains(key), "{text}");
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn defaults_have_their_documented_values() {
    let config = load(&[]).unwrap();
    assert_eq!(config.mode(), Mode::Embedded);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.tokens.access_ttl.as_secs(), 900);
    assert_eq!(config.tokens.session_ttl.as_secs(), 30 * 86_400);
    assert_eq!(config.storage.redis_timeout.as_millis(), 300);
    assert_eq!(config.storage.redis_backup_age.as_secs(), 900);
    assert_eq!(config.throttle.account.to_string(), "100/1h");
    assert_eq!((config.password.memory_kib, config.password.iterations), (19_456, 2));
    assert!(config.server.reflection() && config.throttle.global.is_none());
    assert_eq!(
        config.server.anonymous_scopes(),
        [
            "countersign:issue",
            "countersign:refresh",
            "countersign:revoke",
            "countersign:validate"
        ]
    );
    assert!(config.password.hash_threads() >= 1);
    config.check_exposure().unwrap();
}

#[test]
fn the_defaults_file_names_every_option_and_no_other() {
    let keys = show::keys(&load(&[]).unwrap());
    assert!(keys.len() > 70, "{}", keys.len());
    let (mut section, mut named) = (String::new(), Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            named.push(format!("{section}.{name}"));
        }
    }
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(named), sorted(keys));
}

#[test]
fn options_without_default_can_be_set_as_the_file_shows_them() {
    let mut text = String::new();
    for line in DEFAULTS.lines() {
        let option = line.strip_prefix("# ").filter(|rest| {
            let name = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        match option {
            Some(option) if option.starts_with("master_key") => writeln!(text, "master_key = {MASTER_KEY:?}").unwrap(),
            Some(option) if option.starts_with("redis_password") => writeln!(text, "redis_password = 'x'").unwrap(),
            Some(option) if option.starts_with("client_secret") => writeln!(text, "client_secret = 'x'").unwrap(),
            Some(option) => writeln!(text, "{option}").unwrap(),
            None if line.starts_with('[') => writeln!(text, "{line}").unwrap(),
            None => {}
        }
    }
    let config = load_file(&text, &[], Vec::new()).unwrap();
    assert_eq!(config.mode(), Mode::Clustered);
    assert_eq!(config.server.anonymous_scopes(), ["countersign:validate"]);
    assert_eq!(config.throttle.global.unwrap().count, 1000);
}

#[test]
fn later_layers_win_and_show_names_the_source() {
    let text = "[tokens]\naccess_ttl = '10m'\nleeway = '1s'\nissuer = 'https://a.example'\n";
    let pairs = [
        ("COUNTERSIGN_TOKENS__LEEWAY", "2s"),
        ("COUNTERSIGN_TOKENS__ISSUER", "https://b.example"),
        ("COUNTERSIGN_TOKEN", "no configuration"),
        ("COUNTERSIGN_TEST_REDIS__URL", "no configuration"),
        ("PATH", "/bin"),
    ];
    let flag = Flag {
        name: "--issuer",
        key: "tokens.issuer",
        value: "https://c.example".to_owned(),
    };
    let config = load_file(text, &pairs, vec![flag]).unwrap();
    let shown = config.show();
    for (line, source) in [
        ("access_ttl = \"10m\"", "file /"),
        ("leeway = \"2s\"", "environment COUNTERSIGN_TOKENS__LEEWAY"),
        ("issuer = \"https://c.example\"", "flag --issuer"),
        ("session_ttl = \"30d\"", "default"),
        ("hash_threads = ", "derived"),
    ] {
        let found = shown
            .lines()
            .find(|shown| shown.starts_with(line))
            .unwrap_or_else(|| panic!("{line}\n{shown}"));
        assert!(found.contains(&format!("# {source}")), "{found}");
    }
}

#[test]
fn the_shown_configuration_can_be_loaded_again() {
    let pairs = [(
        "COUNTERSIGN_SERVER__TLS__CLIENT_IDENTITIES",
        "spiffe://corp/a?b=c=orders, db.internal=db",
    )];
    let tls = [
        ("COUNTERSIGN_SERVER__TLS__CERT", "/c"),
        ("COUNTERSIGN_SERVER__TLS__KEY", "/k"),
        ("COUNTERSIGN_SERVER__TLS__CLIENT_CA", "/ca"),
    ];
    let config = load(&[&pairs[..], &tls[..]].concat()).unwrap();
    assert_eq!(config.server.tls.client_identities["spiffe://corp/a?b=c"], "orders");
    let shown = config.show();
    let again = load_file(&shown, &[], Vec::new()).unwrap();
    assert_eq!(again.server.tls.client_identities, config.server.tls.client_identities);
    assert_eq!(again.tokens.access_ttl, config.tokens.access_ttl);
}

#[test]
fn unknown_keys_are_refused_with_their_source() {
    let error = load_file("[tokens]\nacess_ttl = '5m'\n", &[], Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did you mean tokens.access_ttl?") && error.contains("(file /"),
        "{error}"
    );
    let error = load_file("[server]\ndatabase_url = 'x'\n", &[], Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean storage.database_url?"), "{error}");
    for text in [
        "stray = 1",
        "[nonsense]",
        "[nonsense]\na = 1",
        "[server.tls.deep]\na = 1",
        "[[server]]",
    ] {
        load_file(text, &[], Vec::new()).map(drop).expect_err(text);
    }
    load_file("[server]\n[server.tls]\n[agent]\n", &[], Vec::new()).unwrap();
    let error = load(&[("COUNTERSIGN_SERVER__LISEN", "x")]).unwrap_err().to_string();
    assert!(error.contains("did you mean COUNTERSIGN_SERVER__LISTEN?"), "{error}");
    assert!(error.contains("(environment COUNTERSIGN_SERVER__LISEN)"), "{error}");
}

#[test]
fn a_value_can_come_from_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{MASTER_KEY}").unwrap();
    let path = file.path().to_str().unwrap();
    let config = load(&[("COUNTERSIGN_KEYS__MASTER_KEY_FILE", path)]).unwrap();
    assert_eq!(config.keys.master_keys().unwrap()[0].expose()[..2], [0xde, 0xad]);
    let both = [
        ("COUNTERSIGN_KEYS__MASTER_KEY_FILE", path),
        ("COUNTERSIGN_KEYS__MASTER_KEY", MASTER_KEY),
    ];
    assert!(load(&both).unwrap_err().to_string().contains("set twice"));
    let error = load(&[("COUNTERSIGN_KEYS__MASTER_KEY_FILE", "/nonexistent")])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent") && error.contains("MASTER_KEY_FILE"),
        "{error}"
    );
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (key, value) in [
        ("tokens.leeway", "6s"),
        ("tokens.refresh_grace", "301s"),
        ("tokens.access_ttl", "25h"),
        ("tokens.access_ttl", "900"),
        ("tokens.access_jitter", "0.6"),
        ("tokens.access_jitter", "-0.1"),
        ("tokens.access_jitter", "nan"),
        ("tokens.algorithm", "HS256"),
        ("tokens.reuse_policy", "lenient"),
        ("tokens.issuer", "https://a.example/#x"),
        ("tokens.issuer", "countersign"),
        ("tokens.default_audience", "a b"),
        ("tokens.default_audience", "a\"b"),
        ("tokens.caller_audience", "a\\b"),
        ("gateway.audience", "a\"b"),
        ("tokens.max_sessions_per_user", "0"),
        ("keys.prepublish", "1m"),
        ("keys.jwks_max_age", "11m"),
        ("keys.master_key", "c2hvcnQ="),
        ("keys.master_key", "not base64!"),
        ("storage.redis_timeout", "10ms"),
        ("storage.redis_timeout", "1m"),
        ("storage.redis_backup_age", "4m"),
        ("storage.redis_backup_age", "2d"),
        ("storage.database_url", "postgres://db/x"),
        ("storage.redis_url", "redis://r"),
        ("storage.database_url", "mysql://db/x"),
        ("storage.redis_prefix", "a{b}"),
        ("storage.database_pool", "many"),
        ("server.listen", "localhost"),
        ("server.anonymous_scopes", "countersign:everything"),
        ("server.anonymous_scopes", "read"),
        ("server.default_deadline", "11s"),
        ("server.max_connections", "0"),
        ("server.max_connections_per_source", "0"),
        ("server.max_connections_per_source", "4097"),
        ("server.shared_sources", "10.0.0.1/8"),
        ("server.shared_sources", "proxy"),
        ("server.tls.cert", "/tls.crt"),
        ("server.tls.cert", "-----BEGIN CERTIFICATE-----"),
        ("server.tls.client_identities", "a=b"),
        ("password.min_length", "7"),
        ("password.hash_threads", "0"),
        ("password.memory_kib", "7"),
        ("password.memory_kib", "4194304"),
        ("password.iterations", "1000"),
        ("password.pepper", "perhaps"),
        ("users.registration", "ajar"),
        ("throttle.source", "10"),
        ("throttle.global", "0/1s"),
        ("revocation.max_staleness", "1s"),
        ("revocation.on_stale", "shrug"),
        ("telemetry.log_format", "xml"),
        ("telemetry.log_filter", "info,=,"),
        ("telemetry.audit_retention", "1h"),
        ("telemetry.audit_failures_per_minute", "0"),
    ] {
        refused(key, value);
    }
}

#[test]
fn a_default_lifetime_gives_way_but_two_set_lifetimes_must_agree() {
    load(&[("COUNTERSIGN_TOKENS__SESSION_TTL", "1m")]).unwrap();
    let both = [
        ("COUNTERSIGN_TOKENS__SESSION_TTL", "1m"),
        ("COUNTERSIGN_TOKENS__REFRESH_IDLE_TTL", "2m"),
    ];
    let error = load(&both).unwrap_err().to_string();
    assert!(
        error.contains("tokens.refresh_idle_ttl") && error.contains("tokens.session_ttl = 1m"),
        "{error}"
    );
}

#[test]
fn clustered_needs_a_master_key_and_allows_anonymous_callers_nothing() {
    let stores = [
        (
            "COUNTERSIGN_STORAGE__DATABASE_URL",
            "postgres://ada:canary@db/cs?password=canary",
        ),
        ("COUNTERSIGN_STORAGE__REDIS_URL", "redis-cluster://:canary@r:6379"),
    ];
    assert!(
        load(&stores)
            .unwrap_err()
            .to_string()
            .starts_with("keys.master_key: must be set")
    );
    let keys = format!("{MASTER_KEY}, {}", MASTER_KEY.replace('+', "-").trim_end_matches('='));
    let config = load(&[&stores[..], &[("COUNTERSIGN_KEYS__MASTER_KEY", &keys)]].concat()).unwrap();
    assert_eq!(
        (config.mode(), config.keys.master_keys().unwrap().len()),
        (Mode::Clustered, 2)
    );
    assert!(config.server.anonymous_scopes().is_empty() && !config.server.reflection());
    let shown = format!("{} {config:?}", config.show());
    assert!(!shown.contains("canary") && !shown.contains("3q2"), "{shown}");
    assert!(shown.contains("@db/cs") && shown.contains("@r:6379"), "{shown}");
}

#[test]
fn an_open_service_is_not_exposed_to_the_network() {
    let open = [("COUNTERSIGN_SERVER__LISTEN", "0.0.0.0:50051")];
    let config = load(&open).unwrap();
    assert!(config.server.anonymous_scopes().is_empty());
    let error = config.check_exposure().unwrap_err().to_string();
    assert!(
        error.contains("server.listen") && error.contains("--insecure"),
        "{error}"
    );
    load(&[("COUNTERSIGN_SERVER__HTTP_LISTEN", "[::]:1")])
        .unwrap()
        .check_exposure()
        .unwrap_err();
    let tls = [
        ("COUNTERSIGN_SERVER__TLS__CERT", "/c"),
        ("COUNTERSIGN_SERVER__TLS__KEY", "/k"),
    ];
    load(&[&open[..], &tls[..]].concat()).unwrap().check_exposure().unwrap();
    let admin = [("COUNTERSIGN_SERVER__ANONYMOUS_SCOPES", "countersign:users")];
    load(&admin).unwrap().check_exposure().unwrap();
    load(&[&open[..], &tls[..], &admin[..]].concat())
        .unwrap()
        .check_exposure()
        .unwrap_err();
}

#[test]
fn empty_text_means_not_set() {
    let config = load(&[
        ("COUNTERSIGN_STORAGE__DATABASE_URL", ""),
        ("COUNTERSIGN_SERVER__ANONYMOUS_SCOPES", ""),
        ("COUNTERSIGN_THROTTLE__GLOBAL", ""),
        ("COUNTERSIGN_SERVER__TLS__CERT", ""),
    ])
    .unwrap();
    assert_eq!(config.mode(), Mode::Embedded);
    assert!(config.server.anonymous_scopes().is_empty() && config.server.tls.cert.is_none());
}

#[test]
fn the_error_of_a_broken_file_is_one_line_without_its_content() {
    for text in [
        "[storage]\ndatabase_url = 'postgres://u:canary@db",
        "a = 'canary' b",
        "a = 1\na = 'canary'\n\0",
    ] {
        let error = load_file(text, &[], Vec::new()).unwrap_err().to_string();
        assert!(!error.contains("canary") && !error.contains('\n'), "{error}");
        assert!(error.contains("(file /"), "{error}");
    }
    let layers = Layers {
        file: Some("/nonexistent/countersign.toml".as_ref()),
        ..Layers::default()
    };
    assert!(
        Config::load(&layers)
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/countersign.toml")
    );
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf8_is_refused_only_for_an_option() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = || OsString::from_vec(vec![0xff]);
    let layers = |name: &str| Layers {
        environment: vec![(name.into(), bad()), (bad(), bad())],
        ..Layers::default()
    };
    Config::load(&layers("OTHER")).unwrap();
    Config::load(&layers("COUNTERSIGN_TOKENS__ISSUER")).unwrap_err();
}
