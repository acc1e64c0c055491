//! A back end for browsers on Countersign: register, log in, profile, log out, log out everywhere.
//!
//! Tokens live in cookies that scripts cannot read; a worn-out access token is renewed on the way, once for all requests
//! of a page. Run it beside `countersign serve`, with registration open:
//!
//! ```console
//! $ COUNTERSIGN_USERS__REGISTRATION=open cargo run --release -- serve
//! $ cargo run --release --example web-gateway -- http://127.0.0.1:50051 127.0.0.1:8000
//! ```
//!
//! and open <http://localhost:8000>. Browsers take `Secure` cookies from `localhost` without TLS, and from nowhere else.
//! `examples/web-gateway/browser-test` walks through it in a real browser.

mod account;
mod backend;
mod forms;
mod login;
mod pages;
mod visitor;

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Html;
use axum::routing::{get, post};
use countersign::gateway::cookie::CookieNames;
use tokio::net::TcpListener;

use backend::Backend;

/// What every handler needs.
struct Site {
    backend: Backend,
    cookies: CookieNames,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "whoever starts it wants to know where it is")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let url = words.next().unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let listen = words.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let site = Arc::new(Site {
        backend: Backend::new(&url)?,
        cookies: CookieNames::default(),
    });
    let listener = TcpListener::bind(&listen).await?;
    println!("http://localhost:{}", listener.local_addr()?.port());
    axum::serve(listener, router(&site)).await?;
    Ok(())
}

fn router(site: &Arc<Site>) -> Router {
    Router::new()
        .route("/profile", get(account::profile))
        .route("/logout", post(account::log_out))
        .route("/logout-everywhere", post(account::log_out_everywhere))
        // Everything above is for people who are logged in.
        .route_layer(from_fn_with_state(site.clone(), visitor::admit))
        .route("/", get(|| async { Html(pages::home()) }))
        .route(
            "/register",
            get(|| async { login::form("/register", "") }).post(login::register),
        )
        .route(
            "/login",
            get(|| async { login::form("/login", "") }).post(login::log_in),
        )
        .layer(axum::middleware::map_response(|answer| async move {
            pages::protect(answer)
        }))
        .with_state(site.clone())
}
