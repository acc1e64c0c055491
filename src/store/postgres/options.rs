//! The options of the driver for each server of a URL.

use std::fmt;
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::bridge::{Bridge, Tls};
use crate::config::{DatabaseHost, DatabaseUrl};
use crate::model::{Error, Result};
use crate::trust;

/// One server, with the options of a connection to it. Clones share the bridge.
#[derive(Clone)]
pub(super) struct Server {
    /// Its host and port.
    pub(super) name: String,
    options: PgConnectOptions,
    /// If its certificate is verified by a file of authorities.
    tls: Option<Tls>,
    bridge: Arc<OnceLock<Bridge>>,
}

impl Server {
    /// The options of a new connection.
    pub(super) fn options(&self) -> PgConnectOptions {
        let options = self.options.clone();
        match self.bridge.get() {
            // The bridge does TLS.
            Some(bridge) => options.socket(&bridge.folder).ssl_mode(PgSslMode::Disable),
            None => options,
        }
    }

    /// The database, for messages: its name and its server, without credentials.
    pub(super) fn place(&self) -> String {
        let database = self.options.get_database();
        let database = database.unwrap_or_else(|| self.options.get_username());
        match self.options.get_socket() {
            Some(path) => format!("database {database} at {}", path.display()),
            None => format!("database {database} at {}", self.name),
        }
    }

    /// Whether the connection is worth another attempt after this error: through a bridge, because only the driver refuses the
    /// certificate. From now on all connections go through it.
    pub(super) fn bridges(&self, error: &sqlx::Error) -> bool {
        let is_refused = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_))
            && error.to_string().contains("CaUsedAsEndEntity");
        let Some(tls) = self.tls.as_ref().filter(|_| is_refused && self.bridge.get().is_none()) else {
            return false;
        };
        match Bridge::start(tls) {
            Ok(bridge) => self.bridge.set(bridge).is_ok(),
            Err(error) => {
                tracing::warn!(%error, "cannot use the certificate of the database");
                false
            }
        }
    }
}

/// The `Debug` of the driver would show the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

/// The servers of a URL, in its order; at least one.
pub(super) fn servers(url: &DatabaseUrl) -> Result<Vec<Server>> {
    if url.hosts.is_empty() {
        return Ok(vec![server(url, None)?]);
    }
    url.hosts.iter().map(|host| server(url, Some(host))).collect()
}

fn server(url: &DatabaseUrl, host: Option<&DatabaseHost>) -> Result<Server> {
    // The errors are dropped because their messages may quote what they cannot read.
    let unreadable = || Error::store_unavailable("the database's URL cannot be read");
    // The driver looks a password up (PGPASSFILE) only while it reads a URL, for the host and user in it.
    let mut text = url::Url::parse("postgres:///").map_err(|_| unreadable())?;
    let mut system_roots = false;
    {
        let mut query = text.query_pairs_mut();
        if let Some(host) = host {
            query.append_pair("host", &host.host);
            if let Some(port) = host.port {
                query.append_pair("port", &port.to_string());
            }
        }
        for (name, value) in [("user", &url.user), ("dbname", &url.database)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        for (name, value) in &url.parameters {
            if matches!(name.as_str(), "sslrootcert" | "ssl-root-cert" | "ssl-ca") && value == "system" {
                system_roots = true;
            } else {
                query.append_pair(name, value);
            }
        }
    }
    let mut options = PgConnectOptions::from_str(text.as_str()).map_err(|_| unreadable())?;
    if let Some(password) = &url.password {
        options = options.password(password.expose());
    }
    if system_roots {
        let pem = trust::system_roots_pem().map_err(Error::store_unavailable)?;
        options = options.ssl_root_cert_from_pem(pem.into_bytes());
        // As libpq does: a weaker check would not use them.
        if !url
            .parameters
            .iter()
            .any(|(name, _)| matches!(name.as_str(), "sslmode" | "ssl-mode"))
        {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
    }
    let name = host.map_or_else(
        || options.get_host().to_owned(),
        |host| {
            let port = host.port.or(Some(options.get_port()));
            DatabaseHost { port, ..host.clone() }.to_string()
        },
    );
    Ok(Server {
        name,
        tls: tls(url, &options),
        options,
        bridge: Arc::default(),
    })
}

/// How the certificate of the server is verified, if that is by a file and over TCP.
fn tls(url: &DatabaseUrl, options: &PgConnectOptions) -> Option<Tls> {
    let parameter = |names: &[&str]| {
        let mut parameters = url.parameters.iter();
        parameters
            .find(|(name, value)| names.contains(&name.as_str()) && value != "system")
            .map(|(_, value)| value.into())
    };
    let checks_name = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => true,
        PgSslMode::VerifyCa => false,
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Require => return None,
    };
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    (!is_socket).then_some(())?;
    Some(Tls {
        host: options.get_host().to_owned(),
        port: options.get_port(),
        authorities: parameter(&["sslrootcert", "ssl-root-cert", "ssl-ca"])?,
        checks_name,
        client: parameter(&["sslcert", "ssl-cert"]).zip(parameter(&["sslkey", "ssl-key"])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Vec<Server> {
        servers(&DatabaseUrl::parse(&url.into()).unwrap()).unwrap()
    }

    #[test]
    fn each_host_has_its_options() {
        let list = read("postgres://ada:p%2Fw@[::1]:5433,b:5434/cs?sslmode=require&target_session_attrs=read-write");
        let [first, second] = &list[..] else { panic!("{list:?}") };
        assert_eq!((first.options.get_host(), first.options.get_port()), ("::1", 5433));
        assert_eq!((second.options.get_host(), second.name.as_str()), ("b", "b:5434"));
        for server in &list {
            assert_eq!(server.options.get_username(), "ada");
            assert_eq!(server.options.get_database(), Some("cs"));
            assert!(matches!(server.options.get_ssl_mode(), PgSslMode::Require));
        }
        assert!(!format!("{list:?}").contains("p/w"));
        for url in [
            "postgres:///cs?host=/run/pg&port=5433",
            "postgres://%2Frun%2Fpg:5433/cs",
        ] {
            let list = read(url);
            assert_eq!(list[0].options.get_socket().unwrap().to_str(), Some("/run/pg"), "{url}");
            assert_eq!(list[0].options.get_port(), 5433, "{url}");
        }
    }
}
