//! The decision on a proxied request: which credential counts, whether it suffices for the route, and when cookies are
//! renewed.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{RenewSession, ValidateToken};
use super::cookie::{CookieNames, Cookies, SetCookie};
use super::credential::{PresentedCredential, Unusable};
use super::decision::{Admitted, Decision, Refusal, RefusalReason};
use super::identity::{AttributeHeader, IdentityHeaders};
use super::login::login_location;
use super::renewals::RenewalLimit;
use super::request::{ProxiedRequest, Route};
use super::requirements::{Requirements, session_over};
use super::verdicts;
use crate::clock::{Clock, UnixMillis};
use crate::keys::verified::VerifiedToken;
use crate::model::{ClientId, InactiveReason, Result, SessionContext};
use crate::secret::SecretText;
use crate::token::refresh_token::RefreshToken;
use crate::token::{IssuedTokens, RefreshRequest};

/// The configuration of a [`Gateway`].
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Names of the cookies that may carry tokens; `None` if cookies are not read.
    pub cookies: Option<CookieNames>,
    /// The only client whose tokens are accepted; `None` accepts the tokens of every client.
    pub client: Option<ClientId>,
    /// Audience demanded by routes that name none.
    pub audience: String,
    /// Scopes demanded by routes that name none.
    pub scopes: Vec<String>,
    /// The login page of routes that name none; `None` leaves refusals as they are.
    pub login: Option<String>,
    /// The attributes that services get in headers.
    pub attributes: Arc<[AttributeHeader]>,
    /// Whether the bearer token is removed from admitted requests.
    pub strip_token: bool,
}

/// Decides whether proxied requests are admitted.
#[derive(Debug)]
pub struct Gateway<V> {
    validator: Arc<V>,
    clock: Arc<dyn Clock>,
    config: GatewayConfig,
    renewals: RenewalLimit,
}

/// Gives the means to renew cookies; `None` if the caller may not have them renewed. It is called only when there are
/// cookies to renew.
pub type Renewer<'a, R> = &'a (dyn Fn() -> Option<R> + Sync);

/// The result for the presented credential, and the cookies to set in either case.
struct CheckOutcome {
    token: Result<Arc<VerifiedToken>, RefusalReason>,
    set_cookies: Vec<SetCookie>,
}

impl CheckOutcome {
    fn of(token: Result<Arc<VerifiedToken>, RefusalReason>) -> Self {
        Self {
            token,
            set_cookies: Vec::new(),
        }
    }

    fn with_cookies(self, set_cookies: Vec<SetCookie>) -> Self {
        Self { set_cookies, ..self }
    }
}

impl<V: ValidateToken> Gateway<V> {
    /// A gateway that admits requests with the tokens that `validator` finds active.
    #[must_use]
    pub fn new(validator: Arc<V>, clock: Arc<dyn Clock>, config: GatewayConfig) -> Self {
        verdicts::describe();
        Self {
            validator,
            clock,
            config,
            renewals: RenewalLimit::default(),
        }
    }

    /// Decides whether a request is admitted.
    ///
    /// # Errors
    /// If the decision cannot be made, for instance because a store is down. An error says nothing about the token.
    pub async fn check<R: RenewSession>(
        &self,
        request: &ProxiedRequest<'_>,
        route: Route<'_>,
        renewer: Renewer<'_, R>,
    ) -> Result<Decision> {
        let decided = self.decide(request, route, renewer).await;
        verdicts::count(&decided);
        decided
    }

    async fn decide<R: RenewSession>(
        &self,
        request: &ProxiedRequest<'_>,
        route: Route<'_>,
        renewer: Renewer<'_, R>,
    ) -> Result<Decision> {
        let requirements = Requirements::of(route, &self.config);
        let names = self.config.cookies.as_ref();
        let credential = PresentedCredential::find(request, names);
        let CheckOutcome { token, set_cookies } = match credential {
            PresentedCredential::Bearer(token) => {
                let validated = self.validate(token, &requirements).await?;
                CheckOutcome::of(validated.map_err(|reason| requirements.explain(reason)))
            }
            PresentedCredential::Cookies(cookies) => {
                self.check_cookies(request, cookies, &requirements, renewer).await?
            }
            PresentedCredential::Unusable(unusable) => {
                CheckOutcome::of(Err(unusable.reason())).with_cookies(unusable.cleared(request, names))
            }
        };
        let is_preflight =
            matches!(credential, PresentedCredential::Unusable(Unusable::Absent)) && request.is_preflight();
        let passes_without = is_preflight || requirements.optional && !credential.is_bearer();
        let token = match token {
            Ok(token) if requirements.are_met_by(&token) => Ok(Some(token)),
            Ok(_) => Err(RefusalReason::MissingRole),
            // A good credential that does not suffice is refused.
            Err(RefusalReason::MissingScope(scopes)) => Err(RefusalReason::MissingScope(scopes)),
            Err(_) if passes_without => Ok(None),
            Err(reason) => Err(reason),
        };
        Ok(match token {
            Ok(token) => Decision::Admitted(self.admitted(request, token, credential.is_bearer(), set_cookies)),
            Err(reason) => Decision::Refused(refusal(request, reason, &requirements, set_cookies)),
        })
    }

    /// The answer for a request that is refused already. It depends on the request alone: nothing is validated, and no
    /// session is renewed.
    #[must_use]
    pub fn refused(&self, request: &ProxiedRequest<'_>, route: Route<'_>) -> Refusal {
        let names = self.config.cookies.as_ref();
        let unusable = match PresentedCredential::find(request, names) {
            PresentedCredential::Unusable(unusable) => unusable,
            PresentedCredential::Bearer(_) | PresentedCredential::Cookies(_) => Unusable::Absent,
        };
        let cleared = unusable.cleared(request, names);
        refusal(
            request,
            RefusalReason::NoToken,
            &Requirements::of(route, &self.config),
            cleared,
        )
    }

    fn admitted(
        &self,
        request: &ProxiedRequest<'_>,
        token: Option<Arc<VerifiedToken>>,
        by_bearer: bool,
        set_cookies: Vec<SetCookie>,
    ) -> Admitted {
        let identity = IdentityHeaders {
            token,
            attributes: Arc::clone(&self.config.attributes),
        };
        let lookalikes = request.lookalikes().iter().filter(|name| !identity.sets(name));
        Admitted {
            strip_authorization: self.config.strip_token && by_bearer,
            cookie: self.cookie_for_upstream(request),
            lookalikes: lookalikes.map(ToString::to_string).collect(),
            identity,
            set_cookies,
        }
    }

    /// Whether cookies may carry tokens.
    #[must_use]
    pub fn reads_cookies(&self) -> bool {
        self.config.cookies.is_some()
    }

    /// The settings of a route, as `Check` names them, with the defaults of the configuration.
    #[must_use]
    pub fn settings(&self, route: Route<'_>) -> [(&'static str, String); 3] {
        let requirements = Requirements::of(route, &self.config);
        [
            ("audience", requirements.audience.to_owned()),
            ("scopes", requirements.scopes.join(" ")),
            ("login", requirements.login.to_owned()),
        ]
    }

    /// Whether the session of the request's refresh cookie may be renewed here, as far as its client is concerned. A request
    /// without such a cookie has no session of another client.
    #[must_use]
    pub fn may_renew(&self, request: &ProxiedRequest<'_>) -> bool {
        let names = self.config.cookies.as_ref();
        let cookies = names.and_then(|names| names.read(request.cookie()).ok());
        let refresh = cookies.and_then(|cookies| cookies.refresh());
        refresh.is_none_or(|refresh| self.is_of_accepted_client(refresh))
    }

    /// Whether a refresh token is of a client whose tokens are accepted. The token names its client, and its tag, which is
    /// checked before anything is renewed, covers that name. So a token of another client is refused before its session
    /// changes, and the agent, which has no keys for the tag, can refuse it too. Text that is no token belongs to no other
    /// client.
    fn is_of_accepted_client(&self, refresh_token: &str) -> bool {
        let Some(client) = &self.config.client else { return true };
        RefreshToken::unverified(refresh_token).is_none_or(|token| token.client == *client)
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Validates the access token in the cookies, and renews the cookies if it is no longer valid.
    async fn check_cookies<R: RenewSession>(
        &self,
        request: &ProxiedRequest<'_>,
        cookies: Cookies<'_>,
        requirements: &Requirements<'_>,
        renewer: Renewer<'_, R>,
    ) -> Result<CheckOutcome> {
        let reason = match cookies.access() {
            Some(access) => match self.validate(access, requirements).await? {
                Ok(token) => return Ok(CheckOutcome::of(Ok(token))),
                Err(reason) => reason,
            },
            // The browser deletes the cookie when the token expires.
            None => InactiveReason::Expired,
        };
        let refusal = requirements.explain(reason);
        let refresh = match reason {
            // The token is valid, and a new one would have the same audience and scopes.
            InactiveReason::WrongAudience | InactiveReason::InsufficientScope => {
                return Ok(CheckOutcome::of(Err(refusal)));
            }
            // The revocation of the token has ended its session too.
            InactiveReason::Revoked => None,
            InactiveReason::Malformed
            | InactiveReason::Unsupported
            | InactiveReason::WrongType
            | InactiveReason::UnknownKey
            | InactiveReason::RevokedKey
            | InactiveReason::BadSignature
            | InactiveReason::WrongIssuer
            | InactiveReason::NotYetValid
            | InactiveReason::Expired => cookies.refresh(),
        };
        let Some(refresh) = refresh else {
            return Ok(CheckOutcome::of(Err(refusal)).with_cookies(self.cleared_cookies()));
        };
        if !self.is_of_accepted_client(refresh) {
            // The cookies stay: the session goes on at its own client.
            let refusal = RefusalReason::BadToken("the session is not for this service");
            return Ok(CheckOutcome::of(Err(refusal)));
        }
        if requirements.streaming {
            return Ok(CheckOutcome::of(Err(refusal)));
        }
        let Some(renewal) = renewer() else {
            return Ok(CheckOutcome::of(Err(refusal)));
        };
        match self.renew(&renewal, refresh, request).await {
            Ok(issued) => {
                // The browser gets the new cookies even if this request is refused, because the old ones no longer
                // work.
                let validated = self.validate(issued.access.token.expose(), requirements).await?;
                let token = validated.map_err(|reason| requirements.explain(reason));
                Ok(CheckOutcome::of(token).with_cookies(self.renewed_cookies(&issued)))
            }
            Err(error) => match session_over(error.kind) {
                Some(description) => Ok(
                    CheckOutcome::of(Err(RefusalReason::BadToken(description))).with_cookies(self.cleared_cookies())
                ),
                None => Err(error),
            },
        }
    }

    /// Renews the session of a refresh cookie. A forged token takes no place of those for renewals in progress.
    async fn renew(
        &self,
        renewal: &impl RenewSession,
        refresh_token: &str,
        request: &ProxiedRequest<'_>,
    ) -> Result<IssuedTokens> {
        let refresh_token = SecretText::new(refresh_token);
        let user = renewal.verify(&refresh_token).await?;
        let _place = self.renewals.enter(user).await?;
        let refresh_request = RefreshRequest {
            refresh_token,
            audience: Vec::new(),
            scope: Vec::new(),
            // A browser keeps none. The requests of one page present the same token at once and get the same successor.
            attempt_id: String::new(),
            context: SessionContext {
                user_agent: request.user_agent().to_owned(),
                ip_address: request
                    .address()
                    .map_or_else(String::new, |address| address.to_string()),
                device_name: String::new(),
            },
        };
        Ok(renewal.renew(refresh_request).await?.issued)
    }

    async fn validate(
        &self,
        access_token: &str,
        requirements: &Requirements<'_>,
    ) -> Result<Result<Arc<VerifiedToken>, InactiveReason>> {
        let validation = self
            .validator
            .validate(access_token, requirements.audience, &requirements.scopes)
            .await?;
        Ok(validation.token.and_then(|token| match &self.config.client {
            Some(client) if token.claims.client_id != *client => Err(InactiveReason::WrongAudience),
            Some(_) | None => Ok(token),
        }))
    }

    /// The `Cookie` header without our cookies; `None` if there are none of ours in it.
    fn cookie_for_upstream(&self, request: &ProxiedRequest<'_>) -> Option<String> {
        let names = self.config.cookies.as_ref()?;
        names.without_ours(request.cookie()).map(Into::into)
    }

    fn renewed_cookies(&self, issued: &IssuedTokens) -> Vec<SetCookie> {
        let (Some(names), Some(refresh)) = (&self.config.cookies, &issued.refresh) else {
            return Vec::new();
        };
        let now = self.clock.now();
        vec![
            names.set_access(&issued.access.token, seconds(now, issued.access.expires)),
            names.set_refresh(&refresh.token, seconds(now, refresh.expires)),
        ]
    }

    fn cleared_cookies(&self) -> Vec<SetCookie> {
        let names = self.config.cookies.as_ref();
        names.map_or_else(Vec::new, |names| names.clear().into())
    }
}

fn refusal(
    request: &ProxiedRequest<'_>,
    reason: RefusalReason,
    requirements: &Requirements<'_>,
    set_cookies: Vec<SetCookie>,
) -> Refusal {
    let asks_to_log_in = matches!(reason, RefusalReason::NoToken | RefusalReason::BadToken(_));
    let redirects = asks_to_log_in && !requirements.login.is_empty() && request.is_navigation();
    Refusal {
        reason,
        realm: requirements.audience.to_owned(),
        location: redirects.then(|| login_location(requirements.login, request)).flatten(),
        set_cookies,
    }
}

fn seconds(now: UnixMillis, then: UnixMillis) -> u64 {
    let left: Duration = then.since(now);
    left.as_secs()
}
