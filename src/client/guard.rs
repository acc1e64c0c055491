//! A tower layer that lets only requests with a valid token pass, for tonic and axum services.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower_layer::Layer;
use tower_service::Service;

use super::verifier::{Refused, Verifier};
use crate::model::bearer::Authorization;
use crate::model::{Claims, InactiveReason};

/// Puts a [`Guard`] in front of a service: axum's router takes it as a layer, and so does tonic's server.
///
/// ```no_run
/// use countersign::client::{Client, GuardLayer, Verifier, VerifierConfig};
///
/// # async fn example() -> Result<(), tonic::Status> {
/// let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
/// let verifier = Verifier::start(client, VerifierConfig::new("https://countersign.local"));
/// let guard = GuardLayer::new(verifier, "api", &["orders:read"]);
/// let service: axum::Router = axum::Router::new()
///     .route("/orders", axum::routing::get(|| async { "the orders" }))
///     .layer(guard);
/// # drop(service);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GuardLayer {
    requirements: Arc<Requirements>,
}

#[derive(Debug)]
struct Requirements {
    verifier: Verifier,
    audience: String,
    scopes: Vec<String>,
}

impl GuardLayer {
    /// Requires a valid token for `audience` (if it is empty, for any) with all of `scopes`.
    #[must_use]
    pub fn new(verifier: Verifier, audience: impl Into<String>, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        Self {
            requirements: Arc::new(Requirements {
                verifier,
                audience: audience.into(),
                scopes,
            }),
        }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            requirements: self.requirements.clone(),
        }
    }
}

/// Passes requests with a valid bearer token on, with [`Arc<Claims>`](Claims) in their extensions, and rejects others: a gRPC
/// call with `UNAUTHENTICATED`, `PERMISSION_DENIED` or `UNAVAILABLE`, an HTTP request with 401, 403 (RFC 6750 §3) or 503.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    requirements: Arc<Requirements>,
}

impl<S, B, R> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let requirements = self.requirements.clone();
        // Call the service that was polled ready; a clone of it may not be ready.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let grpc = request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
            match requirements.check(request.headers()).await {
                Ok(claims) => {
                    request.extensions_mut().insert(claims);
                    ready.call(request).await
                }
                Err(rejection) => Ok(if grpc {
                    rejection.grpc_response()
                } else {
                    rejection.http_response()
                }),
            }
        })
    }
}

enum Rejection {
    Missing,
    Inactive(InactiveReason, Vec<String>),
    Unavailable,
}

impl Requirements {
    async fn check(&self, headers: &http::HeaderMap) -> Result<Arc<Claims>, Rejection> {
        let values = headers.get_all(header::AUTHORIZATION).iter();
        let token = match Authorization::from_values(values.map(HeaderValue::as_bytes)) {
            Authorization::Bearer(token) => token,
            Authorization::Malformed => return Err(Rejection::Inactive(InactiveReason::Malformed, Vec::new())),
            Authorization::Absent | Authorization::OtherScheme | Authorization::Repeated => {
                return Err(Rejection::Missing);
            }
        };
        self.verifier
            .verify(token, &self.audience, &self.scopes)
            .await
            .map_err(|refused| match refused {
                Refused::Inactive(reason) => Rejection::Inactive(reason, self.scopes.clone()),
                Refused::Unavailable(_) => Rejection::Unavailable,
            })
    }
}

impl Rejection {
    fn grpc_response<R: Default>(&self) -> Response<R> {
        let (code, message, reason) = match self {
            Self::Missing => (
                Code::Unauthenticated,
                "a bearer token is needed",
                "CALLER_UNAUTHENTICATED",
            ),
            Self::Inactive(InactiveReason::InsufficientScope, _) => {
                (Code::PermissionDenied, "the token lacks a scope", "CALLER_NOT_ALLOWED")
            }
            Self::Inactive(..) => (
                Code::Unauthenticated,
                "the token is not active",
                "CALLER_UNAUTHENTICATED",
            ),
            Self::Unavailable => (Code::Unavailable, "tokens cannot be validated now", "REVOCATIONS_STALE"),
        };
        let mut details = ErrorDetails::with_error_info(reason, "countersign", std::collections::HashMap::new());
        if code == Code::Unavailable {
            details.set_retry_info(Some(std::time::Duration::from_secs(1)));
        }
        Status::with_error_details(code, message, details).into_http()
    }

    fn http_response<R: Default>(&self) -> Response<R> {
        let mut response = Response::new(R::default());
        let (status, challenge) = match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, Some("Bearer".to_owned())),
            Self::Inactive(InactiveReason::InsufficientScope, scopes) => {
                let scope = scopes.join(" ");
                (
                    StatusCode::FORBIDDEN,
                    Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")),
                )
            }
            Self::Inactive(..) => (
                StatusCode::UNAUTHORIZED,
                Some("Bearer error=\"invalid_token\"".to_owned()),
            ),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        *response.status_mut() = status;
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
