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

mod answer;
mod authenticate;
mod call;
mod deadline;
mod future;
mod gate;
mod inbound;
mod metrics;
mod request_id;
mod stall;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::body::Incoming;

pub use answer::Answer;
pub use authenticate::{Authentication, Authenticator, Credential};
pub use call::Call;
pub use deadline::Deadlines;
pub use future::CallFuture;
pub use gate::{Gate, Pass};
pub use inbound::Inbound;
pub use request_id::{REQUEST_ID, RequestIds};
pub(crate) use stall::{TICK, Untaken};

use super::policy::{METHODS, Method, Pace, Policy};
use crate::listener::Peer;
use crate::model::Result;
use crate::shutdown::Stop;
use metrics::Metrics;

/// The most calls at once, whatever they do: bounds the memory that calls without a body yet can take.
const MAX_CALLS: usize = 16 * 1024;

/// Where a call goes once the frame let it pass.
pub trait Routes: Send + Sync + 'static {
    /// The answer of the service that has this method; its own limit on messages must be the method's.
    fn route(&self, method: &'static Method, request: http::Request<Inbound>) -> Routed;
}

/// The future that generated services answer with.
pub type Routed = BoxFuture<'static, Result<http::Response<tonic::body::Body>, Infallible>>;

/// The frame. One for all connections; see the module.
pub struct Frame {
    routes: Box<dyn Routes>,
    authenticator: Arc<dyn Authenticator>,
    policy: Policy,
    deadlines: Deadlines,
    ids: RequestIds,
    stop: Stop,
    calls: Gate,
    metrics: Metrics,
}

/// What a [`Frame`] is made of.
#[expect(missing_debug_implementations, reason = "taken apart at once by Frame::new")]
#[expect(missing_docs, reason = "each is documented at its type")]
pub struct FrameParts {
    pub routes: Box<dyn Routes>,
    pub authenticator: Arc<dyn Authenticator>,
    pub policy: Policy,
    pub deadlines: Deadlines,
    pub ids: RequestIds,
    pub stop: Stop,
}

impl Frame {
    /// A frame. Made after the metrics recorder is installed, or its metrics record nothing.
    #[must_use]
    pub fn new(parts: FrameParts) -> Self {
        Self {
            routes: parts.routes,
            authenticator: parts.authenticator,
            policy: parts.policy,
            deadlines: parts.deadlines,
            ids: parts.ids,
            stop: parts.stop,
            calls: Gate::new(MAX_CALLS),
            metrics: Metrics::new(),
        }
    }

    /// How many calls have not ended.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.inside()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("deadlines", &self.deadlines)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// The frame on one connection.
#[derive(Clone, Debug)]
pub(crate) struct OnConnection(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    frame: Arc<Frame>,
    peer: Arc<Peer>,
    untaken: Arc<Untaken>,
}

impl OnConnection {
    pub(crate) fn new(frame: Arc<Frame>, peer: Arc<Peer>, untaken: Arc<Untaken>) -> Self {
        Self(Arc::new(Connection { frame, peer, untaken }))
    }
}

impl hyper::service::Service<http::Request<Incoming>> for OnConnection {
    type Response = http::Response<Answer>;
    type Error = Infallible;
    type Future = CallFuture;

    fn call(&self, request: http::Request<Incoming>) -> CallFuture {
        CallFuture::begin(Arc::clone(&self.0), request)
    }
}
