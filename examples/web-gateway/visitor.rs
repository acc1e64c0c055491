//! Who is there: from the cookies of a request to a person, renewing them on the way.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::gateway::cookie::{CookieNames, SetCookie};
use countersign::proto::Tokens;
use countersign::secret::SecretText;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tonic::{Code, Status};

use crate::Site;
use crate::forms::is_trusted;

/// Somebody who is logged in.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) access: SecretText,
}

/// Lets people through who are logged in; others are sent to log in.
pub(crate) async fn admit(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    if !is_trusted(&request) {
        return (StatusCode::FORBIDDEN, "this must come from our own page\n").into_response();
    }
    match recognise(&site, request.headers()).await {
        Ok((visitor, renewed)) => {
            request.extensions_mut().insert(visitor);
            // Before what the page itself sets, which counts more: it may just have logged out.
            let mut answer = next.run(request).await;
            let own: Vec<HeaderValue> = answer.headers().get_all(header::SET_COOKIE).iter().cloned().collect();
            answer.headers_mut().remove(header::SET_COOKIE);
            set(&mut answer, renewed.iter().flatten());
            for value in own {
                answer.headers_mut().append(header::SET_COOKIE, value);
            }
            answer
        }
        Err(status) if status.code() == Code::Unauthenticated => {
            let mut answer = match *request.method() {
                Method::GET => Redirect::to("/login").into_response(),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            };
            set(&mut answer, &site.cookies.clear());
            answer
        }
        // Nobody loses their cookies over an outage.
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment\n").into_response(),
    }
}

async fn recognise(site: &Site, headers: &HeaderMap) -> Result<(Visitor, Option<[SetCookie; 2]>), Status> {
    let out = || Status::unauthenticated("not logged in");
    let header = cookie_header(headers);
    let cookies = site.cookies.read(&header).map_err(|_| out())?;
    if let Some(access) = cookies.access()
        && let Some(visitor) = visitor(site, access).await?
    {
        return Ok((visitor, None));
    }
    let refresh = cookies.refresh().ok_or_else(out)?;
    let tokens = site.backend.refresh(refresh).await?;
    let visitor = visitor(site, &tokens.access_token).await?.ok_or_else(out)?;
    Ok((visitor, Some(write(&site.cookies, &tokens))))
}

async fn visitor(site: &Site, access: &str) -> Result<Option<Visitor>, Status> {
    let answer = site.backend.validate(access).await?;
    Ok(answer.claims.filter(|_| answer.active).map(|claims| Visitor {
        user: claims.subject,
        session: claims.session_id,
        access: SecretText::new(access),
    }))
}

/// The cookies that hold these tokens for as long as they are good.
pub(crate) fn write(names: &CookieNames, tokens: &Tokens) -> [SetCookie; 2] {
    let now = SystemClock::new().now();
    let left = |until: Option<prost_types::Timestamp>| {
        let until = until.map_or(now, |until| UnixMillis::from_secs(until.seconds));
        until.since(now).as_secs()
    };
    [
        names.set_access(
            &SecretText::new(tokens.access_token.clone()),
            left(tokens.access_expires_at),
        ),
        names.set_refresh(
            &SecretText::new(tokens.refresh_token.clone()),
            left(tokens.refresh_expires_at),
        ),
    ]
}

/// Adds cookies to an answer.
pub(crate) fn set<'a>(answer: &mut Response, cookies: impl IntoIterator<Item = &'a SetCookie>) {
    for cookie in cookies {
        if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
            value.set_sensitive(true);
            answer.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

/// All cookies of a request, as one header.
pub(crate) fn cookie_header(headers: &HeaderMap) -> String {
    let all = headers.get_all(header::COOKIE).iter();
    let all: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    all.join("; ")
}
