//! The byte stream of an HTTP/2 connection: coalesced writes, and reads in bounded pieces.
//!
//! Write coalescing: the responses of one HTTP/2 connection that are ready together are written with one system call,
//! because the write is the most expensive part of a small call.
//!
//! - A write of the connection's task is deferred to the next poll of the task. The tasks that became ready before run
//!   first, and their responses go out with the same write. An idle service writes without delay; a busy one writes
//!   once for each round of calls.
//! - h2 is told that the socket has no vectored writes. With vectored writes, h2 passes every DATA frame of 256 bytes
//!   or more to the socket before it takes another frame, so that each response costs two writes: message, then
//!   trailers. Without them, h2 copies frames up to 1 KiB into its buffer, and the copy is cheaper than a system call.
//!
//! Reads: h2 reads for as long as there is something to read, and looks at new streams only then. A poll of the connection's
//! task therefore reads at most [`MAX_READ`] bytes, and lets the tasks of its streams run.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one poll of the connection's task reads: many times the requests of a round of calls.
const MAX_READ: usize = 256 * 1024;

/// The byte stream of a connection. It replays the client preface, which was read already, and writes only when the
/// [`PollCounter`] has advanced.
pub(super) struct CoalescingIo<I> {
    io: I,
    preface: &'static [u8],
    polls: Arc<AtomicU64>,
    writing: WriteState,
    /// The last poll that has read, and the bytes that it has read.
    read: (u64, usize),
}

/// Whether writes pass. The number is that of a poll of the connection's task.
enum WriteState {
    /// Writes pass during this poll.
    Open(u64),
    /// A write was deferred during this poll, and the task was woken for the next one.
    Deferred(u64),
}

/// Counts the polls of a connection's task for its [`CoalescingIo`].
pub(super) struct PollCounter(Arc<AtomicU64>);

impl PollCounter {
    /// Polls the connection that owns the [`CoalescingIo`].
    pub(super) fn poll<F: Future>(&self, connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Only one task writes and reads the counter.
        self.0.fetch_add(1, Ordering::Relaxed);
        connection.poll(cx)
    }
}

impl<I> CoalescingIo<I> {
    /// Wraps `io`, from which `preface` has been read.
    pub(super) fn new(preface: &'static [u8], io: I) -> (Self, PollCounter) {
        let polls = Arc::new(AtomicU64::new(0));
        let coalescing = Self {
            io,
            preface,
            polls: Arc::clone(&polls),
            writing: WriteState::Open(0),
            read: (0, 0),
        };
        (coalescing, PollCounter(polls))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for CoalescingIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            let current = self.polls.load(Ordering::Relaxed);
            if self.read.0 != current {
                self.read = (current, 0);
            }
            if self.read.1 >= MAX_READ {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.io).poll_read(cx, buf);
            self.read.1 += buf.filled().len() - before;
            return polled;
        }
        let (now, later) = self.preface.split_at(self.preface.len().min(buf.remaining()));
        buf.put_slice(now);
        self.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for CoalescingIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let current = self.polls.load(Ordering::Relaxed);
        match self.writing {
            WriteState::Open(poll) if poll == current => {}
            WriteState::Open(_) => {
                // A task that wakes itself goes to the end of the run queue.
                self.writing = WriteState::Deferred(current);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            WriteState::Deferred(poll) if poll == current => return Poll::Pending,
            WriteState::Deferred(_) => self.writing = WriteState::Open(current),
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::net::SocketAddr;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_preface_is_replayed() {
        let (mut io, _) = CoalescingIo::new(b"hello ", &b"world"[..]);
        let mut all = String::new();
        io.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello world");
    }

    /// Counts the writes, each of which is a system call.
    struct CountingIo(TcpStream, Arc<AtomicUsize>);

    impl AsyncRead for CountingIo {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for CountingIo {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    const CALLS: usize = 20;

    /// Serves one connection on a runtime like the service's, where a task that the current one wakes runs next. The
    /// responses are as long as that of `Validate` for a valid token.
    fn serve(writes: &Arc<AtomicUsize>) -> (tokio::runtime::Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let writes = Arc::clone(writes);
        runtime.spawn(async move {
            let (io, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
            let answer = |_: http::Request<Incoming>| async {
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(&[7; 330]))))
            };
            let server = http2::Builder::new(TokioExecutor::new());
            let (io, polls) = CoalescingIo::new(b"", CountingIo(io, writes));
            let mut connection = pin!(server.serve_connection(TokioIo::new(io), service_fn(answer)));
            let _ = poll_fn(|cx| polls.poll(connection.as_mut(), cx)).await;
        });
        (runtime, address)
    }

    #[tokio::test]
    async fn responses_that_are_ready_together_are_written_together() {
        let writes = Arc::new(AtomicUsize::new(0));
        let (runtime, address) = serve(&writes);
        let (mut send, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap())
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut call = || {
            let head = http::Request::get("http://here/").body(()).unwrap();
            send.send_request(head, true).unwrap().0
        };
        // The first call exchanges the settings too.
        assert!(call().await.unwrap().status().is_success());
        let before = writes.load(Ordering::Relaxed);
        // All in one segment: the client sends nothing before this task waits.
        let calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
        for answer in calls {
            let mut body = answer.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len(), 330);
        }
        let writes = writes.load(Ordering::Relaxed) - before;
        runtime.shutdown_background();
        assert!((1..=3).contains(&writes), "{CALLS} responses in {writes} writes");
    }
}
