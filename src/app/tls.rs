//! The certificates of both ports, and reloading files.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::StartError;
use super::secret_files::SecretFiles;
use super::services::App;
use crate::config::Config;
use crate::listener::{Certificates, Security, TlsFiles};

/// The ALPN name of the gRPC port's protocol.
pub(super) const GRPC: &[u8] = b"h2";

/// The ALPN name of the side port's protocol.
pub(super) const HTTP: &[u8] = b"http/1.1";

/// The certificates of both ports, if TLS is configured.
pub(super) struct Tls(Option<Arc<Certificates>>);

impl Tls {
    /// Reads the files that the configuration names.
    pub(super) fn load(config: &Config, app: &App) -> Result<Self, StartError> {
        let tls = &config.server.tls;
        let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
            return Ok(Self(None));
        };
        let files = TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: tls.client_ca.clone(),
        };
        let loaded = Certificates::load(files, &[GRPC, HTTP], app.stores.clock.clone())
            .map_err(|error| StartError::Config(format!("server.tls: {error}")))?;
        Ok(Self(Some(Arc::new(loaded))))
    }

    /// The transport security of the port with this protocol.
    pub(super) fn security(&self, alpn: &[u8]) -> Security {
        let certificates = self.0.as_ref();
        certificates.map_or(Security::Plain, |certificates| certificates.security(alpn))
    }

    /// Reloads these files and those with secrets when they change, and at each SIGHUP, until `halt`.
    pub(super) fn follow(&self, secrets: &Arc<SecretFiles>, tasks: &TaskTracker, halt: &CancellationToken) {
        tasks.spawn(on_hangup(self.0.clone(), Arc::clone(secrets), halt.clone()));
        let (secrets, halted) = (Arc::clone(secrets), halt.clone());
        tasks.spawn(async move { secrets.follow(halted).await });
        if let Some(certificates) = self.0.clone() {
            let halt = halt.clone();
            tasks.spawn(async move { certificates.follow(halt).await });
        }
    }
}

/// Reloads the files at each SIGHUP. Without TLS the signal is received too, so that it does not end the process.
async fn on_hangup(certificates: Option<Arc<Certificates>>, secrets: Arc<SecretFiles>, halt: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGHUP; files are reloaded only when they change");
            return;
        }
    };
    while let Some(Some(())) = halt.run_until_cancelled(hangup.recv()).await {
        secrets.reload_now();
        if let Some(certificates) = &certificates {
            certificates.reload_now();
        } else {
            tracing::info!("SIGHUP received: there are no TLS files to reload");
        }
    }
}
