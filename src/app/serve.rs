//! Running the service: listeners, background work, readiness, the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Inherited;
use super::caller_auth::CallerAuthenticator;
use super::error::StartError;
use super::grpc;
use super::maintenance;
use super::metrics;
use super::services::App;
use super::supervisor;
use super::tls::{self, Tls};
use crate::clock::UnixMillis;
use crate::config::{Config, Listen};
use crate::grpc::connection::GrpcHandler;
use crate::grpc::health::{ComponentHealth, Health};
use crate::grpc::layers::{Deadlines, Pipeline, RequestIds};
use crate::grpc::policy::{OptionalServices, Policy};
use crate::http::{self, ForwardAuth, HttpHandler, Metadata, SidePortData};
use crate::listener::{self, Limits, connection_cap};
use crate::model::CallerScope;
use crate::shutdown::Stop;
use crate::telemetry::Metrics;

/// How often the health of the parts is looked at.
const HEALTH: Duration = Duration::from_secs(1);

/// How long the side port finishes what it is asked when gRPC has ended.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How long an index may take to load before the start counts as failed: some millions of revocations.
const FIRST_LOAD: Duration = Duration::from_mins(5);

/// What `serve` is told beside the configuration.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to write the addresses once the service answers.
    pub ready_file: Option<PathBuf>,
    /// Sockets that the process was started with.
    pub inherited: Inherited,
    /// The metrics recorder, installed before anything counts.
    pub metrics: Metrics,
    /// Drains and stops the service.
    pub stop: Stop,
}

/// The addresses of a service that answers.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Of gRPC.
    pub grpc: Listen,
    /// Of the side port.
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
    let (grpc_listener, grpc_at) = inherited.grpc("server.listen", &config.server.listen).await?;
    let (http_listener, http_at) = inherited.http(config.server.http_listen).await?;
    let addresses = Addresses {
        grpc: grpc_at,
        http: http_at,
    };

    let (background, halt) = (TaskTracker::new(), CancellationToken::new());
    maintenance::start(&app, &background, &halt);
    tls.follow(&background, &halt);
    tokio::select! {
        () = app.feed.loaded() => {}
        () = stop.draining() => return Ok(()),
        () = tokio::time::sleep(FIRST_LOAD) => {
            return Err(StartError::Unreachable("the database does not give the revocations; see the log".into()));
        }
    }

    // Before the first call: what came back from a backup while nobody looked must not be served.
    if let Err(error) = maintenance::counters(&app).await {
        tracing::warn!(%error, "the counters of the store of sessions cannot be compared yet");
    }
    let (health, health_service) = Health::new(stop.clone()).await;
    let optional = OptionalServices {
        reflection: config.server.reflection(),
        ext_authz: config.gateway.ext_authz,
    };
    let services = grpc::services(&app, health_service, optional)?;
    let pipeline = Arc::new(Pipeline::new(
        Box::new(services),
        Arc::new(CallerAuthenticator::new(app.clone(), &config.server)?),
        Policy::new(optional),
        Deadlines {
            default: config.server.default_deadline,
            max: config.server.max_deadline,
        },
        RequestIds::new(&*app.stores.entropy),
        stop.clone(),
    ));
    background.spawn(watch_health(
        app.clone(),
        pipeline.clone(),
        health.clone(),
        halt.clone(),
    ));
    let grpc_server = Arc::new(GrpcHandler::new(pipeline, app.stores.entropy.clone()));
    let metadata = Metadata {
        issuer: config.tokens.issuer.clone(),
    };
    let data = Arc::new(Told {
        app: app.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    });
    let http = HttpHandler::new(data, &metadata, config.keys.jwks_max_age);
    let http = Arc::new(match forward_auth(config, &app) {
        Some(auth) => http.with_forward_auth(auth),
        None => http,
    });

    let limits = Limits {
        max_connections: connection_cap(config.server.max_connections),
        drain_timeout: config.server.drain_timeout,
    };
    let side = Limits {
        // A proxy may ask about each request on a connection of its own.
        max_connections: if config.gateway.forward_auth {
            http::MAX_CONNECTIONS.max(limits.max_connections / 4)
        } else {
            http::MAX_CONNECTIONS
        },
        drain_timeout: LAST_WORDS,
    };
    if let Some(path) = &ready_file {
        write_ready_file(path, &addresses)
            .map_err(|error| StartError::Other(format!("{}: {error}", path.display())))?;
    }
    supervisor::ready();
    background.spawn(supervisor::watch(stop.clone()));
    answering(addresses);
    let halted = halt.clone();
    background.spawn(async move { halted.run_until_cancelled(metrics.maintain()).await });
    // Who drains is still watched: the side port says that it is not ready, and shows metrics, until the last call ended.
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
        listener::serve(http_listener, tls.security(tls::HTTP), side, http, side_stop.clone()),
    );
    halt.cancel();
    background.close();
    background.wait().await;
    app.hashing.stop();
    if let Some(path) = &ready_file {
        // Whoever waits for the file must not find the one of a process that is gone.
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

/// What `/authorize` needs, if it is served. Who knows the secret may have cookies renewed; without one it is whoever
/// may refresh without a token.
fn forward_auth(config: &Config, app: &App) -> Option<ForwardAuth> {
    let gateway = &config.gateway;
    let anonymous = config.server.anonymous_scopes();
    gateway.forward_auth.then(|| ForwardAuth {
        gateway: app.gateway.clone(),
        refresher: app.refresher.clone(),
        secret: gateway.forward_auth_secret.clone(),
        renews: gateway.forward_auth_secret.is_some()
            || anonymous.iter().any(|scope| scope == CallerScope::Refresh.as_str()),
        deadline: config.server.default_deadline,
        renewals: AtomicUsize::new(0),
    })
}

/// Writes the file whole: whoever sees it sees all of it.
fn write_ready_file(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let Addresses { grpc, http } = addresses;
    let text = serde_json::json!({
        "grpc": grpc.to_string(),
        "http": http.to_string(),
        "pid": std::process::id(),
    });
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&draft, format!("{text}\n"))?;
    std::fs::rename(&draft, path)
}

async fn watch_health(app: Arc<App>, pipeline: Arc<Pipeline>, health: Health, halt: CancellationToken) {
    metrics::describe();
    loop {
        let (users, sessions) = tokio::join!(
            tokio::time::timeout(HEALTH, crate::store::RevocationStore::ping(&*app.stores.durable)),
            tokio::time::timeout(HEALTH, app.stores.sessions.ping()),
        );
        let parts = ComponentHealth {
            users: matches!(users, Ok(Ok(()))),
            sessions: matches!(sessions, Ok(Ok(()))),
            revocations: app.feed.freshness().is_ok(),
        };
        health.report(parts).await;
        metrics::look(&app, &pipeline, parts);
        tokio::select! {
            () = halt.cancelled() => return,
            () = tokio::time::sleep(HEALTH) => {}
        }
    }
}

struct Told {
    app: Arc<App>,
    metrics: Metrics,
    stop: Stop,
}

impl SidePortData for Told {
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

    fn ready(&self) -> Result<(), String> {
        if self.stop.is_draining() {
            return Err("shutting down".to_owned());
        }
        self.app.feed.freshness().map(drop).map_err(|error| error.to_string())
    }
}
