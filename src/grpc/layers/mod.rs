//! The pipeline that every call runs through: authentication, authorization, deadline, metrics and logs.
//!
//! It is one hand-written service, not a stack of tower layers, because `Validate` runs through it for every request of
//! every other service. It adds no boxed future to the one of the generated code. The steps, in order:
//!
//! 1. find the method by its path (unknown: `UNIMPLEMENTED`), the request id and the deadline (less than
//!    `RESPONSE_MARGIN` left: `DEADLINE_EXCEEDED`);
//! 2. check the gates: calls or streams in flight, memory of the request (too many: `OVERLOADED`);
//! 3. authenticate the caller, then check the scope that the policy demands;
//! 4. run the service until the deadline; a panic becomes `INTERNAL`;
//! 5. count and log the outcome, and echo the request id.

mod authenticate;
mod call;
mod concurrency;
mod deadline;
mod gate_limits;
mod gates;
mod gzip;
mod message_progress;
mod metrics;
mod request_body;
mod request_id;
mod resets;
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
pub use gate_limits::{CallLimits, GateKind, GateLimits};
pub use gates::{FullGate, GatePermit};
pub use request_body::RequestBody;
pub use request_id::{REQUEST_ID, RequestIds};
pub use response_body::ResponseBody;
pub(crate) use serve_call::NOT_GRPC;
pub use serve_call::ServeCall;
pub(crate) use unread::{TICK_INTERVAL, UnreadResponses};

use super::policy::{Method, Policy, TimeLimit};
use crate::listener::{Activity, Peer};
use crate::model::Result;
use crate::shutdown::Stop;
use gates::{Consumer, Gates};
use metrics::Metrics;
use resets::Resets;

/// Routes a call that the pipeline has admitted to its service.
pub trait Routes: Send + Sync + 'static {
    /// Calls the service that has `method`. The service must limit messages to `method.max_request` bytes.
    fn route(&self, method: &'static Method, request: http::Request<RequestBody>) -> ResponseFuture;
}

/// The future that generated services return.
pub type ResponseFuture = BoxFuture<'static, Result<http::Response<tonic::body::Body>, Infallible>>;

/// The pipeline, shared by all connections; see the module.
pub struct Pipeline {
    routes: Box<dyn Routes>,
    authenticator: Arc<dyn Authenticator>,
    policy: Policy,
    deadlines: Deadlines,
    ids: RequestIds,
    stop: Stop,
    gates: Arc<Gates>,
    metrics: Metrics,
}

impl Pipeline {
    /// Builds the pipeline. The metrics recorder must be installed before, or its metrics record nothing.
    #[must_use]
    pub fn new(
        routes: Box<dyn Routes>,
        authenticator: Arc<dyn Authenticator>,
        policy: Policy,
        deadlines: Deadlines,
        ids: RequestIds,
        stop: Stop,
    ) -> Self {
        Self {
            routes,
            authenticator,
            policy,
            deadlines,
            ids,
            stop,
            gates: Arc::new(Gates::new(&CallLimits::default())),
            metrics: Metrics::new(),
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: &CallLimits) -> Self {
        self.gates = Arc::new(Gates::new(limits));
        self
    }

    /// How much of a gate is in use.
    #[must_use]
    pub fn in_use(&self, gate: GateKind) -> usize {
        self.gates.in_use(gate)
    }

    /// Notes which gates are full; to be called once a second.
    pub fn observe_gates(&self) {
        self.gates.observe();
    }

    /// The gates that have been full for some seconds.
    pub fn full_gates(&self) -> impl Iterator<Item = FullGate> {
        self.gates.full()
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("deadlines", &self.deadlines)
            .field("gates", &self.gates)
            .finish_non_exhaustive()
    }
}

/// The pipeline as hyper's service for one connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionService(Arc<ConnectionContext>);

#[derive(Debug)]
pub(crate) struct ConnectionContext {
    pipeline: Arc<Pipeline>,
    peer: Arc<Peer>,
    consumer: Arc<Consumer>,
    /// A connection without a call may have to give way to a new one.
    activity: Activity,
    unread: Arc<UnreadResponses>,
    resets: Resets,
}

impl ConnectionService {
    pub(crate) fn new(
        pipeline: Arc<Pipeline>,
        peer: Arc<Peer>,
        activity: Activity,
        unread: Arc<UnreadResponses>,
    ) -> Self {
        let consumer = Arc::new(Consumer::new(&pipeline.gates, &peer));
        Self(Arc::new(ConnectionContext {
            pipeline,
            peer,
            consumer,
            activity,
            unread,
            resets: Resets::default(),
        }))
    }

    /// Whether the peer has reset too many calls early.
    pub(crate) fn has_too_many_resets(&self) -> bool {
        self.0.resets.exceeded()
    }

    /// The right to large flow-control windows, if there is one left for this connection.
    pub(crate) fn large_window(&self) -> Option<GatePermit> {
        self.0.consumer.acquire(GateKind::LargeWindows, 1).ok()
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
