//! A TCP proxy that fails on demand: the network between Countersign and its stores, or between callers and
//! Countersign.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What the network does with all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Bytes pass, delayed by this much in each direction.
    Up(Duration),
    /// Connections open, but bytes are held back until the link is up again.
    Blackhole,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
}

/// What happens to a connection whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoss {
    /// It is closed.
    Close,
    /// It stays open and silent until the caller gives up.
    Silence,
}

/// A proxy before one server, until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    link: watch::Sender<LinkState>,
    resets: watch::Sender<u64>,
    loss: Mutex<Option<PendingLoss>>,
    lost: AtomicU64,
    to_server: AtomicU64,
}

/// Whether these bytes are the request whose reply is to be lost.
type RequestMatcher = dyn Fn(&[u8]) -> bool + Send;

struct PendingLoss {
    request: Box<RequestMatcher>,
    after: AfterLoss,
}

impl fmt::Debug for PendingLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingLoss({:?})", self.after)
    }
}

impl Proxy {
    /// Starts a proxy before `upstream`, with the link up.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            link: watch::Sender::new(LinkState::Up(Duration::ZERO)),
            resets: watch::Sender::new(0),
            loss: Mutex::new(None),
            lost: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the state of the link, also for open connections.
    pub fn set(&self, link: LinkState) {
        self.shared.link.send_replace(link);
    }

    /// Closes every connection, and connects new ones to another server, as if a host name now led there.
    pub fn redirect(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// Connects new connections to another server. Open ones stay: an address whose switch cuts nothing.
    pub fn redirect_new(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// Passes the next request that `request` recognises to the server, and drops the reply. `request` gets the bytes
    /// of one read, which are a whole request unless that is large.
    pub fn lose_reply(&self, request: impl Fn(&[u8]) -> bool + Send + 'static, after: AfterLoss) {
        *self.shared.loss.lock().unwrap() = Some(PendingLoss {
            request: Box::new(request),
            after,
        });
    }

    /// The number of replies lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// The number of bytes sent to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(LinkState::Cut);
        self.accepting.abort();
    }
}

/// State shared by the two directions of one connection.
#[derive(Debug, Default)]
struct Connection {
    swallow: AtomicBool,
    after: Mutex<Option<AfterLoss>>,
    closed: Notify,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(forward(client, Arc::clone(&shared)));
    }
}

async fn forward(client: TcpStream, shared: Arc<Shared>) {
    if *shared.link.borrow() == LinkState::Cut {
        return;
    }
    let upstream = *shared.upstream.lock().unwrap();
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection::default();
    let (mut link, mut resets) = (shared.link.subscribe(), shared.resets.subscribe());
    // The first to end closes both halves, by dropping them.
    tokio::select! {
        () = requests(from_client, to_server, &shared, &connection) => {}
        () = replies(from_server, to_client, &shared, &connection) => {}
        () = connection.closed.notified() => {}
        _ = link.wait_for(|link| *link == LinkState::Cut) => {}
        _ = resets.changed() => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, connection: &Connection) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        wait_for_link(shared).await;
        check_for_loss(shared, connection, &buffer[..read]);
        shared.to_server.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, connection: &Connection) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if connection.swallow.load(Ordering::SeqCst) {
            shared.lost.fetch_add(1, Ordering::SeqCst);
            let after = *connection.after.lock().unwrap();
            if after == Some(AfterLoss::Silence) {
                // After lost bytes, the rest of the stream would be misread.
                std::future::pending::<()>().await;
            }
            connection.closed.notify_one();
            return;
        }
        wait_for_link(shared).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits until bytes may pass.
async fn wait_for_link(shared: &Shared) {
    let mut link = shared.link.subscribe();
    let now = link
        .wait_for(|link| matches!(link, LinkState::Up(_)))
        .await
        .map(|now| *now);
    if let Ok(LinkState::Up(delay)) = now
        && !delay.is_zero()
    {
        sleep(delay).await;
    }
}

fn check_for_loss(shared: &Shared, connection: &Connection, request: &[u8]) {
    let mut loss = shared.loss.lock().unwrap();
    if loss.as_ref().is_some_and(|loss| (loss.request)(request))
        && let Some(loss) = loss.take()
    {
        *connection.after.lock().unwrap() = Some(loss.after);
        connection.swallow.store(true, Ordering::SeqCst);
    }
}
