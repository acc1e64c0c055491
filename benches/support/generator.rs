//! The load generator. It uses `h2` directly, so that it costs less than the servers, and checks the status of each call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How a server is reached.
#[derive(Clone)]
pub enum Transport {
    Tcp,
    /// TLS for the name `localhost`, with the certificate of a client if there is one in this configuration.
    Tls(Arc<rustls::ClientConfig>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The method to call, and the credentials of the caller.
#[derive(Clone)]
pub struct Target {
    pub transport: Transport,
    /// Not used by a Unix socket.
    pub address: SocketAddr,
    pub path: &'static str,
    /// The header `authorization`; none if empty.
    pub bearer: String,
    /// The process whose processor time is measured.
    pub pid: u32,
    /// Whether the generator has its core to itself, without stores.
    pub alone: bool,
}

/// Makes the requests of one stream of calls. Each request may depend on the response to the previous one. The stream ends
/// after the last request.
pub type Source = Box<dyn FnMut(Option<&[u8]>) -> Option<Bytes> + Send>;

/// The results of a round.
pub struct Round {
    pub statuses: BTreeMap<String, u64>,
    pub elapsed: Duration,
    pub cpu_micros: u64,
    pub latency: Histogram<u64>,
}

impl Round {
    pub fn calls(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub fn per_second(&self) -> f64 {
        self.calls() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_per_call(&self) -> f64 {
        self.cpu_micros as f64 / self.calls().max(1) as f64
    }

    /// Asserts that every call returned status `0` (OK).
    pub fn assert_ok(&self) {
        assert!(
            self.statuses.len() == 1 && self.statuses.contains_key("0"),
            "{:?}",
            self.statuses
        );
    }
}

/// A message with the 5-byte prefix of gRPC.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.encoded_len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut out).unwrap();
    out.freeze()
}

/// The number of connections of a round.
const CONNECTIONS: usize = 4;

async fn connect(target: &Target) -> SendRequest<Bytes> {
    let tcp = async || {
        let socket = TcpStream::connect(target.address).await.expect("the server listens");
        socket.set_nodelay(true).unwrap();
        socket
    };
    match &target.transport {
        Transport::Tcp => handshake(tcp().await).await,
        Transport::Tls(config) => {
            let name = "localhost".try_into().unwrap();
            let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp().await).await;
            handshake(tls.expect("both trust each other")).await
        }
        Transport::Unix(path) => handshake(UnixStream::connect(path).await.expect("the server listens")).await,
    }
}

async fn handshake(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(64 << 20)
        .handshake(socket)
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    send
}

async fn call(send: &SendRequest<Bytes>, target: &Target, request: Bytes) -> (String, Bytes) {
    let mut send = send.clone().ready().await.unwrap();
    let mut head = http::Request::post(format!("http://{}{}", target.address, target.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !target.bearer.is_empty() {
        head = head.header("authorization", &target.bearer);
    }
    let head = head.body(()).unwrap();
    let (response, mut body) = send.send_request(head, false).unwrap();
    body.send_data(request, true).unwrap();
    let response = response.await.unwrap();
    let grpc_status = |headers: &http::HeaderMap| {
        headers
            .get("grpc-status")
            .map(|status| status.to_str().unwrap_or_default().to_owned())
    };
    if let Some(status) = grpc_status(response.headers()) {
        return (status, Bytes::new());
    }
    let mut body = response.into_body();
    let mut data = Bytes::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        data = if data.is_empty() {
            part
        } else {
            [data, part].concat().into()
        };
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (grpc_status(&trailers).unwrap_or_else(|| "none".to_owned()), data)
}

/// A closed loop: as many calls as the server can answer, with `streams` concurrent calls on each connection.
pub async fn closed(target: &Target, streams: usize, span: Duration, source: impl FnMut() -> Source) -> Round {
    closed_over(std::slice::from_ref(target), streams, span, source).await
}

/// Like [`closed`], with at least one connection to each of these servers.
pub async fn closed_over(
    targets: &[Target],
    streams: usize,
    span: Duration,
    mut source: impl FnMut() -> Source,
) -> Round {
    let mut tasks = JoinSet::new();
    let _awake = targets.iter().all(|target| target.alone).then(Awake::keep);
    let cpu = cpu_micros(targets);
    let start = Instant::now();
    for target in targets.iter().cycle().take(CONNECTIONS.max(targets.len())) {
        let send = connect(target).await;
        for _ in 0..streams {
            let (send, target, mut next) = (send.clone(), target.clone(), source());
            tasks.spawn(async move {
                let mut statuses = BTreeMap::new();
                let mut latency = histogram();
                let mut before = None;
                while start.elapsed() < span {
                    let Some(request) = next(before.as_deref()) else { break };
                    let began = Instant::now();
                    let (status, response) = call(&send, &target, request).await;
                    latency.record(micros(began.elapsed())).unwrap();
                    *statuses.entry(status).or_insert(0_u64) += 1;
                    before = Some(response);
                }
                (statuses, latency)
            });
        }
    }
    gather(tasks, start, targets, cpu).await
}

/// The processor time of all servers.
fn cpu_micros(targets: &[Target]) -> u64 {
    targets.iter().map(|target| super::cores::cpu_micros(target.pid)).sum()
}

/// An open loop: `a_second` calls each second, whether or not earlier ones have ended. Latency counts from when a call was due.
pub async fn open(target: &Target, a_second: f64, span: Duration, mut source: impl FnMut() -> Source) -> Round {
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(target).await);
    }
    let mut next = source();
    let targets = std::slice::from_ref(target);
    let cpu = cpu_micros(targets);
    let start = Instant::now();
    let mut n = 0_u32;
    while start.elapsed() < span {
        let due = start + Duration::from_secs_f64(f64::from(n) / a_second);
        // Busy waiting, because the resolution of a timer (1 ms) would dominate the result. The generator has this core to
        // itself.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        while start + Duration::from_secs_f64(f64::from(n) / a_second) <= Instant::now() {
            let due = start + Duration::from_secs_f64(f64::from(n) / a_second);
            let (send, target, request) = (
                connections[n as usize % CONNECTIONS].clone(),
                target.clone(),
                next(None).expect("an endless source"),
            );
            tasks.spawn(async move {
                let (status, _) = call(&send, &target, request).await;
                let mut latency = histogram();
                latency.record(micros(due.elapsed())).unwrap();
                (BTreeMap::from([(status, 1)]), latency)
            });
            n += 1;
        }
    }
    gather(tasks, start, targets, cpu).await
}

/// Keeps this core awake until it is dropped. Otherwise the server must wake the core to deliver a response, which on a
/// virtual machine costs the server about as much as a small call, and more often the slower the server is. A caller on
/// another machine causes no such cost.
struct Awake(tokio::task::AbortHandle);

impl Awake {
    fn keep() -> Self {
        let busy = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        Self(tokio::spawn(busy).abort_handle())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn gather(
    mut tasks: JoinSet<(BTreeMap<String, u64>, Histogram<u64>)>,
    start: Instant,
    targets: &[Target],
    cpu: u64,
) -> Round {
    let mut statuses = BTreeMap::new();
    let mut latency = histogram();
    while let Some(done) = tasks.join_next().await {
        let (some, of_them) = done.unwrap();
        for (status, count) in some {
            *statuses.entry(status).or_insert(0) += count;
        }
        latency.add(of_them).unwrap();
    }
    Round {
        statuses,
        elapsed: start.elapsed(),
        cpu_micros: cpu_micros(targets) - cpu,
        latency,
    }
}

fn histogram() -> Histogram<u64> {
    // It grows with the values that are recorded, so that an empty one is small: an open loop makes one for each call.
    Histogram::new(3).unwrap()
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
