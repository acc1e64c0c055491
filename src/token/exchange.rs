//! Token exchange (RFC 8693): a service acts on behalf of the subject of a token that it received.

use std::sync::Arc;

use super::IssuedTokens;
use super::access_token::{AccessTokenInput, AccessTokenSigner, SubjectClaims};
use super::audit::AuditWriter;
use super::client_limits::ClientLimits;
use super::permissions::{allowed_audiences, may_use, not_allowed};
use super::validate::ServiceValidator;
use crate::attempts::AttemptLog;
use crate::clock::UnixMillis;
use crate::config::Tokens as TokenConfig;
use crate::keys::verified::VerifiedToken;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::scope::has_caller_prefix;
use crate::model::{Actor, AuditType, Caller, Claims, ClientId, Error, ErrorKind, Grant, Result};
use crate::secret::SecretText;
use crate::store::ClientStore;

/// The longest delegation chain, in actors.
const MAX_DEPTH: usize = 4;

/// A request to exchange a token.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// The client that acts; empty means the client of the actor token.
    pub client_id: String,
    /// The token of the subject on whose behalf the client acts.
    pub subject_token: SecretText,
    /// The own token of the client that acts, for `tokens.caller_audience`.
    pub actor_token: SecretText,
    /// The requested audiences; empty means the configured default.
    pub audience: Vec<String>,
    /// The requested scopes; empty means all that both tokens allow.
    pub scope: Vec<String>,
}

/// Exchanges tokens.
pub struct TokenExchanger {
    /// Clients with their grants.
    pub clients: Arc<dyn ClientStore>,
    /// Validates both presented tokens.
    pub validator: Arc<ServiceValidator>,
    /// Signs the new token.
    pub signer: Arc<AccessTokenSigner>,
    /// The audit trail.
    pub audit: AuditWriter,
    /// Counts tokens that one client gets often.
    pub attempts: Arc<AttemptLog>,
    /// The configured lifetimes and audiences.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for TokenExchanger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenExchanger")
    }
}

impl TokenExchanger {
    /// Issues a token with which the actor acts on behalf of the subject. It names both, allows no more than either token,
    /// lives no longer than either, and is revoked with either.
    pub async fn exchange(&self, caller: &Caller, request: ExchangeRequest) -> Result<IssuedTokens> {
        for (field, token) in [
            ("exchange.subject_token", &request.subject_token),
            ("exchange.actor_token", &request.actor_token),
        ] {
            if token.is_empty() {
                return Err(Error::invalid(field, "must not be empty"));
            }
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        let named = (!request.client_id.is_empty()).then(|| ClientId::parse(&request.client_id, "client_id"));
        let named = named.transpose()?;
        self.signer.check_skew()?;
        let subject = self.active(&request.subject_token).await?;
        let actor = self.active(&request.actor_token).await?;
        let (subject, actor) = (&subject.claims, &actor.claims);
        if !actor.is_machine() || named.is_some_and(|named| named != actor.client_id) {
            return Err(Error::from(ErrorKind::InvalidCredentials)
                .because("the actor token is not a machine token of the client"));
        }
        // Every service of another audience holds the client's tokens: none of them may act in its name.
        if !actor.aud.contains(&self.config.caller_audience) {
            return Err(
                Error::from(ErrorKind::InvalidCredentials).because("the actor token is not for tokens.caller_audience")
            );
        }
        let login = self.clients.machine_login(&actor.client_id).await?;
        let client = login.client.ok_or(ErrorKind::InvalidCredentials)?;
        may_use(&client, Grant::Exchange)?;
        if subject.actors().count() >= MAX_DEPTH {
            return Err(Error::invalid(
                "exchange.subject_token",
                "has been exchanged four times already",
            ));
        }

        let allowed = Allowed::scopes_of_machine(&client.scopes);
        let may = |name: &String| !has_caller_prefix(name) && subject.scope.contains(name) && allowed.allows(name);
        if let Some(refused) = scope.iter().position(|name| !may(name)) {
            return Err(not_allowed(ErrorKind::ScopeNotAllowed, "scope", refused));
        }
        let scope = if scope.is_empty() {
            subject.scope.iter().filter(|name| may(name)).cloned().collect()
        } else {
            scope
        };
        let audience = if audience.is_empty() {
            vec![self.config.default_audience.clone()]
        } else {
            audience
        };
        let allowed = allowed_audiences(&client, &self.config);
        if let Some(refused) = audience
            .iter()
            .position(|name| !(subject.aud.contains(name) && allowed.allows(name)))
        {
            return Err(not_allowed(ErrorKind::AudienceNotAllowed, "audience", refused));
        }

        let access = self
            .signer
            .sign(AccessTokenInput {
                sub: subject.sub.clone(),
                client: client.id.clone(),
                scope,
                audience,
                epochs: subject.epo.clone(),
                person: Some(SubjectClaims {
                    session: subject.sid,
                    auth_time: subject.auth_time,
                    roles: subject.roles.clone(),
                    ext: subject.ext.clone(),
                    username: subject.preferred_username.clone(),
                }),
                act: Some(Box::new(link(actor, subject))),
                root: if subject.sid.is_some() {
                    None
                } else {
                    subject.root.or(Some(subject.jti))
                },
                ttl: ClientLimits::of(&client, &self.config).access_ttl,
                expires_at_most: UnixMillis::from_secs(subject.exp.min(actor.exp)),
            })
            .await?;
        let mut event = self
            .audit
            .event(AuditType::TokenExchanged, &subject.sub, caller)
            .with_client(&client.id)
            .with_detail("actor", client.id.as_str());
        event.session_id = subject.sid;
        self.attempts.record_token(AuditType::TokenExchanged, event).await?;
        Ok(IssuedTokens { access, refresh: None })
    }

    /// The verified token, if it is active according to the durable record too.
    async fn active(&self, access_token: &SecretText) -> Result<Arc<VerifiedToken>> {
        let validation = self.validator.validate_strongly(access_token.expose()).await?;
        validation.token.map_err(|reason| {
            Error::from(ErrorKind::InvalidCredentials).because(format!("an exchanged token is not active: {reason:?}"))
        })
    }
}

/// The entry for `actor` in the chain of actors that `subject` has so far.
fn link(actor: &Claims, subject: &Claims) -> Actor {
    Actor {
        sub: actor.sub.clone(),
        client_id: actor.client_id.clone(),
        sid: actor.sid,
        jti: actor.sid.is_none().then_some(actor.jti),
        epo: actor.epo.clone(),
        act: subject.act.clone(),
    }
}
