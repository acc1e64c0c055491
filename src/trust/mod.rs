//! The certificates that this process trusts at the other end of a TLS connection.
//!
//! Besides the rules of Web PKI there is one more: a certificate that the file of authorities names exactly is trusted while it
//! is valid, even if it says that it is an authority (`CA:TRUE`). `openssl req -x509` makes such certificates by default.

mod client_certificate;
mod pinned;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{self, CryptoProvider};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use client_certificate::client_config;
pub use pinned::pinned_config;

/// The cryptography of all connections.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// The certificates of a PEM text; at least one.
///
/// # Errors
/// The problem, without the text.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if list.is_empty() {
        return Err("contains no certificate".to_owned());
    }
    Ok(list)
}

/// Whether `authorities` contain exactly this certificate.
#[must_use]
pub fn names_exactly(authorities: &[CertificateDer<'_>], certificate: &CertificateDer<'_>) -> bool {
    authorities
        .iter()
        .any(|authority| authority.as_ref() == certificate.as_ref())
}

/// Checks that the certificate is valid at this time.
///
/// # Errors
/// `Expired` or `NotValidYet`, or `BadEncoding`.
pub fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = X509Certificate::from_der(certificate);
    let (_, parsed) = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

/// The authorities of the operating system (`SSL_CERT_FILE` names others).
///
/// # Errors
/// If there are none.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let problem = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!(
            "this system has no certificate authorities{problem}; install ca-certificates, or name a file"
        ));
    }
    Ok(found.certs)
}

/// The authorities of the operating system, in PEM.
///
/// # Errors
/// If there are none.
pub fn system_roots_pem() -> Result<String, String> {
    let mut pem = String::new();
    for certificate in system_roots()? {
        pem += "-----BEGIN CERTIFICATE-----\n";
        pem += &STANDARD.encode(&certificate);
        pem += "\n-----END CERTIFICATE-----\n";
    }
    Ok(pem)
}

/// Verifies the certificates of servers.
pub struct ServerVerifier {
    /// The file of the authorities; none means those of the system.
    file: Option<PathBuf>,
    checks_names: bool,
    provider: Arc<CryptoProvider>,
    /// The authorities that were read last.
    trusted: Mutex<Arc<Trusted>>,
    /// Whether it was logged that the file cannot be used now.
    reported: AtomicBool,
}

struct Trusted {
    /// The content of the file.
    pem: Vec<u8>,
    authorities: Vec<CertificateDer<'static>>,
    web_pki: Arc<WebPkiServerVerifier>,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl ServerVerifier {
    /// Trusts the authorities of this PEM file, and no others. The file is read again at each handshake, so that a new one needs no
    /// restart; while it cannot be used, the one before stays in effect.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let named = |problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
        let pem = std::fs::read(path).map_err(|error| named(&error))?;
        let provider = provider();
        let trusted = Trusted::read(pem, &provider).map_err(|problem| named(&problem))?;
        Ok(Self {
            file: Some(path.to_owned()),
            checks_names: true,
            provider,
            trusted: Mutex::new(Arc::new(trusted)),
            reported: AtomicBool::new(false),
        })
    }

    /// Trusts the authorities of the operating system.
    ///
    /// # Errors
    /// If there are none.
    pub fn of_system() -> Result<Self, String> {
        let provider = provider();
        let trusted = Trusted::new(Vec::new(), system_roots()?, &provider)?;
        Ok(Self {
            file: None,
            checks_names: true,
            provider,
            trusted: Mutex::new(Arc::new(trusted)),
            reported: AtomicBool::new(false),
        })
    }

    /// Accepts a certificate of any name.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self {
            checks_names: false,
            ..self
        }
    }

    /// The authorities that are trusted now.
    fn trusted(&self) -> Arc<Trusted> {
        let before = Arc::clone(&self.trusted.lock());
        let Some(path) = &self.file else { return before };
        // A handshake is rare, and the file is small.
        let read = std::fs::read(path).map_err(|error| error.to_string());
        let new = match read {
            Ok(pem) if pem == before.pem => {
                self.reported.store(false, Ordering::Relaxed);
                return before;
            }
            read => read.and_then(|pem| Trusted::read(pem, &self.provider)),
        };
        match new {
            Ok(new) => {
                let new = Arc::new(new);
                self.reported.store(false, Ordering::Relaxed);
                *self.trusted.lock() = Arc::clone(&new);
                new
            }
            Err(error) => {
                if !self.reported.swap(true, Ordering::Relaxed) {
                    let path = path.display();
                    tracing::warn!(error, %path, "the file of authorities cannot be used; the one before stays in effect");
                }
                before
            }
        }
    }
}

/// Whether only the name of a certificate is wrong: it is checked last.
fn is_about_name(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(
        error,
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })
    )
}

impl Trusted {
    fn read(pem: Vec<u8>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let authorities = certificates(&pem)?;
        Self::new(pem, authorities, provider)
    }

    fn new(
        pem: Vec<u8>,
        authorities: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // Those of a system may contain some that cannot be read.
        let (added, _) = roots.add_parsable_certificates(authorities.iter().cloned());
        if added == 0 {
            return Err("contains no certificate that can be read".to_owned());
        }
        let web_pki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(Self {
            pem,
            authorities,
            web_pki: web_pki.build().map_err(|error| error.to_string())?,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trusted = self.trusted();
        let verified = trusted
            .web_pki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verified.is_ok() || !self.checks_names && verified.as_ref().is_err_and(is_about_name) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.file.is_none() || !names_exactly(&trusted.authorities, end_entity) {
            return verified;
        }
        check_validity(end_entity, now)?;
        if self.checks_names {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn self_signed(set: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        set(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn verify(path: &Path, presented: &str, name: &str) -> Result<(), Error> {
        let verifier = ServerVerifier::of_file(path).unwrap();
        let certificate = &certificates(presented.as_bytes()).unwrap()[0];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_hours(500_000));
        verifier.verify_server_cert(certificate, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn an_authority_is_trusted_as_a_server_only_if_the_file_names_it_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let own = self_signed(|_| {});
        let path = write("own.pem", &format!("\u{feff}{own}"));
        verify(&path, &own, "localhost").unwrap();
        assert!(verify(&path, &own, "db.internal").is_err(), "another name");
        assert!(
            verify(&path, &self_signed(|_| {}), "localhost").is_err(),
            "another certificate"
        );
        let expired = self_signed(|params| params.not_after = date_time_ymd(2020, 1, 1));
        let error = verify(&write("expired.pem", &expired), &expired, "localhost").unwrap_err();
        assert_eq!(error, CertificateError::Expired.into());
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_an_unusable_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let (first, second) = (self_signed(|_| {}), self_signed(|_| {}));
        std::fs::write(&path, &first).unwrap();
        let verifier = ServerVerifier::of_file(&path).unwrap();
        let trusts = |pem: &str| {
            names_exactly(
                &verifier.trusted().authorities,
                &certificates(pem.as_bytes()).unwrap()[0],
            )
        };
        assert!(trusts(&first) && !trusts(&second));
        std::fs::write(&path, &second).unwrap();
        assert!(!trusts(&first) && trusts(&second));
        std::fs::write(&path, "garbage").unwrap();
        assert!(trusts(&second));
        assert!(ServerVerifier::of_file(&path).unwrap_err().contains("ca.pem"));
    }
}
