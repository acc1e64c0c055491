use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::listener::{Security, serve};

#[derive(Default)]
struct FakeData {
    ready: AtomicBool,
    now: AtomicI64,
}

impl SidePortData for FakeData {
    fn jwks(&self) -> (String, String) {
        (r#"{"keys":[]}"#.to_owned(), "\"tag-1\"".to_owned())
    }

    fn metrics(&self) -> String {
        "countersign_up 1\n".to_owned()
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.now.load(Ordering::SeqCst))
    }

    fn ready(&self) -> Result<String, String> {
        let ready = self.ready.load(Ordering::SeqCst);
        ready
            .then(String::new)
            .ok_or_else(|| "revocations are not loaded".to_owned())
    }
}

struct SidePort {
    address: SocketAddr,
    data: Arc<FakeData>,
    stop: Stop,
    ended: JoinHandle<()>,
}

impl SidePort {
    async fn start() -> Self {
        Self::of_issuer("https://issuer.example/").await
    }

    async fn of_issuer(issuer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let data = Arc::new(FakeData::default());
        let metadata = Metadata {
            issuer: issuer.to_owned(),
        };
        let http = HttpHandler::new(data.clone(), &metadata, Duration::from_mins(5));
        let limits = limits(8, Arc::default(), Duration::from_secs(1));
        let stop = Stop::new();
        let ended = tokio::spawn(serve(listener, Security::Plain, limits, Arc::new(http), stop.clone()));
        Self {
            address,
            data,
            stop,
            ended,
        }
    }

    async fn get(&self, path: &str, headers: &[(header::HeaderName, &str)]) -> (StatusCode, http::HeaderMap, String) {
        let io = TcpStream::connect(self.address).await.unwrap();
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let answer = send
            .send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap())
            .await
            .unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn the_key_set_is_sent_with_an_entity_tag_and_revalidated_by_it() {
    let side = SidePort::start().await;
    let path = "/.well-known/jwks.json";
    let (status, headers, body) = side.get(path, &[]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"keys":[]}"#));
    assert_eq!(headers[header::CONTENT_TYPE], "application/jwk-set+json");
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=300");
    assert_eq!(headers[header::ETAG], "\"tag-1\"");
    for same in ["\"tag-1\"", "W/\"tag-1\"", "\"old\", \"tag-1\"", "*"] {
        let (status, headers, body) = side.get(path, &[(header::IF_NONE_MATCH, same)]).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{same}");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=300");
    }
    for other in ["\"tag-2\"", "tag-1", ""] {
        let (status, ..) = side.get(path, &[(header::IF_NONE_MATCH, other)]).await;
        assert_eq!(status, StatusCode::OK, "{other}");
    }
}

#[tokio::test]
async fn metadata_names_the_key_set_and_no_missing_endpoint() {
    let side = SidePort::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let (status, headers, body) = side.get(path, &[]).await;
        assert_eq!(
            (status, headers[header::CONTENT_TYPE].as_bytes()),
            (StatusCode::OK, &b"application/json"[..])
        );
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            document["issuer"], "https://issuer.example/",
            "exactly as in the tokens"
        );
        assert_eq!(document["jwks_uri"], "https://issuer.example/.well-known/jwks.json");
        let endpoints = document
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| key.ends_with("_endpoint"));
        assert_eq!(endpoints.count(), 0, "{body}");
    }
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_documents_where_clients_look_for_them() {
    let issuer = "https://issuer.example/tenants/one";
    let side = SidePort::of_issuer(issuer).await;
    for path in [
        "/.well-known/oauth-authorization-server/tenants/one",
        "/.well-known/openid-configuration/tenants/one",
        "/tenants/one/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        let (status, headers, body) = side.get(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=3600", "{path}");
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["issuer"], issuer);
        let keys = document["jwks_uri"].as_str().unwrap();
        let keys = keys.strip_prefix("https://issuer.example").unwrap();
        let (status, headers, body) = side.get(keys, &[]).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"keys":[]}"#), "{keys}");
        assert_eq!(headers[header::ETAG], "\"tag-1\"");
    }
    let (status, ..) = side
        .get("/.well-known/oauth-authorization-server/tenants/two", &[])
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn operators_see_health_and_metrics() {
    let side = SidePort::start().await;
    assert_eq!(side.get("/healthz", &[]).await.0, StatusCode::OK);
    let (status, _, body) = side.get("/readyz", &[]).await;
    assert_eq!(
        (status, body.as_str()),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: revocations are not loaded\n"
        )
    );
    side.data.ready.store(true, Ordering::SeqCst);
    assert_eq!(side.get("/readyz", &[]).await.0, StatusCode::OK);
    let (_, headers, body) = side.get("/metrics", &[]).await;
    assert_eq!(body, "countersign_up 1\n");
    assert_eq!(
        headers[header::CONTENT_TYPE],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(side.get("/", &[]).await.0, StatusCode::NOT_FOUND);
    let long = "x".repeat(2 * MAX_HEADER_BYTES);
    let (status, ..) = side.get("/healthz", &[(header::USER_AGENT, &long)]).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn a_clock_outside_the_years_of_http_closes_connections_and_no_more() {
    let side = SidePort::start().await;
    for wrong in [-1, i64::MIN, 253_402_300_800_000, i64::MAX] {
        side.data.now.store(wrong, Ordering::SeqCst);
        let mut io = TcpStream::connect(side.address).await.unwrap();
        let mut answer = Vec::new();
        drop(io.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
        drop(io.read_to_end(&mut answer).await);
        assert!(answer.is_empty(), "{wrong}");
    }
    side.data.now.store(0, Ordering::SeqCst);
    assert_eq!(side.get("/healthz", &[]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_silent_peer_does_not_delay_the_shutdown() {
    let side = SidePort::start().await;
    let _silent = TcpStream::connect(side.address).await.unwrap();
    side.get("/healthz", &[]).await;
    side.stop.drain();
    tokio::time::timeout(Duration::from_secs(20), side.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(side.address).await.is_err());
}
