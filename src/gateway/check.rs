//! The rule: which credential counts, whether it is good for the route, and when cookies are renewed.

use std::sync::Arc;
use std::time::Duration;

use super::cookie::{CookieNames, Cookies, SetCookie};
use super::decision::{Admitted, Decision, Refusal, RefusalReason};
use super::judge::{Judge, Renews};
use super::request::{Bearer, ProxiedRequest, Route};
use crate::clock::{Clock, UnixMillis};
use crate::keys::cache::Known;
use crate::model::{ClientId, ErrorKind, InactiveReason, Result, SessionContext};
use crate::secret::SecretText;
use crate::token::{IssuedTokens, RefreshRequest};

/// What the gateway lets through.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where tokens may come in cookies: their names.
    pub cookies: Option<CookieNames>,
    /// The one client whose tokens pass; none: any.
    pub client: Option<ClientId>,
    /// The audience of routes that name none.
    pub audience: String,
    /// The scopes of routes that name none.
    pub scopes: Vec<String>,
    /// Whether the token stays out of the request that goes on.
    pub strip_token: bool,
}

/// The rule.
#[derive(Debug)]
pub struct Gateway<J> {
    judge: Arc<J>,
    clock: Arc<dyn Clock>,
    config: GatewayConfig,
}

/// Who renews cookies, if the caller may have that done; asked only when there is something to renew. An error, such as
/// `OVERLOADED`, is the answer.
pub type Renewer<'a, R> = &'a (dyn Fn() -> Result<Option<R>> + Sync);

/// What the route wants, defaults filled in.
struct Requirements<'a> {
    audience: &'a str,
    scopes: Vec<String>,
    streaming: bool,
}

/// The token that a request stands on.
enum PresentedCredential<'a> {
    Bearer(&'a str),
    Cookies(Cookies<'a>),
}

/// What came of it.
struct CheckOutcome {
    judged: Result<Arc<Known>, RefusalReason>,
    set_cookies: Vec<SetCookie>,
}

impl CheckOutcome {
    fn of(judged: Result<Arc<Known>, RefusalReason>) -> Self {
        Self {
            judged,
            set_cookies: Vec::new(),
        }
    }

    fn with(self, set_cookies: Vec<SetCookie>) -> Self {
        Self { set_cookies, ..self }
    }
}

impl<J: Judge> Gateway<J> {
    /// The rule over what this judges.
    #[must_use]
    pub fn new(judge: Arc<J>, clock: Arc<dyn Clock>, config: GatewayConfig) -> Self {
        Self { judge, clock, config }
    }

    /// Whether a request may pass. An error means that this cannot be told, and is never an answer about the token.
    pub async fn check<R: Renews>(
        &self,
        asked: &ProxiedRequest<'_>,
        route: Route<'_>,
        renewer: Renewer<'_, R>,
    ) -> Result<Decision> {
        let requirements = self.requirements(route);
        let CheckOutcome { judged, set_cookies } = match self.find(asked) {
            Ok(PresentedCredential::Bearer(token)) => {
                let judged = self.judge(token, &requirements).await?;
                CheckOutcome::of(judged.map_err(|reason| explain(reason, &requirements)))
            }
            Ok(PresentedCredential::Cookies(cookies)) => {
                self.by_cookies(asked, cookies, &requirements, renewer).await?
            }
            Err(why) => CheckOutcome::of(Err(why)),
        };
        Ok(match judged {
            Ok(known) => Decision::Admitted(self.admit(asked, known, set_cookies)),
            Err(why) => Decision::Refused(Refusal {
                reason: why,
                realm: requirements.audience.to_owned(),
                set_cookies,
            }),
        })
    }

    /// Whether tokens may come in cookies.
    #[must_use]
    pub fn reads_cookies(&self) -> bool {
        self.config.cookies.is_some()
    }

    /// What is wanted of a token on this route, defaults filled in: its audience, and its scopes with spaces between.
    #[must_use]
    pub fn wants(&self, route: Route<'_>) -> (String, String) {
        let requirements = self.requirements(route);
        (requirements.audience.to_owned(), requirements.scopes.join(" "))
    }

    /// What it lets through.
    #[must_use]
    pub const fn config(&self) -> &GatewayConfig {
        &self.config
    }

    fn requirements<'a>(&'a self, route: Route<'a>) -> Requirements<'a> {
        let scopes: Vec<String> = route.scopes.split_ascii_whitespace().map(str::to_owned).collect();
        Requirements {
            audience: if route.audience.is_empty() {
                &self.config.audience
            } else {
                route.audience
            },
            scopes: if scopes.is_empty() {
                self.config.scopes.clone()
            } else {
                scopes
            },
            streaming: route.streaming,
        }
    }

    /// The credential that counts: a bearer token, else our cookies. A bad bearer token is not made good by a cookie.
    fn find<'a>(&self, asked: &'a ProxiedRequest<'_>) -> Result<PresentedCredential<'a>, RefusalReason> {
        match asked.bearer() {
            Bearer::Token(token) => return Ok(PresentedCredential::Bearer(token)),
            Bearer::Broken => return Err(RefusalReason::BadToken("authorization must hold one access token")),
            Bearer::None => {}
        }
        let names = self.config.cookies.as_ref().ok_or(RefusalReason::NoToken)?;
        let cookies = names
            .read(asked.cookie())
            .map_err(|_| RefusalReason::BadToken("a cookie was given more than once"))?;
        if cookies.access().or(cookies.refresh()).is_none() {
            return Err(RefusalReason::NoToken);
        }
        if !asked.origin().is_trusted() {
            return Err(RefusalReason::CrossSite);
        }
        Ok(PresentedCredential::Cookies(cookies))
    }

    async fn by_cookies<R: Renews>(
        &self,
        asked: &ProxiedRequest<'_>,
        cookies: Cookies<'_>,
        requirements: &Requirements<'_>,
        renewer: Renewer<'_, R>,
    ) -> Result<CheckOutcome> {
        let reason = match cookies.access() {
            Some(access) => match self.judge(access, requirements).await? {
                Ok(known) => return Ok(CheckOutcome::of(Ok(known))),
                Err(reason) => reason,
            },
            None => InactiveReason::Expired, // and the browser has forgotten it
        };
        let why = explain(reason, requirements);
        let refresh = match reason {
            // The token is good, and another would say the same.
            InactiveReason::WrongAudience | InactiveReason::InsufficientScope => return Ok(CheckOutcome::of(Err(why))),
            // What ended the token ended its session.
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
            return Ok(CheckOutcome::of(Err(why)).with(self.forget()));
        };
        if requirements.streaming {
            return Ok(CheckOutcome::of(Err(why)));
        }
        let Some(renewal) = renewer()? else {
            return Ok(CheckOutcome::of(Err(why)));
        };
        let request = RefreshRequest {
            refresh_token: SecretText::new(refresh),
            audience: Vec::new(),
            scope: Vec::new(),
            attempt_id: String::new(),
            context: SessionContext {
                user_agent: asked.user_agent().to_owned(),
                ip_address: asked.address().to_owned(),
                device_name: String::new(),
            },
            by_cookie: true,
        };
        match renewal.renew(request).await {
            Ok(refreshed) => {
                // The browser gets what was made for it whatever becomes of this request: it has nothing else now.
                let judged = self.judge(refreshed.issued.access.token.expose(), requirements).await?;
                let judged = judged.map_err(|reason| explain(reason, requirements));
                Ok(CheckOutcome::of(judged).with(self.remember(&refreshed.issued)))
            }
            Err(error) => match over(error.kind) {
                Some(description) => {
                    Ok(CheckOutcome::of(Err(RefusalReason::BadToken(description))).with(self.forget()))
                }
                None => Err(error),
            },
        }
    }

    async fn judge(&self, token: &str, requirements: &Requirements<'_>) -> Result<Result<Arc<Known>, InactiveReason>> {
        let known = self
            .judge
            .judge(token, requirements.audience, &requirements.scopes)
            .await?;
        Ok(known.and_then(|known| match &self.config.client {
            Some(client) if known.claims.client_id != *client => Err(InactiveReason::WrongAudience),
            Some(_) | None => Ok(known),
        }))
    }

    fn admit(&self, asked: &ProxiedRequest<'_>, known: Arc<Known>, set_cookies: Vec<SetCookie>) -> Admitted {
        let names = self.config.cookies.as_ref();
        Admitted {
            known,
            cookie: names.and_then(|names| names.without_ours(asked.cookie()).map(Into::into)),
            strip_authorization: self.config.strip_token && !matches!(asked.bearer(), Bearer::None),
            lookalikes: asked.lookalikes().iter().map(ToString::to_string).collect(),
            set_cookies,
        }
    }

    fn remember(&self, issued: &IssuedTokens) -> Vec<SetCookie> {
        let (Some(names), Some(refresh)) = (&self.config.cookies, &issued.refresh) else {
            return Vec::new();
        };
        let now = self.clock.now();
        vec![
            names.set_access(&issued.access.token, seconds(now, issued.access.expires)),
            names.set_refresh(&refresh.token, seconds(now, refresh.expires)),
        ]
    }

    fn forget(&self) -> Vec<SetCookie> {
        let names = self.config.cookies.as_ref();
        names.map_or_else(Vec::new, |names| names.clear().into())
    }
}

/// What is told of a token that is not active.
fn explain(reason: InactiveReason, requirements: &Requirements<'_>) -> RefusalReason {
    match reason {
        InactiveReason::InsufficientScope => RefusalReason::MissingScope(requirements.scopes.clone()),
        InactiveReason::Expired => RefusalReason::BadToken("the access token expired"),
        InactiveReason::Revoked | InactiveReason::RevokedKey => RefusalReason::BadToken("the access token was revoked"),
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

fn seconds(now: UnixMillis, then: UnixMillis) -> u64 {
    let left: Duration = then.since(now);
    left.as_secs()
}

/// What is told of a session that is over; none if that is not what the error says.
fn over(kind: ErrorKind) -> Option<&'static str> {
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
