//! Registration and login.
//!
//! A login form is not protected by a session yet: another site could submit it with its own account, and later read there
//! what the user did (login CSRF). Therefore the form contains a token that a cookie of this browser holds too.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign::secret::{SystemEntropy, random, same};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tonic::{Code, Status};

use crate::forms::{Form, text};
use crate::visitor::{cookie_header, set, write};
use crate::{Site, pages};

/// The cookie that holds the token of the form.
const FORM_COOKIE: &str = "__Host-web_pre";
/// How long a form can be submitted, in seconds.
const FORM_TTL: u32 = 1800;

pub(crate) async fn register(State(site): State<Arc<Site>>, headers: HeaderMap, body: Bytes) -> Response {
    let fields = Form::of(&body);
    if !is_our_form(&headers, &fields) {
        return form("/register", "The form was too old. Please try again.");
    }
    let (username, password) = (fields.field("username"), fields.field("password"));
    match site.backend.register(username, password).await {
        Ok(()) => Redirect::to("/login").into_response(),
        Err(status) => form("/register", error_message(&status)),
    }
}

pub(crate) async fn log_in(State(site): State<Arc<Site>>, headers: HeaderMap, body: Bytes) -> Response {
    let fields = Form::of(&body);
    if !is_our_form(&headers, &fields) {
        return form("/login", "The form was too old. Please try again.");
    }
    let (username, password) = (fields.field("username"), fields.field("password"));
    let user_agent = text(&headers, "user-agent").unwrap_or_default();
    match site.backend.log_in(username, password, user_agent).await {
        Ok(tokens) => {
            let mut response = Redirect::to("/profile").into_response();
            set(&mut response, &write(&site.cookies, &tokens));
            set_form_cookie(&mut response, "", 0);
            response
        }
        Err(status) => form("/login", error_message(&status)),
    }
}

/// A form with a new token, and an error message unless `error` is empty.
pub(crate) fn form(action: &str, error: &str) -> Response {
    let token = format!("{:032x}", u128::from_be_bytes(random(&SystemEntropy)));
    let status = if error.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let mut response = (status, Html(pages::form(action, &token, error))).into_response();
    set_form_cookie(&mut response, &token, FORM_TTL);
    response
}

fn set_form_cookie(response: &mut Response, token: &str, seconds: u32) {
    let text = format!("{FORM_COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Whether the token of the form equals the one in the cookie of this browser.
fn is_our_form(headers: &HeaderMap, fields: &Form) -> bool {
    let cookies = cookie_header(headers);
    let tokens = cookies
        .split(';')
        .filter_map(|pair| pair.trim().strip_prefix(FORM_COOKIE)?.strip_prefix('='));
    // If there are several, another site may have set one of them: accept none.
    let tokens: Vec<&str> = tokens.collect();
    let [tokens] = tokens.as_slice() else { return false };
    !tokens.is_empty() && same(tokens.as_bytes(), fields.field("token").as_bytes())
}

/// The error message for a user.
fn error_message(status: &Status) -> &'static str {
    const MESSAGES: [(Code, &str); 5] = [
        (Code::Unauthenticated, "Wrong name or password."),
        (Code::AlreadyExists, "That name is taken."),
        (
            Code::InvalidArgument,
            "This name or password is not accepted. The password must have at least 15 characters.",
        ),
        (Code::ResourceExhausted, "Too many attempts. Please wait a minute."),
        (Code::PermissionDenied, "Registration is closed."),
    ];
    let message = MESSAGES.iter().find(|(code, _)| *code == status.code());
    message.map_or("Something is down. Please try again in a moment.", |(_, text)| text)
}
