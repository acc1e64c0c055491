//! The answer to a client that speaks HTTP/1.x where it is not spoken: a short text instead of a connection that closes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How long the client may take to read the answer and to close the connection.
const LINGER: Duration = Duration::from_secs(2);

/// The most bytes of the request that are read after the answer: the kernel resets a connection that is closed with unread
/// data, and the client may then lose the answer.
const MAX_DISCARDED: u64 = 64 * 1024;

/// Whether a request of HTTP/1.x can begin with these bytes: with a method, in capital letters (RFC 9112 §3.1). Some clients
/// send empty lines first (§2.2).
pub(crate) fn is_http1(first: &[u8]) -> bool {
    let line = first.trim_ascii_start();
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    !method.is_empty() && method.iter().all(u8::is_ascii_uppercase)
}

/// Answers with this text and status 400, and discards the request.
pub(crate) async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, text: &str) {
    // A failure means that the client has gone.
    let _ = tokio::time::timeout(LINGER, answer(io, text)).await;
}

async fn answer<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, text: &str) -> io::Result<()> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    io.write_all(&[head.as_bytes(), text.as_bytes()].concat()).await?;
    io.shutdown().await?;
    tokio::io::copy(&mut io.take(MAX_DISCARDED), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http1_begins_with_a_method() {
        for request in [
            "G",
            "GET",
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.0\r\n",
            "\r\nPUT /",
            "OPTIONS * ",
        ] {
            assert!(is_http1(request.as_bytes()), "{request}");
        }
        for other in [
            &b""[..],
            b"\r\n",
            b"\x16\x03\x01",
            b"get / ",
            b"SSH-2.0-x",
            b" \0",
            b"PRI\0 ",
        ] {
            assert!(!is_http1(other), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_left_after_a_while() {
        let (mut server, client) = tokio::io::duplex(16);
        let begun = tokio::time::Instant::now();
        refuse(&mut server, "a text").await;
        assert_eq!(begun.elapsed(), LINGER);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_left_at_the_limit() {
        let (mut server, client) = tokio::io::duplex(1024);
        let (mut reads, mut writes) = tokio::io::split(client);
        let answer = tokio::spawn(async move {
            let mut answer = String::new();
            reads.read_to_string(&mut answer).await.map(|_| answer)
        });
        let endless = tokio::spawn(async move { while writes.write_all(&[b'x'; 1024]).await.is_ok() {} });
        refuse(&mut server, "a text").await;
        drop(server);
        let answer = answer.await.unwrap().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\na text"),
            "{answer}"
        );
        endless.await.unwrap();
    }
}
