//! Starting a session.

use std::sync::Arc;

use super::access_token::{AccessTokenInput, AccessTokenSigner, SubjectClaims, subject};
use super::audit::AuditWriter;
use super::client_limits::ClientLimits;
use super::refresh_token::RefreshToken;
use super::refresh_token_codec::RefreshTokenCodec;
use super::session_limit::SessionLimit;
use super::{IssuedRefreshToken, IssuedTokens};
use crate::clock::Clock;
use crate::config::Tokens as TokenConfig;
use crate::model::session::NewSession;
use crate::model::{
    AuditType, Caller, Client, Epochs, Grant, Result, SessionContext, SessionId, TokenEpochs, User, UserId,
};
use crate::secret::{Entropy, SecretBytes, SecretText};
use crate::store::{SessionStore, UserStore};

/// A user who has proved the password, with what was read before the proof.
pub(super) struct AuthenticatedUser {
    pub(super) user: User,
    pub(super) client: Client,
    pub(super) epochs: Epochs,
    pub(super) era: i64,
    /// The stored hash, and the one that replaces it.
    pub(super) rehash: Option<(SecretText, SecretText)>,
}

/// Starts sessions of authenticated users.
pub struct SessionStarter {
    /// Records the login.
    pub users: Arc<dyn UserStore>,
    /// The live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Signs the access token.
    pub signer: Arc<AccessTokenSigner>,
    /// Writes the refresh token.
    pub refresh_tokens: RefreshTokenCodec,
    /// Ends the oldest sessions if there are too many.
    pub limit: SessionLimit,
    /// The audit trail.
    pub audit: AuditWriter,
    /// The start of the session.
    pub clock: Arc<dyn Clock>,
    /// The session's id and secret.
    pub entropy: Arc<dyn Entropy>,
    /// The configured lifetimes.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for SessionStarter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionStarter")
    }
}

impl SessionStarter {
    /// Starts a session and issues its first tokens.
    pub(super) async fn start(
        &self,
        caller: &Caller,
        authenticated: AuthenticatedUser,
        scope: Vec<String>,
        audience: Vec<String>,
        context: SessionContext,
    ) -> Result<IssuedTokens> {
        let AuthenticatedUser {
            user,
            client,
            epochs,
            era,
            rehash,
        } = authenticated;
        let limits = ClientLimits::of(&client, &self.config);
        let now = self.clock.now();
        let session = SessionId::generate(now, &*self.entropy);
        let expires = now.plus(limits.session_ttl);
        let access = self
            .signer
            .sign(AccessTokenInput {
                sub: subject(user.id),
                client: client.id.clone(),
                scope,
                audience,
                epochs: TokenEpochs {
                    epochs,
                    client_id: client.id.clone(),
                },
                person: Some(SubjectClaims::of(&user, session, now)),
                act: None,
                root: None,
                ttl: limits.access_ttl,
                expires_at_most: expires,
            })
            .await?;
        let token = RefreshToken {
            user: user.id,
            session,
            generation: 0,
            epochs,
            expires,
            client: client.id.clone(),
            secret: SecretBytes::generate(&*self.entropy),
        };
        let refresh_key = self.refresh_tokens.newest_key_id()?;
        let encoded = self.refresh_tokens.encode(&token, refresh_key).await?;
        let new = NewSession {
            id: session,
            user: user.id,
            client: client.id.clone(),
            secret_hash: token.secret_hash(),
            refresh_key,
            scope: access.scope.clone(),
            audience: access.audience.clone(),
            created: now,
            idle_ttl: limits.idle_ttl,
            expires,
            epochs,
            era,
            context,
        };
        let created = self.sessions.create(&new, limits.max_sessions_per_user).await?;
        let idle_expires = created.idle_expires;
        // Before everything else that may fail: the removed records were the only trace of these sessions.
        if let Err(error) = self.limit.revoke_evicted(&user, &client, created.evicted).await {
            self.undo(user.id, session).await;
            return Err(error);
        }
        let event = self
            .audit
            .event(AuditType::TokenIssued, &user.id, caller)
            .with_client(&client.id)
            .with_session(session)
            .with_detail("grant", Grant::Password.as_str());
        if let Err(error) = self.users.logged_in(user.id, now, rehash, &event).await {
            // A login without its audit event does not count.
            self.undo(user.id, session).await;
            return Err(error);
        }
        if let Err(error) = self.limit.enforce(&user, &client, created.over_limit).await {
            // A refused login is better than a session above the limit.
            self.undo(user.id, session).await;
            return Err(error);
        }
        let refresh = IssuedRefreshToken {
            token: encoded,
            session,
            expires: idle_expires,
            session_expires: expires,
        };
        Ok(IssuedTokens {
            access,
            refresh: Some(refresh),
        })
    }

    /// Ends a session whose start failed. The login is refused in any case; if the session cannot be ended, it stays
    /// unused, because its tokens were not sent, until it expires.
    async fn undo(&self, user: UserId, session: SessionId) {
        if let Err(error) = self.sessions.end(user, session).await {
            tracing::warn!(%error, %session, %user, "cannot end the session of a failed login; it stays unused until it expires");
        }
    }
}
