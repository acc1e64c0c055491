//! The side port: what is read over plain HTTP. Public keys and metadata for verifiers, metrics and health for
//! operators. Nothing of these changes anything or asks a store. Where it is configured, `/authorize` for proxies too.

mod authorize;
mod metadata;
mod routes;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

pub use authorize::ForwardAuth;
pub use metadata::Metadata;

use crate::clock::UnixMillis;
use crate::listener::{ConnectionHandler, Io, Peer};
use crate::shutdown::Stop;

/// How long the head of a request may take, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How old a connection may become before it is asked to end.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(1);
/// How long the answer that is on its way then may take.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// The head of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// 1970 to 9999: what `Date` can say (RFC 9110 §5.6.7), in Unix milliseconds.
const HTTP_DATE_RANGE: std::ops::Range<i64> = 0..253_402_300_800_000;

/// The most connections at once; the callers are few: verifiers' caches, scrapers, probes.
pub const MAX_CONNECTIONS: usize = 256;

/// What the side port tells.
pub trait SidePortData: Send + Sync + 'static {
    /// The JSON Web Key Set and its entity tag, with the quotation marks.
    fn jwks(&self) -> (String, String);

    /// All metrics, in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// What time it is.
    fn now(&self) -> UnixMillis;

    /// Whether calls here are worth making; if not, why, for the operator.
    fn ready(&self) -> Result<(), String>;
}

/// HTTP/1.1 on every connection of a listener.
#[derive(Debug)]
pub struct HttpHandler {
    router: Router,
    data: Told,
}

/// The facts, which have nothing to show of themselves.
struct Told(Arc<dyn SidePortData>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Facts")
    }
}

impl HttpHandler {
    /// Tells these facts. `jwks_max_age` is how long verifiers may keep the key set.
    #[must_use]
    pub fn new(data: Arc<dyn SidePortData>, metadata: &Metadata, jwks_max_age: Duration) -> Self {
        Self {
            router: routes::router(data.clone(), metadata, jwks_max_age),
            data: Told(data),
        }
    }

    /// Answers proxies too.
    #[must_use]
    pub fn with_forward_auth(mut self, auth: ForwardAuth) -> Self {
        let authorize = axum::routing::any(authorize::authorize).with_state(Arc::new(auth));
        self.router = self.router.route("/authorize", authorize);
        self
    }
}

impl ConnectionHandler for HttpHandler {
    async fn handle(&self, io: Io, _peer: Arc<Peer>, stop: Stop) {
        if !HTTP_DATE_RANGE.contains(&self.data.0.now().0) {
            // Hyper dates every answer, and panics over what a date cannot say.
            tracing::debug!("the clock says a time that HTTP knows no date for: nothing is answered");
            return;
        }
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut end = pin!(tokio::time::sleep(MAX_CONNECTION_AGE));
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection of the side port broke");
                    }
                    return;
                }
                () = &mut end => {
                    if leaving {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    end.as_mut().reset(Instant::now() + SHUTDOWN_GRACE);
                }
                () = stop.draining(), if !leaving => {
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    end.as_mut().reset(Instant::now() + SHUTDOWN_GRACE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
