//! HTTP/2 frames written by hand (RFC 9113), which no client library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A client connection after the preface.
pub(crate) struct Peer {
    io: TcpStream,
    /// The settings of the server, as bytes.
    pub(crate) settings: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Peer {
    /// Connects and sends the preface with these settings (RFC 9113 §6.5.2).
    pub(crate) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.set_nodelay(true).unwrap();
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        io.write_all(&frame(SETTINGS, 0, 0, &payload)).await.unwrap();
        Self { io, settings: vec![] }
    }

    /// Sends bytes; `false` if the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).await.is_ok()
    }

    /// The next frame other than settings, which are acknowledged, and pings, which are answered; `None` once the
    /// server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.io.read_exact(&mut payload).await.ok()?;
            let (kind, flags) = (head[3], head[4]);
            match (kind, flags & ACK) {
                (SETTINGS, 0) => {
                    self.settings.extend(payload);
                    self.send(&frame(SETTINGS, ACK, 0, &[])).await;
                }
                (PING, 0) => drop(self.send(&frame(PING, ACK, 0, &payload)).await),
                (SETTINGS | PING, _) => {}
                _ => {
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    return Some(Received { kind, stream, payload });
                }
            }
        }
    }
}

/// An encoded frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block (RFC 7541) of a gRPC call of this method of `TokenService`.
pub(crate) fn head(method: &str) -> Vec<u8> {
    // :method POST and :scheme http are in the static table.
    let mut block = vec![0x83, 0x86];
    let path = format!("/countersign.v1.TokenService/{method}");
    for (name, value) in [
        (":path", path.as_str()),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        literal(&mut block, name, value);
    }
    block
}

/// Appends a header as a literal without indexing.
pub(crate) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // An integer with a prefix of seven bits (RFC 7541 §5.1).
        match text.len() {
            short @ 0..127 => block.push(u8::try_from(short).unwrap()),
            long => {
                block.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 0x80);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
        }
        block.extend(text.as_bytes());
    }
}

/// A gRPC message with its length prefix.
pub(crate) fn message(encoded: &[u8]) -> Vec<u8> {
    let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
    [&[0][..], &length, encoded].concat()
}
