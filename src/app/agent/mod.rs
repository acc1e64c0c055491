//! The agent: a process on the machine of a calling service that serves Validate, `ValidateBatch` and Envoy's Check from
//! memory. It follows the upstream as the client library does, and never issues, refreshes or revokes tokens itself.

mod calls;
mod edge;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::StatusExt as _;

use self::calls::{AgentCalls, Upstream};
use self::edge::AgentChecks;
use self::routes::{AgentRoutes, LocalCallers};
use super::bind::Inherited;
use super::error::StartError;
use super::gateway::gateway_config;
use super::serve::limits;
use super::services::TOKEN_CACHE_BYTES;
use crate::client::{Client, Credential, OutageLog, RetryPolicy, TrustFollower};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Listen, OnStale};
use crate::gateway::Gateway;
use crate::grpc::connection::GrpcHandler;
use crate::grpc::health::{ComponentHealth, Health};
use crate::grpc::layers::{Deadlines, Pipeline, RequestIds};
use crate::grpc::policy::Policy;
use crate::keys::verify::unverified_claims;
use crate::listener::Security;
use crate::model::scope::CallerScope;
use crate::secret::SystemEntropy;
use crate::shutdown::Stop;
use crate::telemetry::Metrics;
use crate::validator::{TokenValidator, ValidatorConfig};

/// The scopes that the agent requests at the upstream. It needs the first; without the second it cannot ask the upstream
/// while memory is too old, without the third it renews no cookie.
const SCOPES: [CallerScope; 3] = [CallerScope::Watch, CallerScope::Validate, CallerScope::Refresh];

/// The pause before an upstream that does not answer is asked again, and between two checks of health.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the agent until `stop`. Calls `answering` once it listens; until the first snapshot is complete it answers
/// `UNAVAILABLE`.
pub async fn agent(
    config: &Config,
    metrics: Metrics,
    stop: Stop,
    answering: impl FnOnce(&Listen),
) -> Result<(), StartError> {
    let missing =
        |key: &str| StartError::Config(format!("{key}: must be set (--{})", key.trim_start_matches("agent.")));
    let listen = config.agent.listen.as_ref().ok_or_else(|| missing("agent.listen"))?;
    let upstream = config
        .agent
        .upstream
        .as_deref()
        .ok_or_else(|| missing("agent.upstream"))?;
    let (listener, listen) = Inherited::default().grpc("agent.listen", listen).await?;

    let calls = Arc::new(AgentCalls::default());
    let (health, health_service) = Health::new(stop.clone()).await;
    let entropy = Arc::new(SystemEntropy);
    let gateway = Gateway::new(calls.clone(), Arc::new(SystemClock::new()), gateway_config(config)?);
    let checks = AgentChecks::new(gateway, calls.clone());
    let ext_authz = config.gateway.ext_authz;
    let pipeline = Pipeline::new(
        Box::new(AgentRoutes::new(calls.clone(), checks, health_service)),
        Arc::new(LocalCallers::default()),
        Policy::serving(|method| {
            method.service == "grpc.health.v1.Health"
                || method.service == "countersign.v1.TokenService"
                    && matches!(method.name, "Validate" | "ValidateBatch")
                || method.service == "envoy.service.auth.v3.Authorization" && ext_authz
        }),
        Deadlines {
            default: config.server.default_deadline,
            max: config.server.max_deadline,
        },
        RequestIds::new(&*entropy),
        stop.clone(),
    );
    let grpc = Arc::new(GrpcHandler::new(Arc::new(pipeline), entropy));
    let limits = limits(config);
    answering(&listen);

    let halt = CancellationToken::new();
    let serving = async {
        crate::grpc::serve(listener, Security::Plain, limits, grpc, &health, &stop).await;
        halt.cancel();
        Ok(())
    };
    let working = async {
        tokio::select! {
            () = halt.cancelled() => Ok(()),
            () = metrics.maintain() => Ok(()),
            failed = follow(config, upstream, &calls, &health) => failed,
        }
    };
    let (served, worked) = tokio::join!(serving, async {
        let worked = working.await;
        // The upstream refuses the agent for good: the agent ends, so that its operator notices.
        if worked.is_err() {
            stop.drain();
        }
        worked
    });
    served.and(worked)
}

/// Follows the upstream for ever and reports health. Returns only if the upstream refuses the agent.
async fn follow(config: &Config, upstream: &str, calls: &AgentCalls, health: &Health) -> Result<(), StartError> {
    let (client, issuer) = connect(config, upstream).await?;
    let max_staleness = match config.revocation.on_stale {
        OnStale::FailClosed => config.revocation.max_staleness,
        OnStale::Serve => Duration::MAX,
    };
    // The follower's clock: the age of its knowledge is compared with the validator's time.
    let clock = Arc::clone(client.clock());
    let validator = TokenValidator::new(
        TrustFollower::start(client.clone(), max_staleness),
        clock,
        ValidatorConfig {
            issuer,
            leeway: config.tokens.leeway,
            cache_bytes: TOKEN_CACHE_BYTES,
            answer_ttl: config.revocation.reconcile_interval,
        },
    );
    let upstream = calls.follow(Upstream { client, validator });
    loop {
        let fresh = upstream
            .validator
            .trust()
            .staleness()
            .is_some_and(|age| age <= max_staleness);
        health
            .report(ComponentHealth {
                users: false,
                writes: false,
                sessions: false,
                revocations: fresh,
            })
            .await;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// How the agent logs in at the upstream. A secret from a file is read again for each token.
fn credential(config: &Config, scopes: &[CallerScope]) -> Credential {
    let scope = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let (Some(client_id), Some(secret)) = (config.agent.client_id.clone(), &config.agent.client_secret) else {
        return Credential::None;
    };
    match config.file_of("agent.client_secret") {
        Some(path) => Credential::SecretFile {
            client_id,
            path: path.to_owned(),
            scope,
        },
        None => Credential::Secret {
            client_id,
            secret: secret.clone(),
            scope,
        },
    }
}

/// A client of the upstream, and the issuer whose tokens the agent accepts.
async fn connect(config: &Config, upstream: &str) -> Result<(Client, String), StartError> {
    let mut scopes = SCOPES.to_vec();
    if !config.gateway.cookies {
        scopes.truncate(2);
    }
    let clock = SystemClock::new();
    let mut outage = None;
    loop {
        let mut builder = Client::builder(upstream);
        if let Some(path) = &config.agent.ca_file {
            builder = builder.ca_file(path);
        }
        let client = builder
            .credential(credential(config, &scopes))
            // The agent's callers retry themselves: retries at both ends would multiply.
            .retry(RetryPolicy {
                attempts: 1,
                ..RetryPolicy::default()
            })
            .connect_lazy()
            .map_err(|status| {
                let problem = status.message();
                let key = if problem.starts_with("ca_file") {
                    "agent."
                } else {
                    "agent.upstream: "
                };
                StartError::Config(format!("{key}{problem}"))
            })?;
        let outage = outage.get_or_insert_with(|| {
            let effect = "it is asked again every second, and until it answers no token is validated";
            OutageLog::new(client.address().to_owned(), effect)
        });
        let refused = match client.own_token().await {
            Ok(token) => {
                outage.answered(clock.monotonic());
                // The upstream's issuer, unless the configuration sets one: it need not be configured twice.
                let issuer = token.and_then(|token| Some(unverified_claims(token.expose())?.iss));
                let issuer = match issuer {
                    Some(issuer) if !config.is_set("tokens.issuer") => issuer,
                    Some(_) | None => config.tokens.issuer.clone(),
                };
                return Ok((client, issuer));
            }
            Err(status) => status,
        };
        let details = refused.get_error_details();
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        match (refused.code(), reason) {
            (Code::PermissionDenied, "SCOPE_NOT_ALLOWED") if scopes.len() > 1 => {
                let lost = scopes.pop().map(CallerScope::as_str);
                let then = if scopes.len() > 1 {
                    "no cookie is renewed"
                } else {
                    "while memory is too old, the upstream cannot be asked"
                };
                tracing::warn!(lost, "agent.client_id lacks a scope: {then}");
                continue;
            }
            (Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument, _) => {
                let message = refused.message();
                return Err(StartError::Other(format!(
                    "agent.client_id: the upstream refuses it: {message} ({reason})"
                )));
            }
            _ => {}
        }
        outage.lost(&refused, clock.monotonic());
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}
