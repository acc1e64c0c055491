//! HTTP/2 on one connection, with every limit set.
//!
//! Past vulnerabilities of the field and what answers them here: rapid reset (CVE-2023-44487) and reset by our own
//! errors (RUSTSEC-2024-0003 and successors): at most `LOCAL_RESETS`; CONTINUATION flood (CVE-2024-27316): at most
//! `MAX_HEADERS` of header list; silent sockets: `PREFACE`, pings, `MAX_AGE`; windows that stay closed: answers
//! that are not taken end the connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;

use super::layers::{Frame, OnConnection, TICK, Untaken};
use super::wire::Wire;
use crate::listener::{Connections, Io, Peer};
use crate::secret::{Entropy, random};
use crate::shutdown::Stop;

/// Calls at once on one connection; a client that needs more opens another.
const STREAMS: u32 = 100;
/// Resets of streams by errors that the peer made us find.
const LOCAL_RESETS: usize = 1024;
/// A header list, in bytes as HTTP/2 counts them.
const MAX_HEADERS: u32 = 16 * 1024;
/// How often a quiet peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first bytes may take.
const PREFACE: Duration = Duration::from_secs(5);
/// How old a connection may become, so that load spreads over new replicas; up to a tenth less, so that a fleet's
/// connections do not all end at once.
const MAX_AGE: Duration = Duration::from_mins(30);
/// How long calls may go on after that; streams that last are resumed elsewhere.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const HELLO: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// gRPC on every connection of a listener.
#[derive(Debug)]
pub struct Grpc {
    frame: Arc<Frame>,
    entropy: Arc<dyn Entropy>,
    http2: http2::Builder<TokioExecutor>,
}

impl Grpc {
    /// This frame around every call.
    #[must_use]
    pub fn new(frame: Arc<Frame>, entropy: Arc<dyn Entropy>) -> Self {
        // Windows stay hyper's 1 MiB: smaller ones cost batches a tenth, larger ones gained nothing (ARCHITECTURE.md, Speed).
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .auto_date_header(false);
        Self { frame, entropy, http2 }
    }

    fn age(&self) -> Duration {
        let [jitter] = random::<1>(&*self.entropy);
        MAX_AGE.saturating_sub(MAX_AGE / 10 * u32::from(jitter) / 256)
    }
}

impl Connections for Grpc {
    async fn speak(&self, mut io: Io, peer: Arc<Peer>, stop: Stop) {
        let mut hello = [0; HELLO.len()];
        match tokio::time::timeout(PREFACE, io.read_exact(&mut hello)).await {
            Ok(Ok(_)) if hello == *HELLO => {}
            _ => return, // silent, gone, or another protocol
        }
        let untaken = Arc::new(Untaken::default());
        let service = OnConnection::new(Arc::clone(&self.frame), peer, Arc::clone(&untaken));
        let (wire, turns) = Wire::new(HELLO, io);
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(wire), service));
        let mut ticks = tokio::time::interval(TICK);
        let mut end = pin!(tokio::time::sleep(self.age()));
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| turns.poll(connection.as_mut(), cx)) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return;
                }
                () = stop.draining(), if !leaving => {
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    // How long a drain may take is the listener's to say.
                    end.as_mut().reset(tokio::time::Instant::now() + MAX_AGE);
                }
                () = &mut end => {
                    if leaving {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                    end.as_mut().reset(tokio::time::Instant::now() + AGE_GRACE);
                }
                _ = ticks.tick() => {
                    if untaken.tick() {
                        tracing::debug!("a peer did not take its answers");
                        return;
                    }
                }
            }
        }
    }
}
