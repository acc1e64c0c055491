//! Requests that never become complete, and streams beyond their share.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use countersign::grpc::layers::{CallLimits, GateLimits};
use countersign::proto;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::calls::SHORT;
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Peer, RST_STREAM, frame, head, message};
use crate::server::{Server, ServerSettings, reason};

const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A connection that sends what it is told.
struct Connection(SendRequest<Bytes>);

impl Connection {
    async fn open(server: &Server) -> Self {
        Self::open_from(server, Ipv4Addr::LOCALHOST).await
    }

    async fn open_from(server: &Server, source: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let io = socket.connect(server.address).await.unwrap();
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Begins a call with these bytes and does not end it.
    async fn begin(&mut self, path: &str, bytes: &[u8]) -> (SendStream<Bytes>, h2::client::ResponseFuture) {
        self.0 = self.0.clone().ready().await.unwrap();
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "1H")
            .body(())
            .unwrap();
        let (response, mut stream) = self.0.send_request(request, false).unwrap();
        stream.send_data(Bytes::copy_from_slice(bytes), false).unwrap();
        (stream, response)
    }
}

/// The status of a response.
async fn code(response: h2::client::ResponseFuture) -> Code {
    let (head, mut body) = response.await.unwrap().into_parts();
    let status = match head.headers.get("grpc-status") {
        Some(status) => status.clone(),
        None => trailers(&mut body).await["grpc-status"].clone(),
    };
    Code::from_bytes(status.as_bytes())
}

async fn trailers(body: &mut RecvStream) -> http::HeaderMap {
    while let Some(data) = body.data().await {
        drop(data.unwrap());
    }
    body.trailers().await.unwrap().unwrap()
}

/// The prefix of a message of this length, and the first bytes of the message.
fn unfinished(length: u32, sent: usize) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes(), &vec![7; sent]].concat()
}

#[tokio::test]
async fn a_request_must_arrive_in_time_whatever_its_deadline_is() {
    let server = Server::start(ServerSettings {
        deadlines: SHORT,
        ..ServerSettings::default()
    })
    .await;
    let mut connection = Connection::open(&server).await;
    let whole = message(&[]);
    for (path, bytes) in [
        (VALIDATE, unfinished(1000, 10)),
        (VALIDATE, vec![0, 0]),
        // The message is complete, the request is not.
        (WATCH, whole.clone()),
        (WATCH, unfinished(100, 10)),
    ] {
        let begun = Instant::now();
        let (_stream, response) = connection.begin(path, &bytes).await;
        let code = tokio::time::timeout(Duration::from_secs(20), code(response)).await;
        assert_eq!(code, Ok(Code::DeadlineExceeded), "{path} {bytes:?}");
        assert!(begun.elapsed() >= SHORT.default, "{path} {bytes:?}");
    }
    // The reflection service ends its stream without an error when the request fails.
    let (_stream, response) = connection.begin(REFLECT, &unfinished(100, 10)).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), code(response)).await;
    assert_eq!(ended, Ok(Code::Ok));
}

#[tokio::test]
async fn while_a_gate_is_crowded_requests_must_arrive_sooner() {
    let calls = GateLimits {
        total: 8,
        connection: usize::MAX,
    };
    let server = Server::start(ServerSettings {
        limits: CallLimits {
            calls,
            ..CallLimits::default()
        },
        ..ServerSettings::default()
    })
    .await;
    let mut held = Vec::new();
    // One source may hold only a part of the gate.
    for host in 2..7 {
        let mut connection = Connection::open_from(&server, Ipv4Addr::new(127, 0, 0, host)).await;
        let call = connection.begin(VALIDATE, &unfinished(1000, 10)).await;
        held.push((connection, call));
    }
    let (_last, (_stream, last)) = held.pop().unwrap();
    let (_first, (_stream, first)) = held.remove(0);
    let (mut first, mut last) = (Box::pin(code(first)), Box::pin(code(last)));
    tokio::select! {
        biased;
        code = &mut first => panic!("the first request had more time, and ended with {code:?}"),
        code = &mut last => assert_eq!(code, Code::DeadlineExceeded),
    }
    assert_eq!(first.await, Code::DeadlineExceeded);
}

#[tokio::test]
async fn health_and_reflection_take_only_short_messages() {
    let server = Server::start(ServerSettings::default()).await;
    let mut connection = Connection::open(&server).await;
    for path in [WATCH, "/grpc.health.v1.Health/Check"] {
        let (_stream, response) = connection.begin(path, &unfinished(1025, 0)).await;
        assert_eq!(code(response).await, Code::OutOfRange, "{path}");
    }
    let (_stream, response) = connection.begin(REFLECT, &unfinished(1025, 0)).await;
    assert_eq!(code(response).await, Code::Ok, "the stream ends without an error");
}

#[tokio::test]
async fn requests_under_way_have_a_budget_that_short_ones_do_not_need() {
    let request_bytes = GateLimits {
        total: 1 << 20,
        connection: 150_000,
    };
    let server = Server::start(ServerSettings {
        limits: CallLimits {
            request_bytes,
            ..CallLimits::default()
        },
        ..ServerSettings::default()
    })
    .await;
    let (mut first, mut second) = (Connection::open(&server).await, Connection::open(&server).await);
    let long = unfinished(60_000, 100);
    // Two of them are within the share of a connection.
    let held = [first.begin(VALIDATE, &long).await, first.begin(VALIDATE, &long).await];
    let (_stream, response) = first.begin(VALIDATE, &long).await;
    assert_eq!(code(response).await, Code::ResourceExhausted);
    let (mut stream, response) = second.begin(VALIDATE, &unfinished(60_000, 0)).await;
    stream.send_data(Bytes::from(vec![0; 60_000]), true).unwrap();
    let code_of_second = code(response).await;
    assert_ne!(code_of_second, Code::ResourceExhausted, "another connection");
    let mut client = server.client().await;
    assert!(client.validate(proto::ValidateRequest::default()).await.is_ok());
    drop(held);
    let (_stream, response) = first.begin(VALIDATE, &long).await;
    let early = tokio::time::timeout(Duration::from_millis(200), code(response)).await;
    assert!(early.is_err(), "there is a place again: {early:?}");
}

#[tokio::test]
async fn streams_of_anonymous_callers_take_no_place_of_other_calls() {
    let server = Server::start(ServerSettings::default()).await;
    let channel = server.channel().await;
    let mut held = Vec::new();
    let refused = loop {
        match HealthClient::new(channel.clone())
            .watch(HealthCheckRequest::default())
            .await
        {
            Ok(stream) => held.push(stream),
            Err(status) => break status,
        }
    };
    let share = CallLimits::default().anonymous_streams.connection;
    assert_eq!(
        (held.len(), refused.code(), &*reason(&refused)),
        (share, Code::ResourceExhausted, "OVERLOADED")
    );
    // The same connection can still call, and another one can still watch.
    let mut client = proto::token_service_client::TokenServiceClient::new(channel);
    assert!(client.get_keys(proto::GetKeysRequest {}).await.is_ok());
    let mut other = HealthClient::new(server.channel().await);
    assert!(other.watch(HealthCheckRequest::default()).await.is_ok());
    // A connection that watches revocations has a scope.
    let request = crate::server::with_bearer(proto::WatchRevocationsRequest::default(), "fading");
    assert!(client.watch_revocations(request).await.is_ok());
}

#[tokio::test]
async fn calls_that_end_at_their_deadlines_do_not_end_the_connection() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[]).await;
    // A server that was busy for a while finds calls and their cancellations together: more than one connection may have at
    // a time, because a client begins new ones in their place.
    let mut backlog = Vec::new();
    for id in (1..1001).step_by(2) {
        backlog.extend(frame(HEADERS, END_HEADERS, id, &head("Refresh")));
        backlog.extend(frame(DATA, END_STREAM, id, &message(&[])));
        backlog.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
    }
    backlog.extend(frame(HEADERS, END_HEADERS, 1001, &head("GetKeys")));
    backlog.extend(frame(DATA, END_STREAM, 1001, &message(&[])));
    assert!(peer.send(&backlog).await);
    let answered = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(frame) = peer.next().await {
            if frame.kind == HEADERS && frame.stream == 1001 {
                return true;
            }
        }
        false
    });
    assert_eq!(answered.await, Ok(true), "the connection was closed");
}

#[tokio::test]
async fn only_some_connections_get_large_windows() {
    let large_windows = GateLimits {
        total: 1,
        connection: 1,
    };
    let server = Server::start(ServerSettings {
        limits: CallLimits {
            large_windows,
            ..CallLimits::default()
        },
        ..ServerSettings::default()
    })
    .await;
    let mut peers = Vec::new();
    for window in [1024 * 1024, 65_535_u32] {
        let mut peer = Peer::connect(server.address, &[]).await;
        let call = [
            frame(HEADERS, END_HEADERS, 1, &head("GetKeys")),
            frame(DATA, END_STREAM, 1, &message(&[])),
        ];
        assert!(peer.send(&call.concat()).await);
        while peer.next().await.expect("the server answers").kind != HEADERS {}
        // SETTINGS_INITIAL_WINDOW_SIZE is 4 (RFC 9113 §6.5.2).
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        assert!(
            peer.settings.chunks(6).any(|one| one == setting),
            "{window}: {:?}",
            peer.settings
        );
        peers.push(peer);
    }
}
