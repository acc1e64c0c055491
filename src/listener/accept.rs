//! The accept loop.

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

/// What a listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once; see [`super::connection_cap`].
    pub max_connections: usize,
    /// How long connections may take to finish once a drain began.
    pub drain_timeout: Duration,
}

/// What speaks on the connections.
pub trait ConnectionHandler: Send + Sync + 'static {
    /// Speaks on one until it ends. When `stop` drains it finishes what was begun; when it does not, it is dropped.
    fn handle(&self, io: Io, peer: Arc<Peer>, stop: Stop) -> impl Future<Output = ()> + Send;
}

/// Accepts connections until `stop`, then drains: returns once all have ended, at the latest after
/// [`Limits::drain_timeout`], and at once if `stop` says now.
pub async fn serve<C: ConnectionHandler>(
    listener: impl Into<Listener>,
    security: Security,
    limits: Limits,
    connections: Arc<C>,
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
        () = accept(&listener, &security, limits, &connections, &stop, &mut open) => {}
        () = stop.draining() => {}
    }
    // What still waits in the kernel's queue is reset here and retried by its client elsewhere.
    drop(listener);
    tokio::select! {
        () = stop.stopped() => {}
        () = tokio::time::sleep(limits.drain_timeout) => {
            tracing::warn!(connections = open.len(), "connections were dropped at the end of the drain");
        }
        () = async { while open.join_next().await.is_some() {} } => {}
    }
    open.shutdown().await;
}

async fn accept<C: ConnectionHandler>(
    listener: &Listener,
    security: &Security,
    limits: Limits,
    connections: &Arc<C>,
    stop: &Stop,
    open: &mut JoinSet<()>,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut backoff = Backoff::default();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return; // never closed
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
        let (security, connections, stop) = (security.clone(), Arc::clone(connections), stop.clone());
        open.spawn(async move {
            let _slot = slot;
            let _counted = Counted::new();
            let secured = match accepted {
                Accepted::Tcp(stream, address) => secure(stream, address, &security).await,
                Accepted::Unix(stream) => Ok((Io::Unix(stream), Peer::local())),
            };
            match secured {
                Ok((io, peer)) => connections.handle(io, Arc::new(peer), stop).await,
                Err(error) => tracing::debug!(%error, "no TLS session came about"),
            }
        });
    }
}

/// One connection in the gauge of all.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let gauge = metrics::gauge!("countersign_connections");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Small answers go out at once, and a peer that vanished is noticed even while we only write.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}

async fn secure(stream: TcpStream, address: std::net::SocketAddr, security: &Security) -> io::Result<(Io, Peer)> {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "a socket option could not be set");
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

/// What to do when a connection cannot be accepted: out of file descriptors or memory, trying again at once would
/// only burn the processor that the open connections need to finish.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    async fn failed(&mut self, error: &io::Error) {
        // The peer gave up before we took it (accept(2)): nothing is wrong with us.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        ) {
            return;
        }
        let delay = Self::FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(Self::LONGEST);
        if self.failures == 0 {
            tracing::error!(%error, "connections cannot be accepted");
        }
        self.failures += 1;
        metrics::counter!("countersign_accept_failures_total").increment(1);
        tokio::time::sleep(delay).await;
    }
}
