//! Authentication of requests: finds the user by the cookies, and refreshes the tokens if needed.

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

/// A logged-in user.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) access: SecretText,
}

/// Middleware that passes requests of logged-in users on, and redirects others to the login page.
pub(crate) async fn admit(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    if !is_trusted(&request) {
        return (
            StatusCode::FORBIDDEN,
            "this request must come from a page of this site\n",
        )
            .into_response();
    }
    match authenticate(&site, request.headers()).await {
        Ok((visitor, renewed)) => {
            request.extensions_mut().insert(visitor);
            // The cookies of the page come last, so that they win: the page may have logged the user out.
            let mut response = next.run(request).await;
            let page_cookies: Vec<HeaderValue> =
                response.headers().get_all(header::SET_COOKIE).iter().cloned().collect();
            response.headers_mut().remove(header::SET_COOKIE);
            set(&mut response, renewed.iter().flatten());
            for value in page_cookies {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
            response
        }
        Err(status) if status.code() == Code::Unauthenticated => {
            let mut response = match *request.method() {
                Method::GET => Redirect::to("/login").into_response(),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            };
            set(&mut response, &site.cookies.clear());
            response
        }
        // An outage must not remove the cookies.
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment\n").into_response(),
    }
}

async fn authenticate(site: &Site, headers: &HeaderMap) -> Result<(Visitor, Option<[SetCookie; 2]>), Status> {
    let not_logged_in = || Status::unauthenticated("not logged in");
    let header = cookie_header(headers);
    let cookies = site.cookies.read(&header).map_err(|_| not_logged_in())?;
    if let Some(access) = cookies.access()
        && let Some(visitor) = visitor(site, access).await?
    {
        return Ok((visitor, None));
    }
    let refresh = cookies.refresh().ok_or_else(not_logged_in)?;
    let tokens = site.backend.refresh(refresh).await?;
    let visitor = visitor(site, &tokens.access_token).await?.ok_or_else(not_logged_in)?;
    Ok((visitor, Some(write(&site.cookies, &tokens))))
}

async fn visitor(site: &Site, access: &str) -> Result<Option<Visitor>, Status> {
    let response = site.backend.validate(access).await?;
    Ok(response.claims.filter(|_| response.active).map(|claims| Visitor {
        user: claims.subject,
        session: claims.session_id,
        access: SecretText::new(access),
    }))
}

/// The cookies for these tokens, which expire with them.
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

/// Adds cookies to a response.
pub(crate) fn set<'a>(response: &mut Response, cookies: impl IntoIterator<Item = &'a SetCookie>) {
    for cookie in cookies {
        if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
            value.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

/// All cookies of a request, in one header value.
pub(crate) fn cookie_header(headers: &HeaderMap) -> String {
    let all = headers.get_all(header::COOKIE).iter();
    let all: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    all.join("; ")
}
