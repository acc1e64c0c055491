//! Cookies (RFC 6265): reading the two that are ours out of a request, and writing them for the browser.

use std::borrow::Cow;
use std::fmt;

use crate::secret::SecretText;

/// The names of the two cookies, and where a browser may send them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    /// Of the access token's.
    pub access: String,
    /// Of the refresh token's.
    pub refresh: String,
    /// Whether a link from another site arrives with them.
    pub same_site: SameSite,
}

/// The cookie attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never sent from other sites.
    Strict,
    /// Sent when a link from another site is followed.
    Lax,
}

impl Default for CookieNames {
    /// `__Host-cs_at` and `__Host-cs_rt`, strict.
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
    /// [`DuplicateCookie`] if one of ours is there twice: somebody planted one, and which is the browser's own cannot be told.
    pub fn read<'a>(&self, header: &'a str) -> Result<Cookies<'a>, DuplicateCookie> {
        let mut cookies = Cookies::default();
        for (name, value) in pairs(header) {
            let place = if name == self.access {
                &mut cookies.access
            } else if name == self.refresh {
                &mut cookies.refresh
            } else {
                continue;
            };
            if place.replace(value).is_some() {
                return Err(DuplicateCookie);
            }
        }
        Ok(cookies)
    }

    /// The `Cookie` header without ours; none if it holds none of ours. Empty if there is nothing else in it.
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

    /// The `Set-Cookie` that keeps an access token for so many seconds.
    #[must_use]
    pub fn set_access(&self, token: &SecretText, seconds: u64) -> SetCookie {
        self.set(&self.access, token.expose(), seconds)
    }

    /// The `Set-Cookie` that keeps a refresh token for so many seconds.
    #[must_use]
    pub fn set_refresh(&self, token: &SecretText, seconds: u64) -> SetCookie {
        self.set(&self.refresh, token.expose(), seconds)
    }

    /// The `Set-Cookie`s that make a browser forget both.
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

/// Ours, as a request brought them. A name without a value counts as absent.
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

/// One of our cookies came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateCookie;

/// The value of a `Set-Cookie` header. It holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    text: SecretText,
    clears: bool,
}

impl SetCookie {
    /// As it stands in the header.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Whether it makes the browser forget: there is no token in it.
    #[must_use]
    pub fn clears(&self) -> bool {
        self.clears
    }
}

fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').map(|pair| split(trimmed(pair)))
}

/// Name and value; quotation marks around the value are no part of it (RFC 6265 §4.1.1).
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
    fn ours_are_found_among_others() {
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
    fn a_doubled_one_is_refused_and_a_thousand_others_are_not() {
        assert_eq!(read("__Host-cs_at=A; __Host-cs_at=A"), Err(DuplicateCookie));
        assert_eq!(read("__Host-cs_rt=; x=y; __Host-cs_rt=R"), Err(DuplicateCookie));
        let many = "same=1; ".repeat(1000) + "__Host-cs_at=A";
        assert_eq!(read(&many), Ok((Some("A"), None)));
    }

    #[test]
    fn what_goes_on_is_without_ours() {
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
    fn the_browser_is_told_to_keep_them_to_itself() {
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
