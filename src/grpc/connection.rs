//! HTTP/2 connections, with every limit set.
//!
//! Known attacks on HTTP/2 servers, and the limits against them:
//!
//! * rapid reset (CVE-2023-44487): `Resets`, and `MAX_UNSEEN_RESETS` between two looks at new streams;
//! * resets by errors that the peer provokes (RUSTSEC-2024-0003 and successors): `MAX_LOCAL_RESETS`;
//! * CONTINUATION flood (CVE-2024-27316): `MAX_HEADER_LIST_SIZE`;
//! * silent sockets: `PREFACE_TIMEOUT`, pings, `MAX_CONNECTION_AGE`;
//! * flow-control windows that stay closed: unread responses end the connection;
//! * requests that are never complete: `RequestBody`, and the windows that bound the bytes which h2 holds for it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;

use super::layers::{ConnectionService, NOT_GRPC, Pipeline, TICK_INTERVAL, UnreadResponses};
use super::write_coalescing::CoalescingIo;
use crate::listener::{Activity, ConnectionHandler, Io, Peer, is_http1, refuse_http1};
use crate::secret::{Entropy, random};
use crate::shutdown::Stop;

/// Limit on concurrent calls on one connection; a client that needs more opens another connection.
const MAX_CONCURRENT_STREAMS: u32 = 100;
/// Limit on streams that we reset because of errors of the peer.
const MAX_LOCAL_RESETS: usize = 1024;
/// Limit on streams that the peer resets before we have looked at them: after a stall, those of a client whose calls have
/// reached their deadlines meanwhile. h2's default of 20 closed the connections of such clients. What one look can bring is
/// bounded by `MAX_READ` of the byte stream.
const MAX_UNSEEN_RESETS: usize = 1024;
/// Flow-control windows of a connection and its streams, in bytes, which bound the memory of requests that h2 has received and
/// we have not read. Large ones make batches a tenth cheaper (docs/benchmarks.md), but 4,096 connections could fill 4 GiB of
/// them: see [`GateKind::LargeWindows`](super::layers::GateKind).
const LARGE_WINDOW: u32 = 1024 * 1024;
/// See [`LARGE_WINDOW`]. The initial value of HTTP/2.
const SMALL_WINDOW: u32 = 65_535;
/// Largest header list, in bytes as RFC 9113 §6.5.2 counts them.
const MAX_HEADER_LIST_SIZE: u32 = 16 * 1024;
/// How often a silent peer is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the reply to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to send the client preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which a connection is shut down gracefully, so that load spreads over new replicas. The real age is up to a
/// tenth less, so that the connections of a fleet do not all end at once.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(30);
/// Time for the calls in progress when a connection has reached its age. Long streams are resumed at another replica.
const CONNECTION_AGE_GRACE: Duration = Duration::from_secs(30);

/// The first bytes of every HTTP/2 connection (RFC 9113 §3.4).
const CLIENT_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves gRPC on the connections of a listener.
#[derive(Debug)]
pub struct GrpcHandler {
    pipeline: Arc<Pipeline>,
    entropy: Arc<dyn Entropy>,
    large_windows: http2::Builder<TokioExecutor>,
    small_windows: http2::Builder<TokioExecutor>,
}

impl GrpcHandler {
    /// A handler that runs every call through `pipeline`. `entropy` spreads the ages of connections.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, entropy: Arc<dyn Entropy>) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
            .max_header_list_size(MAX_HEADER_LIST_SIZE)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .auto_date_header(false);
        let with_windows = |size| {
            let mut http2 = http2.clone();
            http2
                .initial_connection_window_size(size)
                .initial_stream_window_size(size);
            http2
        };
        Self {
            large_windows: with_windows(LARGE_WINDOW),
            small_windows: with_windows(SMALL_WINDOW),
            pipeline,
            entropy,
        }
    }

    /// The age at which a new connection is shut down.
    fn max_age(&self) -> Duration {
        let [jitter] = random::<1>(&*self.entropy);
        MAX_CONNECTION_AGE.saturating_sub(MAX_CONNECTION_AGE / 10 * u32::from(jitter) / 256)
    }
}

/// What the first bytes of a connection say.
enum Protocol {
    Http2,
    Http1,
    Other,
}

/// Reads the client preface, and not a byte more; of another protocol, only the first bytes.
async fn read_preface(io: &mut Io) -> Protocol {
    let mut first = [0; CLIENT_PREFACE.len()];
    let mut length = 0;
    while let Ok(read @ 1..) = io.read(&mut first[length..]).await {
        length += read;
        let read = &first[..length];
        if !CLIENT_PREFACE.starts_with(read) {
            return if is_http1(read) {
                Protocol::Http1
            } else {
                Protocol::Other
            };
        }
        if length == first.len() {
            return Protocol::Http2;
        }
    }
    Protocol::Other
}

impl ConnectionHandler for GrpcHandler {
    async fn handle(&self, mut io: Io, peer: Arc<Peer>, activity: Activity, stop: Stop) {
        match tokio::time::timeout(PREFACE_TIMEOUT, read_preface(&mut io)).await {
            Ok(Protocol::Http2) => {}
            Ok(Protocol::Http1) => {
                tracing::debug!(address = %peer.ip(), "a client speaks HTTP/1 to the gRPC port; it is told to use the HTTP port");
                return refuse_http1(&mut io, NOT_GRPC).await;
            }
            Ok(Protocol::Other) | Err(_) => return, // another protocol, closed, or too slow
        }
        let unread = Arc::new(UnreadResponses::default());
        let service = ConnectionService::new(Arc::clone(&self.pipeline), peer, activity, Arc::clone(&unread));
        let (io, polls) = CoalescingIo::new(CLIENT_PREFACE, io);
        let large_window = service.large_window();
        let http2 = match large_window {
            Some(_) => &self.large_windows,
            None => &self.small_windows,
        };
        let mut connection = pin!(http2.serve_connection(TokioIo::new(io), service.clone()));
        let mut ticks = tokio::time::interval(TICK_INTERVAL);
        let mut age_timer = pin!(tokio::time::sleep(self.max_age()));
        let mut shutting_down = false;
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| {
                    if service.has_too_many_resets() {
                        tracing::debug!("a peer resets its calls at once: the connection is closed");
                        return Poll::Ready(Ok(()));
                    }
                    polls.poll(connection.as_mut(), cx)
                }) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection failed");
                    }
                    return;
                }
                () = stop.draining(), if !shutting_down => {
                    connection.as_mut().graceful_shutdown();
                    shutting_down = true;
                    // The listener limits the time of a drain.
                    age_timer.as_mut().reset(tokio::time::Instant::now() + MAX_CONNECTION_AGE);
                }
                () = &mut age_timer => {
                    if shutting_down {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    shutting_down = true;
                    age_timer.as_mut().reset(tokio::time::Instant::now() + CONNECTION_AGE_GRACE);
                }
                _ = ticks.tick() => {
                    if unread.tick() {
                        tracing::debug!("a peer does not read its responses: the connection is closed");
                        return;
                    }
                }
            }
        }
    }
}
