//! The side port, which serves plain HTTP: public keys and metadata for verifiers, metrics and health for operators.
//! These paths change nothing and read no store. If configured, it serves `/authorize` for proxies too.

mod authorize;
mod metadata;
mod route_query;
mod routes;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

pub use authorize::ForwardAuth;
use metadata::IssuerPath;
pub use metadata::Metadata;

use crate::clock::UnixMillis;
use crate::listener::{Activity, ConnectionHandler, IdleGivesWay, Io, Limits, Peer};
use crate::model::Network;
use crate::shutdown::Stop;

/// Longest time to receive the head of a request, and longest idle time of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which a connection is shut down gracefully.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(1);
/// Time for the response in progress when a connection is shut down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The same where `/authorize` is served: a proxy sends all cookies that a browser has for the application, and all other headers.
/// The configurations in `deploy/` accept 128 KiB from the browser.
const MAX_PROXIED_HEADER_BYTES: usize = 160 * 1024;

/// The years 1970 to 9999, which the `Date` header can express (RFC 9110 §5.6.7), in Unix milliseconds.
const HTTP_DATE_RANGE: std::ops::Range<i64> = 0..253_402_300_800_000;

/// Limit on open connections. The callers are few: caches of verifiers, scrapers, probes.
pub const MAX_CONNECTIONS: usize = 256;

/// The limits of the side port. Half of the connections are for other sources than the one that has the most. A connection that
/// has sent no whole request, or waits for the next one, gives way when there is no place for a new one: probes must get
/// through, from whatever address they come.
#[must_use]
pub fn limits(max_connections: usize, shared_sources: Arc<[Network]>, drain_timeout: Duration) -> Limits {
    Limits {
        max_per_source: max_connections.div_ceil(2),
        shared_sources,
        idle_gives_way: IdleGivesWay::WhenSourceHasItsShare,
        ..Limits::new(max_connections, drain_timeout)
    }
}

/// The data that the side port serves.
pub trait SidePortData: Send + Sync + 'static {
    /// The JSON Web Key Set, and its entity tag with the quotation marks.
    fn jwks(&self) -> (String, String);

    /// All metrics, in the Prometheus text format.
    fn metrics(&self) -> String;

    /// The current time.
    fn now(&self) -> UnixMillis;

    /// Whether this replica is ready to serve calls: a note for the operator, empty if there is none; if not, the reason.
    fn ready(&self) -> Result<String, String>;
}

/// Serves HTTP/1.1 on the connections of a listener.
#[derive(Debug)]
pub struct HttpHandler {
    router: Router,
    issuer_path: IssuerPath,
    data: Data,
    max_header_bytes: usize,
}

/// The data, with a `Debug` that shows none of it.
struct Data(Arc<dyn SidePortData>);

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SidePortData")
    }
}

impl HttpHandler {
    /// Serves `data`. Verifiers may cache the key set for `jwks_max_age`.
    #[must_use]
    pub fn new(data: Arc<dyn SidePortData>, metadata: &Metadata, jwks_max_age: Duration) -> Self {
        Self {
            router: routes::router(data.clone(), metadata, jwks_max_age),
            issuer_path: metadata.issuer_path(),
            data: Data(data),
            max_header_bytes: MAX_HEADER_BYTES,
        }
    }

    /// Serves `/authorize` for proxies too.
    #[must_use]
    pub fn with_forward_auth(mut self, auth: ForwardAuth) -> Self {
        authorize::describe();
        let authorize = axum::routing::any(authorize::authorize).with_state(Arc::new(auth));
        self.router = self.router.route("/authorize", authorize);
        self.max_header_bytes = MAX_PROXIED_HEADER_BYTES;
        self
    }
}

impl ConnectionHandler for HttpHandler {
    async fn handle(&self, io: Io, _peer: Arc<Peer>, activity: Activity, stop: Stop) {
        if !HTTP_DATE_RANGE.contains(&self.data.0.now().0) {
            // Hyper adds `Date` to every response, and panics if the date cannot be expressed.
            tracing::debug!("the clock is outside the years that HTTP can express (1970 to 9999); set the clock");
            return;
        }
        let router = TowerToHyperService::new(self.router.clone());
        let issuer_path = self.issuer_path.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if let Some(document) = issuer_path.document(request.uri().path()) {
                *request.uri_mut() = Uri::from_static(document);
            }
            // Busy once the head of a request is complete, until its response is ready to be written.
            let busy = activity.begin();
            let response = router.call(request);
            async move {
                let response = response.await;
                drop(busy);
                response
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(self.max_header_bytes)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut end = pin!(tokio::time::sleep(MAX_CONNECTION_AGE));
        let mut shutting_down = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection to the side port broke");
                    }
                    return;
                }
                () = &mut end => {
                    if shutting_down {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    shutting_down = true;
                    end.as_mut().reset(Instant::now() + SHUTDOWN_GRACE);
                }
                () = stop.draining(), if !shutting_down => {
                    connection.as_mut().graceful_shutdown();
                    shutting_down = true;
                    end.as_mut().reset(Instant::now() + SHUTDOWN_GRACE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
