//! The URL of a store, split into its parts. The crate `url` cannot read several hosts, and no user without a host.

use std::net::Ipv6Addr;

use crate::secret::SecretText;

/// Why a URL cannot be read. It contains neither its user information nor the value of a parameter.
pub(super) type Problem = String;

/// The name of a host, or its address without brackets, and its port if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// The parts of `scheme://user:password@host:port,host:port/path?name=value&name=value`, with percent-encoding decoded.
pub(super) struct StoreUrl {
    pub(super) scheme: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretText>,
    /// Empty if the URL names no host.
    pub(super) hosts: Vec<HostPort>,
    /// With the slash at its start, if there is one.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
}

const ENCODE: &str = "percent-encode special characters in the user and the password, or set them apart from the URL";

impl StoreUrl {
    pub(super) fn split(text: &str) -> Result<Self, Problem> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme, such as postgres://")?;
        if text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(format!("contains a blank: {ENCODE}"));
        }
        if rest.contains('#') {
            return Err(format!("contains a #: {ENCODE}"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (String::new(), String::new()),
        };
        let query = url::form_urlencoded::parse(query.as_bytes());
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: (!user.is_empty()).then_some(user),
            password: (!password.is_empty()).then(|| password.into()),
            hosts: split_hosts(hosts, login.is_some())?,
            path: decode(path)?,
            query: query
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        })
    }
}

/// The hosts of a list with commas. `after_login`: the list followed an `@`, so it cannot be part of a password.
fn split_hosts(list: &str, after_login: bool) -> Result<Vec<HostPort>, Problem> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    list.split(',')
        .map(|text| {
            split_host(text).map_err(|problem| {
                if after_login {
                    problem
                } else {
                    format!("{problem}; {ENCODE}")
                }
            })
        })
        .collect()
}

/// `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. The error does not contain the text, which may be part of a password.
pub(super) fn split_host(text: &str) -> Result<HostPort, Problem> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or("has a [ without a ]")?;
        let (number, _zone) = address.split_once('%').unwrap_or((address, ""));
        if number.parse::<Ipv6Addr>().is_err() {
            return Err("has no IPv6 address between [ and ]".to_owned());
        }
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("has text between ] and the port".to_owned()),
        };
        (address.to_owned(), port)
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(
                    "has several colons in a host: write an IPv6 address in brackets, as [::1]:5432".to_owned(),
                );
            }
            Some((host, port)) => (decode(host)?, Some(port)),
            None => (decode(text)?, None),
        }
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !(text.starts_with('[') || host.starts_with('/') || host.bytes().all(is_name)) {
        return Err("has a host with characters that no name has".to_owned());
    }
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err("has a port that is not a number from 1 to 65535".to_owned()),
            Ok(port) => Some(port),
        },
        None => None,
    };
    Ok(HostPort { host, port })
}

/// Decodes percent-encoding.
fn decode(text: &str) -> Result<String, Problem> {
    let invalid = || format!("has an invalid percent-encoding: {ENCODE}");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(invalid());
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    let decoded = String::from_utf8(bytes).map_err(|_| invalid())?;
    if decoded.contains('\0') {
        return Err(invalid());
    }
    Ok(decoded)
}

/// The URL with its hosts and path, and without its password and the values of parameters that could contain one. `None` if it
/// cannot be split.
pub(super) fn redact(text: &str, is_harmless: impl Fn(&str) -> bool) -> Option<String> {
    let StoreUrl {
        scheme,
        user,
        password,
        hosts,
        path,
        query,
    } = StoreUrl::split(text).ok()?;
    let login = match (user, password) {
        (None, None) => String::new(),
        (user, None) => format!("{}@", user.unwrap_or_default()),
        (user, Some(_)) => format!("{}:redacted@", user.unwrap_or_default()),
    };
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", if is_harmless(name) { value } else { "redacted" }))
        .collect();
    let separator = if query.is_empty() { "" } else { "?" };
    let hosts = hosts.join(",");
    Some(format!("{scheme}://{login}{hosts}{path}{separator}{}", query.join("&")))
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_found() {
        let url = StoreUrl::split("postgres://a%40b:p%2Fw@[::1]:5433,db.internal/cs?sslmode=require&x=a%20b").unwrap();
        assert_eq!((url.scheme.as_str(), url.user.as_deref()), ("postgres", Some("a@b")));
        assert_eq!(url.password.unwrap().expose(), "p/w");
        let hosts: Vec<_> = url.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(
            (hosts.join(" "), url.hosts[0].host.as_str()),
            ("[::1]:5433 db.internal".to_owned(), "::1")
        );
        assert_eq!(url.path, "/cs");
        assert_eq!(url.query[1], ("x".to_owned(), "a b".to_owned()));
        let socket = StoreUrl::split("redis+unix://u:p@/run/redis.sock?db=3").unwrap();
        assert!(socket.hosts.is_empty() && socket.path == "/run/redis.sock" && socket.password.is_some());
        assert_eq!(
            StoreUrl::split("postgres://%2Frun%2Fpg/cs").unwrap().hosts[0].host,
            "/run/pg"
        );
        // As other programs do: the last @ ends the password.
        assert_eq!(
            StoreUrl::split("redis://:a@b@h").unwrap().password.unwrap().expose(),
            "a@b"
        );
    }

    #[test]
    fn errors_say_what_to_do_and_show_no_part_of_the_url() {
        for (text, problem) in [
            ("canary", "no scheme"),
            ("postgres://u:can#ary@h", "contains a #"),
            ("postgres://u:can ary@h", "contains a blank"),
            ("postgres://u:can/ary@h", "percent-encode"),
            ("postgres://u:canary%zz@h", "percent-encoding"),
            ("postgres://u:canary@::1:5432/x", "in brackets"),
            ("postgres://u:canary@[::1/x", "without a ]"),
            ("postgres://u:canary@[canary]/x", "no IPv6 address"),
            ("postgres://u:canary@h:canary/x", "65535"),
            ("postgres://u:canary@h:0/x", "65535"),
            ("postgres://u:canary@h!canary/x", "no name has"),
        ] {
            let error = StoreUrl::split(text).map(drop).expect_err(text);
            assert!(error.contains(problem) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
