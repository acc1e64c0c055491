//! `grpc.health.v1`: whether calls here are worth making, in all and part by part.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as Service, HealthServer};
use tonic_health::server::HealthReporter;

use crate::shutdown::Stop;

/// What can fail on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentHealth {
    /// The store of users, clients and keys answers.
    pub users: bool,
    /// The store of sessions answers.
    pub sessions: bool,
    /// Revocations are fresh enough to answer `Validate`.
    pub revocations: bool,
}

const NONE: ComponentHealth = ComponentHealth {
    users: false,
    sessions: false,
    revocations: false,
};

/// Tells the health of the service. Clones tell of the same one.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    stop: Stop,
}

impl Health {
    /// A health of which nothing is known yet, so nothing is served; and the service that tells it. Once `stop` drains,
    /// nothing is served any more, whatever is reported.
    pub async fn new(stop: Stop) -> (Self, HealthServer<impl Service>) {
        let (reporter, server) = tonic_health::server::health_reporter();
        let health = Self { reporter, stop };
        health.report(NONE).await;
        (health, server)
    }

    /// Sets every name.
    ///
    /// The whole (the empty name) serves as long as `Validate` does: a replica that is cut off from a store still
    /// answers most calls, and taking every replica out of a load balancer would make an outage of a degradation.
    pub async fn report(&self, components: ComponentHealth) {
        let ComponentHealth {
            users,
            sessions,
            revocations,
        } = if self.stop.is_draining() { NONE } else { components };
        for (name, serves) in [
            ("store.users", users),
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

    /// Resolves when the drain began and everybody who watches has been told.
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
