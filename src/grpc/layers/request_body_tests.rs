use std::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::gate_limits::{CallLimits, GateLimits};
use super::super::gates::Gates;
use super::*;
use crate::grpc::policy::METHODS;
use crate::listener::Peer;

const RECEIVE: Duration = Duration::from_secs(5);

type Chunks = ReceiverStream<Result<Frame<Bytes>, Infallible>>;
type Body = RequestBody<StreamBody<Chunks>>;

fn gates() -> Arc<Gates> {
    let request_bytes = GateLimits {
        total: 100 * 1024,
        connection: 20 * 1024,
    };
    Arc::new(Gates::new(&CallLimits {
        request_bytes,
        ..CallLimits::default()
    }))
}

fn body_of(gates: &Arc<Gates>, method: &str) -> (Sender<Result<Frame<Bytes>, Infallible>>, Body) {
    let method = METHODS.iter().find(|this| this.name == method).unwrap();
    let (sender, receiver) = channel(4);
    let body = StreamBody::new(ReceiverStream::new(receiver));
    let peer = Peer::anonymous("192.0.2.1:1".parse().unwrap());
    let consumer = Arc::new(Consumer::new(gates, &peer));
    let headers = HeaderMap::new();
    let body = RequestBody::new(body, method, RECEIVE, Instant::now(), &headers, &consumer);
    (sender, body.unwrap())
}

async fn send(sender: &Sender<Result<Frame<Bytes>, Infallible>>, bytes: Vec<u8>) {
    sender.send(Ok(Frame::data(bytes.into()))).await.unwrap();
}

/// The prefix of a message of this length.
fn prefix(length: u32) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes()].concat()
}

async fn code(body: &mut Body) -> Option<Code> {
    let frame = body.frame().await.unwrap();
    frame.err().map(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn only_silence_ends_a_stream_of_whole_messages() {
    let (sender, mut body) = body_of(&gates(), "ImportUsers");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(29)).await;
        send(&sender, [prefix(3), b"row".to_vec()].concat()).await;
        assert_eq!(code(&mut body).await, None);
    }
    let silent = Instant::now();
    assert_eq!(code(&mut body).await, Some(Code::DeadlineExceeded));
    assert_eq!(silent.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_must_become_complete() {
    for method in [
        "ImportUsers",
        "ServerReflectionInfo",
        "Validate",
        "Watch",
        "WatchRevocations",
    ] {
        let (sender, mut body) = body_of(&gates(), method);
        let begun = Instant::now();
        tokio::spawn(async move {
            // Each byte is a sign of life, but the whole takes too long.
            for byte in prefix(200).into_iter().chain([7; 100]) {
                send(&sender, vec![byte]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let end = loop {
            if let Some(code) = code(&mut body).await {
                break code;
            }
        };
        assert_eq!((end, begun.elapsed()), (Code::DeadlineExceeded, RECEIVE), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_one_message_must_also_end_in_time() {
    let (sender, mut body) = body_of(&gates(), "Watch");
    send(&sender, prefix(0)).await;
    assert_eq!(code(&mut body).await, None);
    let begun = Instant::now();
    assert_eq!(code(&mut body).await, Some(Code::DeadlineExceeded));
    assert_eq!(begun.elapsed(), RECEIVE);
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_at_its_prefix() {
    for (method, max) in [
        ("Watch", 1024),
        ("ServerReflectionInfo", 1024),
        ("Validate", 64 * 1024),
        ("ImportUsers", 256 * 1024),
    ] {
        let (sender, mut body) = body_of(&gates(), method);
        send(&sender, prefix(max + 1)).await;
        assert_eq!(code(&mut body).await, Some(Code::OutOfRange), "{method}");
    }
}

#[tokio::test]
async fn long_messages_need_a_place_and_short_ones_do_not() {
    let gates = gates();
    let used = || gates.in_use(GateKind::RequestBytes);
    let (sender, mut first) = body_of(&gates, "Validate");
    send(&sender, prefix(25_000)).await;
    assert_eq!((code(&mut first).await, used()), (None, 25_000 - FREE_BYTES));
    // A quarter of what is free is the share of a source.
    let (sender, mut second) = body_of(&gates, "Validate");
    send(&sender, prefix(25_000)).await;
    assert_eq!(code(&mut second).await, Some(Code::ResourceExhausted));
    let (sender, mut third) = body_of(&gates, "Validate");
    send(&sender, prefix(8_000)).await;
    assert_eq!((code(&mut third).await, used()), (None, 25_000 - FREE_BYTES));
    drop((first, second, third));
    assert_eq!(used(), 0);
}

#[tokio::test]
async fn many_headers_need_a_place_too() {
    let gates = gates();
    let method = METHODS.iter().find(|this| this.name == "Validate").unwrap();
    let peer = Peer::anonymous("192.0.2.1:1".parse().unwrap());
    let consumer = Arc::new(Consumer::new(&gates, &peer));
    let mut headers = HeaderMap::new();
    for n in 0..20 {
        headers.insert(
            http::HeaderName::try_from(format!("x-{n}")).unwrap(),
            http::HeaderValue::from_static("v"),
        );
    }
    let body = |headers: &HeaderMap| RequestBody::new((), method, RECEIVE, Instant::now(), headers, &consumer);
    let few = body(&headers).unwrap();
    assert_eq!(gates.in_use(GateKind::RequestBytes), 0);
    for n in 20..500 {
        headers.insert(
            http::HeaderName::try_from(format!("x-{n}")).unwrap(),
            http::HeaderValue::from_static("v"),
        );
    }
    assert_eq!(body(&headers).unwrap_err().kind, ErrorKind::Overloaded);
    drop(few);
    assert_eq!(gates.in_use(GateKind::RequestBytes), 0);
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    let message = encoder.finish().unwrap();
    let mut with_prefix = prefix(u32::try_from(message.len()).unwrap());
    with_prefix[0] = 1;
    with_prefix.extend(message);
    with_prefix
}

#[tokio::test]
async fn compressed_messages_are_decompressed_however_they_are_cut() {
    let (first, second) = (b"a row ".repeat(100), b"another ".repeat(30));
    let wire = [gzip(&first), gzip(&second), [prefix(3), b"row".to_vec()].concat()].concat();
    for size in [1, 7, 50, wire.len()] {
        let (sender, body) = body_of(&gates(), "ImportUsers");
        let mut body = body.with_gunzip(Some(Gunzip::default()));
        let chunks: Vec<Vec<u8>> = wire.chunks(size).map(<[u8]>::to_vec).collect();
        tokio::spawn(async move {
            for chunk in chunks {
                send(&sender, chunk).await;
            }
        });
        let mut messages = Vec::new();
        while let Some(frame) = body.frame().await {
            messages.push(frame.unwrap().into_data().unwrap());
        }
        let plain = |message: &[u8]| [prefix(u32::try_from(message.len()).unwrap()), message.to_vec()].concat();
        assert_eq!(messages, [plain(&first), plain(&second), plain(b"row")], "{size}");
    }
}

#[tokio::test]
async fn a_message_that_expands_beyond_the_gate_is_refused() {
    let gates = gates();
    let (sender, body) = body_of(&gates, "ValidateBatch");
    let mut body = body.with_gunzip(Some(Gunzip::default()));
    send(&sender, gzip(&vec![0; 1_000_000])).await;
    assert_eq!(code(&mut body).await, Some(Code::ResourceExhausted));
    drop(body);
    assert_eq!(gates.in_use(GateKind::RequestBytes), 0);
}
