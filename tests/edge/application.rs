//! The application behind the proxy, which returns the request that reached it, and a plain HTTP/1.1 client.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Serves on a free port, and returns the address. It ends with the test's runtime.
pub(crate) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = Router::new().fallback(|request: Request| async move {
        let (request, body) = request.into_parts();
        // A server that answers before it has the whole body breaks the connection.
        let size = body.collect().await.unwrap().to_bytes().len();
        let headers: Vec<Value> = request
            .headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        let (method, uri) = (request.method.as_str(), request.uri.to_string());
        let echo = json!({"method": method, "uri": uri, "headers": headers, "size": size});
        // An error of the application, which no proxy may take for an outage of Countersign.
        let status = match request.uri.path() {
            "/broken" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::OK,
        };
        // A cookie of the application, which a renewal must not remove.
        (status, [("set-cookie", "app=1")], echo.to_string())
    });
    tokio::spawn(async move { axum::serve(listener, echo).await.unwrap() });
    address
}

/// A response of the proxy, of Countersign or of the application.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Response {
    /// The values of this header in the request that reached the application.
    ///
    /// # Panics
    ///
    /// If the request did not reach it.
    #[track_caller]
    pub(crate) fn received_header(&self, name: &str) -> Vec<String> {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        let echo: Value = serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        echo["headers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pair| pair[0] == name && pair[1] != "")
            .map(|pair| pair[1].as_str().unwrap().to_owned())
            .collect()
    }

    /// The value of a cookie that the response sets, without its attributes.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.cookies()
            .find_map(|cookie| Some(cookie.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
            .map(|cookie| cookie.split(';').next().unwrap().to_owned())
    }

    /// Every `Set-Cookie` header.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &str> {
        self.headers
            .get_all("set-cookie")
            .iter()
            .map(|value| value.to_str().unwrap())
    }

    /// The value of a header, or an empty string.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `error` member of a JSON body.
    pub(crate) fn error(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        body["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request on a new connection.
pub(crate) async fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    try_send(to, method, path, headers).await.expect("there is a response")
}

/// Like [`send`], for a server that may not be running.
pub(crate) async fn try_send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    send_body(to, method, path, headers, Bytes::new()).await
}

/// Like [`try_send`], with a body.
pub(crate) async fn send_body(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let io = TcpStream::connect(to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "app.example");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(body))?).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Response {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(body.to_vec())?,
    })
}
