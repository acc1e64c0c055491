//! The certificate that this process presents to a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::{ServerVerifier, certificates, provider};

/// The configuration of a client that trusts what `verifier` trusts and presents the certificate and key of these files. The files
/// are read again at each handshake, so that new certificates need no restart.
///
/// # Errors
/// One line that names the file and the problem.
pub fn client_config(verifier: ServerVerifier, client: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match client {
        Some((cert, key)) => builder.with_client_cert_resolver(Arc::new(ClientCertificate::read(cert, key)?)),
        None => builder.with_no_client_auth(),
    })
}

/// The certificate of this client.
#[derive(Debug)]
struct ClientCertificate {
    cert: PathBuf,
    key: PathBuf,
    /// The one that was read last.
    current: Mutex<Arc<CertifiedKey>>,
}

impl ClientCertificate {
    fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        Ok(Self {
            current: Mutex::new(Arc::new(read(cert, key)?)),
            cert: cert.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock();
        // While new files are incomplete, the ones before are used.
        match read(&self.cert, &self.key) {
            Ok(new) => *current = Arc::new(new),
            Err(error) => tracing::debug!(error, "the client certificate cannot be read; the one before is used"),
        }
        Some(Arc::clone(&current))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let named = |path: &Path, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let chain = std::fs::read(cert).map_err(|error| named(cert, &error))?;
    let chain = certificates(&chain).map_err(|problem| named(cert, &problem))?;
    let pem = Zeroizing::new(std::fs::read(key).map_err(|error| named(key, &error))?);
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| named(key, &error))?;
    let certified = CertifiedKey::from_der(chain, private, &provider());
    certified.map_err(|error| named(cert, &error))
}
