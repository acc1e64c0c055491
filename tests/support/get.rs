//! GET over plain HTTP, for the side port and for gateways.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl HttpResponse {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// GET of an `http://` URL on a new connection. `None` if there is no answer.
pub async fn try_get(url: &str, headers: &[(&str, &str)]) -> Option<HttpResponse> {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut request = format!("GET /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&[name, ": ", value, "\r\n"].concat());
    }
    request.push_str("\r\n");
    let ask = async {
        let mut stream = TcpStream::connect(authority).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.ok()?;
        let said = String::from_utf8(said).ok()?;
        let (head, body) = said.split_once("\r\n\r\n")?;
        Some(HttpResponse {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    };
    timeout(DEADLINE, ask).await.ok()?
}

/// Like [`try_get`], but panics without an answer.
pub async fn get(url: &str, headers: &[(&str, &str)]) -> HttpResponse {
    try_get(url, headers)
        .await
        .unwrap_or_else(|| panic!("no answer from {url}"))
}
