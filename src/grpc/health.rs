//! `grpc.health.v1`: the health of the service as a whole and of its components.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::Mutex;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as WireStatus;
use tonic_health::pb::health_server::{Health as Service, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::shutdown::Stop;

/// The health of each component that can fail on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the components fail one by one")]
pub struct ComponentHealth {
    /// The store of users, clients and keys answers.
    pub users: bool,
    /// It takes writes, too.
    pub writes: bool,
    /// The store of sessions answers.
    pub sessions: bool,
    /// Revocations are fresh enough to answer `Validate`.
    pub revocations: bool,
}

const NONE: ComponentHealth = ComponentHealth {
    users: false,
    writes: false,
    sessions: false,
    revocations: false,
};

/// Reports the health of the service. Clones report for the same service.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    stop: Stop,
    /// What was reported last.
    reported: Arc<Mutex<Option<ComponentHealth>>>,
}

impl Health {
    /// A reporter, and the gRPC service that answers with what it reports. Everything is `NOT_SERVING` until the first
    /// report, and again once `stop` drains, whatever is reported.
    pub async fn new(stop: Stop) -> (Self, HealthServer<impl Service>) {
        let reporter = HealthReporter::new();
        let server = HealthServer::new(HealthCalls(HealthService::from_health_reporter(reporter.clone())));
        let health = Self {
            reporter,
            stop,
            reported: Arc::default(),
        };
        health.report(NONE).await;
        (health, server)
    }

    /// Sets the status of every name, if it has changed.
    ///
    /// The service as a whole (the empty name) is `SERVING` as long as `Validate` works. A replica that is cut off from
    /// a store still answers most calls; if all replicas left the load balancer, a degradation would become an outage.
    pub async fn report(&self, components: ComponentHealth) {
        // Locked until all names are set, so that of two reports the later one counts.
        let mut reported = self.reported.lock().await;
        let components = if self.stop.is_draining() { NONE } else { components };
        // Each report is a message to each watcher, of which there may be thousands.
        if reported.replace(components) == Some(components) {
            return;
        }
        let ComponentHealth {
            users,
            writes,
            sessions,
            revocations,
        } = components;
        for (name, serves) in [
            // Its services answer reads while it takes no writes, at every replica alike.
            ("store.users", users && writes),
            ("store.sessions", sessions),
            ("revocations", revocations),
            ("countersign.v1.UserService", users),
            ("countersign.v1.ClientService", users),
            ("countersign.v1.KeyService", users),
            ("countersign.v1.AuditService", users),
            ("countersign.v1.TokenService", revocations),
            ("", revocations),
        ] {
            self.set(name, serves).await;
        }
    }

    /// Resolves when a drain has begun and has been reported to all watchers.
    pub(super) async fn drained(&self) {
        self.stop.draining().await;
        self.report(NONE).await;
    }

    async fn set(&self, name: &str, serves: bool) {
        let status = if serves {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(name, status).await;
    }
}

/// The service of `tonic-health`, but `Watch` of an unknown name answers as the protocol demands: with `SERVICE_UNKNOWN`, and
/// the stream stays open. Load balancers take the end of a stream as a reason to ask again at once. `Check` of an unknown
/// name is `NOT_FOUND`.
struct HealthCalls(HealthService);

#[tonic::async_trait]
impl Service for HealthCalls {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(known) => Ok(known.map(StreamExt::boxed)),
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: WireStatus::ServiceUnknown.into(),
                };
                // The names never change, so nothing follows.
                Ok(Response::new(
                    stream::iter([Ok(unknown)]).chain(stream::pending()).boxed(),
                ))
            }
            Err(status) => Err(status),
        }
    }
}
