//! Running the service: listeners, background tasks, readiness, shutdown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Inherited;
use super::caller_auth::CallerAuthenticator;
use super::draft::Draft;
use super::error::StartError;
use super::grpc;
use super::maintenance;
use super::metrics;
use super::secret_files::SecretFiles;
use super::services::App;
use super::supervisor;
use super::tls::{self, Tls};
use crate::clock::UnixMillis;
use crate::config::{Config, Listen};
use crate::grpc::connection::GrpcHandler;
use crate::grpc::health::{ComponentHealth, Health};
use crate::grpc::layers::{Deadlines, FullGate, Pipeline, RequestIds};
use crate::grpc::policy::{OptionalServices, Policy};
use crate::http::{self, ForwardAuth, HttpHandler, Metadata, SidePortData};
use crate::listener::{self, Limits, connection_cap};
use crate::model::CallerScope;
use crate::secret::{Entropy, SharedSecret};
use crate::shutdown::Stop;
use crate::telemetry::Metrics;

/// How often the health of the stores is checked; also the timeout of a check.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How long the side port may finish its requests after gRPC has ended.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(250);

/// How long the revocations may take to load before the start fails. Some millions load in this time.
const LOAD_TIMEOUT: Duration = Duration::from_mins(5);

/// The options of `serve` that are not in the configuration.
#[derive(Debug)]
pub struct ServeOptions {
    /// The file that gets the addresses once the service answers.
    pub ready_file: Option<PathBuf>,
    /// Sockets passed to the process at its start.
    pub inherited: Inherited,
    /// The metrics recorder, installed before any metric is used.
    pub metrics: Metrics,
    /// Drains and stops the service.
    pub stop: Stop,
}

/// The addresses of a service that answers.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The address of gRPC.
    pub grpc: Listen,
    /// The address of the side port.
    pub http: std::net::SocketAddr,
}

/// Serves until `options.stop`. `answering` is called once calls are answered.
pub async fn serve(
    config: &Config,
    app: Arc<App>,
    options: ServeOptions,
    answering: impl FnOnce(Addresses),
) -> Result<(), StartError> {
    let ServeOptions {
        ready_file,
        mut inherited,
        metrics,
        stop,
    } = options;
    let tls = Tls::load(config, &app)?;
    let forward_auth_secret = config.gateway.forward_auth_secret.clone().map(SharedSecret::new);
    let secrets = Arc::new(SecretFiles::of(config, &app, forward_auth_secret.as_ref()));
    let (grpc_listener, grpc_at) = inherited.grpc("server.listen", &config.server.listen).await?;
    let (http_listener, http_at) = inherited.http(config.server.http_listen).await?;
    let addresses = Addresses {
        grpc: grpc_at,
        http: http_at,
    };

    let (background, halt) = (TaskTracker::new(), CancellationToken::new());
    maintenance::start(&app, &background, &halt);
    tls.follow(&secrets, &background, &halt);
    tokio::select! {
        loaded = revocations_loaded(&app) => loaded?,
        () = stop.draining() => return Ok(()),
    }

    // Before the first call: a store that was restored from a backup while the service was down must not be used as it is.
    maintenance::watch_counters(&app, &background, &halt).await;
    let (health, health_service) = Health::new(stop.clone()).await;
    let optional = OptionalServices {
        reflection: config.server.reflection(),
        ext_authz: config.gateway.ext_authz,
    };
    let pipeline = Arc::new(Pipeline::new(
        Box::new(grpc::services(&app, health_service, optional)?),
        Arc::new(CallerAuthenticator::new(&app, &config.server)?),
        Policy::new(optional),
        deadlines(config),
        RequestIds::new(&*app.stores.entropy),
        stop.clone(),
    ));
    background.spawn(watch_health(
        app.clone(),
        pipeline.clone(),
        health.clone(),
        halt.clone(),
    ));
    let grpc_server = Arc::new(GrpcHandler::new(pipeline.clone(), app.stores.entropy.clone()));
    let http = Arc::new(http_handler(
        config,
        &app,
        pipeline.clone(),
        metrics.clone(),
        stop.clone(),
        forward_auth_secret,
    ));

    let limits = limits(config);
    let side_limits = side_limits(config, &limits);
    if let Some(path) = &ready_file {
        write_ready_file(path, &addresses, &*app.stores.entropy)
            .map_err(|error| StartError::Other(format!("{}: {error}", path.display())))?;
    }
    supervisor::ready();
    background.spawn(supervisor::watch(stop.clone()));
    answering(addresses);
    let halted = halt.clone();
    background.spawn(async move { halted.run_until_cancelled(metrics.maintain()).await });
    // The side port stays open during the drain: it reports not ready, and serves metrics, until the last call has ended.
    let side_stop = Stop::new();
    tokio::join!(
        async {
            crate::grpc::serve(
                grpc_listener,
                tls.security(tls::GRPC),
                limits,
                grpc_server,
                &health,
                &stop,
            )
            .await;
            side_stop.drain();
        },
        listener::serve(
            http_listener,
            tls.security(tls::HTTP),
            side_limits,
            http,
            side_stop.clone()
        ),
    );
    halt.cancel();
    background.close();
    background.wait().await;
    app.hashing.stop();
    if let Some(path) = &ready_file {
        remove_ready_file(path);
    }
    Ok(())
}

/// Waits until the revocations are loaded; an error if the database refuses that, or if it takes too long.
async fn revocations_loaded(app: &App) -> Result<(), StartError> {
    tokio::select! {
        () = app.feed.loaded() => Ok(()),
        error = app.feed.refused() => {
            Err(StartError::Other(format!("the database refuses to load the revocations: {error}")))
        }
        () = tokio::time::sleep(LOAD_TIMEOUT) => {
            let failure = app.feed.load_failure();
            let cause = failure.map_or_else(|| "it takes too long".to_owned(), |error| error.to_string());
            Err(StartError::Unreachable(format!(
                "the revocations cannot be loaded from the database within {} s: {cause}",
                LOAD_TIMEOUT.as_secs()
            )))
        }
    }
}

/// A process that waits for the file must not find that of a process that has ended.
fn remove_ready_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove the ready file");
    }
}

/// What answers on the side port.
fn http_handler(
    config: &Config,
    app: &Arc<App>,
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    stop: Stop,
    forward_auth_secret: Option<SharedSecret>,
) -> HttpHandler {
    let metadata = Metadata {
        issuer: config.tokens.issuer.clone(),
    };
    let data = Arc::new(SidePort {
        app: app.clone(),
        pipeline,
        metrics,
        stop,
    });
    let handler = HttpHandler::new(data, &metadata, config.keys.jwks_max_age);
    match forward_auth(config, app, forward_auth_secret) {
        Some(auth) => handler.with_forward_auth(auth),
        None => handler,
    }
}

fn deadlines(config: &Config) -> Deadlines {
    Deadlines {
        default: config.server.default_deadline,
        max: config.server.max_deadline,
    }
}

/// The limits of the gRPC port.
pub(super) fn limits(config: &Config) -> Limits {
    let server = &config.server;
    let cap = connection_cap(server.max_connections);
    let mut max_per_source = server.max_connections_per_source();
    if max_per_source < server.max_connections {
        // The limit on open files may leave less than was configured: one source must still not get all of it.
        max_per_source = max_per_source.min(cap.div_ceil(2));
    }
    Limits {
        max_per_source,
        shared_sources: server.shared_sources.clone().into(),
        ..Limits::new(cap, server.drain_timeout)
    }
}

/// The limits of the side port.
fn side_limits(config: &Config, grpc: &Limits) -> Limits {
    // A proxy may ask about each request on a connection of its own.
    let max_connections = if config.gateway.forward_auth {
        http::MAX_CONNECTIONS.max(grpc.max_connections / 4)
    } else {
        http::MAX_CONNECTIONS
    };
    http::limits(max_connections, grpc.shared_sources.clone(), SHUTDOWN_GRACE)
}

/// The settings of `/authorize`, if it is served. With a secret configured, every proxy that knows it may have cookies
/// renewed; without one, that depends on whether anonymous callers may refresh.
fn forward_auth(config: &Config, app: &App, secret: Option<SharedSecret>) -> Option<ForwardAuth> {
    let gateway = &config.gateway;
    let anonymous = config.server.anonymous_scopes();
    gateway.forward_auth.then(|| ForwardAuth {
        gateway: app.gateway.clone(),
        refresher: app.refresher.clone(),
        secret,
        renews: gateway.forward_auth_secret.is_some()
            || anonymous.iter().any(|scope| scope == CallerScope::Refresh.as_str()),
        trusted_hops: gateway.trusted_hops,
        deadline: config.server.default_deadline,
        clock: app.stores.clock.clone(),
    })
}

/// Writes the file so that it never appears incomplete, and follows no link that another user made in its folder.
fn write_ready_file(path: &Path, addresses: &Addresses, entropy: &dyn Entropy) -> std::io::Result<()> {
    let Addresses { grpc, http } = addresses;
    let text = serde_json::json!({
        "grpc": grpc.to_string(),
        "http": http.to_string(),
        "pid": std::process::id(),
    });
    Draft::beside(path, 0o666, &format!("{text}\n"), entropy)?.replace(path)
}

async fn watch_health(app: Arc<App>, pipeline: Arc<Pipeline>, health: Health, halt: CancellationToken) {
    metrics::describe();
    loop {
        let (users, sessions) = tokio::join!(
            tokio::time::timeout(
                HEALTH_INTERVAL,
                crate::store::RevocationStore::ping(&*app.stores.durable)
            ),
            tokio::time::timeout(HEALTH_INTERVAL, app.stores.sessions.ping()),
        );
        let components = ComponentHealth {
            users: matches!(users, Ok(Ok(()))),
            writes: app.stores.durable.takes_writes(),
            sessions: matches!(sessions, Ok(Ok(()))),
            revocations: app.feed.freshness().is_ok(),
        };
        health.report(components).await;
        pipeline.observe_gates();
        metrics::set_gauges(&app, &pipeline, components);
        tokio::select! {
            () = halt.cancelled() => return,
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

/// What the side port serves.
struct SidePort {
    app: Arc<App>,
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    stop: Stop,
}

impl SidePortData for SidePort {
    fn jwks(&self) -> (String, String) {
        let ring = self.app.keys.current();
        (ring.jwks_json().to_owned(), ring.etag().to_owned())
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn now(&self) -> UnixMillis {
        self.app.stores.clock.now()
    }

    fn ready(&self) -> Result<String, String> {
        if self.stop.is_draining() {
            return Err("shutting down".to_owned());
        }
        self.app.feed.freshness().map_err(|error| error.to_string())?;
        let (essential, other): (Vec<_>, Vec<_>) = self.pipeline.full_gates().partition(|gate| gate.is_essential);
        let list = |gates: Vec<FullGate>| {
            let names: Vec<_> = gates.iter().map(|gate| gate.name).collect();
            format!("full for some seconds: {}", names.join(", "))
        };
        match (essential.is_empty(), other.is_empty()) {
            (false, _) => Err(list(essential)),
            (true, false) => Ok(list(other)),
            (true, true) => Ok(String::new()),
        }
    }
}
