//! A back end for browsers that uses Countersign: register, log in, profile, log out, log out everywhere.
//!
//! Tokens are in cookies that scripts cannot read. When an access token has expired, the site refreshes it during a request,
//! once for all requests of a page. Start Countersign with open registration, and then this example:
//!
//! ```console
//! $ COUNTERSIGN_USERS__REGISTRATION=open cargo run --release -- serve
//! $ cargo run --release --example web-gateway -- http://127.0.0.1:50051 127.0.0.1:8000
//! ```
//!
//! Then open <http://localhost:8000>. Browsers accept `Secure` cookies without TLS from `localhost` only.
//! `examples/web-gateway/browser-test` tests the site in a real browser.

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

/// The state that all handlers share.
struct Site {
    backend: Backend,
    cookies: CookieNames,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "prints the address of the site")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned());
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
        // The routes above are for logged-in users only.
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
        .layer(axum::middleware::map_response(|response| async move {
            pages::protect(response)
        }))
        .with_state(site.clone())
}
