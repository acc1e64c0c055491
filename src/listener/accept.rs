//! The accept loop: accepts connections within the limits, secures them, and drains them at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::open_connections::{OpenConnection, OpenConnections};
use super::socket::Accepted;
use super::{Activity, HANDSHAKE_TIMEOUT, Io, Listener, Peer, Security, TCP_USER_TIMEOUT, is_http1, refuse_http1};
use crate::model::{Network, Source};
use crate::shutdown::Stop;

/// When a connection that works on no request gives way to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleGivesWay {
    /// When all connections are in use. A new connection of a source that has its share is closed.
    WhenAllAreInUse,
    /// Also when its source has its share.
    WhenSourceHasItsShare,
}

/// The limits of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limit on open connections; see [`super::connection_cap`].
    pub max_connections: usize,
    /// Limit on open connections from one source; four times as many from the site of an IPv6 source. If it is not less
    /// than `max_connections`, sources are not limited.
    pub max_per_source: usize,
    /// Addresses that many callers share, such as those of proxies: the limit by source does not apply.
    pub shared_sources: Arc<[Network]>,
    /// When a connection without a request gives way to a new one.
    pub idle_gives_way: IdleGivesWay,
    /// How long connections may take to finish once a drain has begun.
    pub drain_timeout: Duration,
}

impl Limits {
    /// Limits that treat all sources alike.
    #[must_use]
    pub fn new(max_connections: usize, drain_timeout: Duration) -> Self {
        Self {
            max_connections,
            max_per_source: max_connections,
            shared_sources: Arc::default(),
            idle_gives_way: IdleGivesWay::WhenAllAreInUse,
            drain_timeout,
        }
    }
}

/// Serves the connections of a listener.
pub trait ConnectionHandler: Send + Sync + 'static {
    /// Serves one connection until it ends. When `stop` drains, it completes the requests in progress; a connection
    /// that does not end in time is dropped. It marks `activity` as busy while it works on a request.
    fn handle(&self, io: Io, peer: Arc<Peer>, activity: Activity, stop: Stop) -> impl Future<Output = ()> + Send;
}

/// Accepts connections until `stop`, then drains: returns once all connections have ended, at the latest after
/// [`Limits::drain_timeout`], and at once if `stop` says so.
pub async fn serve<C: ConnectionHandler>(
    listener: impl Into<Listener>,
    security: Security,
    limits: Limits,
    handler: Arc<C>,
    stop: Stop,
) {
    let listener = listener.into();
    let mut open = JoinSet::new();
    metrics::describe_gauge!("countersign_connections", "Open connections, of both ports.");
    metrics::describe_counter!(
        "countersign_accept_failures_total",
        "Connections that could not be accepted: out of file descriptors or memory."
    );
    metrics::counter!("countersign_accept_failures_total").increment(0);
    metrics::describe_counter!(
        "countersign_connections_closed_total",
        "Connections closed because of the limits: refused for the share of their source, or given way to new ones."
    );
    for reason in ["source_limit", "gave_way"] {
        metrics::counter!("countersign_connections_closed_total", "reason" => reason).increment(0);
    }
    let drain_timeout = limits.drain_timeout;
    tokio::select! {
        () = accept(&listener, &security, limits, &handler, &stop, &mut open) => {}
        () = stop.draining() => {}
    }
    // Connections that still wait in the kernel's queue are reset; their clients retry at another replica.
    drop(listener);
    tokio::select! {
        () = stop.stopped() => {}
        () = tokio::time::sleep(drain_timeout) => {
            tracing::warn!(connections = open.len(), "drain_timeout has passed; dropping open connections");
        }
        () = async { while open.join_next().await.is_some() {} } => {}
    }
    open.shutdown().await;
}

async fn accept<C: ConnectionHandler>(
    listener: &Listener,
    security: &Security,
    limits: Limits,
    handler: &Arc<C>,
    stop: &Stop,
    open: &mut JoinSet<()>,
) {
    let connections = OpenConnections::new(limits);
    let mut backoff = Backoff::default();
    let mut refused = RefusalLog::default();
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                backoff.failed(&error).await;
                continue;
            }
        };
        backoff = Backoff::default();
        while open.try_join_next().is_some() {}
        let source = match &accepted {
            Accepted::Tcp(_, address) if !connections.is_shared(address.ip()) => Some(Source::of(address.ip())),
            Accepted::Tcp(..) | Accepted::Unix(_) => None,
        };
        let Ok(connection) = connections.admit(source).await else {
            drop(accepted);
            refused.note(source);
            continue;
        };
        let number = connection.number();
        let (security, handler, stop) = (security.clone(), Arc::clone(handler), stop.clone());
        let task = open.spawn(async move {
            let secured = match accepted {
                Accepted::Tcp(stream, address) => secure(stream, address, &security).await,
                Accepted::Unix(stream) => Ok((Io::Unix(stream), Peer::local())),
            };
            match secured {
                Ok((io, mut peer)) => {
                    peer.is_shared |= source.is_none();
                    let activity = connection.activity.clone();
                    handler.handle(io, Arc::new(peer), activity, stop).await;
                }
                Err(error) => tracing::debug!(%error, "the TLS handshake failed"),
            }
            drop(connection);
        });
        OpenConnection::runs_in(&connections, number, task);
    }
}

/// Logs refused connections, at most one line in each interval.
#[derive(Default)]
struct RefusalLog {
    last: Option<Instant>,
    left_out: u64,
}

impl RefusalLog {
    const INTERVAL: Duration = Duration::from_secs(10);

    fn note(&mut self, source: Option<Source>) {
        metrics::counter!("countersign_connections_closed_total", "reason" => "source_limit").increment(1);
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < Self::INTERVAL) {
            self.left_out += 1;
            return;
        }
        let source = source.map(|source| source.to_string()).unwrap_or_default();
        tracing::warn!(
            source,
            left_out = self.left_out,
            "a connection was closed: its source has its share of the connections (server.max_connections_per_source, or a \
             quarter of those that are free); name proxies in server.shared_sources"
        );
        (self.last, self.left_out) = (Some(now), 0);
    }
}

/// The answer to a request without TLS on a port with TLS.
const NEEDS_TLS: &str = "This port speaks TLS: use https:// instead of http://.\n";

/// Sets the socket options: small responses go out at once (`TCP_NODELAY`), and a peer that has vanished is noticed
/// even while we only write.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}

async fn secure(stream: TcpStream, address: std::net::SocketAddr, security: &Security) -> io::Result<(Io, Peer)> {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "cannot set a socket option");
    }
    let Security::Tls(config) = security else {
        return Ok((Io::Plain(stream), Peer::anonymous(address)));
    };
    let acceptor = TlsAcceptor::from(config.load_full());
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, acceptor)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = certificate.map_or_else(
        || Peer::anonymous(address),
        |certificate| Peer::with_certificate(address, certificate),
    );
    Ok((Io::Tls(Box::new(stream)), peer))
}

/// The TLS handshake. A client that begins with a request of HTTP/1.x is told that it needs TLS.
async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    // A handshake begins with the byte 0x16 (RFC 8446 §5.1).
    let mut first = [0; 4];
    let length = stream.peek(&mut first).await?;
    if is_http1(&first[..length]) {
        refuse_http1(&mut stream, NEEDS_TLS).await;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the client speaks HTTP without TLS",
        ));
    }
    acceptor.accept(stream).await
}

/// The delay after a connection could not be accepted. When the process is out of file descriptors or memory, an
/// immediate retry would only take CPU time that the open connections need to finish.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST_DELAY: Duration = Duration::from_millis(10);
    const MAX_DELAY: Duration = Duration::from_secs(1);

    async fn failed(&mut self, error: &io::Error) {
        // The peer gave up before we accepted (accept(2)); not an error of ours.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        ) {
            return;
        }
        let delay = Self::FIRST_DELAY
            .saturating_mul(1 << self.failures.min(10))
            .min(Self::MAX_DELAY);
        if self.failures == 0 {
            tracing::error!(%error, "connections cannot be accepted; raise the limit on open files or free memory");
        }
        self.failures += 1;
        metrics::counter!("countersign_accept_failures_total").increment(1);
        tokio::time::sleep(delay).await;
    }
}
