//! Reload of the TLS files while the service runs: valid files are put into effect, others are refused.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::tls::{TlsFiles, TlsMaterial, Validity};
use crate::clock::Clock;

/// How often the files are read. Only reading sees every kind of replacement: a file written in place, a file renamed
/// over another, or a symbolic link to a folder that is changed, as Kubernetes does.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The certificates of the listeners. New handshakes use the files as they are now; open connections are not affected.
///
/// Files that cannot be used (truncated, for another key, expired, not yet valid, unreadable) change nothing.
/// Certificate and key are two files and cannot be replaced in one step, so a problem is logged, once, only if the next
/// reading finds it again.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    listeners: Vec<(Vec<u8>, Arc<ArcSwap<ServerConfig>>)>,
    loaded: [u8; 32],
    reload_requested: Notify,
}

/// The result of the last reading.
#[derive(Debug, PartialEq, Eq)]
enum FilesState {
    /// In effect: the fingerprint of the files.
    InEffect([u8; 32]),
    /// Refused for this reason, and whether that was logged.
    Refused { error: String, logged: bool },
}

impl Certificates {
    /// Reads the files for listeners of these protocols (`h2`, `http/1.1`). An expired certificate is used at the
    /// start, with an error in the log, because there is no better one.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn load(files: TlsFiles, protocols: &[&[u8]], clock: Arc<dyn Clock>) -> Result<Self, String> {
        let material = files.read()?;
        let listeners = protocols
            .iter()
            .map(|alpn| Ok((alpn.to_vec(), Arc::new(ArcSwap::from_pointee(material.config(alpn)?)))))
            .collect::<Result<_, String>>()?;
        let new = Self {
            files,
            clock,
            listeners,
            loaded: material.fingerprint(),
            reload_requested: Notify::new(),
        };
        if let Err(error) = new.check_validity(&material) {
            tracing::error!(
                error,
                "the certificate is not valid now, but is used for lack of another; replace it"
            );
        }
        describe();
        record_expiry(&material);
        Ok(new)
    }

    /// The TLS configuration for the listener of this protocol.
    #[must_use]
    pub fn security(&self, alpn: &[u8]) -> super::Security {
        let found = self.listeners.iter().find(|(known, _)| known == alpn);
        found.map_or(super::Security::Plain, |(_, config)| {
            super::Security::Tls(Arc::clone(config))
        })
    }

    /// Reads the files now instead of at the next interval.
    pub fn reload_now(&self) {
        self.reload_requested.notify_one();
    }

    /// Reloads the files whenever they change, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut state = FilesState::InEffect(self.loaded);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = self.reload_requested.notified() => {}
            }
            state = self.reload(state).await;
        }
    }

    async fn reload(&self, before: FilesState) -> FilesState {
        let files = self.files.clone();
        // A file on a network volume can be slow.
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        let material = match read {
            Ok(material) if before == FilesState::InEffect(material.fingerprint()) => return before,
            Ok(material) => material,
            Err(error) => return reject(error, &before),
        };
        match self.apply(&material) {
            Ok(()) => FilesState::InEffect(material.fingerprint()),
            Err(error) => reject(error, &before),
        }
    }

    /// Puts the files into effect, for all listeners or for none.
    fn apply(&self, material: &TlsMaterial) -> Result<(), String> {
        self.check_validity(material)?;
        let configs: Vec<_> = self
            .listeners
            .iter()
            .map(|(alpn, _)| material.config(alpn))
            .collect::<Result<_, _>>()?;
        for ((_, current), new) in self.listeners.iter().zip(configs) {
            current.store(Arc::new(new));
        }
        record_expiry(material);
        metrics::counter!("countersign_tls_reloads_total", "outcome" => "taken").increment(1);
        metrics::gauge!("countersign_tls_files_refused").set(0.0);
        tracing::info!("new TLS files are in effect");
        Ok(())
    }

    /// Returns an error unless all certificates are valid now.
    fn check_validity(&self, material: &TlsMaterial) -> Result<(), String> {
        let now = self.clock.now();
        let check = |path: &std::path::Path, validity: Validity| {
            if now > validity.until {
                return Err(format!("{}: the certificate has expired", path.display()));
            }
            if now < validity.from {
                return Err(format!("{}: the certificate is not valid yet", path.display()));
            }
            Ok(())
        };
        check(&self.files.cert, material.validity()?)?;
        match (&self.files.client_ca, material.client_ca_validity()?) {
            (Some(path), Some(validity)) => check(path, validity),
            _ => Ok(()),
        }
    }
}

/// Keeps the files that are in effect. Logs the error if the reading before had the same error and it was not logged.
fn reject(error: String, before: &FilesState) -> FilesState {
    let logged = match before {
        FilesState::Refused { error: known, logged } if *known == error => {
            if !logged {
                metrics::counter!("countersign_tls_reloads_total", "outcome" => "refused").increment(1);
                metrics::gauge!("countersign_tls_files_refused").set(1.0);
                tracing::error!(
                    error,
                    "the TLS files cannot be used: the files that were read before stay in effect"
                );
            }
            true
        }
        FilesState::InEffect(_) | FilesState::Refused { .. } => false,
    };
    FilesState::Refused { error, logged }
}

fn describe() {
    metrics::describe_gauge!(
        "countersign_tls_certificate_expiry_timestamp_seconds",
        "When the certificate in force expires, in Unix seconds; of the clients' CAs the last to."
    );
    metrics::describe_counter!(
        "countersign_tls_reloads_total",
        "Changed TLS files, by whether they were taken or refused."
    );
    metrics::describe_gauge!(
        "countersign_tls_files_refused",
        "1 while the TLS files cannot be used and older ones stay in force."
    );
    for outcome in ["taken", "refused"] {
        metrics::counter!("countersign_tls_reloads_total", "outcome" => outcome).increment(0);
    }
    metrics::gauge!("countersign_tls_files_refused").set(0.0);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn record_expiry(material: &TlsMaterial) {
    let set = |what: &'static str, validity: Validity| {
        metrics::gauge!("countersign_tls_certificate_expiry_timestamp_seconds", "of" => what)
            .set(validity.until.0 as f64 / 1000.0);
    };
    if let Ok(own) = material.validity() {
        set("server", own);
    }
    if let Ok(Some(ca)) = material.client_ca_validity() {
        set("client_ca", ca);
    }
}
