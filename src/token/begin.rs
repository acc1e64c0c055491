//! The beginning of a session.

use super::Tokens;
use super::mint::{AccessTokenInput, IssuedRefreshToken, IssuedTokens, SubjectClaims, subject};
use super::refresh_token::RefreshToken;
use crate::model::session::NewSession;
use crate::model::{
    AuditType, Caller, Client, Epochs, Error, Grant, Result, SessionContext, SessionId, TokenEpochs, User,
};
use crate::secret::{SecretBytes, SecretText};

/// A person who has proved who they are, with what was read before the proof.
pub(super) struct AuthenticatedUser {
    pub(super) user: User,
    pub(super) client: Client,
    pub(super) epochs: Epochs,
    pub(super) era: i64,
    /// The stored hash, and the one to put in its place.
    pub(super) rehash: Option<(SecretText, SecretText)>,
}

impl Tokens {
    /// Begins the session of somebody who has proved who they are.
    pub(super) async fn begin(
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
        let now = self.clock.now();
        let session = SessionId::generate(now, &*self.entropy);
        let expires = now.plus(self.config.session_ttl(&client));
        let access = self
            .mint(AccessTokenInput {
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
                ttl: self.config.access_ttl(&client),
                ceiling: expires,
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
        let ring = self.keys.current();
        let (key_id, key) = ring.newest_refresh().ok_or_else(|| Error::internal("no refresh key"))?;
        let new = NewSession {
            id: session,
            user: user.id,
            client: client.id.clone(),
            secret_hash: token.secret_hash(),
            refresh_key: key_id,
            scope: access.scope.clone(),
            audience: access.audience.clone(),
            created: now,
            idle_ttl: self.config.idle_ttl(&client),
            expires,
            epochs,
            era,
            context,
        };
        let created = self.sessions.create(&new, self.config.max_sessions(&client)).await?;
        let event = self
            .event(AuditType::TokenIssued, &user.id, caller)
            .with_client(&client.id)
            .with_session(session)
            .with_detail("grant", Grant::Password.as_str());
        if let Err(error) = self.durable.logged_in(user.id, now, rehash, &event).await {
            // A login that is not on the trail is not a login.
            drop(self.sessions.end(user.id, session).await);
            return Err(error);
        }
        if let Err(error) = self.enforce_session_limit(&user, &client, created.over_limit).await {
            // Better one login less than one session more than there may be.
            drop(self.sessions.end(user.id, session).await);
            return Err(error);
        }
        let refresh = IssuedRefreshToken {
            token: token.encode(key_id, key),
            session,
            expires: created.idle_expires,
            session_expires: expires,
        };
        Ok(IssuedTokens {
            access,
            refresh: Some(refresh),
        })
    }
}
