//! HTTP/2 on one connection, with every limit set.
//!
//! Past vulnerabilities of the field and what answers them here: rapid reset (CVE-2023-44487) and reset by our own
//! errors (RUSTSEC-2024-0003 and successors): at most `MAX_LOCAL_RESETS`; CONTINUATION flood (CVE-2024-27316): at most
//! `MAX_HEADER_LIST_SIZE` of header list; silent sockets: `PREFACE_TIMEOUT`, pings, `MAX_CONNECTION_AGE`; windows that stay closed: answers
//! that are not taken end the connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;

use super::layers::{ConnectionService, Pipeline, TICK_INTERVAL, UnreadResponses};
use super::write_coalescing::CoalescingIo;
use crate::listener::{ConnectionHandler, Io, Peer};
use crate::secret::{Entropy, random};
use crate::shutdown::Stop;

/// Calls at once on one connection; a client that needs more opens another.
const MAX_CONCURRENT_STREAMS: u32 = 100;
/// Resets of streams by errors that the peer made us find.
const MAX_LOCAL_RESETS: usize = 1024;
/// A header list, in bytes as HTTP/2 counts them.
const MAX_HEADER_LIST_SIZE: u32 = 16 * 1024;
/// How often a quiet peer is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first bytes may take.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// How old a connection may become, so that load spreads over new replicas; up to a tenth less, so that a fleet's
/// connections do not all end at once.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(30);
/// How long calls may go on after that; streams that last are resumed elsewhere.
const CONNECTION_AGE_GRACE: Duration = Duration::from_secs(30);

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const CLIENT_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// gRPC on every connection of a listener.
#[derive(Debug)]
pub struct GrpcHandler {
    pipeline: Arc<Pipeline>,
    entropy: Arc<dyn Entropy>,
    http2: http2::Builder<TokioExecutor>,
}

impl GrpcHandler {
    /// This frame around every call.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, entropy: Arc<dyn Entropy>) -> Self {
        // Windows stay hyper's 1 MiB: smaller ones cost batches a tenth, larger ones gained nothing (docs/benchmarks.md).
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .max_header_list_size(MAX_HEADER_LIST_SIZE)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .auto_date_header(false);
        Self {
            pipeline,
            entropy,
            http2,
        }
    }

    fn age(&self) -> Duration {
        let [jitter] = random::<1>(&*self.entropy);
        MAX_CONNECTION_AGE.saturating_sub(MAX_CONNECTION_AGE / 10 * u32::from(jitter) / 256)
    }
}

impl ConnectionHandler for GrpcHandler {
    async fn handle(&self, mut io: Io, peer: Arc<Peer>, stop: Stop) {
        let mut preface = [0; CLIENT_PREFACE.len()];
        match tokio::time::timeout(PREFACE_TIMEOUT, io.read_exact(&mut preface)).await {
            Ok(Ok(_)) if preface == *CLIENT_PREFACE => {}
            _ => return, // silent, gone, or another protocol
        }
        let unread = Arc::new(UnreadResponses::default());
        let service = ConnectionService::new(Arc::clone(&self.pipeline), peer, Arc::clone(&unread));
        let (write_coalescing, polls) = CoalescingIo::new(CLIENT_PREFACE, io);
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(write_coalescing), service));
        let mut ticks = tokio::time::interval(TICK_INTERVAL);
        let mut end = pin!(tokio::time::sleep(self.age()));
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| polls.poll(connection.as_mut(), cx)) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return;
                }
                () = stop.draining(), if !leaving => {
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    // How long a drain may take is the listener's to say.
                    end.as_mut().reset(tokio::time::Instant::now() + MAX_CONNECTION_AGE);
                }
                () = &mut end => {
                    if leaving {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    end.as_mut().reset(tokio::time::Instant::now() + CONNECTION_AGE_GRACE);
                }
                _ = ticks.tick() => {
                    if unread.tick() {
                        tracing::debug!("a peer did not take its answers");
                        return;
                    }
                }
            }
        }
    }
}
