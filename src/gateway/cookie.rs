//! The two cookies (RFC 6265) that carry the access and the refresh token: reading them from requests and writing them
//! for the browser.

use std::borrow::Cow;
use std::fmt;

use crate::secret::SecretText;

/// The names of the two cookies, and their `SameSite` attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    /// Name of the cookie with the access token.
    pub access: String,
    /// Name of the cookie with the refresh token.
    pub refresh: String,
    /// Whether the browser sends them when a link from another site is followed.
    pub same_site: SameSite,
}

/// The cookie attribute `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// The cookie is never sent with requests that come from another site.
    Strict,
    /// The cookie is sent when a link from another site is followed.
    Lax,
}

impl Default for CookieNames {
    /// `__Host-cs_at` and `__Host-cs_rt`, with `SameSite=Strict`.
    fn default() -> Self {
        Self {
            access: "__Host-cs_at".to_owned(),
            refresh: "__Host-cs_rt".to_owned(),
            same_site: SameSite::Strict,
        }
    }
}

impl CookieNames {
    /// Reads the `Cookie` header of a request.
    ///
    /// # Errors
    /// [`DuplicateCookie`] if one of ours is there twice: an attacker may have planted one, and nothing says which is
    /// genuine. [`CookieNames::clear_duplicates`] ends this.
    pub fn read<'a>(&self, header: &'a str) -> Result<Cookies<'a>, DuplicateCookie> {
        let mut cookies = Cookies::default();
        let mut duplicate = DuplicateCookie::default();
        for (name, value) in pairs(header) {
            let (cookie, is_duplicate) = if name == self.access {
                (&mut cookies.access, &mut duplicate.access)
            } else if name == self.refresh {
                (&mut cookies.refresh, &mut duplicate.refresh)
            } else {
                continue;
            };
            *is_duplicate |= cookie.replace(value).is_some();
        }
        if duplicate.access || duplicate.refresh {
            return Err(duplicate);
        }
        Ok(cookies)
    }

    /// The `Cookie` header without our cookies; `None` if it has none of ours, empty if it has no others.
    #[must_use]
    pub fn without_ours<'a>(&self, header: &'a str) -> Option<Cow<'a, str>> {
        let ours = |name: &str| name == self.access || name == self.refresh;
        if !pairs(header).any(|(name, _)| ours(name)) {
            return None;
        }
        let kept: Vec<&str> = header
            .split(';')
            .map(trimmed)
            .filter(|pair| !pair.is_empty() && !ours(split(pair).0))
            .collect();
        Some(match kept.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(one),
            many => Cow::Owned(many.join("; ")),
        })
    }

    /// The `Set-Cookie` value that stores an access token for `seconds`.
    #[must_use]
    pub fn set_access(&self, token: &SecretText, seconds: u64) -> SetCookie {
        self.set(&self.access, token.expose(), seconds)
    }

    /// The `Set-Cookie` value that stores a refresh token for `seconds`.
    #[must_use]
    pub fn set_refresh(&self, token: &SecretText, seconds: u64) -> SetCookie {
        self.set(&self.refresh, token.expose(), seconds)
    }

    /// The `Set-Cookie` values that delete both cookies.
    #[must_use]
    pub fn clear(&self) -> [SetCookie; 2] {
        [self.set(&self.access, "", 0), self.set(&self.refresh, "", 0)]
    }

    /// The `Set-Cookie` values that delete every copy of the cookies that a request for `path` at `host` has twice. A browser
    /// sends several cookies of one name if they were set for different domains or paths, and it deletes each only by its own
    /// domain and path, which it does not tell. So there is a value for each domain and path that this request can have cookies
    /// of: the host and its parent domains, and the first directories of the path.
    #[must_use]
    pub fn clear_duplicates(&self, duplicate: DuplicateCookie, host: &str, path: &str) -> Vec<SetCookie> {
        let names = [(&self.access, duplicate.access), (&self.refresh, duplicate.refresh)];
        let mut cleared = Vec::new();
        for (name, _) in names.into_iter().filter(|(_, is_duplicate)| *is_duplicate) {
            // Browsers accept the prefix only for this host and the path `/` (RFC 6265bis §4.1.3.2).
            let is_of_host = name.to_ascii_lowercase().starts_with("__host-");
            let (host, path) = if is_of_host { ("", "") } else { (host, path) };
            for domain in domains(host) {
                for path in directories(path) {
                    cleared.push(self.set_for(name, "", 0, path, domain));
                }
            }
        }
        cleared
    }

    fn set(&self, name: &str, value: &str, seconds: u64) -> SetCookie {
        self.set_for(name, value, seconds, "/", "")
    }

    /// An empty `domain` means the host alone.
    fn set_for(&self, name: &str, value: &str, seconds: u64, path: &str, domain: &str) -> SetCookie {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
        };
        let domain = match domain {
            "" => String::new(),
            domain => format!(" Domain={domain};"),
        };
        let text =
            format!("{name}={value}; Path={path};{domain} Max-Age={seconds}; HttpOnly; Secure; SameSite={same_site}");
        SetCookie {
            text: SecretText::new(text),
            clears: value.is_empty(),
        }
    }
}

/// The tokens in the cookies of a request. A cookie without a value counts as absent.
#[derive(Clone, Copy, Default)]
pub struct Cookies<'a> {
    access: Option<&'a str>,
    refresh: Option<&'a str>,
}

impl<'a> Cookies<'a> {
    /// The access token.
    #[must_use]
    pub fn access(&self) -> Option<&'a str> {
        self.access.filter(|value| !value.is_empty())
    }

    /// The refresh token.
    #[must_use]
    pub fn refresh(&self) -> Option<&'a str> {
        self.refresh.filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Cookies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies")
            .field("access", &self.access.is_some())
            .field("refresh", &self.refresh.is_some())
            .finish()
    }
}

/// One of our cookies, or both, are in a request twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("a cookie was given more than once")]
pub struct DuplicateCookie {
    access: bool,
    refresh: bool,
}

/// The most domains for which a cookie is deleted, besides the host alone, and the most directories besides `/`.
const MAX_DOMAINS: usize = 3;
const MAX_DIRECTORIES: usize = 6;

/// The domains that a cookie for this host can have: none (the host alone), the host, and its parents of at least two labels.
/// An address and a host of one label have no others.
fn domains(host: &str) -> Vec<&str> {
    let mut domains = vec![""];
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let is_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_name && !is_address {
        let parents = std::iter::successors(Some(host), |domain| domain.split_once('.').map(|(_, parent)| parent));
        domains.extend(parents.filter(|domain| domain.contains('.')).take(MAX_DOMAINS));
    }
    domains
}

/// The paths that cookies for this path and query can have: `/` and the directories, each without and with a `/` at its end.
fn directories(path: &str) -> Vec<&str> {
    let mut directories = vec!["/"];
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let path = &path[..end];
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        return directories;
    }
    let slashes = path.match_indices('/').map(|(at, _)| at).skip(1);
    let ends = slashes.flat_map(|at| [at, at + 1]).chain([path.len()]);
    let mut ends: Vec<usize> = ends.filter(|end| *end > 1).collect();
    ends.dedup();
    directories.extend(ends.into_iter().take(MAX_DIRECTORIES).map(|end| &path[..end]));
    directories
}

/// The value of a `Set-Cookie` header. It contains a token, so `Debug` hides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    text: SecretText,
    clears: bool,
}

impl SetCookie {
    /// The value for the header.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Whether it deletes the cookie, and so contains no token.
    #[must_use]
    pub fn clears(&self) -> bool {
        self.clears
    }
}

fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').map(|pair| split(trimmed(pair)))
}

/// Name and value of a cookie. Quotation marks around the value are removed (RFC 6265 §4.1.1).
fn split(pair: &str) -> (&str, &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let value = trimmed(value);
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    (trimmed(name), bare.unwrap_or(value))
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<(Option<&str>, Option<&str>), DuplicateCookie> {
        let cookies = CookieNames::default().read(header)?;
        Ok((cookies.access(), cookies.refresh()))
    }

    #[test]
    fn our_cookies_are_found_among_others() {
        assert_eq!(read(""), Ok((None, None)));
        assert_eq!(read("a=b; c"), Ok((None, None)));
        let both = Ok((Some("A"), Some("R")));
        assert_eq!(read("__Host-cs_at=A; __Host-cs_rt=R"), both);
        assert_eq!(read("x=y;__Host-cs_rt=R;;  __Host-cs_at = \"A\" ; =; z"), both);
        assert_eq!(read("__Host-cs_at=; __Host-cs_rt"), Ok((None, None)));
        assert_eq!(
            read("__host-cs_at=A; __Host-cs_at2=B"),
            Ok((None, None)),
            "names are exact"
        );
        assert_eq!(read("__Host-cs_at=A=B="), Ok((Some("A=B="), None)));
    }

    #[test]
    fn a_duplicate_of_ours_is_refused_and_a_thousand_of_others_are_not() {
        let duplicate = |access, refresh| Err(DuplicateCookie { access, refresh });
        assert_eq!(read("__Host-cs_at=A; __Host-cs_at=A"), duplicate(true, false));
        assert_eq!(read("__Host-cs_rt=; x=y; __Host-cs_rt=R"), duplicate(false, true));
        assert_eq!(
            read("__Host-cs_rt=; __Host-cs_at=A; __Host-cs_at=; __Host-cs_rt=R"),
            duplicate(true, true)
        );
        let many = "same=1; ".repeat(1000) + "__Host-cs_at=A";
        assert_eq!(read(&many), Ok((Some("A"), None)));
    }

    #[test]
    fn our_cookies_are_removed_and_others_stay() {
        let rest = |header| CookieNames::default().without_ours(header).map(Cow::into_owned);
        assert_eq!(rest(""), None);
        assert_eq!(rest("a=b;c=d"), None, "untouched");
        assert_eq!(rest("__Host-cs_at=A").as_deref(), Some(""));
        assert_eq!(
            rest("a=b; __Host-cs_at=A; __Host-cs_rt=R; ;c=\"d\"").as_deref(),
            Some("a=b; c=\"d\"")
        );
        assert_eq!(rest("__Host-cs_at=A; __Host-cs_at=B; a=b").as_deref(), Some("a=b"));
        assert_eq!(rest(" __Host-cs_at =A; a").as_deref(), Some("a"));
    }

    fn cleared(names: &CookieNames, duplicate: (bool, bool), host: &str, path: &str) -> Vec<String> {
        let (access, refresh) = duplicate;
        let cleared = names.clear_duplicates(DuplicateCookie { access, refresh }, host, path);
        assert!(
            cleared
                .iter()
                .all(|cookie| cookie.clears() && cookie.expose().contains("; Secure; "))
        );
        let shown = |cookie: &SetCookie| cookie.expose().split(" Max-Age").next().unwrap().to_owned();
        cleared.iter().map(shown).collect()
    }

    #[test]
    fn duplicates_are_cleared_for_every_domain_and_path_that_they_can_have() {
        let custom = CookieNames {
            access: "at".to_owned(),
            refresh: "rt".to_owned(),
            same_site: SameSite::Lax,
        };
        let found = cleared(&custom, (true, false), "app.example.org:8443", "/account/keys?x=/y");
        let expected: Vec<String> = ["", " Domain=app.example.org;", " Domain=example.org;"]
            .iter()
            .flat_map(|domain| {
                ["/", "/account", "/account/", "/account/keys"].map(|path| format!("at=; Path={path};{domain}"))
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            cleared(&custom, (true, true), "localhost:8000", "/"),
            ["at=; Path=/;", "rt=; Path=/;"]
        );
        assert_eq!(cleared(&custom, (false, true), "192.0.2.1", ""), ["rt=; Path=/;"]);
        assert_eq!(
            cleared(&custom, (false, true), "[2001:db8::1]:80", "x"),
            ["rt=; Path=/;"]
        );
        for odd in ["/a;b", "/a b", "/a\u{e9}", "/a\r\nset-cookie: x"] {
            assert_eq!(
                cleared(&custom, (false, true), "a\r\nb", odd),
                ["rt=; Path=/;"],
                "{odd:?}"
            );
        }
        let many = cleared(&custom, (true, true), &"a.".repeat(100), &"/a".repeat(100));
        assert_eq!(many.len(), 2 * (1 + MAX_DOMAINS) * (1 + MAX_DIRECTORIES));
        let host = CookieNames::default();
        assert_eq!(
            cleared(&host, (true, true), "app.example.org", "/a/b"),
            ["__Host-cs_at=; Path=/;", "__Host-cs_rt=; Path=/;"]
        );
    }

    #[test]
    fn set_cookie_has_the_protective_attributes() {
        let names = CookieNames::default();
        let set = names.set_access(&SecretText::new("canary"), 900);
        assert_eq!(
            set.expose(),
            "__Host-cs_at=canary; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Strict"
        );
        assert!(!format!("{set:?}").contains("canary"));
        let lax = CookieNames {
            same_site: SameSite::Lax,
            ..names
        };
        let [access, refresh] = lax.clear();
        assert_eq!(
            access.expose(),
            "__Host-cs_at=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
        );
        assert!(refresh.expose().starts_with("__Host-cs_rt=; Path=/; Max-Age=0;"));
    }
}
