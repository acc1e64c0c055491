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
    /// genuine.
    pub fn read<'a>(&self, header: &'a str) -> Result<Cookies<'a>, DuplicateCookie> {
        let mut cookies = Cookies::default();
        for (name, value) in pairs(header) {
            let cookie = if name == self.access {
                &mut cookies.access
            } else if name == self.refresh {
                &mut cookies.refresh
            } else {
                continue;
            };
            if cookie.replace(value).is_some() {
                return Err(DuplicateCookie);
            }
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

    fn set(&self, name: &str, value: &str, seconds: u64) -> SetCookie {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
        };
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite={same_site}");
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

/// One of our cookies is in a request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cookie was given more than once")]
pub struct DuplicateCookie;

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
        assert_eq!(read("__Host-cs_at=A; __Host-cs_at=A"), Err(DuplicateCookie));
        assert_eq!(read("__Host-cs_rt=; x=y; __Host-cs_rt=R"), Err(DuplicateCookie));
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
