//! The accept loop: accepts connections up to the cap, secures them, and drains them at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::socket::Accepted;
use super::{HANDSHAKE_TIMEOUT, Io, Listener, Peer, Security, TCP_USER_TIMEOUT};
use crate::shutdown::Stop;

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Limit on open connections; see [`super::connection_cap`].
    pub max_connections: usize,
    /// How long connections may take to finish once a drain has begun.
    pub drain_timeout: Duration,
}

/// Serves the connections of a listener.
pub trait ConnectionHandler: Send + Sync + 'static {
    /// Serves one connection until it ends. When `stop` drains, it completes the requests in progress; a connection
    /// that does not end in time is dropped.
    fn handle(&self, io: Io, peer: Arc<Peer>, stop: Stop) -> impl Future<Output = ()> + Send;
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
    tokio::select! {
        () = accept(&listener, &security, limits, &handler, &stop, &mut open) => {}
        () = stop.draining() => {}
    }
    // Connections that still wait in the kernel's queue are reset; their clients retry at another replica.
    drop(listener);
    tokio::select! {
        () = stop.stopped() => {}
        () = tokio::time::sleep(limits.drain_timeout) => {
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
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut backoff = Backoff::default();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return; // the semaphore is never closed
        };
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                backoff.failed(&error).await;
                continue;
            }
        };
        backoff = Backoff::default();
        while open.try_join_next().is_some() {}
        let (security, handler, stop) = (security.clone(), Arc::clone(handler), stop.clone());
        open.spawn(async move {
            let _slot = slot;
            let _counted = OpenConnection::new();
            let secured = match accepted {
                Accepted::Tcp(stream, address) => secure(stream, address, &security).await,
                Accepted::Unix(stream) => Ok((Io::Unix(stream), Peer::local())),
            };
            match secured {
                Ok((io, peer)) => handler.handle(io, Arc::new(peer), stop).await,
                Err(error) => tracing::debug!(%error, "the TLS handshake failed"),
            }
        });
    }
}

/// Counts one open connection in the gauge.
struct OpenConnection(metrics::Gauge);

impl OpenConnection {
    fn new() -> Self {
        let gauge = metrics::gauge!("countersign_connections");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

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
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = certificate.map_or_else(
        || Peer::anonymous(address),
        |certificate| Peer::with_certificate(address, certificate),
    );
    Ok((Io::Tls(Box::new(stream)), peer))
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
