//! The paths of the side port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Metadata, SidePortData, metadata};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// RFC 7517 §8.5.
const JWKS: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How long caches may keep the metadata. It changes only with the configuration.
const METADATA_MAX_AGE: Duration = Duration::from_hours(1);

#[derive(Clone)]
struct RouteState {
    data: Arc<dyn SidePortData>,
    jwks_max_age: HeaderValue,
}

pub(super) fn router(data: Arc<dyn SidePortData>, metadata: &Metadata, jwks_max_age: Duration) -> Router {
    let state = RouteState {
        data,
        jwks_max_age: public(jwks_max_age),
    };
    Router::new()
        .route(metadata::JWKS, get(jwks))
        .route(metadata::OAUTH, document(metadata.oauth()))
        .route(metadata::OPENID, document(metadata.openid()))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(state)
}

async fn jwks(State(state): State<RouteState>, request: HeaderMap) -> Response {
    let (json, tag) = state.data.jwks();
    let if_none_match = request.get(header::IF_NONE_MATCH);
    let mut response = if if_none_match.is_some_and(|tags| matches(tags, &tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, JWKS)], json).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, state.jwks_max_age);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

async fn metrics(State(state): State<RouteState>) -> Response {
    ([(header::CONTENT_TYPE, METRICS)], state.data.metrics()).into_response()
}

async fn ready(State(state): State<RouteState>) -> Response {
    match state.data.ready() {
        Ok(note) if note.is_empty() => "ready\n".into_response(),
        Ok(note) => format!("ready\n{note}\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

fn document(json: String) -> axum::routing::MethodRouter<RouteState> {
    let age = public(METADATA_MAX_AGE);
    get(move || async move { ([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, age)], json) })
}

fn public(max_age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", max_age.as_secs()))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}

/// Whether the value of `If-None-Match` contains `tag`, by the weak comparison of RFC 9110 §8.8.3.2.
fn matches(if_none_match: &HeaderValue, tag: &str) -> bool {
    let tags = if_none_match.to_str().unwrap_or_default();
    tags.split(',')
        .map(|listed| listed.trim().trim_start_matches("W/"))
        .any(|listed| listed == "*" || listed == tag)
}
