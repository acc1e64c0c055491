//! What a route demands of a request, and why a token does not meet it.

use super::check::GatewayConfig;
use super::decision::RefusalReason;
use super::request::Route;
use crate::keys::verified::VerifiedToken;
use crate::model::{ErrorKind, InactiveReason};

/// What a route demands, with the defaults of the configuration.
pub(super) struct Requirements<'a> {
    pub(super) audience: &'a str,
    pub(super) scopes: Vec<String>,
    /// The user must have one of them, unless there are none.
    pub(super) roles: Vec<&'a str>,
    /// Whether a request without a credential passes too.
    pub(super) optional: bool,
    pub(super) streaming: bool,
    /// The login page; empty if there is none.
    pub(super) login: &'a str,
}

impl<'a> Requirements<'a> {
    pub(super) fn of(route: Route<'a>, config: &'a GatewayConfig) -> Self {
        let or = |given: &'a str, default: &'a str| if given.is_empty() { default } else { given };
        let scopes: Vec<String> = route.scopes.split_ascii_whitespace().map(str::to_owned).collect();
        Self {
            audience: or(route.audience, &config.audience),
            scopes: if scopes.is_empty() {
                config.scopes.clone()
            } else {
                scopes
            },
            roles: route.roles.split_ascii_whitespace().collect(),
            optional: route.optional,
            streaming: route.streaming,
            login: or(route.login, config.login.as_deref().unwrap_or_default()),
        }
    }

    /// Whether a token with these roles may pass.
    pub(super) fn are_met_by(&self, token: &VerifiedToken) -> bool {
        self.roles.is_empty()
            || token
                .claims
                .roles
                .iter()
                .any(|role| self.roles.contains(&role.as_str()))
    }

    /// The public description of why a token is not active.
    pub(super) fn explain(&self, reason: InactiveReason) -> RefusalReason {
        match reason {
            InactiveReason::InsufficientScope => RefusalReason::MissingScope(self.scopes.clone()),
            InactiveReason::Expired => RefusalReason::BadToken("the access token expired"),
            InactiveReason::Revoked | InactiveReason::RevokedKey => {
                RefusalReason::BadToken("the access token was revoked")
            }
            InactiveReason::WrongAudience => RefusalReason::BadToken("the access token is not for this service"),
            InactiveReason::Malformed
            | InactiveReason::Unsupported
            | InactiveReason::WrongType
            | InactiveReason::UnknownKey
            | InactiveReason::BadSignature
            | InactiveReason::WrongIssuer
            | InactiveReason::NotYetValid => RefusalReason::BadToken("the access token is not valid"),
        }
    }
}

/// The public description of the error if it means that the session is over.
pub(super) fn session_over(kind: ErrorKind) -> Option<&'static str> {
    let over = matches!(
        kind,
        ErrorKind::RefreshTokenMalformed
            | ErrorKind::UserDisabled
            | ErrorKind::SessionRevoked
            | ErrorKind::RefreshTokenExpired
            | ErrorKind::RefreshTokenReused
            | ErrorKind::SessionNotFound
    );
    over.then_some("the session is over; log in again")
}
