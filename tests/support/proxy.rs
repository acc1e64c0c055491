//! A TCP proxy that misbehaves on demand: the network between Countersign and its stores, or its callers and it.

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

/// What the network does to everything that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Bytes pass, each way this much later.
    Fine(Duration),
    /// Connections open, and nothing that is sent arrives; it does once the weather is fine again.
    Blackhole,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
}

/// What becomes of a connection whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It closes.
    Close,
    /// It stays open and silent, until the caller gives up.
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
    weather: watch::Sender<Weather>,
    resets: watch::Sender<u64>,
    loss: Mutex<Option<Loss>>,
    lost: AtomicU64,
    to_server: AtomicU64,
}

/// Recognises a request.
type Recognise = dyn Fn(&[u8]) -> bool + Send;

struct Loss {
    request: Box<Recognise>,
    afterwards: Afterwards,
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loss({:?})", self.afterwards)
    }
}

impl Proxy {
    /// Stands before `upstream`, in fine weather.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            weather: watch::Sender::new(Weather::Fine(Duration::ZERO)),
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, on open connections too.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Closes every connection and makes new ones lead elsewhere: a name that moved to another server.
    pub fn redirect(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// Lets the next request that `request` recognises reach the server, and its reply reach nobody. It is shown what
    /// was read in one go, which is a whole request unless that is large.
    pub fn lose_reply(&self, request: impl Fn(&[u8]) -> bool + Send + 'static, afterwards: Afterwards) {
        *self.shared.loss.lock().unwrap() = Some(Loss {
            request: Box::new(request),
            afterwards,
        });
    }

    /// How many replies were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// How many bytes went to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Weather::Cut);
        self.accepting.abort();
    }
}

/// One connection's two directions, as far as they know of each other.
#[derive(Debug, Default)]
struct Connection {
    swallow: AtomicBool,
    afterwards: Mutex<Option<Afterwards>>,
    closed: Notify,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, Arc::clone(&shared)));
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    if *shared.weather.borrow() == Weather::Cut {
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
    let (mut weather, mut resets) = (shared.weather.subscribe(), shared.resets.subscribe());
    // Whichever comes first closes both halves, by dropping them.
    tokio::select! {
        () = requests(from_client, to_server, &shared, &connection) => {}
        () = replies(from_server, to_client, &shared, &connection) => {}
        () = connection.closed.notified() => {}
        _ = weather.wait_for(|weather| *weather == Weather::Cut) => {}
        _ = resets.changed() => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, connection: &Connection) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        pass(shared).await;
        arm(shared, connection, &buffer[..read]);
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
            let afterwards = *connection.afterwards.lock().unwrap();
            if afterwards == Some(Afterwards::Silence) {
                // What follows on a stream that lost bytes could only be taken for something else.
                std::future::pending::<()>().await;
            }
            connection.closed.notify_one();
            return;
        }
        pass(shared).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Returns when bytes may go on.
async fn pass(shared: &Shared) {
    let mut weather = shared.weather.subscribe();
    let now = weather
        .wait_for(|weather| matches!(weather, Weather::Fine(_)))
        .await
        .map(|now| *now);
    if let Ok(Weather::Fine(delay)) = now
        && !delay.is_zero()
    {
        sleep(delay).await;
    }
}

fn arm(shared: &Shared, connection: &Connection, request: &[u8]) {
    let mut loss = shared.loss.lock().unwrap();
    if loss.as_ref().is_some_and(|loss| (loss.request)(request))
        && let Some(loss) = loss.take()
    {
        *connection.afterwards.lock().unwrap() = Some(loss.afterwards);
        connection.swallow.store(true, Ordering::SeqCst);
    }
}
