//! The address of a gRPC listener.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of a listener: `ADDRESS:PORT`, `localhost:PORT`, `:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket. Only its owner may connect (mode 0600), unless a service manager created the socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: must be followed by a path".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        parse_tcp(text).map(Self::Tcp).ok_or_else(|| {
            format!(
                "{text:?} must be ADDRESS:PORT with an IP address, localhost:PORT, :PORT (all addresses) or unix:PATH"
            )
        })
    }
}

/// `ADDRESS:PORT`, `localhost:PORT` or `:PORT`. Other names are not looked up: their addresses may change, or be off loopback.
fn parse_tcp(text: &str) -> Option<SocketAddr> {
    let of_port = |address: std::net::IpAddr, port: &str| Some(SocketAddr::new(address, port.parse().ok()?));
    match text.rsplit_once(':') {
        // IPv6 sockets accept IPv4 too. Where there is no IPv6, the listener falls back.
        Some(("", port)) => of_port(Ipv6Addr::UNSPECIFIED.into(), port),
        Some((name, port)) if name.eq_ignore_ascii_case("localhost") => of_port(Ipv4Addr::LOCALHOST.into(), port),
        _ => text.parse().ok(),
    }
}

/// Reads the address of a listener that is a TCP port.
pub(super) fn tcp<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(input)?;
    parse_tcp(&text).ok_or_else(|| {
        let problem =
            format!("{text:?} must be ADDRESS:PORT with an IP address, localhost:PORT or :PORT (all addresses)");
        serde::de::Error::custom(problem)
    })
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Listen {
    /// Whether only processes on this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_users_write_them() {
        for (text, expected) in [
            ("127.0.0.1:50051", "127.0.0.1:50051"),
            ("localhost:50051", "127.0.0.1:50051"),
            ("LOCALHOST:0", "127.0.0.1:0"),
            (":50051", "[::]:50051"),
            ("[::1]:50051", "[::1]:50051"),
            ("unix:/run/cs.sock", "unix:/run/cs.sock"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), expected);
        }
        for bad in [
            "localhost",
            ":",
            ":http",
            "::1:50051",
            "db.internal:50051",
            "50051",
            "unix:",
            ":70000",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
        assert!(":1".parse::<Listen>().is_ok_and(|listen| !listen.is_local()));
    }
}
