//! Asks a running server or agent whether it serves: for images without a shell, and for people.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::error::StartError;
use crate::config::{Listen, Server};
use crate::trust::{self, ServerVerifier};

/// How long connecting and asking may take together. Shorter than the timeouts of orchestrators.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The components that a server reports apart from the whole.
pub(super) const COMPONENTS: [&str; 3] = ["revocations", "store.users", "store.sessions"];

/// The server to ask.
#[derive(Clone, Debug)]
pub enum HealthTarget {
    /// The server of this machine, at the address of its configuration. Its certificate must be the one in the file `cert`,
    /// whatever name and authority that has.
    Configured {
        /// Where it listens.
        listen: Listen,
        /// Its certificate; none without TLS.
        cert: Option<PathBuf>,
    },
    /// A URL: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    Url {
        /// The URL.
        url: String,
        /// A PEM file with the authorities of the server's certificate; none for those of the system.
        ca: Option<PathBuf>,
    },
}

impl HealthTarget {
    /// The server with this configuration.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        Self::Configured {
            listen: reachable(&server.listen),
            cert: server.tls.cert.clone(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Configured { listen, .. } => listen.to_string(),
            Self::Url { url, .. } => without_login(url),
        }
    }
}

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// The server that was asked.
    pub server: String,
    /// The status of the service that was asked for, as gRPC names it.
    pub status: &'static str,
    /// The components that do not serve.
    pub failing: Vec<&'static str>,
}

impl HealthReport {
    /// Whether the service that was asked for serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.status == ServingStatus::Serving.as_str_name()
    }
}

/// Asks for the health of `service`; the empty name is the whole server.
///
/// # Errors
/// `Unreachable` if there is no answer; `Config` if the target is wrong.
pub async fn health(target: &HealthTarget, service: &str) -> Result<HealthReport, StartError> {
    let name = target.name();
    let asked = tokio::time::timeout(TIMEOUT, ask(target, service));
    asked.await.unwrap_or_else(|_| {
        Err(StartError::Unreachable(format!(
            "{name}: no answer within {} s",
            TIMEOUT.as_secs()
        )))
    })
}

async fn ask(target: &HealthTarget, service: &str) -> Result<HealthReport, StartError> {
    let server = target.name();
    let mut client = HealthClient::new(connect(target).await?);
    let mut check = async |service: &str| {
        let asked = client.check(Request::new(HealthCheckRequest {
            service: service.to_owned(),
        }));
        asked.await.map(|response| response.into_inner().status())
    };
    let status = match check(service).await {
        Ok(status) => status,
        Err(status) if status.code() == Code::NotFound => ServingStatus::ServiceUnknown,
        Err(status) => {
            let cause = root_cause(&status);
            let cause = if cause.is_empty() {
                status.message().to_owned()
            } else {
                cause
            };
            return Err(StartError::Unreachable(format!(
                "{server}: the answer is no answer of gRPC ({cause}); is it the gRPC port, and is TLS right?"
            )));
        }
    };
    let mut failing = Vec::new();
    for component in COMPONENTS {
        // An agent has no components.
        if matches!(check(component).await, Ok(ServingStatus::NotServing)) {
            failing.push(component);
        }
    }
    Ok(HealthReport {
        server,
        status: status.as_str_name(),
        failing,
    })
}

async fn connect(target: &HealthTarget) -> Result<Channel, StartError> {
    let name = target.name();
    let unreachable = |error: &(dyn std::error::Error + 'static)| {
        StartError::Unreachable(format!(
            "{name}: {}; does `countersign serve` run there?",
            root_cause(error)
        ))
    };
    let connector = match target {
        HealthTarget::Configured { listen, cert } => Local {
            listen: listen.clone(),
            tls: cert.as_deref().map(pinned).transpose()?,
        },
        HealthTarget::Url { url, ca } => {
            let Some(path) = url.strip_prefix("unix:") else {
                let endpoint = remote(url, ca.as_deref())?;
                return endpoint.connect().await.map_err(|error| unreachable(&error));
            };
            Local {
                listen: Listen::Unix(path.trim_start_matches("//").into()),
                tls: None,
            }
        }
    };
    // The connector decides where the connection leads, and whether it has TLS.
    let endpoint = Endpoint::from_static("http://localhost");
    let connected = endpoint.connect_with_connector(connector);
    connected.await.map_err(|error| unreachable(&error))
}

fn remote(url: &str, ca: Option<&Path>) -> Result<Endpoint, StartError> {
    let wrong = || {
        StartError::Config(format!(
            "--server {}: must be http://HOST:PORT, https://HOST:PORT or unix:PATH",
            without_login(url)
        ))
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        Some("https") => {
            let with_tls = match ca {
                None => endpoint.tls_config(ClientTlsConfig::new().with_native_roots()),
                Some(path) => {
                    let verifier = ServerVerifier::of_file(path)
                        .map_err(|problem| StartError::Config(format!("--ca-file {problem}")))?;
                    endpoint.tls_config_with_verifier(ClientTlsConfig::new(), Arc::new(verifier))
                }
            };
            with_tls.map_err(|error| {
                let server = without_login(url);
                StartError::Config(format!("--server {server}: cannot use TLS: {}", root_cause(&error)))
            })
        }
        _ => Err(wrong()),
    }
}

/// A URL for messages: it may contain a password, by mistake.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[end..])
}

/// The address at which this machine reaches a listener: one that listens on all addresses is reached on loopback.
fn reachable(listen: &Listen) -> Listen {
    match listen {
        Listen::Tcp(address) if address.ip().is_unspecified() => {
            let loopback = match address {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            Listen::Tcp(SocketAddr::new(loopback, address.port()))
        }
        Listen::Tcp(_) | Listen::Unix(_) => listen.clone(),
    }
}

/// Connects to a listener of this machine.
struct Local {
    listen: Listen,
    tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl tower_service::Service<Uri> for Local {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (listen, tls) = (self.listen.clone(), self.tls.clone());
        Box::pin(async move {
            let stream: Box<dyn Stream> = match &listen {
                Listen::Tcp(address) => Box::new(match TcpStream::connect(address).await {
                    // All addresses of a machine without IPv6 are its IPv4 addresses.
                    Err(_) if address.ip() == Ipv6Addr::LOCALHOST => {
                        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await?
                    }
                    connected => connected?,
                }),
                Listen::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            let stream = match tls {
                Some(tls) => Box::new(tls.connect(ServerName::from(Ipv4Addr::LOCALHOST), stream).await?),
                None => stream,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// TLS to a server whose certificate is the first one in the file.
fn pinned(cert: &Path) -> Result<TlsConnector, StartError> {
    let mut config = trust::pinned_config(cert)
        .map_err(|problem| StartError::Config(format!("server.tls.cert: {}: {problem}", cert.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The last error in the chain of sources: the errors above it only say that something failed.
pub(super) fn root_cause(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_login() {
        for (url, shown) in [
            ("https://ada:canary@h:1/a@b", "https://h:1/a@b"),
            ("http://h", "http://h"),
            ("unix:/run/a@b", "unix:/run/a@b"),
            ("canary", "canary"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:50051", "127.0.0.1:50051"),
            ("[::]:50051", "[::1]:50051"),
            ("10.0.0.7:50051", "10.0.0.7:50051"),
            ("unix:/run/cs.sock", "unix:/run/cs.sock"),
        ] {
            assert_eq!(reachable(&listen.parse().unwrap()).to_string(), asked);
        }
    }
}
