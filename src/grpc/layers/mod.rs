//! The frame around every call: who calls, whether they may, how long it may take, what is counted and logged.
//!
//! One service, written by hand, because `Validate` passes through it on every request of every other service: it finds
//! the method by its path, answers what must not reach a service, and adds to the generated code's one boxed future no
//! second one. In order:
//!
//! 1. method (unknown: `UNIMPLEMENTED`), request id, deadline (hopeless: `DEADLINE_EXCEEDED`);
//! 2. load (too much: `OVERLOADED`);
//! 3. caller, then the policy's scope;
//! 4. the service, until the deadline passes; a panic becomes `INTERNAL`;
//! 5. outcome counted and logged, request id echoed.

mod authenticate;
mod call;
mod concurrency;
mod deadline;
mod metrics;
mod request_body;
mod request_id;
mod response_body;
mod serve_call;
mod unread;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::body::Incoming;

pub use authenticate::{Authentication, Authenticator, Credential};
pub use call::Call;
pub use concurrency::{ConcurrencyLimit, Permit};
pub use deadline::Deadlines;
pub use request_body::RequestBody;
pub use request_id::{REQUEST_ID, RequestIds};
pub use response_body::ResponseBody;
pub use serve_call::ServeCall;
pub(crate) use unread::{TICK_INTERVAL, UnreadResponses};

use super::policy::{METHODS, Method, Policy, TimeLimit};
use crate::listener::Peer;
use crate::model::Result;
use crate::shutdown::Stop;
use metrics::Metrics;

/// The most calls at once, whatever they do: bounds the memory that calls without a body yet can take.
const MAX_CALLS: usize = 16 * 1024;

/// Where a call goes once the frame let it pass.
pub trait Routes: Send + Sync + 'static {
    /// The answer of the service that has this method; its own limit on messages must be the method's.
    fn route(&self, method: &'static Method, request: http::Request<RequestBody>) -> ResponseFuture;
}

/// The future that generated services answer with.
pub type ResponseFuture = BoxFuture<'static, Result<http::Response<tonic::body::Body>, Infallible>>;

/// The frame. One for all connections; see the module.
pub struct Pipeline {
    routes: Box<dyn Routes>,
    authenticator: Arc<dyn Authenticator>,
    policy: Policy,
    deadlines: Deadlines,
    ids: RequestIds,
    stop: Stop,
    calls: ConcurrencyLimit,
    metrics: Metrics,
}

/// What a [`Pipeline`] is made of.
#[expect(missing_debug_implementations, reason = "taken apart at once by Frame::new")]
#[expect(missing_docs, reason = "each is documented at its type")]
pub struct PipelineParts {
    pub routes: Box<dyn Routes>,
    pub authenticator: Arc<dyn Authenticator>,
    pub policy: Policy,
    pub deadlines: Deadlines,
    pub ids: RequestIds,
    pub stop: Stop,
}

impl Pipeline {
    /// A frame. Made after the metrics recorder is installed, or its metrics record nothing.
    #[must_use]
    pub fn new(parts: PipelineParts) -> Self {
        Self {
            routes: parts.routes,
            authenticator: parts.authenticator,
            policy: parts.policy,
            deadlines: parts.deadlines,
            ids: parts.ids,
            stop: parts.stop,
            calls: ConcurrencyLimit::new(MAX_CALLS),
            metrics: Metrics::new(),
        }
    }

    /// How many calls have not ended.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.in_use()
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("deadlines", &self.deadlines)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// The frame on one connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionService(Arc<ConnectionContext>);

#[derive(Debug)]
struct ConnectionContext {
    pipeline: Arc<Pipeline>,
    peer: Arc<Peer>,
    unread: Arc<UnreadResponses>,
}

impl ConnectionService {
    pub(crate) fn new(pipeline: Arc<Pipeline>, peer: Arc<Peer>, unread: Arc<UnreadResponses>) -> Self {
        Self(Arc::new(ConnectionContext { pipeline, peer, unread }))
    }
}

impl hyper::service::Service<http::Request<Incoming>> for ConnectionService {
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    type Future = ServeCall;

    fn call(&self, request: http::Request<Incoming>) -> ServeCall {
        ServeCall::begin(Arc::clone(&self.0), request)
    }
}
