//! The bytes of one HTTP/2 connection, on their way between `listener` and hyper.
//!
//! Writing is where a small call costs most, so answers that are ready together leave together:
//!
//! - A write waits until the tasks that were ready before it had their turn, and takes their answers with it. An idle
//!   service writes at once; a busy one, as often as it can finish a round of calls.
//! - h2 is told that there are no vectored writes. With them it hands every DATA frame of 256 bytes and more to the
//!   socket before it takes another frame, so that each answer is written twice: message, then trailers. Without, frames
//!   up to 1 KiB are copied into its buffer, and that is cheaper than a system call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose first bytes were read already, and are said again.
pub(super) struct Wire<I> {
    io: I,
    hello: &'static [u8],
    /// Whether what is being written has waited for others.
    waited: bool,
}

impl<I> Wire<I> {
    /// The rest of `io`, after `hello`.
    pub(super) const fn new(hello: &'static [u8], io: I) -> Self {
        Self {
            io,
            hello,
            waited: false,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.hello.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let (now, later) = self.hello.split_at(self.hello.len().min(buf.remaining()));
        buf.put_slice(now);
        self.hello = later;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.waited {
            // A task that wakes itself goes to the end of its queue.
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.waited = false;
        Poll::Ready(Ok(()))
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
    use std::net::SocketAddr;
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
        let mut wire = Wire::new(b"hello ", &b"world"[..]);
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
            let wire = Wire::new(b"", Counting(io, writes));
            let _ = server.serve_connection(TokioIo::new(wire), service_fn(answer)).await;
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
