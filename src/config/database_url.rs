//! `storage.database_url`: the forms of libpq, checked before anything connects.

use super::store_url::{HostPort, Problem, StoreUrl, split_host};
use crate::secret::SecretText;

const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// Parameters that are passed on to the driver: names of libpq, and other spellings that the driver knows.
const PASSED_ON: [&str; 12] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "application_name",
    "options",
];

/// What to do instead of some parameters that are refused.
const CURES: [(&str, &str); 10] = [
    ("connect_timeout", "set storage.acquire_timeout instead"),
    (
        "sslpassword",
        "store the key without a passphrase, closed to other users",
    ),
    ("passfile", "set the environment variable PGPASSFILE"),
    ("service", "write the host, user and database into the URL"),
    ("channel_binding", "only prefer and disable can be given"),
    ("gssencmode", "only prefer and disable can be given"),
    (
        "target_session_attrs",
        "only read-write, primary and any can be given: Countersign writes",
    ),
    ("pool_size", "set storage.database_pool"),
    ("connection_limit", "set storage.database_pool"),
    ("pgbouncer", "leave it out: a pooler is recognised"),
];

/// How to reach the database.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// The hosts in the order in which they are tried. Empty: the default of the driver (`PGHOST`, or a local socket).
    pub hosts: Vec<DatabaseHost>,
    /// The user; none means the driver's default (`PGUSER`).
    pub user: Option<String>,
    /// The password; none means the driver's default (`PGPASSWORD`, or the file of `PGPASSFILE`).
    pub password: Option<SecretText>,
    /// The name of the database; none means the driver's default (`PGDATABASE`).
    pub database: Option<String>,
    /// Parameters that the driver reads, by name.
    pub parameters: Vec<(String, String)>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseHost {
    /// A name, an address without brackets, or the folder of a Unix socket.
    pub host: String,
    /// The port; none means the driver's default.
    pub port: Option<u16>,
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for DatabaseHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (self.host.clone(), self.port);
        HostPort { host, port }.fmt(f)
    }
}

impl DatabaseUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// The problem and what to do, as the rest of a sentence that begins with the name of the option. It contains no password and
    /// no value of a parameter.
    pub fn parse(url: &SecretText) -> Result<Self, String> {
        let url = StoreUrl::split(url.expose())?;
        if !SCHEMES.contains(&url.scheme.as_str()) {
            return Err("must begin with postgres:// or postgresql://".to_owned());
        }
        let database = url.path.trim_start_matches('/');
        let mut read = Self {
            hosts: Vec::new(),
            user: url.user,
            password: url.password,
            database: (!database.is_empty()).then(|| database.to_owned()),
            parameters: Vec::new(),
        };
        let mut hosts = url.hosts;
        let (mut named, mut addresses, mut ports) = (None, None, None);
        let mut known: Vec<&str> = Vec::new();
        for (name, value) in &url.query {
            if known.contains(&name.as_str()) && name != "options" {
                return Err(format!("has the parameter {name} twice"));
            }
            known.push(name);
            match name.as_str() {
                "host" => named = Some(value.as_str()),
                "hostaddr" => addresses = Some(value.as_str()),
                "port" => ports = Some(value.as_str()),
                "user" => read.user = Some(value.clone()),
                "password" => read.password = Some(value.as_str().to_owned().into()),
                "dbname" => read.database = Some(value.clone()),
                "target_session_attrs" if ["read-write", "primary", "any"].contains(&value.as_str()) => {}
                "channel_binding" | "gssencmode" if ["prefer", "disable"].contains(&value.as_str()) => {}
                name if PASSED_ON.contains(&name) || is_setting(name) => {
                    check_value(name, value)?;
                    read.parameters.push((name.to_owned(), value.clone()));
                }
                name => return Err(unknown(name)),
            }
        }
        if let Some(list) = addresses.or(named) {
            hosts = hosts_of(list)?;
        }
        if let Some(ports) = ports {
            set_ports(&mut hosts, ports)?;
        }
        read.hosts = hosts
            .into_iter()
            .map(|HostPort { host, port }| DatabaseHost { host, port })
            .collect();
        Ok(read)
    }
}

/// `options[name]=value`, as the driver reads it.
fn is_setting(name: &str) -> bool {
    name.starts_with("options[") && name.ends_with(']')
}

fn check_value(name: &str, value: &str) -> Result<(), Problem> {
    const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    match name {
        "sslmode" | "ssl-mode" if !MODES.contains(&value) => Err(format!(
            "has a parameter {name} that is not one of {}",
            MODES.join(", ")
        )),
        "statement-cache-capacity" if value.parse::<usize>().is_err() => {
            Err(format!("has a parameter {name} that is no number"))
        }
        _ => Ok(()),
    }
}

fn unknown(name: &str) -> Problem {
    let cure = CURES.iter().find(|(known, _)| *known == name);
    let cure = cure.map_or(
        "leave it out, or see config.default.toml for the parameters that are read",
        |(_, cure)| cure,
    );
    // The name too may be part of a password that was not encoded.
    let plain = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte));
    let name = if plain { name } else { "(unreadable)" };
    format!("has the parameter {name}, which is not supported: {cure}")
}

/// The hosts of the parameter `host` or `hostaddr`: a list with commas. An address of IPv6 has no brackets there.
fn hosts_of(list: &str) -> Result<Vec<HostPort>, Problem> {
    list.split(',')
        .map(|host| {
            if host.starts_with('/') || host.parse::<std::net::IpAddr>().is_ok() {
                let host = host.to_owned();
                return Ok(HostPort { host, port: None });
            }
            split_host(host)
        })
        .collect()
}

/// Sets the ports of the parameter `port`: one for all hosts, or one for each.
fn set_ports(hosts: &mut Vec<HostPort>, list: &str) -> Result<(), Problem> {
    let invalid = || "has a parameter port that is not a port, or a port for each host".to_owned();
    let ports: Result<Vec<u16>, _> = list.split(',').map(str::parse).collect();
    let ports = ports.map_err(|_| invalid())?;
    if hosts.is_empty() {
        hosts.push(HostPort {
            host: "localhost".to_owned(),
            port: None,
        });
    }
    if ports.len() != 1 && ports.len() != hosts.len() || ports.contains(&0) {
        return Err(invalid());
    }
    for (host, port) in hosts.iter_mut().zip(ports.iter().cycle()) {
        host.port = Some(*port);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, String> {
        DatabaseUrl::parse(&text.into())
    }

    fn hosts(text: &str) -> String {
        let hosts: Vec<_> = parse(text).unwrap().hosts.iter().map(ToString::to_string).collect();
        hosts.join(" ")
    }

    #[test]
    fn user_and_database_are_found_where_they_stand() {
        for text in [
            "postgres://ada@db/cs",
            "postgres://db?user=ada&dbname=cs",
            "postgres://bob@db/x?user=ada&dbname=cs",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(
                (url.user.as_deref(), url.database.as_deref()),
                (Some("ada"), Some("cs")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_forms_of_libpq_are_read() {
        for (text, expected) in [
            ("postgres://db/cs", "db"),
            ("postgresql://u:p@[2001:db8::1]:5433/cs", "[2001:db8::1]:5433"),
            (
                "postgres://a:5432,b:5433,[::1]/cs?target_session_attrs=read-write",
                "a:5432 b:5433 [::1]",
            ),
            ("postgres:///cs?host=/var/run/postgresql", "/var/run/postgresql"),
            ("postgres://u@/cs?host=/run/pg&port=5433", "/run/pg:5433"),
            ("postgres://%2Fvar%2Frun%2Fpostgresql/cs", "/var/run/postgresql"),
            ("postgres:///cs?host=a,b&port=5432,5433", "a:5432 b:5433"),
            ("postgres:///cs?host=a,b&port=5433", "a:5433 b:5433"),
            ("postgres:///cs?hostaddr=::1&port=5433", "[::1]:5433"),
            ("postgres:///cs", ""),
        ] {
            assert_eq!(hosts(text), expected, "{text}");
        }
        let url = parse("postgres://db?user=ada&password=p%20w&dbname=cs&sslmode=require").unwrap();
        assert_eq!(url.password.unwrap().expose(), "p w");
        assert_eq!(url.parameters.len(), 1);
    }

    #[test]
    fn what_is_not_supported_is_named_without_its_value() {
        for (text, problem) in [
            ("mysql://db", "must begin with postgres://"),
            (
                "postgres://db?sslpassword=canary",
                "the parameter sslpassword, which is not supported: store the key",
            ),
            (
                "postgres://db?connect_timeout=10&password=canary",
                "storage.acquire_timeout",
            ),
            ("postgres://db?ca%20nary=canary", "(unreadable)"),
            ("postgres://db?schema=canary", "leave it out"),
            ("postgres://db?target_session_attrs=standby", "only read-write"),
            ("postgres://db?sslmode=canary", "not one of disable"),
            ("postgres://db?sslmode=require&sslmode=canary", "sslmode twice"),
            ("postgres://a,b?port=1,2,3", "a port for each host"),
            ("postgres://a?port=canary", "parameter port"),
        ] {
            let error = parse(text).map(drop).expect_err(text);
            assert!(error.contains(problem) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
