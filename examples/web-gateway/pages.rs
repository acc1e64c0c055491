//! The pages, in plain HTML without scripts.

use axum::response::Response;
use countersign::proto::Session;
use http::{HeaderValue, header};

use crate::visitor::Visitor;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1b2733}\
    h1{font-size:1.5rem}label{display:block;margin:.8rem 0}input{display:block;width:100%;box-sizing:border-box;padding:.5rem;\
    font:inherit;border:1px solid #9fb0c0;border-radius:4px}button{font:inherit;padding:.5rem 1rem;border:0;border-radius:4px;\
    background:#17507e;color:#fff;margin-right:.5rem}form{display:inline}code{font-size:.85em}li.this{font-weight:600}\
    .bad{color:#a3261b}dt{color:#5b6b7a}dd{margin:0 0 .6rem}";

pub(crate) fn home() -> String {
    page(
        "Countersign",
        "<p>A small site whose logins are Countersign's.</p>\
         <p><a href=\"/register\">Register</a> · <a href=\"/login\">Log in</a> · <a href=\"/profile\">Profile</a></p>",
    )
}

/// A form for name and password, which the browser sends to `action`, with an error message unless `error` is empty.
pub(crate) fn form(action: &str, token: &str, error: &str) -> String {
    let (title, autocomplete) = match action {
        "/register" => ("Register", "new-password"),
        _ => ("Log in", "current-password"),
    };
    let error = match error {
        "" => String::new(),
        text => format!("<p class=\"bad\" role=\"alert\">{}</p>", escaped(text)),
    };
    page(
        title,
        &format!(
            "{error}<form method=\"post\" action=\"{action}\"><input type=\"hidden\" name=\"token\" value=\"{token}\">\
             <label>Name<input name=\"username\" autocomplete=\"username\" required></label>\
             <label>Password<input name=\"password\" type=\"password\" autocomplete=\"{autocomplete}\" required></label>\
             <button>{title}</button></form>"
        ),
    )
}

pub(crate) fn profile(visitor: &Visitor, sessions: &[Session]) -> String {
    let rows: Vec<String> = sessions
        .iter()
        .map(|session| {
            let this = session.session_id == visitor.session;
            let class = if this { " class=\"this\"" } else { "" };
            let browser = session.context.as_ref().map_or("", |context| &context.user_agent);
            let note = if this { " (this browser)" } else { "" };
            format!("<li{class}>{}{note}</li>", escaped(browser))
        })
        .collect();
    let rows = rows.concat();
    page(
        "Profile",
        &format!(
            "<dl><dt>You are</dt><dd><code id=\"user\">{}</code></dd>\
             <dt>Your session</dt><dd><code id=\"session\">{}</code></dd></dl>\
             <p>Logged in:</p><ul id=\"sessions\">{rows}</ul>\
             <form method=\"post\" action=\"/logout\"><button>Log out</button></form>\
             <form method=\"post\" action=\"/logout-everywhere\"><button>Log out everywhere</button></form>",
            escaped(&visitor.user),
            escaped(&visitor.session),
        ),
    )
}

/// Adds the security headers of every page: only inline styles, no frames, no caching.
pub(crate) fn protect(mut response: Response) -> Response {
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` browsers would send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>"
    )
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}
