//! The certificate of a server, as a client sees it: its authority, its names and its expiry.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::server::{STEP_TIMEOUT, connect};
use super::{Findings, State};
use crate::trust::{ServerVerifier, provider};

const ABOUT: &str = "certificate";

/// A certificate that expires within this time should have been replaced.
const SOON: Duration = Duration::from_hours(14 * 24);

/// The most names of a certificate in a message.
const MAX_NAMES: usize = 5;

/// What the server presented, and whether it can be trusted.
struct Presented {
    chain: Vec<CertificateDer<'static>>,
    verdict: Result<(), Error>,
}

/// Accepts every certificate and keeps the verdict of `verifier`, so that the certificate can be described. Nothing is sent over
/// such a connection.
#[derive(Debug)]
struct Recorder {
    verifier: ServerVerifier,
    presented: Mutex<Option<Presented>>,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({:?})", self.verdict)
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self
            .verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.presented.lock() = Some(Presented {
            chain: chain.map(|certificate| certificate.clone().into_owned()).collect(),
            verdict: verdict.map(drop),
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Makes a handshake and checks the certificate. The error is what keeps every caller away.
pub(super) async fn look(
    host: &str,
    stream: TcpStream,
    verifier: ServerVerifier,
    found: &mut Findings,
) -> Result<(), (State, String)> {
    let recorder = Arc::new(Recorder {
        verifier,
        presented: Mutex::default(),
    });
    let speaks_h2 = match timeout(STEP_TIMEOUT, handshake(host, stream, Arc::clone(&recorder))).await {
        Ok(Ok(speaks_h2)) => speaks_h2,
        Ok(Err(error)) => {
            let message = format!(
                "{host}: the TLS handshake fails ({error}): does the port speak TLS? If not, call it as http://"
            );
            return Err((State::Misconfigured, message));
        }
        Err(_) => {
            let message =
                format!("{host}: no answer to the TLS handshake: does the port speak TLS? If not, call it as http://");
            return Err((State::Misconfigured, message));
        }
    };
    let Some(Presented { chain, verdict }) = recorder.presented.lock().take() else {
        return Err((State::Bad, format!("{host} presents no certificate")));
    };
    let Some(own) = chain.first().and_then(|own| X509Certificate::from_der(own).ok()) else {
        return Err((
            State::Bad,
            format!("{host}: the certificate cannot be read: replace it"),
        ));
    };
    if let Err(error) = verdict {
        return Err((State::Bad, explain(host, &own.1, &error)));
    }
    let now = found.clock.now().secs();
    let first_end = chain
        .iter()
        .filter_map(|certificate| {
            Some(
                X509Certificate::from_der(certificate)
                    .ok()?
                    .1
                    .validity()
                    .not_after
                    .timestamp(),
            )
        })
        .min();
    let left = Duration::from_secs(u64::try_from(first_end.unwrap_or(now) - now).unwrap_or(0));
    let days = left.as_secs() / 86_400;
    if left < SOON {
        let message =
            format!("expires in {days} days, or an authority that it comes with does: renew it (server.tls.cert)");
        found.add(ABOUT, State::Doubtful, message);
    } else {
        found.good(ABOUT, format!("trusted, for {host}, valid for {days} days"));
    }
    if !speaks_h2 {
        let message = "the TLS of the server does not offer HTTP/2 (ALPN h2), which gRPC needs: is it the gRPC port, and does a proxy \
                       before it offer h2?";
        found.add(ABOUT, State::Doubtful, message);
    }
    Ok(())
}

/// Returns whether the server offers HTTP/2.
async fn handshake(host: &str, stream: TcpStream, recorder: Arc<Recorder>) -> io::Result<bool> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(recorder)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.get_ref().1.alpn_protocol() == Some(b"h2"))
}

/// Whether a server speaks TLS at an address that was called without it.
pub(super) async fn is_spoken(host: &str, port: u16) -> bool {
    let (Ok(stream), Ok(verifier)) = (connect(host, port).await, ServerVerifier::of_system()) else {
        return false;
    };
    let recorder = Arc::new(Recorder {
        verifier,
        presented: Mutex::default(),
    });
    // A server that wants a certificate of its clients ends the handshake, after it has shown its own.
    let _ = timeout(STEP_TIMEOUT, handshake(host, stream, Arc::clone(&recorder))).await;
    recorder.presented.lock().is_some()
}

/// Why clients refuse the certificate, and the cure.
fn explain(host: &str, own: &X509Certificate<'_>, error: &Error) -> String {
    use CertificateError as E;
    let Error::InvalidCertificate(problem) = error else {
        return format!("clients refuse the certificate of {host}: {error}");
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library adds kinds of problems; one of which nothing is known has no cure but another certificate"
    )]
    match problem {
        E::Expired | E::ExpiredContext { .. } => format!(
            "the certificate of {host} has expired ({}): replace server.tls.cert and server.tls.key; the server reads new files \
             without a restart",
            own.validity().not_after
        ),
        E::NotValidYet | E::NotValidYetContext { .. } => format!(
            "the certificate of {host} is valid from {}: is the clock of this machine right?",
            own.validity().not_before
        ),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            let names = names(own);
            format!(
                "the certificate is not for {host} but for {names}: call the server by such a name, or get one for {host}"
            )
        }
        // A bad signature: the authority has the name of one that is trusted, and another key.
        E::UnknownIssuer | E::BadSignature => format!(
            "the certificate of {host} is of an authority that is not trusted here ({}): name its PEM file by --ca-file or \
             COUNTERSIGN_CA_FILE; if the authority is trusted, server.tls.cert lacks the certificates between the two",
            own.issuer()
        ),
        other => format!("clients refuse the certificate of {host}: {other}; replace server.tls.cert"),
    }
}

/// The names in a certificate.
fn names(own: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = own.subject_alternative_name() else {
        return "no name (it has no subjectAltName)".to_owned();
    };
    let name = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            return Some((*name).to_owned());
        }
        let GeneralName::IPAddress(bytes) = name else {
            return None;
        };
        let short = <[u8; 4]>::try_from(*bytes).ok();
        let long = <[u8; 16]>::try_from(*bytes).ok();
        short
            .map(std::net::IpAddr::from)
            .or(long.map(std::net::IpAddr::from))
            .map(|ip| ip.to_string())
    };
    let names = extension.value.general_names.iter().filter_map(name);
    names.take(MAX_NAMES).collect::<Vec<_>>().join(", ")
}
