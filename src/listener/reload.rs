//! The TLS files while the service runs: what is new is taken over, what is no good is not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::tls::{TlsFiles, TlsMaterial, Validity};
use crate::clock::Clock;

/// How often the files are read. Reading them is the one way that sees every kind of replacement: written in place,
/// renamed over, or a folder's symbolic link pointed elsewhere, as Kubernetes does it.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The certificates of the listeners. New handshakes take what the files hold now; open connections go on.
///
/// Files that cannot be used (truncated, of another key, expired, not yet good, unreadable) leave what is in force in
/// force. Certificate and key are two files and cannot be replaced in one step, so only what is still wrong when it is
/// read a second time is complained about, once.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    listeners: Vec<(Vec<u8>, Arc<ArcSwap<ServerConfig>>)>,
    loaded: [u8; 32],
    now: Notify,
}

/// What the last reading came to.
#[derive(Debug, PartialEq, Eq)]
enum FilesState {
    /// In force.
    Good([u8; 32]),
    /// Refused, for this reason; complained about or not yet.
    Bad(String, bool),
}

impl Certificates {
    /// Reads the files for listeners that speak these protocols (`h2`, `http/1.1`), in this order. At the start a
    /// certificate that has expired is taken all the same, loudly: there is no better one.
    ///
    /// # Errors
    /// With one line that names the file and what is wrong with it.
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
            now: Notify::new(),
        };
        if let Err(problem) = new.is_current(&material) {
            tracing::error!(problem, "the certificate is served all the same: replace it");
        }
        describe();
        record_expiry(&material);
        Ok(new)
    }

    /// What the listener of this protocol takes.
    #[must_use]
    pub fn security(&self, alpn: &[u8]) -> super::Security {
        let found = self.listeners.iter().find(|(known, _)| known == alpn);
        found.map_or(super::Security::Plain, |(_, config)| {
            super::Security::Tls(Arc::clone(config))
        })
    }

    /// Has the files read at once.
    pub fn reload_now(&self) {
        self.now.notify_one();
    }

    /// Follows the files until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut seen = FilesState::Good(self.loaded);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = self.now.notified() => {}
            }
            seen = self.reload(seen).await;
        }
    }

    async fn reload(&self, before: FilesState) -> FilesState {
        let files = self.files.clone();
        // A file on a network volume may take its time.
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        let material = match read {
            Ok(material) if before == FilesState::Good(material.fingerprint()) => return before,
            Ok(material) => material,
            Err(problem) => return reject(problem, &before),
        };
        match self.apply(&material) {
            Ok(()) => FilesState::Good(material.fingerprint()),
            Err(problem) => reject(problem, &before),
        }
    }

    /// Puts it in force, for all listeners or for none.
    fn apply(&self, material: &TlsMaterial) -> Result<(), String> {
        self.is_current(material)?;
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
        tracing::info!("new TLS files are in force");
        Ok(())
    }

    /// Whether the certificates are good now.
    fn is_current(&self, material: &TlsMaterial) -> Result<(), String> {
        let now = self.clock.now();
        let check = |what: &std::path::Path, validity: Validity| {
            if now > validity.until {
                return Err(format!("{}: the certificate has expired", what.display()));
            }
            if now < validity.from {
                return Err(format!("{}: the certificate is not good yet", what.display()));
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

/// Keeps what is in force, and complains if this problem is not new and was not complained about.
fn reject(problem: String, before: &FilesState) -> FilesState {
    let complained = match before {
        FilesState::Bad(known, complained) if *known == problem => {
            if !complained {
                metrics::counter!("countersign_tls_reloads_total", "outcome" => "refused").increment(1);
                metrics::gauge!("countersign_tls_files_refused").set(1.0);
                tracing::error!(
                    problem,
                    "the TLS files cannot be used: what was read before stays in force"
                );
            }
            true
        }
        FilesState::Good(_) | FilesState::Bad(..) => false,
    };
    FilesState::Bad(problem, complained)
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
