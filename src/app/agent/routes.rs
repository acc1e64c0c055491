//! The agent's services, and its callers.

use std::sync::Arc;

use super::calls::AgentCalls;
use super::edge::AgentChecks;
use crate::grpc::layers::{Authentication, Authenticator, Credential, RequestBody, ResponseFuture, Routes};
use crate::grpc::policy::{MAX_PROBE, Method};
use crate::grpc::services::{Boxed, authorization, boxed, not_routed, validate};
use crate::model::audit::Origin;
use crate::model::scope::CallerScope;
use crate::model::{Caller, Identity};

/// The services of the agent, by method.
pub(super) struct AgentRoutes {
    calls: Arc<AgentCalls>,
    checks: Arc<AgentChecks>,
    health: Boxed,
}

impl AgentRoutes {
    pub(super) fn new(
        calls: Arc<AgentCalls>,
        checks: AgentChecks,
        health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    ) -> Self {
        Self {
            calls,
            checks: Arc::new(checks),
            health: boxed(health.max_decoding_message_size(MAX_PROBE)),
        }
    }
}

impl Routes for AgentRoutes {
    fn route(&self, method: &'static Method, request: http::Request<RequestBody>) -> ResponseFuture {
        match method.service {
            "grpc.health.v1.Health" => (self.health)(request),
            "envoy.service.auth.v3.Authorization" => authorization::serve(&self.checks, method, request),
            "countersign.v1.TokenService" => validate::serve(&self.calls, method, request),
            _ => not_routed(method),
        }
    }
}

/// Accepts every caller: a caller that reaches the agent runs on the same machine.
pub(super) struct LocalCallers(Arc<Caller>);

impl Default for LocalCallers {
    fn default() -> Self {
        Self(Arc::new(Caller {
            identity: Identity::Anonymous,
            scopes: vec![CallerScope::Validate.as_str().to_owned()],
            origin: Origin::default(),
        }))
    }
}

impl Authenticator for LocalCallers {
    fn authenticate(&self, _: Credential<'_>) -> Authentication {
        Authentication::Ready(Ok(self.0.clone()))
    }

    fn anonymous(&self) -> Arc<Caller> {
        self.0.clone()
    }
}
