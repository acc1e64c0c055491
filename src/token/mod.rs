//! The rules of tokens: issue, exchange, refresh, revoke, validate. One object an operation, each with what it needs.
//!
//! They see the stores' traits, never a backend, and plain data, never a message of the wire. The caller is a
//! [`crate::model::Caller`].

mod access_token;
mod audit;
mod authenticate;
mod client_limits;
mod client_secret;
mod exchange;
mod ignored_addresses;
mod lost_epochs;
mod password;
mod permissions;
mod refresh;
pub mod refresh_token;
mod refresh_token_codec;
mod revocation_recorder;
mod revoke;
mod rotation;
mod session_limit;
mod session_start;
mod validate;

pub use access_token::{AccessTokenSigner, IssuedAccessToken};
pub use audit::AuditWriter;
pub use authenticate::BearerAuthenticator;
pub use client_secret::{ClientSecretIssuer, ClientSecretRequest};
pub use exchange::{ExchangeRequest, TokenExchanger};
pub use ignored_addresses::IgnoredAddresses;
pub use password::{PasswordIssuer, PasswordRequest};
pub use refresh::{RefreshRequest, Refreshed, Refresher};
pub use refresh_token_codec::RefreshTokenCodec;
pub use revocation_recorder::RevocationRecorder;
pub use revoke::{RevokeRequest, RevokeTarget, Revoker};
pub use rotation::ReuseHandler;
pub use session_limit::SessionLimit;
pub use session_start::SessionStarter;
pub use validate::{ServiceValidator, ValidateRequest};

use crate::clock::UnixMillis;
use crate::model::SessionId;
use crate::secret::SecretText;

/// The tokens of one answer.
#[derive(Debug)]
pub struct IssuedTokens {
    /// The access token.
    pub access: IssuedAccessToken,
    /// The refresh token; none for a client's own token and for an exchange.
    pub refresh: Option<IssuedRefreshToken>,
}

/// The refresh token of a session.
#[derive(Debug)]
pub struct IssuedRefreshToken {
    /// The refresh token.
    pub token: SecretText,
    /// The session.
    pub session: SessionId,
    /// When the session ends unless it is refreshed.
    pub expires: UnixMillis,
    /// When the session ends in any case.
    pub session_expires: UnixMillis,
}
