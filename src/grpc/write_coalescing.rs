//! The bytes of one HTTP/2 connection, on their way between `listener` and hyper.
//!
//! Writing is where a small call costs most, so answers that are ready together leave together:
//!
//! - What a connection's task would write in one turn waits for its next, and so for the tasks that were ready before it:
//!   their answers go with it. An idle service writes at once; a busy one, as often as it can finish a round of calls.
//! - h2 is told that there are no vectored writes. With them it hands every DATA frame of 256 bytes and more to the
//!   socket before it takes another frame, so that each answer is written twice: message, then trailers. Without, frames
//!   up to 1 KiB are copied into its buffer, and that is cheaper than a system call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose first bytes were read already, and are said again. It writes only while its [`PollCounter`] go on.
pub(super) struct CoalescingIo<I> {
    io: I,
    preface: &'static [u8],
    polls: Arc<AtomicU64>,
    writing: WriteState,
}

/// How far what is to be written has come.
enum WriteState {
    /// Nothing waits since this turn, in which all could be written.
    Open(u64),
    /// It waits since this turn, and the task has been woken for another.
    Deferred(u64),
}

/// The turns of a connection's task, of which its [`CoalescingIo`] must know.
pub(super) struct PollCounter(Arc<AtomicU64>);

impl PollCounter {
    /// One turn of the connection that this wire belongs to.
    pub(super) fn poll<F: Future>(&self, connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // One task alone counts and reads.
        self.0.fetch_add(1, Ordering::Relaxed);
        connection.poll(cx)
    }
}

impl<I> CoalescingIo<I> {
    /// The rest of `io`, after `preface`.
    pub(super) fn new(preface: &'static [u8], io: I) -> (Self, PollCounter) {
        let polls = Arc::new(AtomicU64::new(0));
        let wire = Self {
            io,
            preface,
            polls: Arc::clone(&polls),
            writing: WriteState::Open(0),
        };
        (wire, PollCounter(polls))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for CoalescingIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let (now, later) = self.preface.split_at(self.preface.len().min(buf.remaining()));
        buf.put_slice(now);
        self.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for CoalescingIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let turn = self.polls.load(Ordering::Relaxed);
        match self.writing {
            WriteState::Open(now) if now == turn => {}
            WriteState::Open(_) => {
                // A task that wakes itself goes to the end of its queue.
                self.writing = WriteState::Deferred(turn);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            WriteState::Deferred(since) if since == turn => return Poll::Pending,
            WriteState::Deferred(_) => self.writing = WriteState::Open(turn),
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
    async fn what_was_read_is_said_again() {
        let (mut wire, _) = CoalescingIo::new(b"hello ", &b"world"[..]);
        let mut all = String::new();
        wire.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello world");
    }

    /// Counts what would be system calls.
    struct Counting(TcpStream, Arc<AtomicUsize>);

    impl AsyncRead for Counting {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counting {
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

    /// Serves one connection on a worker as the service has them, which runs a task at once that the one before has
    /// woken; with answers as long as what Validate says of a good token.
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
            let (wire, polls) = CoalescingIo::new(b"", Counting(io, writes));
            let mut connection = pin!(server.serve_connection(TokioIo::new(wire), service_fn(answer)));
            let _ = poll_fn(|cx| polls.poll(connection.as_mut(), cx)).await;
        });
        (runtime, address)
    }

    #[tokio::test]
    async fn answers_that_are_ready_together_leave_together() {
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
        // Settings are told and acknowledged with the first one.
        assert!(call().await.unwrap().status().is_success());
        let before = writes.load(Ordering::Relaxed);
        // All in one segment: nothing is sent before this task waits.
        let calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
        for answer in calls {
            let mut body = answer.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len(), 330);
        }
        let writes = writes.load(Ordering::Relaxed) - before;
        runtime.shutdown_background();
        assert!((1..=3).contains(&writes), "{CALLS} answers in {writes} writes");
    }
}
