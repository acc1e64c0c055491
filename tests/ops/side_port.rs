//! Requests to the side port, as a scraper or a probe makes them.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::pki::Pki;

/// The status and body of the response; none without a response.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(TcpStream::connect(address).await.ok()?, path).await
}

/// Like [`get`], with TLS.
pub(crate) async fn get_tls(pki: &Pki, address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let connector = tokio_rustls::TlsConnector::from(pki.trusting());
    let stream = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from("localhost").unwrap();
    ask(connector.connect(name, stream).await.ok()?, path).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A peer may close without `close_notify`; the response is complete all the same.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

/// The value of the series whose name and labels are written like this in the scrape.
pub(crate) fn value(scrape: &str, series: &str) -> Option<f64> {
    let line = scrape
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
