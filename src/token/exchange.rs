//! Exchange (RFC 8693): a service acts for somebody whose token it was sent.

use super::Tokens;
use super::allowed::{may_use, not_allowed};
use super::mint::{AccessTokenInput, IssuedTokens, SubjectClaims};
use super::validate::ValidateRequest;
use crate::clock::UnixMillis;
use crate::keys::cache::Known;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::scope::has_caller_prefix;
use crate::model::{Actor, AuditType, Caller, Claims, ClientId, Error, ErrorKind, Grant, Result};
use crate::secret::SecretText;
use std::sync::Arc;

/// The most links of a delegation chain.
const MAX_DEPTH: usize = 4;

/// A token to be exchanged.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// Who acts; empty means the actor token's own client.
    pub client_id: String,
    /// The token of whom it acts for.
    pub subject_token: SecretText,
    /// Its own machine token.
    pub actor_token: SecretText,
    /// Asked for; empty means the configuration's.
    pub audience: Vec<String>,
    /// Asked for; empty means all that both sides allow.
    pub scope: Vec<String>,
}

impl Tokens {
    /// Issues a token with which the actor acts for the subject. It says who stands behind it, reaches no further than
    /// either side, lives no longer than either token, and dies with each of them.
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
        self.check_skew()?;
        let subject = self.active(&request.subject_token).await?;
        let actor = self.active(&request.actor_token).await?;
        let (subject, actor) = (&subject.claims, &actor.claims);
        if !actor.is_machine() || named.is_some_and(|named| named != actor.client_id) {
            return Err(Error::from(ErrorKind::InvalidCredentials)
                .because("the actor token is not a machine token of the client"));
        }
        let login = self.durable.machine_login(&actor.client_id).await?;
        let client = login.client.ok_or(ErrorKind::InvalidCredentials)?;
        may_use(&client, Grant::Exchange)?;
        if subject.actors().count() >= MAX_DEPTH {
            return Err(Error::invalid(
                "exchange.subject_token",
                "has been exchanged four times already",
            ));
        }

        let mine = Allowed::scopes_of_machine(&client.scopes);
        let may = |name: &String| !has_caller_prefix(name) && subject.scope.contains(name) && mine.allows(name);
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
        let mine = self.audiences(&client);
        if let Some(refused) = audience
            .iter()
            .position(|name| !(subject.aud.contains(name) && mine.allows(name)))
        {
            return Err(not_allowed(ErrorKind::AudienceNotAllowed, "audience", refused));
        }

        let access = self
            .mint(AccessTokenInput {
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
                }),
                act: Some(Box::new(link(actor, subject))),
                root: if subject.sid.is_some() {
                    None
                } else {
                    subject.root.or(Some(subject.jti))
                },
                ttl: self.config.access_ttl(&client),
                ceiling: UnixMillis::from_secs(subject.exp.min(actor.exp)),
            })
            .await?;
        let mut event = self
            .event(AuditType::TokenExchanged, &subject.sub, caller)
            .with_client(&client.id)
            .with_detail("actor", client.id.as_str());
        event.session_id = subject.sid;
        self.durable.append_audit(&event).await?;
        Ok(IssuedTokens { access, refresh: None })
    }

    /// A token that the durable record itself says is good.
    async fn active(&self, token: &SecretText) -> Result<Arc<Known>> {
        let request = ValidateRequest {
            token: token.expose(),
            audience: "",
            required_scopes: &[],
            strong: true,
            asked: self.clock.monotonic(),
        };
        self.validate(request).await?.verdict.map_err(|reason| {
            Error::from(ErrorKind::InvalidCredentials).because(format!("an exchanged token is not active: {reason:?}"))
        })
    }
}

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
