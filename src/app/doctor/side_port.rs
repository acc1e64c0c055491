//! The checks of a server's side port: its metadata, its key set, its clock and its version.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::server::{STEP_TIMEOUT, connect};
use super::stores::skew;
use super::{Findings, State};
use crate::clock::{UnixMillis, millis};

const ABOUT: &str = "side port";
const VERSION: &str = "version";

/// The longest answer that is read, in bytes: the metrics are the longest.
const MAX_ANSWER: usize = 4 << 20;

/// An answer of the side port.
struct Answer {
    status: StatusCode,
    /// The time at the server, to the second.
    date: Option<UnixMillis>,
    text: String,
}

/// Looks at the side port, if it can be reached from here. `published` is the key set that the gRPC port tells.
pub(super) async fn look(host: &str, port: u16, published: Option<&str>, found: &mut Findings) {
    let begun = found.clock.now();
    let metadata = match get(host, port, "/.well-known/openid-configuration").await {
        Ok(answer) => answer,
        Err(problem) => {
            let message = format!(
                "not reached at {host}:{port} ({problem}), which may be as intended: the metadata, the clock and the version were not \
                 checked"
            );
            found.good(ABOUT, message);
            return;
        }
    };
    let issuer = serde_json::from_str::<Value>(&metadata.text)
        .ok()
        .and_then(|document| Some(document.get("issuer")?.as_str()?.to_owned()));
    let Some(issuer) = issuer.filter(|_| metadata.status == StatusCode::OK) else {
        let message = format!(
            "{host}:{port} answers and has no metadata ({}): it is not the side port of a server; an agent has none",
            metadata.status.as_u16()
        );
        found.good(ABOUT, message);
        return;
    };
    found.good(ABOUT, format!("{host}:{port} answers; the issuer is {issuer}"));
    if let Some(date) = metadata.date {
        // The middle of the second that the header names.
        skew("the server", begun, UnixMillis(date.0 + 500), found);
    }
    keys(host, port, published, found).await;
    version(host, port, found).await;
}

/// Whether the key set that verifiers fetch is the one of the gRPC port.
async fn keys(host: &str, port: u16, published: Option<&str>, found: &mut Findings) {
    let state = match get(host, port, "/.well-known/jwks.json").await {
        Ok(answer) if count(&answer.text) > 0 => {
            if published.is_none_or(|published| published == answer.text) {
                return;
            }
            "the key set at /.well-known/jwks.json is not that of the gRPC port: is the side port that of another deployment?"
        }
        Ok(_) | Err(_) => {
            "no key set at /.well-known/jwks.json: verifiers that fetch it refuse every token; the log of the server says why"
        }
    };
    found.add("keys", State::Doubtful, state);
}

async fn version(host: &str, port: u16, found: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    let Ok(metrics) = get(host, port, "/metrics").await else {
        return;
    };
    let version = metrics.text.lines().find_map(|line| {
        let (version, _) = line
            .strip_prefix("countersign_build_info{version=\"")?
            .split_once('"')?;
        Some(version.to_owned())
    });
    match version {
        Some(version) if version == own => found.good(VERSION, format!("{version}, that of this program")),
        Some(version) => {
            let message = format!(
                "the server runs {version}, this program is {own}: they may know different options and commands"
            );
            found.add(VERSION, State::Doubtful, message);
        }
        None => found.good(VERSION, "the metrics do not tell it"),
    }
}

/// The number of keys in a key set.
pub(super) fn count(jwks: &str) -> usize {
    let set = serde_json::from_str::<Value>(jwks).ok();
    set.and_then(|set| Some(set.get("keys")?.as_array()?.len()))
        .unwrap_or(0)
}

async fn get(host: &str, port: u16, path: &str) -> Result<Answer, String> {
    let asked = async {
        let stream = connect(host, port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        let driving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let request = Request::get(path)
            .header(header::HOST, authority)
            .body(Empty::<Bytes>::new())
            .map_err(text)?;
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let date = response
            .headers()
            .get(header::DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(time_of);
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(text)?;
        drop(driving);
        Ok(Answer {
            status,
            date,
            text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    timeout(STEP_TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err("no answer".to_owned()))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Reads the header `date` (RFC 9110 §5.6.7).
fn time_of(date: &str) -> Option<UnixMillis> {
    let date = httpdate::parse_http_date(date).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixMillis(millis(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_server_is_read() {
        assert_eq!(
            time_of("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(UnixMillis(784_111_777_000))
        );
        assert_eq!(time_of("soon"), None);
        assert_eq!(count(r#"{"keys":[{},{}]}"#), 2);
        assert_eq!(count("<html>"), 0);
    }
}
