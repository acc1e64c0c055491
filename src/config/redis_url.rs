//! `storage.redis_url`: one server, Sentinel, Cluster or a Unix socket, checked before anything connects.

use std::path::PathBuf;

use super::store_url::{HostPort, Problem, StoreUrl, split_host};
use crate::secret::SecretText;

/// The URL schemes of `storage.redis_url`.
pub const REDIS_SCHEMES: [&str; 8] = [
    "redis",
    "rediss",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
    "redis+unix",
    "unix",
];

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisUrl {
    /// Where the servers are.
    pub servers: RedisServers,
    /// How to log in to them.
    pub login: RedisLogin,
    /// The number of the database; none means 0.
    pub database: Option<u8>,
    /// TLS, if the scheme begins with `rediss`.
    pub tls: Option<RedisTls>,
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Single((String, u16)),
    /// The nodes of Sentinel, and the name of the master that they watch.
    Sentinel(Vec<(String, u16)>, String),
    /// Some nodes of a cluster.
    Cluster(Vec<(String, u16)>),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

/// Users and passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// The user at the servers; none means `default`.
    pub user: Option<String>,
    /// The password at the servers.
    pub password: Option<SecretText>,
    /// The user at the nodes of Sentinel.
    pub sentinel_user: Option<String>,
    /// The password at the nodes of Sentinel.
    pub sentinel_password: Option<SecretText>,
}

/// The certificates of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// PEM file with the authorities that are trusted; none means those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files with the certificate of this client and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisUrl")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// The parameters of a URL.
#[derive(Default)]
struct Parameters {
    nodes: Vec<HostPort>,
    service: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    database: Option<String>,
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl RedisUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// The problem and what to do, as the rest of a sentence that begins with the name of the option. It contains no password and
    /// no value of a parameter.
    pub fn parse(url: &SecretText) -> Result<Self, String> {
        let url = StoreUrl::split(url.expose())?;
        let unknown = || format!("must begin with {}://", REDIS_SCHEMES.join("://, "));
        let scheme = REDIS_SCHEMES
            .iter()
            .find(|scheme| **scheme == url.scheme)
            .ok_or_else(unknown)?;
        let parameters = Parameters::read(&url.query)?;
        let is_unix = scheme.ends_with("unix");
        let (service, hosts) = (
            parameters.service.clone(),
            [url.hosts.clone(), parameters.nodes.clone()].concat(),
        );
        let with_port = |port: u16| -> Vec<(String, u16)> {
            let hosts = hosts.iter().map(|host| (host.host.clone(), host.port.unwrap_or(port)));
            hosts.collect()
        };
        if !is_unix && url.hosts.iter().all(|host| host.host.is_empty()) {
            return Err("must name a host".to_owned());
        }
        if hosts
            .iter()
            .any(|host| host.host.is_empty() || host.host.starts_with('/'))
        {
            return Err("has an empty host; for a Unix socket write redis+unix:///run/redis.sock".to_owned());
        }
        let servers = match *scheme {
            _ if is_unix && (!hosts.is_empty() || url.path.len() < 2) => {
                return Err(
                    "must name the file of the socket after three slashes, as redis+unix:///run/redis.sock".to_owned(),
                );
            }
            _ if is_unix => RedisServers::Unix(url.path.clone().into()),
            scheme if scheme.ends_with("-sentinel") => {
                let service = service.filter(|name| !name.is_empty());
                let service =
                    service.ok_or("needs the parameter sentinelServiceName: the name of the master in Sentinel")?;
                RedisServers::Sentinel(with_port(SENTINEL_PORT), service)
            }
            scheme if scheme.ends_with("-cluster") => RedisServers::Cluster(with_port(PORT)),
            _ => match with_port(PORT).as_slice() {
                [server] => RedisServers::Single(server.clone()),
                _ => return Err("names several hosts: write redis-sentinel:// or redis-cluster://".to_owned()),
            },
        };
        if !matches!(servers, RedisServers::Sentinel(..)) && parameters.is_of_sentinel() {
            return Err("has a parameter of Sentinel: write redis-sentinel://".to_owned());
        }
        let path = url.path.trim_start_matches('/');
        let number = parameters
            .database
            .as_deref()
            .or((!is_unix && !path.is_empty()).then_some(path));
        let database = number.map(str::parse).transpose();
        let database = database.map_err(|_| "has a number of a database that is not 0 to 255")?;
        if matches!(servers, RedisServers::Cluster(_)) && database.is_some_and(|number: u8| number != 0) {
            return Err("names a database, but a cluster has only database 0: leave the number out".to_owned());
        }
        let tls = parameters.tls(scheme.starts_with("rediss"))?;
        Ok(Self {
            servers,
            login: RedisLogin {
                user: url.user,
                password: url.password,
                sentinel_user: parameters.sentinel_user,
                sentinel_password: parameters.sentinel_password.map(SecretText::from),
            },
            database,
            tls,
        })
    }

    /// Whether the other URL leads to the same servers in the same way, except for users and passwords.
    #[must_use]
    pub fn differs_in_login_only(&self, other: &Self) -> bool {
        self.servers == other.servers && self.database == other.database && self.tls == other.tls
    }
}

impl Parameters {
    fn read(query: &[(String, String)]) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in query {
            let slot = match name.as_str() {
                "node" => {
                    read.nodes.push(split_host(value)?);
                    continue;
                }
                "sentinelServiceName" => &mut read.service,
                "sentinelUsername" => &mut read.sentinel_user,
                "sentinelPassword" => &mut read.sentinel_password,
                "db" => &mut read.database,
                "sslrootcert" => &mut read.ca,
                "sslcert" => &mut read.cert,
                "sslkey" => &mut read.key,
                name => return Err(unknown(name)),
            };
            if slot.replace(value.clone()).is_some() {
                return Err(format!("has the parameter {name} twice"));
            }
        }
        Ok(read)
    }

    fn is_of_sentinel(&self) -> bool {
        self.service.is_some() || self.sentinel_user.is_some() || self.sentinel_password.is_some()
    }

    fn tls(&self, encrypted: bool) -> Result<Option<RedisTls>, Problem> {
        if !encrypted {
            return if self.ca.is_some() || self.cert.is_some() || self.key.is_some() {
                Err("names certificates, but the scheme is without TLS: write rediss://".to_owned())
            } else {
                Ok(None)
            };
        }
        let client = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return Err("needs both sslcert and sslkey, or neither".to_owned()),
        };
        let ca = self.ca.as_ref().filter(|ca| *ca != "system").map(PathBuf::from);
        Ok(Some(RedisTls { ca, client }))
    }
}

fn unknown(name: &str) -> Problem {
    // The name too may be part of a password that was not encoded.
    let plain = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let name = if plain { name } else { "(unreadable)" };
    let cure = match name {
        "ssl_ca_certs" | "cacert" | "tls_ca" => "write sslrootcert",
        "ssl_certfile" | "cert" => "write sslcert",
        "ssl_keyfile" | "key" => "write sslkey",
        "sentinelMasterId" | "master_name" => "write sentinelServiceName",
        "timeout" | "socket_timeout" => "set storage.redis_timeout",
        "password" => "write it before the host, or set storage.redis_password",
        _ => {
            "leave it out; node, db, sentinelServiceName, sentinelUsername, sentinelPassword, sslrootcert, sslcert and sslkey are read"
        }
    };
    format!("has the parameter {name}, which is not supported: {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisUrl, String> {
        RedisUrl::parse(&text.into())
    }

    fn servers(text: &str) -> RedisServers {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).servers
    }

    #[test]
    fn every_form_is_read() {
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(servers("redis://h"), RedisServers::Single(host("h", 6379)));
        assert_eq!(
            servers("rediss://u:p@[::1]:6380/3"),
            RedisServers::Single(host("::1", 6380))
        );
        let nodes = vec![host("a", 1), host("::1", 2), host("b", 26379)];
        assert_eq!(
            servers("redis-sentinel://:p@a:1,[::1]:2/1?sentinelServiceName=m&node=b"),
            RedisServers::Sentinel(nodes, "m".to_owned())
        );
        assert_eq!(
            servers("redis-cluster://[::1]:7000?node=[::1]:7001"),
            RedisServers::Cluster(vec![host("::1", 7000), host("::1", 7001)])
        );
        for text in ["redis+unix:///run/redis.sock?db=3", "unix://u:p@/run/redis.sock?db=3"] {
            assert_eq!(servers(text), RedisServers::Unix("/run/redis.sock".into()));
            assert_eq!(parse(text).unwrap().database, Some(3));
        }
        assert_eq!(parse("redis://h/3").unwrap().database, Some(3));
        let tls = parse("rediss://h?sslrootcert=/ca&sslcert=/c&sslkey=/k")
            .unwrap()
            .tls
            .unwrap();
        assert_eq!(
            (tls.ca, tls.client),
            (Some("/ca".into()), Some(("/c".into(), "/k".into())))
        );
        let login = parse("redis://ada:p%40w@h").unwrap().login;
        assert_eq!(
            (login.user.as_deref(), login.password.unwrap().expose()),
            (Some("ada"), "p@w")
        );
    }

    #[test]
    fn mistakes_are_named_without_a_secret() {
        for (text, problem) in [
            ("http://:canary@h", "must begin with redis://"),
            ("redis://", "must name a host"),
            ("redis://:canary@", "must name a host"),
            ("redis://:canary@a,b", "several hosts"),
            ("redis://:canary@h/1/2", "0 to 255"),
            ("redis://:canary@h/many", "0 to 255"),
            ("redis-cluster://h/1", "only database 0"),
            ("redis-sentinel://:canary@h", "sentinelServiceName"),
            ("redis://h?sentinelPassword=canary", "redis-sentinel://"),
            ("redis://h?sslcert=/c&sslkey=/k", "rediss://"),
            ("rediss://h?sslcert=/c", "both sslcert and sslkey"),
            ("rediss://h?ssl_ca_certs=/canary", "write sslrootcert"),
            ("redis://h?password=canary", "storage.redis_password"),
            ("redis+unix://h/run/redis.sock", "three slashes"),
            ("redis+unix:///", "three slashes"),
        ] {
            let error = parse(text).map(drop).expect_err(text);
            assert!(error.contains(problem) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
