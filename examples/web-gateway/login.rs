//! Registering and logging in.
//!
//! Whoever logs in has no session yet that could protect the form, and another site could log them in under *its* name,
//! to be told later what they did (login CSRF). So the form carries a token that a cookie of this browser holds too.

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

/// Holds the token of the form, before there is a session.
const PRE_SESSION: &str = "__Host-web_pre";
/// Long enough to think of a password, in seconds.
const PATIENCE: u32 = 1800;

pub(crate) async fn register(State(site): State<Arc<Site>>, headers: HeaderMap, body: Bytes) -> Response {
    let fields = Form::of(&body);
    if !is_our_form(&headers, &fields) {
        return form("/register", "The form was too old. Please try again.");
    }
    let (username, password) = (fields.field("username"), fields.field("password"));
    match site.backend.register(username, password).await {
        Ok(()) => Redirect::to("/login").into_response(),
        Err(status) => form("/register", why(&status)),
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
            let mut answer = Redirect::to("/profile").into_response();
            set(&mut answer, &write(&site.cookies, &tokens));
            set_pre_session(&mut answer, "", 0);
            answer
        }
        Err(status) => form("/login", why(&status)),
    }
}

/// A form with a fresh token.
pub(crate) fn form(action: &str, complaint: &str) -> Response {
    let token = random::<16>(&SystemEntropy)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            use std::fmt::Write as _;
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    let status = if complaint.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let mut answer = (status, Html(pages::form(action, &token, complaint))).into_response();
    set_pre_session(&mut answer, &token, PATIENCE);
    answer
}

fn set_pre_session(answer: &mut Response, token: &str, seconds: u32) {
    let text = format!("{PRE_SESSION}={token}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    if let Ok(value) = HeaderValue::try_from(text) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Whether the form's token is the one of this browser's cookie.
fn is_our_form(headers: &HeaderMap, fields: &Form) -> bool {
    let cookies = cookie_header(headers);
    let held = cookies
        .split(';')
        .filter_map(|pair| pair.trim().strip_prefix(PRE_SESSION)?.strip_prefix('='));
    // One alone: a second one was planted.
    let held: Vec<&str> = held.collect();
    let [held] = held.as_slice() else { return false };
    !held.is_empty() && same(held.as_bytes(), fields.field("token").as_bytes())
}

fn why(status: &Status) -> &'static str {
    const TOLD: [(Code, &str); 5] = [
        (Code::Unauthenticated, "Wrong name or password."),
        (Code::AlreadyExists, "That name is taken."),
        (
            Code::InvalidArgument,
            "That name or password will not do: 15 characters or more for the password.",
        ),
        (Code::ResourceExhausted, "Too many attempts. Please wait a minute."),
        (Code::PermissionDenied, "Registration is closed."),
    ];
    let told = TOLD.iter().find(|(code, _)| *code == status.code());
    told.map_or("Something is down. Please try again in a moment.", |(_, text)| text)
}
