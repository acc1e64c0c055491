//! Revoke: the durable record first (that is the acknowledgement), then the live session, then the announcement.
//!
//! A crash after the record leaves the revocation in force: Refresh asks the record, and every replica reconciles with
//! it. Nothing after the record can fail the call.

use tracing::Instrument as _;

use super::Tokens;
use super::refresh_token::PREFIX;
use crate::clock::UnixMillis;
use crate::keys::verify::genuine;
use crate::model::revocation::RevocationSubject;
use crate::model::scope::CallerScope;
use crate::model::text::check_reason;
use crate::model::{
    AuditEvent, AuditType, Caller, Claims, ClientId, Error, Result, SessionId, Target, TokenEpochs, UserId,
};
use crate::secret::SecretText;
use crate::store::{Expiry, NewRevocation, Recorded, SessionStore};

/// The longest token that is looked at.
const MAX_TOKEN: usize = 4096;

/// What to revoke.
#[derive(Debug)]
pub enum RevokeTarget {
    /// A refresh or access token: ends its session; a machine's token itself.
    Token(SecretText),
    /// One session.
    Session(String),
    /// A user's sessions, except one if it is named.
    User {
        /// Whose.
        id: String,
        /// The session that lives on; may be empty.
        keep: String,
    },
    /// Everything at a client.
    Client(String),
    /// Everything.
    Everything,
}

/// A revocation asked for.
#[derive(Debug)]
pub struct RevokeRequest {
    /// What.
    pub target: RevokeTarget,
    /// For the audit trail; may be empty.
    pub reason: String,
}

impl Tokens {
    /// Revokes; how many live sessions are known to have ended. Something unknown, already revoked or garbage is 0.
    pub async fn revoke(&self, caller: &Caller, request: RevokeRequest) -> Result<u32> {
        let RevokeRequest { target, reason } = request;
        check_reason(&reason)?;
        let all = caller.has(CallerScope::Revoke);
        match target {
            RevokeTarget::Token(token) if token.is_empty() => Err(Error::invalid("token", "must not be empty")),
            RevokeTarget::Token(token) => self.revoke_token(caller, all, &token, &reason).await,
            RevokeTarget::Session(id) => {
                let id = SessionId::parse(&id, "session_id")?;
                self.revoke_session(caller, all, id, &reason).await
            }
            RevokeTarget::User { id, keep } => {
                let id = UserId::parse(&id, "user_id")?;
                let keep = if keep.is_empty() {
                    None
                } else {
                    Some(SessionId::parse(&keep, "keep_session_id")?)
                };
                let own = caller.person().is_some_and(|(user, _)| user == id);
                permit(caller, all || own)?;
                let event = with_reason(self.event(AuditType::UserRevoked, &id, caller), &reason);
                self.record_and_spread(Target::User { id, keep }, Expiry::LongestSession, event)
                    .await
            }
            RevokeTarget::Client(id) => {
                permit(caller, all)?;
                let id = ClientId::parse(&id, "client_id")?;
                let event = with_reason(
                    self.event(AuditType::ClientRevoked, &id, caller).with_client(&id),
                    &reason,
                );
                self.record_and_spread(Target::Client(id), Expiry::LongestSession, event)
                    .await
            }
            RevokeTarget::Everything => {
                permit(caller, caller.has(CallerScope::Keys))?;
                let event = with_reason(self.event(AuditType::EverythingRevoked, &"", caller), &reason);
                self.record_and_spread(Target::Global, Expiry::LongestSession, event)
                    .await
            }
        }
    }

    async fn revoke_token(&self, caller: &Caller, all: bool, token: &SecretText, reason: &str) -> Result<u32> {
        let person = caller.person();
        permit(caller, all || person.is_some())?;
        let token = token.expose();
        let Some(held) = self.held(token).await? else {
            return Ok(0);
        };
        // Somebody else's token is, to a person, garbage.
        if !all && held.user.is_none_or(|user| person.is_none_or(|(own, _)| own != user)) {
            return Ok(0);
        }
        let event = match (&held.session, held.user) {
            (Some(session), Some(user)) => self
                .event(AuditType::SessionRevoked, &user, caller)
                .with_session(*session),
            _ => self.event(AuditType::TokenRevoked, &held.subject, caller),
        };
        let event = with_reason(event.with_client(&held.client), reason);
        match (held.session, held.user) {
            (Some(session), Some(user)) => {
                let revocation_subject =
                    RevocationSubject::of_session(user, session, held.standing.client_id, held.standing.epochs);
                let dead = self.feed.index().kills(&revocation_subject);
                let recorded = self.record(Target::Session(session), held.expires, event).await?;
                let ended = end_live(&*self.sessions, user, session).await;
                self.spread(&recorded).await;
                // What another revocation had killed may have left its record behind.
                Ok(u32::from(ended && recorded.new && !dead))
            }
            (Some(session), None) => {
                self.record_and_spread(Target::Session(session), held.expires, event)
                    .await
            }
            (None, _) => {
                self.record_and_spread(Target::Token(held.token), held.expires, event)
                    .await
            }
        }
    }

    async fn revoke_session(&self, caller: &Caller, all: bool, id: SessionId, reason: &str) -> Result<u32> {
        let subject = caller.person().map(|(user, _)| user);
        if !all {
            // A person names their own sessions only: whether it is theirs, the store of sessions knows.
            let user = subject.ok_or_else(|| caller.refusal())?;
            let era = self.durable.era().await?.0;
            if !self
                .sessions
                .list(user, era)
                .await?
                .iter()
                .any(|session| session.id == id)
            {
                return Ok(0);
            }
        }
        let event = self.event(AuditType::SessionRevoked, &id, caller).with_session(id);
        self.record_and_spread(Target::Session(id), Expiry::LongestSession, with_reason(event, reason))
            .await
    }

    /// What a genuine token of any age and generation stands for; none if we did not make it.
    async fn held(&self, token: &str) -> Result<Option<RevocableToken>> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        if token.starts_with(PREFIX) {
            return Ok(self.read_refresh_token(token).await?.map(|token| RevocableToken {
                subject: token.user.to_string(),
                user: Some(token.user),
                session: Some(token.session),
                token: crate::model::TokenId(uuid::Uuid::nil()),
                standing: TokenEpochs {
                    epochs: token.epochs,
                    client_id: token.client.clone(),
                },
                client: token.client,
                expires: Expiry::At(token.expires.plus(self.config.leeway)),
            }));
        }
        let Ok(verified) = genuine(token, self.keys.current().verifying(), &self.policy) else {
            return Ok(None);
        };
        let claims: Claims = verified.claims;
        let expires = match claims.sid {
            Some(_) => Expiry::LongestSession,
            None => Expiry::At(UnixMillis::from_secs(claims.exp).plus(self.config.leeway)),
        };
        Ok(Some(RevocableToken {
            user: claims.sub.parse().ok(),
            session: claims.sid,
            token: claims.jti,
            standing: claims.epo,
            client: claims.client_id,
            subject: claims.sub,
            expires,
        }))
    }

    /// Records a revocation in a task of its own, so that a cancelled call does not leave it half done; the answer waits.
    async fn record(&self, target: Target, expires: Expiry, event: AuditEvent) -> Result<Recorded> {
        let (durable, feed) = (self.durable.clone(), self.feed.clone());
        let record = async move {
            let recorded = durable.revoke(&NewRevocation { target, expires }, &event).await?;
            if let Some(revocation) = &recorded.revocation {
                feed.note(revocation);
            }
            Ok(recorded)
        };
        let task = tokio::spawn(record.in_current_span());
        task.await.map_err(Error::internal)?
    }

    async fn record_and_spread(&self, target: Target, expires: Expiry, event: AuditEvent) -> Result<u32> {
        let recorded = self.record(target, expires, event).await?;
        Ok(if recorded.new { self.spread(&recorded).await } else { 0 })
    }

    async fn spread(&self, recorded: &Recorded) -> u32 {
        match &recorded.revocation {
            Some(revocation) => self.publisher.spread(revocation).await,
            None => 0,
        }
    }

    /// Makes the end of a session durable: used by reuse and eviction.
    pub(super) async fn record_session_end(
        &self,
        session: SessionId,
        expires: UnixMillis,
        event: &AuditEvent,
    ) -> Result<Recorded> {
        // Its last access token may be good for the leeway longer.
        let expires = Expiry::At(expires.plus(self.config.leeway));
        let recorded = self.record(Target::Session(session), expires, event.clone()).await?;
        self.spread(&recorded).await;
        Ok(recorded)
    }

    pub(super) async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        expires: UnixMillis,
        event: &AuditEvent,
    ) -> Result<()> {
        self.record_session_end(session, expires, event).await?;
        end_live(&*self.sessions, user, session).await;
        Ok(())
    }
}

/// What a presented token stands for.
struct RevocableToken {
    subject: String,
    user: Option<UserId>,
    session: Option<SessionId>,
    token: crate::model::TokenId,
    standing: TokenEpochs,
    client: ClientId,
    expires: Expiry,
}

async fn end_live(sessions: &dyn SessionStore, user: UserId, session: SessionId) -> bool {
    sessions.end(user, session).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a live session is left to its next use");
        false
    })
}

fn with_reason(event: AuditEvent, reason: &str) -> AuditEvent {
    if reason.is_empty() {
        event
    } else {
        event.with_detail("reason", reason)
    }
}

fn permit(caller: &Caller, may: bool) -> Result<()> {
    if may { Ok(()) } else { Err(caller.refusal().into()) }
}
