//! Peers that send too much, or do not read the responses.

use std::time::Duration;

use countersign::proto;
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, RST_STREAM, frame, head, literal, message,
};
use crate::server::{Server, ServerSettings, instruction};

/// `SETTINGS_INITIAL_WINDOW_SIZE` (RFC 9113 §6.5.2).
const WINDOW: u16 = 4;

/// All frames until the server closes the connection, or sends nothing for a second.
async fn frames_until_closed(peer: &mut Peer) -> Vec<crate::frames::Received> {
    let mut all = vec![];
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), peer.next()).await {
        all.push(frame);
    }
    all
}

async fn still_answers(server: &Server) -> bool {
    let answer = server.client().await.get_keys(proto::GetKeysRequest {}).await;
    answer.is_ok()
}

fn instruction_message(what: &str) -> Vec<u8> {
    message(&instruction(what).encode_to_vec())
}

#[tokio::test]
async fn of_five_thousand_streams_a_hundred_are_accepted() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[]).await;
    let (head, instruction_message) = (head("Refresh"), instruction_message("sleep 60000"));
    for id in (1..10_000).step_by(2) {
        let call = [
            frame(HEADERS, END_HEADERS, id, &head),
            frame(DATA, END_STREAM, id, &instruction_message),
        ];
        if !peer.send(&call.concat()).await {
            break;
        }
    }
    let frames_until_closed = frames_until_closed(&mut peer).await;
    let refused = |f: &&crate::frames::Received| f.kind == RST_STREAM && f.payload == [0, 0, 0, 7];
    let stopped = frames_until_closed.iter().any(|f| f.kind == GOAWAY);
    assert!(
        stopped || frames_until_closed.iter().filter(refused).count() >= 4_000,
        "neither refused nor closed"
    );
    assert!(
        server.observed.begun() <= 100,
        "{} calls began",
        server.observed.begun()
    );
    assert!(still_answers(&server).await);
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[]).await;
    let head = head("Refresh");
    let mut sent = 0;
    for id in (1..200_001).step_by(2) {
        let call = [
            frame(HEADERS, END_HEADERS, id, &head),
            frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
        ];
        if !peer.send(&call.concat()).await {
            break;
        }
        sent += 1;
    }
    let ended = frames_until_closed(&mut peer).await.iter().any(|f| f.kind == GOAWAY) || sent < 100_000;
    assert!(ended, "{sent} resets were tolerated");
    assert!(still_answers(&server).await);
}

#[tokio::test]
async fn endless_headers_end_the_connection() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[]).await;
    let mut sent = peer.send(&frame(HEADERS, 0, 1, &head("Refresh"))).await;
    let mut block = vec![];
    literal(&mut block, "x-more", &"x".repeat(16_000));
    let mut bytes = 0;
    while sent && bytes < 64 << 20 {
        sent = peer.send(&frame(CONTINUATION, 0, 1, &block)).await;
        bytes += block.len();
    }
    assert!(!sent, "64 MiB of one header list were accepted");
    assert!(still_answers(&server).await);
}

#[tokio::test]
async fn a_header_list_that_is_too_long_reaches_no_service() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    for (length, passes) in [(15_000, true), (17_000, false)] {
        let mut request = tonic::Request::new(instruction("at once"));
        let long = "x".repeat(length).parse().unwrap();
        request.metadata_mut().insert("x-long", long);
        assert_eq!(client.refresh(request).await.is_ok(), passes, "{length}");
    }
    assert_eq!(server.observed.begun(), 1);
}

#[tokio::test]
async fn unread_responses_end_the_connection() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[(WINDOW, 0)]).await;
    for id in [1, 3, 5] {
        let call = [
            frame(HEADERS, END_HEADERS, id, &head("Issue")),
            frame(DATA, END_STREAM, id, &message(&[])),
        ];
        assert!(peer.send(&call.concat()).await);
    }
    let begun = Instant::now();
    let ended = timeout(Duration::from_secs(40), async { while peer.next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "the responses wait for ever");
    assert!(begun.elapsed() > Duration::from_secs(10), "a slow peer is given time");
    assert_eq!(server.observed.begun(), 3);
}
