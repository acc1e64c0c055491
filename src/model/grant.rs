//! What a session may ask for: scopes and audiences, and how a later request is narrowed.
//!
//! A session keeps what it was granted for life. What a token gets is the grant ∩ what the client may have *now*
//! (RFC 6749 §6: a refresh may narrow, never widen).

use super::error::{Error, ErrorKind, Result};

/// Scopes of this prefix are rights on Countersign itself; `*` never covers them.
pub const OWN_PREFIX: &str = "countersign:";

/// Every scope of that prefix that there is.
pub const OWN_SCOPES: [&str; 9] = [
    "countersign:issue",
    "countersign:refresh",
    "countersign:revoke",
    "countersign:validate",
    "countersign:watch",
    "countersign:users",
    "countersign:clients",
    "countersign:keys",
    "countersign:audit",
];

/// The most scopes, audiences or required scopes that one request or client may name.
pub const MAX_NAMES: usize = 64;

/// The longest scope or audience, in bytes.
pub const MAX_NAME_LEN: usize = 256;

/// What may be asked for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Everything, except what starts with [`OWN_PREFIX`] (the list has `*`).
    pub any: bool,
    /// What starts with [`OWN_PREFIX`], all of it (the person holds the role `admin`).
    pub own: bool,
    /// These by name.
    pub names: Vec<String>,
}

impl Allowed {
    /// What a client's list of audiences allows.
    #[must_use]
    pub fn audiences(list: &[String]) -> Self {
        let names = list.iter().filter(|name| *name != "*").cloned().collect();
        Self {
            any: list.iter().any(|name| name == "*"),
            own: false,
            names,
        }
    }

    /// What a client's list of scopes allows a person. `countersign:*` scopes come from the role `admin` alone.
    #[must_use]
    pub fn scopes_of_person(list: &[String], admin: bool) -> Self {
        let mut allowed = Self::audiences(list);
        allowed.names.retain(|name| !name.starts_with(OWN_PREFIX));
        allowed.own = admin;
        allowed
    }

    /// What a client's list of scopes allows the client itself: `countersign:*` scopes only by name.
    #[must_use]
    pub fn scopes_of_machine(list: &[String]) -> Self {
        Self::audiences(list)
    }

    /// Whether `name` may be had.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let own = name.starts_with(OWN_PREFIX);
        (if own { self.own } else { self.any }) || self.names.iter().any(|n| n == name)
    }
}

/// What became of a request for scopes or audiences of an existing grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Narrowing {
    /// The token gets these.
    To(Vec<String>),
    /// This one was never granted.
    Wider(String),
    /// This one was granted and has been lost since.
    Lost(String),
}

/// Narrows `granted` to what is `requested` and still `allowed`. With an empty request a loss is silent.
///
/// The Lua script of the Redis store does the same; the conformance cases hold the two together.
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

/// Narrows audiences, as [`narrow`] does scopes. A token is for somebody: where nothing is left, the first that was granted
/// is what was lost.
///
/// `own` is Countersign's own audience. A grant with a right on Countersign brought it along, whatever the client lists; the
/// right is looked at on its own.
#[must_use]
pub fn narrow_audience(
    requested: &[String],
    granted: &[String],
    allowed: &Allowed,
    own: &str,
    granted_scope: &[String],
) -> Narrowing {
    let mut allowed = allowed.clone();
    if granted_scope.iter().any(|scope| scope.starts_with(OWN_PREFIX)) {
        allowed.names.push(own.to_owned());
    }
    match (narrow(requested, granted, &allowed), granted.first()) {
        (Narrowing::To(left), Some(first)) if left.is_empty() => Narrowing::Lost(first.clone()),
        (narrowed, _) => narrowed,
    }
}

/// How many bytes these take in an access token's payload (JSON): the scopes, if any, as a member with a space between two;
/// each audience in quotes with a comma between two and a backslash before a quote or backslash. The Lua script counts the
/// same.
#[must_use]
pub fn json_len(scope: &[String], audience: &[String]) -> usize {
    let names = |list: &[String]| list.iter().map(String::len).sum::<usize>() + list.len().saturating_sub(1);
    let escapes = |name: &String| name.bytes().filter(|b| matches!(b, b'"' | b'\\')).count();
    let member = if scope.is_empty() { 0 } else { r#","scope":"""#.len() };
    member + names(scope) + names(audience) + audience.len() * 2 + audience.iter().map(escapes).sum::<usize>()
}

/// Reads a request's scopes: RFC 6749 §3.3 tokens, without duplicates, in the order given.
pub fn parse_scopes(list: &[String], field: &'static str) -> Result<Vec<String>> {
    parse_names(list, field, |b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Reads a request's audiences: visible ASCII, without duplicates, in the order given.
pub fn parse_audiences(list: &[String], field: &'static str) -> Result<Vec<String>> {
    parse_names(list, field, |b| b.is_ascii_graphic())
}

fn parse_names(list: &[String], field: &'static str, allowed: fn(u8) -> bool) -> Result<Vec<String>> {
    if list.len() > MAX_NAMES {
        return Err(Error::invalid(field, format!("at most {MAX_NAMES} values")));
    }
    let mut names: Vec<String> = Vec::with_capacity(list.len());
    for (index, name) in list.iter().enumerate() {
        if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(allowed) {
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
    fn the_star_never_covers_our_own_scopes() {
        let any = Allowed::scopes_of_machine(&names(&["*"]));
        assert!(any.allows("read") && !any.allows("countersign:users"));
        let named = Allowed::scopes_of_machine(&names(&["*", "countersign:issue"]));
        assert!(named.allows("countersign:issue") && !named.allows("countersign:users"));
        let person = Allowed::scopes_of_person(&names(&["read", "countersign:issue"]), false);
        assert!(person.allows("read") && !person.allows("countersign:issue"));
        assert!(Allowed::scopes_of_person(&names(&["read"]), true).allows("countersign:users"));
    }

    #[test]
    fn narrowing_tells_never_granted_from_lost() {
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
    fn the_weight_is_what_json_takes() {
        for (scope, audience) in [
            (&["read", "write"][..], &["api"][..]),
            (&["read"], &["a\"b", "c\\d", "e"]),
            (&[], &["api"]),
        ] {
            let (scope, audience) = (names(scope), names(audience));
            let mut written = serde_json::json!({"aud": audience});
            if !scope.is_empty() {
                written["scope"] = scope.join(" ").into();
            }
            let frame = r#"{"aud":[]}"#.len();
            assert_eq!(
                json_len(&scope, &audience),
                written.to_string().len() - frame,
                "{written}"
            );
        }
    }

    #[test]
    fn names_are_visible_ascii() {
        assert_eq!(
            parse_scopes(&names(&["a", "b", "a"]), "scope").unwrap(),
            names(&["a", "b"])
        );
        for bad in ["", "a b", "a\"b", "a\\b", "é", "a\0", "a\r\n"] {
            let error = parse_scopes(&names(&["ok", bad]), "scope").unwrap_err();
            assert_eq!(error.violations[0].field, "scope[1]", "{bad:?}");
        }
    }
}
