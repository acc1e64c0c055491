//! Scopes and audiences: parsing, what a client or user may have, and how a refresh narrows what a session was granted.
//!
//! A session keeps its granted scopes and audiences for life. Each access token gets those of them that the client and
//! user may still have when the token is issued (RFC 6749 §6: a refresh may narrow the grant, never widen it).

use super::error::{Error, ErrorKind, Result};
use super::scope::has_caller_prefix;

/// The most scopes, audiences or required scopes that one request or client may name.
pub const MAX_NAMES: usize = 64;

/// The longest scope or audience, in bytes.
pub const MAX_NAME_LEN: usize = 256;

/// The names (scopes or audiences) that may be requested now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Every name without the prefix of caller scopes, because the list holds `*`.
    pub any: bool,
    /// Every name with the prefix of caller scopes, because the user has the role `admin`.
    pub own: bool,
    /// These names.
    pub names: Vec<String>,
}

impl Allowed {
    /// The audiences that a client's list of audiences allows.
    #[must_use]
    pub fn audiences(list: &[String]) -> Self {
        let names = list.iter().filter(|name| *name != "*").cloned().collect();
        Self {
            any: list.iter().any(|name| name == "*"),
            own: false,
            names,
        }
    }

    /// The scopes that a client's list of scopes allows to a user. Caller scopes come from the role `admin` only.
    #[must_use]
    pub fn scopes_of_person(list: &[String], admin: bool) -> Self {
        let mut allowed = Self::audiences(list);
        allowed.names.retain(|name| !has_caller_prefix(name));
        allowed.own = admin;
        allowed
    }

    /// The scopes that a client's list of scopes allows to the client itself. It gets a caller scope only by name.
    #[must_use]
    pub fn scopes_of_machine(list: &[String]) -> Self {
        Self::audiences(list)
    }

    /// Whether `name` is allowed.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let covered = if has_caller_prefix(name) { self.own } else { self.any };
        covered || self.names.iter().any(|n| n == name)
    }
}

/// The result of narrowing the scopes or audiences of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Narrowing {
    /// The token gets these names.
    To(Vec<String>),
    /// This requested name was never granted.
    Wider(String),
    /// This name was granted but is no longer allowed.
    Lost(String),
}

/// Narrows `granted` to the names that are `requested` and still `allowed`. An empty request asks for everything that is
/// still allowed; names that are no longer allowed are then left out without an error.
///
/// The Lua script of the Redis store does the same. The conformance tests compare the two.
#[must_use]
pub fn narrow(requested: &[String], granted: &[String], allowed: &Allowed) -> Narrowing {
    if requested.is_empty() {
        return Narrowing::To(granted.iter().filter(|name| allowed.allows(name)).cloned().collect());
    }
    for name in requested {
        if !granted.contains(name) {
            return Narrowing::Wider(name.clone());
        }
        if !allowed.allows(name) {
            return Narrowing::Lost(name.clone());
        }
    }
    Narrowing::To(requested.to_vec())
}

/// Narrows audiences as [`narrow`] does scopes. A token needs an audience: if none is left, the first granted audience is
/// reported as lost.
///
/// `own` is Countersign's own audience (`tokens.caller_audience`). It is allowed whenever a caller scope was granted,
/// whatever audiences the client lists; whether that scope itself is still allowed is checked separately.
#[must_use]
pub fn narrow_audience(
    requested: &[String],
    granted: &[String],
    allowed: &Allowed,
    own: &str,
    granted_scope: &[String],
) -> Narrowing {
    let mut allowed = allowed.clone();
    if granted_scope.iter().any(|scope| has_caller_prefix(scope)) {
        allowed.names.push(own.to_owned());
    }
    match (narrow(requested, granted, &allowed), granted.first()) {
        (Narrowing::To(left), Some(first)) if left.is_empty() => Narrowing::Lost(first.clone()),
        (narrowed, _) => narrowed,
    }
}

/// The bytes that these scopes and audiences take in the JSON of an access token's payload: the member `scope` with
/// single spaces between the scopes (nothing if there are none), and each audience in quotes with commas between.
///
/// The Lua script of the Redis store counts the same. [`parse_scopes`] and [`parse_audiences`] refuse quotes and
/// backslashes, so no name needs an escape. Only a session that was stored before this rule can hold such a character;
/// the result is then one byte too small for each of them. No token over the limit leaves the service, because the size is
/// checked again when the token is signed. But if the token is over the limit by no more than these bytes, the refresh
/// fails after the session was rotated, and a retry after the grace counts as reuse and ends the session.
#[must_use]
pub fn json_len(scope: &[String], audience: &[String]) -> usize {
    let names = |list: &[String]| list.iter().map(String::len).sum::<usize>() + list.len().saturating_sub(1);
    let scope_member = if scope.is_empty() { 0 } else { r#","scope":"""#.len() };
    scope_member + names(scope) + names(audience) + audience.len() * r#""""#.len()
}

/// Reads the scopes of a request or client: RFC 6749 §3.3 tokens, without duplicates, in the order given.
pub fn parse_scopes(list: &[String], field: &'static str) -> Result<Vec<String>> {
    parse_names(list, field)
}

/// Reads the audiences of a request or client: visible ASCII without quotes and backslashes, without duplicates, in the
/// order given.
pub fn parse_audiences(list: &[String], field: &'static str) -> Result<Vec<String>> {
    parse_names(list, field)
}

/// Whether `name` is a valid scope or audience: 1 to [`MAX_NAME_LEN`] bytes of visible ASCII without quotes and
/// backslashes (RFC 6749 §3.3), so that JSON carries it without escapes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(allowed)
}

fn parse_names(list: &[String], field: &'static str) -> Result<Vec<String>> {
    if list.len() > MAX_NAMES {
        return Err(Error::invalid(field, format!("at most {MAX_NAMES} values")));
    }
    let mut names: Vec<String> = Vec::with_capacity(list.len());
    for (index, name) in list.iter().enumerate() {
        if !is_name(name) {
            return Err(Error::at(
                ErrorKind::InvalidRequest,
                format!("{field}[{index}]"),
                format!("must be 1-{MAX_NAME_LEN} visible ASCII characters without spaces, quotes or backslashes"),
            ));
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_star_never_covers_caller_scopes() {
        let any = Allowed::scopes_of_machine(&names(&["*"]));
        assert!(any.allows("read") && !any.allows("countersign:users"));
        let named = Allowed::scopes_of_machine(&names(&["*", "countersign:issue"]));
        assert!(named.allows("countersign:issue") && !named.allows("countersign:users"));
        let person = Allowed::scopes_of_person(&names(&["read", "countersign:issue"]), false);
        assert!(person.allows("read") && !person.allows("countersign:issue"));
        assert!(Allowed::scopes_of_person(&names(&["read"]), true).allows("countersign:users"));
    }

    #[test]
    fn narrowing_distinguishes_never_granted_from_lost() {
        let granted = names(&["read", "write"]);
        let now = Allowed::scopes_of_person(&names(&["read", "extra"]), false);
        assert_eq!(narrow(&[], &granted, &now), Narrowing::To(names(&["read"])));
        assert_eq!(
            narrow(&names(&["read"]), &granted, &now),
            Narrowing::To(names(&["read"]))
        );
        assert_eq!(
            narrow(&names(&["extra"]), &granted, &now),
            Narrowing::Wider("extra".into())
        );
        assert_eq!(
            narrow(&names(&["write"]), &granted, &now),
            Narrowing::Lost("write".into())
        );
    }

    #[test]
    fn json_len_is_the_length_of_the_json() {
        for (scope, audience) in [
            (&["read", "write"][..], &["api"][..]),
            (&["read"], &["a'b", "c/d", "e"]),
            (&[], &["api"]),
        ] {
            let (scope, audience) = (names(scope), names(audience));
            let mut written = serde_json::json!({"aud": audience});
            if !scope.is_empty() {
                written["scope"] = scope.join(" ").into();
            }
            let empty = r#"{"aud":[]}"#.len();
            assert_eq!(
                json_len(&scope, &audience),
                written.to_string().len() - empty,
                "{written}"
            );
        }
    }

    #[test]
    fn names_are_visible_ascii_without_quotes_and_backslashes() {
        assert_eq!(
            parse_scopes(&names(&["a", "b", "a"]), "scope").unwrap(),
            names(&["a", "b"])
        );
        for bad in ["", "a b", "a\"b", "a\\b", "é", "a\0", "a\r\n"] {
            let list = names(&["ok", bad]);
            let error = parse_scopes(&list, "scope").unwrap_err();
            assert_eq!(error.violations[0].field, "scope[1]", "{bad:?}");
            let error = parse_audiences(&list, "audience").unwrap_err();
            assert_eq!(error.violations[0].field, "audience[1]", "{bad:?}");
        }
    }
}
