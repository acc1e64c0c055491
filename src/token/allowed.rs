//! What may be asked for, by whom, from where.

use super::Tokens;
use crate::model::grant::Allowed;
use crate::model::scope::{CallerScope, has_caller_prefix};
use crate::model::{Caller, Client, ClientId, Error, ErrorKind, Grant, Identity, Result, SessionContext};

impl Tokens {
    /// Checks what is asked for against what may be had, and fills in what is not asked for.
    pub(super) fn granted(
        &self,
        client: &Client,
        allowed: &Allowed,
        scope: Vec<String>,
        audience: Vec<String>,
    ) -> Result<(Vec<String>, Vec<String>)> {
        // A right that does not exist is nobody's, the administrator's neither.
        let is_real = |name: &String| !has_caller_prefix(name) || CallerScope::parse(name).is_some();
        if let Some(refused) = scope.iter().position(|name| !(allowed.allows(name) && is_real(name))) {
            return Err(not_allowed(ErrorKind::ScopeNotAllowed, "scope", refused));
        }
        let own = scope.iter().any(|name| has_caller_prefix(name));
        let audience = match (audience.is_empty(), own) {
            (true, true) => vec![self.config.caller_audience.clone()],
            (true, false) => vec![self.config.default_audience.clone()],
            (false, _) => audience,
        };
        // A right on Countersign must not lie in the hands of every service that is sent the token.
        if own && audience != [self.config.caller_audience.as_str()] {
            return Err(Error::at(
                ErrorKind::AudienceNotAllowed,
                "audience",
                "a token with countersign:* scopes is for Countersign alone",
            ));
        }
        let audiences = self.audiences(client);
        // A right on Countersign brings the audience with it.
        let refused = audience.iter().position(|name| !(own || audiences.allows(name)));
        if let Some(refused) = refused {
            return Err(not_allowed(ErrorKind::AudienceNotAllowed, "audience", refused));
        }
        Ok((scope, audience))
    }

    /// Whom the client's tokens may be for; a client that lists nobody may name the default audience.
    pub(super) fn audiences(&self, client: &Client) -> Allowed {
        let mut allowed = Allowed::audiences(&client.audiences);
        if client.audiences.is_empty() {
            allowed.names.push(self.config.default_audience.clone());
        }
        allowed
    }
}

/// A client that calls with its own token but without `countersign:issue` logs people in at itself only.
pub(super) fn may_log_in_at(caller: &Caller, client: &ClientId) -> Result<()> {
    let own = matches!(&caller.identity, Identity::Machine { client: own } if own == client);
    if own || caller.has(CallerScope::Issue) {
        Ok(())
    } else {
        Err(caller.refusal().into())
    }
}

/// Where a login comes from: the person's address where an authenticated caller that may log people in tells it, else
/// the peer's.
pub(super) fn source<'a>(caller: &'a Caller, context: &'a SessionContext) -> &'a str {
    if believes_address(caller) && !context.ip_address.is_empty() {
        &context.ip_address
    } else {
        &caller.origin.ip_address
    }
}

/// Whether this caller is believed when it says where a person is.
pub(super) fn believes_address(caller: &Caller) -> bool {
    caller.is_authenticated() && caller.has(CallerScope::Issue)
}

/// Whether the client, which has proved who it is or whose user has, may get tokens in this way.
pub(super) fn may_use(client: &Client, grant: Grant) -> Result<()> {
    if client.disabled {
        return Err(ErrorKind::ClientDisabled.into());
    }
    if client.may(grant) {
        Ok(())
    } else {
        Err(ErrorKind::GrantNotAllowed.into())
    }
}

pub(super) fn not_allowed(kind: ErrorKind, field: &'static str, index: usize) -> Error {
    Error::at(kind, format!("{field}[{index}]"), "not allowed")
}
