//! A tower layer that lets only good tokens pass, in front of a tonic or an axum service.

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
    demand: Arc<Demand>,
}

#[derive(Debug)]
struct Demand {
    verifier: Verifier,
    audience: String,
    scopes: Vec<String>,
}

impl GuardLayer {
    /// Demands a token for this audience (empty: any) with all of these scopes.
    #[must_use]
    pub fn new(verifier: Verifier, audience: impl Into<String>, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        Self {
            demand: Arc::new(Demand {
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
            demand: self.demand.clone(),
        }
    }
}

/// Lets requests with a good bearer token pass, with [`Arc<Claims>`](Claims) in their extensions. Others are answered:
/// a gRPC call with `UNAUTHENTICATED`, `PERMISSION_DENIED` or `UNAVAILABLE`, an HTTP request with 401, 403 (RFC 6750 §3)
/// or 503.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    demand: Arc<Demand>,
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
        let demand = self.demand.clone();
        // The one that was polled ready is the one that is called.
        let waiting = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, waiting);
        Box::pin(async move {
            let grpc = request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
            match demand.judge(request.headers()).await {
                Ok(claims) => {
                    request.extensions_mut().insert(claims);
                    ready.call(request).await
                }
                Err(denied) => Ok(if grpc { denied.grpc() } else { denied.http() }),
            }
        })
    }
}

enum Denied {
    Missing,
    Inactive(InactiveReason, Vec<String>),
    Unavailable,
}

impl Demand {
    async fn judge(&self, headers: &http::HeaderMap) -> Result<Arc<Claims>, Denied> {
        let token = bearer(headers).ok_or(Denied::Missing)?;
        self.verifier
            .verify(token, &self.audience, &self.scopes)
            .await
            .map_err(|refused| match refused {
                Refused::Inactive(reason) => Denied::Inactive(reason, self.scopes.clone()),
                Refused::Unavailable(_) => Denied::Unavailable,
            })
    }
}

/// The one bearer token (RFC 6750 §2.1); two `authorization` headers are none.
fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else {
        return None;
    };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

impl Denied {
    fn grpc<R: Default>(&self) -> Response<R> {
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

    fn http<R: Default>(&self) -> Response<R> {
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
