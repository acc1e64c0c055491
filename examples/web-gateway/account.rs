//! The pages of somebody who is logged in.

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
    out(&site, &site.backend.log_out(visitor.access.expose()).await)
}

pub(crate) async fn log_out_everywhere(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    let ended = site
        .backend
        .log_out_everywhere(visitor.access.expose(), &visitor.user)
        .await;
    out(&site, &ended)
}

/// Says that somebody is logged out only if they are.
fn out(site: &Site, ended: &Result<(), Status>) -> Response {
    if ended.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "you are still logged in: try again\n").into_response();
    }
    let mut answer = Redirect::to("/").into_response();
    set(&mut answer, &site.cookies.clear());
    answer
}
