//! Callers at chosen addresses of this machine, which send HTTP/2 requests as no client library would.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::Code;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Connects from an address of 127.0.0.0/8.
pub async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(to).await
}

/// The prefix of a gRPC message of this length, and the first bytes of the message.
pub fn unfinished(length: u32, sent: usize) -> Bytes {
    [&[0][..], &length.to_be_bytes(), &vec![0; sent]].concat().into()
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct H2Connection(SendRequest<Bytes>);

impl H2Connection {
    /// Connects from an address of 127.0.0.0/8. `None` if the server closes the connection.
    pub async fn open(source: Ipv4Addr, to: SocketAddr) -> Option<Self> {
        // A server that is full may leave the connection in the queue of its kernel.
        let io = timeout(TIMEOUT, connect_from(source, to)).await.ok()?.ok()?;
        let (send, connection) = h2::client::handshake(io).await.ok()?;
        tokio::spawn(connection);
        // The first settings of the server show that it has not closed the connection.
        let send = send.ready().await.ok()?;
        Some(Self(send))
    }

    /// Begins a call with these bytes. `None` if the connection has ended.
    pub async fn begin(
        &mut self,
        path: &str,
        bytes: Bytes,
        is_whole: bool,
    ) -> Option<(SendStream<Bytes>, ResponseFuture)> {
        self.0 = self.0.clone().ready().await.ok()?;
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (response, mut stream) = self.0.send_request(request, false).ok()?;
        // The server may have refused the call at its headers.
        let _refused = stream.send_data(bytes, is_whole);
        Some((stream, response))
    }
}

/// The code of a response that has no message, and `Ok` for one that begins with a message.
pub async fn code_of(response: ResponseFuture) -> Option<Code> {
    let response = timeout(TIMEOUT, response).await.ok()?.ok()?;
    let status = response.headers().get("grpc-status");
    Some(status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes())))
}
