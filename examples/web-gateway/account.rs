//! The pages for logged-in users.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use tonic::Status;

use crate::visitor::{Visitor, set};
use crate::{Site, pages};

pub(crate) async fn profile(State(site): State<Arc<Site>>, Extension(visitor): Extension<Visitor>) -> Response {
    match site.backend.sessions(visitor.access.expose(), &visitor.user).await {
        Ok(sessions) => Html(pages::profile(&visitor, &sessions)).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

pub(crate) async fn log_out(State(site): State<Arc<Site>>, Extension(visitor): Extension<Visitor>) -> Response {
    logged_out(&site, &site.backend.log_out(visitor.access.expose()).await)
}

pub(crate) async fn log_out_everywhere(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    let ended = site
        .backend
        .log_out_everywhere(visitor.access.expose(), &visitor.user)
        .await;
    logged_out(&site, &ended)
}

/// The response to a log-out: removes the cookies only if the session has really ended.
fn logged_out(site: &Site, ended: &Result<(), Status>) -> Response {
    if ended.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "you are still logged in: try again\n").into_response();
    }
    let mut response = Redirect::to("/").into_response();
    set(&mut response, &site.cookies.clear());
    response
}
