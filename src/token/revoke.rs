//! Revoke.

use std::sync::Arc;

use super::audit::AuditWriter;
use super::refresh_token::PREFIX;
use super::refresh_token_codec::RefreshTokenCodec;
use super::revocation_recorder::RevocationRecorder;
use crate::clock::UnixMillis;
use crate::keys::manager::Keys;
use crate::keys::verify::{Policy, verify_any_age};
use crate::model::revocation::RevocationSubject;
use crate::model::scope::CallerScope;
use crate::model::text::check_reason;
use crate::model::{AuditEvent, AuditType, Caller, ClientId, Error, Result, SessionId, Target, TokenEpochs, UserId};
use crate::secret::SecretText;
use crate::store::{Expiry, RevocationStore, SessionStore};
use crate::throttle::Throttle;

/// The longest token that is read, in bytes.
const MAX_TOKEN: usize = 4096;

/// What to revoke.
#[derive(Debug)]
pub enum RevokeTarget {
    /// A refresh or access token: revokes its session, or the token itself if it has none.
    Token(SecretText),
    /// One session.
    Session(String),
    /// A user's sessions, except one if it is named.
    User {
        /// The user.
        id: String,
        /// The session that is kept; may be empty.
        keep: String,
    },
    /// Everything at a client.
    Client(String),
    /// Everything.
    Everything,
}

impl RevokeTarget {
    /// Whether the revocation ends all sessions that began before it is recorded, so that it does harm when it is late.
    #[must_use]
    pub const fn ends_later_sessions(&self) -> bool {
        match self {
            Self::Token(_) | Self::Session(_) => false,
            Self::User { .. } | Self::Client(_) | Self::Everything => true,
        }
    }
}

/// A request to revoke.
#[derive(Debug)]
pub struct RevokeRequest {
    /// What to revoke.
    pub target: RevokeTarget,
    /// For the audit trail; may be empty.
    pub reason: String,
}

/// Revokes tokens, sessions, users and clients.
pub struct Revoker {
    /// Records revocations and publishes them.
    pub recorder: Arc<RevocationRecorder>,
    /// The durable record, for the era of sessions.
    pub store: Arc<dyn RevocationStore>,
    /// The live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The key ring that verifies presented access tokens.
    pub keys: Arc<Keys>,
    /// Reads presented refresh tokens.
    pub refresh_tokens: RefreshTokenCodec,
    /// Limits the calls of users on their own account.
    pub throttle: Arc<Throttle>,
    /// The audit trail.
    pub audit: AuditWriter,
    /// What a presented access token must meet.
    pub policy: Policy,
}

impl std::fmt::Debug for Revoker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revoker")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Revoker {
    /// Revokes; returns how many live sessions are known to have ended. An unknown or already revoked target and an
    /// unreadable token give 0.
    pub async fn revoke(&self, caller: &Caller, request: RevokeRequest) -> Result<u32> {
        let RevokeRequest { target, reason } = request;
        check_reason(&reason)?;
        let may_revoke_all = caller.has(CallerScope::Revoke);
        let may_be_own = !matches!(target, RevokeTarget::Client(_) | RevokeTarget::Everything);
        if let Some((user, session)) = caller.person().filter(|_| may_be_own && !may_revoke_all) {
            self.throttle.own_account_call(user, session).await?;
        }
        match target {
            RevokeTarget::Token(token) if token.is_empty() => Err(Error::invalid("token", "must not be empty")),
            RevokeTarget::Token(token) => self.revoke_token(caller, may_revoke_all, &token, &reason).await,
            RevokeTarget::Session(id) => {
                let id = SessionId::parse(&id, "session_id")?;
                self.revoke_session_by_id(caller, may_revoke_all, id, &reason).await
            }
            RevokeTarget::User { id, keep } => {
                let id = UserId::parse(&id, "user_id")?;
                let keep = if keep.is_empty() {
                    None
                } else {
                    Some(SessionId::parse(&keep, "keep_session_id")?)
                };
                let own = caller.person().is_some_and(|(user, _)| user == id);
                permit(caller, CallerScope::Revoke, may_revoke_all || own)?;
                let event = with_reason(self.audit.event(AuditType::UserRevoked, &id, caller), &reason);
                self.recorder
                    .revoke(Target::User { id, keep }, Expiry::LongestSession, event)
                    .await
            }
            RevokeTarget::Client(id) => {
                permit(caller, CallerScope::Revoke, may_revoke_all)?;
                let id = ClientId::parse(&id, "client_id")?;
                let event = self.audit.event(AuditType::ClientRevoked, &id, caller).with_client(&id);
                self.recorder
                    .revoke(Target::Client(id), Expiry::LongestSession, with_reason(event, &reason))
                    .await
            }
            RevokeTarget::Everything => {
                permit(caller, CallerScope::Keys, caller.has(CallerScope::Keys))?;
                let event = with_reason(self.audit.event(AuditType::EverythingRevoked, &"", caller), &reason);
                self.recorder
                    .revoke(Target::Global, Expiry::LongestSession, event)
                    .await
            }
        }
    }

    async fn revoke_token(
        &self,
        caller: &Caller,
        may_revoke_all: bool,
        token: &SecretText,
        reason: &str,
    ) -> Result<u32> {
        let person = caller.person();
        permit(caller, CallerScope::Revoke, may_revoke_all || person.is_some())?;
        let Some(token) = self.read(token.expose()).await? else {
            return Ok(0);
        };
        // A user cannot revoke the token of another user, nor learn whether it is one.
        let is_own = token
            .user
            .is_some_and(|user| person.is_some_and(|(own, _)| own == user));
        if !may_revoke_all && !is_own {
            return Ok(0);
        }
        if let (Target::Session(session), Some(user)) = (&token.target, token.user) {
            let session = *session;
            let event = self
                .audit
                .event(AuditType::SessionRevoked, &user, caller)
                .with_session(session)
                .with_client(&token.client);
            let subject = RevocationSubject::of_session(user, session, token.epochs.client_id, token.epochs.epochs);
            let ended = self
                .recorder
                .revoke_session_of_user(&subject, (user, session), token.expires, with_reason(event, reason))
                .await?;
            return Ok(u32::from(ended));
        }
        let event = self
            .audit
            .event(AuditType::TokenRevoked, &token.subject, caller)
            .with_client(&token.client);
        self.recorder
            .revoke(token.target, token.expires, with_reason(event, reason))
            .await
    }

    async fn revoke_session_by_id(
        &self,
        caller: &Caller,
        may_revoke_all: bool,
        id: SessionId,
        reason: &str,
    ) -> Result<u32> {
        let event = self
            .audit
            .event(AuditType::SessionRevoked, &id, caller)
            .with_session(id);
        let event = with_reason(event, reason);
        if may_revoke_all {
            // The user is not known, so the live session is not ended: its next use finds the revocation.
            return self
                .recorder
                .revoke(Target::Session(id), Expiry::LongestSession, event)
                .await;
        }
        // A user revokes their own sessions only; the store of sessions knows which those are.
        let (user, _) = caller.person().ok_or_else(|| caller.refusal(CallerScope::Revoke))?;
        let era = self.store.era().await?.0;
        let own = self.sessions.list(user, era).await?;
        if let Some(session) = own.iter().find(|session| session.id == id) {
            let subject = session.revocation_subject(user);
            let expires = Expiry::At(session.absolute_expires.plus(self.policy.leeway));
            self.recorder
                .revoke_session_of_user(&subject, (user, id), expires, event)
                .await?;
        }
        // Sessions revoked by their id are not counted.
        Ok(0)
    }

    /// What a genuine token of any age and generation can be revoked by; none if the token is not ours.
    async fn read(&self, token: &str) -> Result<Option<RevocableToken>> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        if token.starts_with(PREFIX) {
            return Ok(self.refresh_tokens.decode(token).await?.map(|token| RevocableToken {
                subject: token.user.to_string(),
                user: Some(token.user),
                target: Target::Session(token.session),
                epochs: TokenEpochs {
                    epochs: token.epochs,
                    client_id: token.client.clone(),
                },
                client: token.client,
                expires: Expiry::At(token.expires.plus(self.policy.leeway)),
            }));
        }
        let Ok(claims) = verify_any_age(token, self.keys.current().verifying(), &self.policy) else {
            return Ok(None);
        };
        let (target, expires) = if let Some(session) = claims.sid {
            (Target::Session(session), Expiry::LongestSession)
        } else {
            let expires = UnixMillis::from_secs(claims.exp).plus(self.policy.leeway);
            (Target::Token(claims.jti), Expiry::At(expires))
        };
        Ok(Some(RevocableToken {
            user: claims.sub.parse().ok(),
            target,
            epochs: claims.epo,
            client: claims.client_id,
            subject: claims.sub,
            expires,
        }))
    }
}

/// What a presented token can be revoked by.
struct RevocableToken {
    subject: String,
    user: Option<UserId>,
    /// The session of the token, or the token itself if it has none.
    target: Target,
    epochs: TokenEpochs,
    client: ClientId,
    expires: Expiry,
}

fn with_reason(event: AuditEvent, reason: &str) -> AuditEvent {
    if reason.is_empty() {
        event
    } else {
        event.with_detail("reason", reason)
    }
}

fn permit(caller: &Caller, scope: CallerScope, permitted: bool) -> Result<()> {
    if permitted { Ok(()) } else { Err(caller.refusal(scope)) }
}
