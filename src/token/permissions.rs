//! What a caller may request: grant, scopes and audiences; and which statements of a caller are believed.

use std::net::IpAddr;

use crate::config::Tokens as TokenConfig;
use crate::model::grant::Allowed;
use crate::model::scope::{CallerScope, has_caller_prefix};
use crate::model::{Caller, Client, ClientId, Error, ErrorKind, Grant, Identity, Result, SessionContext};

/// Checks the requested scopes and audiences against the allowed ones, and fills in the audience if none is requested.
pub(super) fn check_requested(
    client: &Client,
    config: &TokenConfig,
    allowed_scopes: &Allowed,
    scope: Vec<String>,
    audience: Vec<String>,
) -> Result<(Vec<String>, Vec<String>)> {
    // A `countersign:*` scope that does not exist is granted to no client, not even to an administrator.
    let exists = |name: &String| !has_caller_prefix(name) || CallerScope::parse(name).is_some();
    if let Some(refused) = scope
        .iter()
        .position(|name| !(allowed_scopes.allows(name) && exists(name)))
    {
        return Err(not_allowed(ErrorKind::ScopeNotAllowed, "scope", refused));
    }
    let has_own_scope = scope.iter().any(|name| has_caller_prefix(name));
    let audience = match (audience.is_empty(), has_own_scope) {
        (true, true) => vec![config.caller_audience.clone()],
        (true, false) => vec![config.default_audience.clone()],
        (false, _) => audience,
    };
    // Every service of the audience holds the token: none of them may use it at Countersign.
    if has_own_scope && audience != [config.caller_audience.as_str()] {
        return Err(Error::at(
            ErrorKind::AudienceNotAllowed,
            "audience",
            "a token with countersign:* scopes is for Countersign alone",
        ));
    }
    let allowed_audiences = allowed_audiences(client, config);
    // A `countersign:*` scope implies the audience.
    let refused = audience
        .iter()
        .position(|name| !(has_own_scope || allowed_audiences.allows(name)));
    if let Some(refused) = refused {
        return Err(not_allowed(ErrorKind::AudienceNotAllowed, "audience", refused));
    }
    Ok((scope, audience))
}

/// The audiences of the client's tokens. A client without a list may request the default audience.
pub(super) fn allowed_audiences(client: &Client, config: &TokenConfig) -> Allowed {
    let mut allowed = Allowed::audiences(&client.audiences);
    if client.audiences.is_empty() {
        allowed.names.push(config.default_audience.clone());
    }
    allowed
}

/// Checks that `caller` may log users in at `client`: at any client with `countersign:issue`, else only at itself, with its
/// own token.
pub(super) fn may_log_in_at(caller: &Caller, client: &ClientId) -> Result<()> {
    let own = matches!(&caller.identity, Identity::Machine { client: own } if own == client);
    if own || caller.has(CallerScope::Issue) {
        Ok(())
    } else {
        Err(caller.refusal(CallerScope::Issue))
    }
}

/// The user's address that the caller states, in canonical form; `None` if it states none or may not state one.
///
/// # Errors
/// `INVALID_REQUEST` if the text of a caller that may state it is no IP address: limits count addresses.
pub(super) fn stated_address(caller: &Caller, context: &SessionContext) -> Result<Option<String>> {
    if context.ip_address.is_empty() || !may_state_address(caller) {
        return Ok(None);
    }
    match context.ip_address.parse::<IpAddr>() {
        Ok(address) => Ok(Some(address.to_canonical().to_string())),
        Err(_) => Err(Error::invalid(
            "context.ip_address",
            "must be an IPv4 or IPv6 address without port, brackets and zone",
        )),
    }
}

/// Whether this caller's statement of a user's address is accepted: only an authenticated caller that may log users in
/// states it.
pub(super) fn may_state_address(caller: &Caller) -> bool {
    caller.is_authenticated() && caller.has(CallerScope::Issue)
}

/// Checks that the client may get tokens by this grant. The client or its user is authenticated already.
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

/// The error for the element of `field` at `index`.
pub(super) fn not_allowed(kind: ErrorKind, field: &'static str, index: usize) -> Error {
    Error::at(kind, format!("{field}[{index}]"), "not allowed")
}
