//! The checks of `countersign doctor --server`: a running server, as its callers meet it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Finding, Findings, State, server_tls, side_port};
use crate::app::health::{COMPONENTS, root_cause};
use crate::clock::SystemClock;
use crate::proto::token_service_client::TokenServiceClient;
use crate::proto::{GetKeysRequest, KeySet, KeyState};
use crate::trust::ServerVerifier;

const SERVER: &str = "server";
const HEALTH: &str = "health";
const KEYS: &str = "keys";

/// The longest that one step may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server to check.
#[derive(Clone, Debug)]
pub struct ServerTarget {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    pub url: String,
    /// A PEM file with the authorities of its certificate; none for those of the system.
    pub ca_file: Option<PathBuf>,
    /// The port on which its side port is looked for, on the same host.
    pub side_port: u16,
}

/// The address in a URL.
enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool },
}

/// Checks a running server from the outside: the way to it, its certificate, its health, its keys, its clock and its version.
pub async fn examine_server(target: &ServerTarget) -> Vec<Finding> {
    let mut found = Findings {
        clock: Arc::new(SystemClock::new()),
        list: Vec::new(),
    };
    look(target, &mut found).await;
    found.list
}

async fn look(target: &ServerTarget, found: &mut Findings) {
    let Some(address) = parse(&target.url) else {
        let message = "--server must be a URL: http://HOST:PORT, https://HOST:PORT or unix:PATH";
        found.add(SERVER, State::Misconfigured, message);
        return;
    };
    if let Err((state, problem)) = reach(target, &address, found).await {
        found.add(SERVER, state, problem);
        return;
    }
    let endpoint = match endpoint(target) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            found.add(SERVER, State::Misconfigured, problem);
            return;
        }
    };
    let channel = endpoint.connect_lazy();
    if let Err(status) = health(&channel, found).await {
        let message = no_grpc(target, &address, &status).await;
        found.add(SERVER, message.0, message.1);
        return;
    }
    let published = keys(channel, found).await;
    if let Address::Tcp { host, .. } = &address {
        side_port::look(host, target.side_port, published.as_deref(), found).await;
    }
}

fn parse(url: &str) -> Option<Address> {
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return (!path.is_empty()).then(|| Address::Unix(path.into()));
    }
    let uri: Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Address::Tcp { host, port, tls })
}

/// Connects, and checks the certificate. The error is what keeps every caller away.
async fn reach(target: &ServerTarget, address: &Address, found: &mut Findings) -> Result<(), (State, String)> {
    let url = &target.url;
    match address {
        Address::Unix(path) => {
            connect_unix(path)
                .await
                .map_err(|problem| (State::Unreachable, problem))?;
            found.good(SERVER, format!("{url} accepts connections"));
        }
        Address::Tcp { host, port, tls } => {
            let stream = connect(host, *port)
                .await
                .map_err(|problem| (State::Unreachable, problem))?;
            let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            if *tls {
                let verifier = verifier(target).map_err(|problem| (State::Misconfigured, problem))?;
                found.good(SERVER, format!("{url} accepts connections"));
                server_tls::look(host, stream, verifier, found).await?;
            } else if is_local {
                found.good(SERVER, format!("{url} accepts connections"));
            } else {
                let message = format!(
                    "{url} accepts connections without TLS: passwords and tokens can be read on the way; set server.tls.cert and \
                     server.tls.key, or call it through a proxy with TLS"
                );
                found.add(SERVER, State::Doubtful, message);
            }
        }
    }
    Ok(())
}

async fn connect_unix(path: &Path) -> Result<(), String> {
    let connected = UnixStream::connect(path).await;
    connected.map(drop).map_err(|error| {
        let cure = if error.kind() == std::io::ErrorKind::PermissionDenied {
            "only the user of the server may use its socket: run this as that user"
        } else {
            "does `countersign serve` run, with this path in server.listen?"
        };
        format!("unix:{}: {error}; {cure}", path.display())
    })
}

/// A connection to the first address of the host that accepts one.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let no_name = |cause: &dyn std::fmt::Display| {
        format!("the name {host} has no address ({cause}): correct it, or the name resolution of this machine")
    };
    let addresses: Vec<SocketAddr> = match timeout(STEP_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(no_name(&error)),
        Err(_) => return Err(no_name(&"no answer")),
    };
    let mut problem = no_name(&"it has no record");
    for address in addresses {
        problem = match timeout(STEP_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => format!(
                "{host}:{port} refuses connections: does `countersign serve` run there, and is server.listen an address that this \
                 machine can reach, with this port?"
            ),
            Ok(Err(error)) => format!("{host}:{port}: {error}; is the address right, and is there a route to it?"),
            Err(_) => format!(
                "{host}:{port} does not answer within {} s: does a firewall or network policy drop packets to it?",
                STEP_TIMEOUT.as_secs()
            ),
        };
    }
    Err(problem)
}

fn verifier(target: &ServerTarget) -> Result<ServerVerifier, String> {
    match &target.ca_file {
        Some(path) => ServerVerifier::of_file(path).map_err(|problem| format!("--ca-file {problem}")),
        None => ServerVerifier::of_system(),
    }
}

fn endpoint(target: &ServerTarget) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(target.url.clone()).map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(STEP_TIMEOUT).timeout(STEP_TIMEOUT);
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    let verifier = Arc::new(verifier(target)?);
    let with_tls = endpoint.tls_config_with_verifier(ClientTlsConfig::new(), verifier);
    with_tls.map_err(|error| format!("cannot use TLS: {error}"))
}

/// The error is that of a server that does not answer this question of gRPC.
async fn health(channel: &Channel, found: &mut Findings) -> Result<(), Status> {
    let mut client = HealthClient::new(channel.clone());
    let mut check = async |service: &str| {
        let service = service.to_owned();
        let asked = client.check(HealthCheckRequest { service });
        asked.await.map(|response| response.into_inner().status())
    };
    let status = check("").await?;
    let mut failing = Vec::new();
    for component in COMPONENTS {
        // An agent has no components.
        if matches!(check(component).await, Ok(ServingStatus::NotServing)) {
            failing.push(component);
        }
    }
    let of = if failing.is_empty() {
        String::new()
    } else {
        format!("; not serving: {}", failing.join(", "))
    };
    let name = status.as_str_name();
    match status {
        ServingStatus::Serving if failing.is_empty() => found.good(HEALTH, name),
        ServingStatus::Serving => found.add(
            HEALTH,
            State::Doubtful,
            format!("{name}{of}; the log of the server says why"),
        ),
        ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => {
            let message = format!(
                "{name}{of}: tokens are not validated there; the log of the server says why, and `countersign doctor` beside it"
            );
            found.add(HEALTH, State::Bad, message);
        }
    }
    Ok(())
}

/// Why the server does not answer a question of gRPC.
async fn no_grpc(target: &ServerTarget, address: &Address, status: &Status) -> (State, String) {
    let url = &target.url;
    if let Address::Tcp { host, port, tls: false } = address
        && server_tls::is_spoken(host, *port).await
    {
        let message = format!("{url}: the server speaks TLS there: call it as https://{host}:{port}");
        return (State::Misconfigured, message);
    }
    let said = match std::error::Error::source(status) {
        Some(source) => root_cause(source),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::Unimplemented | Code::NotFound => (
            State::Bad,
            format!(
                "{url} answers, and has no health service of gRPC ({said}): is it Countersign, or a proxy that does not pass it on?"
            ),
        ),
        Code::Unauthenticated | Code::PermissionDenied => (
            State::Bad,
            format!("{url} refuses the question for its health ({said}): a proxy before it asks for credentials"),
        ),
        Code::DeadlineExceeded | Code::Cancelled => (
            State::Unreachable,
            format!(
                "{url} accepts connections and does not answer within {} s: the process hangs or is overloaded",
                STEP_TIMEOUT.as_secs()
            ),
        ),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (
            State::Unreachable,
            format!(
                "{url} does not speak gRPC ({said}): is it the port of server.listen, and not of server.http_listen, and does a proxy \
                 before it pass HTTP/2 on?"
            ),
        ),
    }
}

/// Returns the published key set.
async fn keys(channel: Channel, found: &mut Findings) -> Option<String> {
    let asked = TokenServiceClient::new(channel)
        .get_keys(GetKeysRequest::default())
        .await;
    let KeySet { jwks_json, keys } = match asked.map(|response| response.into_inner().keys) {
        Ok(Some(keys)) => keys,
        Ok(None) => KeySet::default(),
        // An agent publishes none.
        Err(status) if status.code() == Code::Unimplemented => {
            found.good(KEYS, "published by the server, not by this agent");
            return None;
        }
        Err(status) => {
            let message = format!(
                "the server does not tell its keys ({}); its log says why",
                status.message()
            );
            found.add(KEYS, State::Bad, message);
            return None;
        }
    };
    let active = keys.iter().find(|key| key.state() == KeyState::Active);
    match active {
        Some(key) => found.good(
            KEYS,
            format!("{} are published; {} signs", side_port::count(&jwks_json), key.key_id),
        ),
        None => found.add(
            KEYS,
            State::Bad,
            "no key signs: no token can be issued; `countersign key list` beside the server shows why",
        ),
    }
    Some(jwks_json)
}
