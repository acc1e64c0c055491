//! The lifetime of connections. The runtime's clock is paused, and advances whenever all tasks wait.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::frames::{GOAWAY, PING, Peer, SETTINGS, frame};
use crate::server::{Server, ServerSettings};

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_dropped_after_half_a_minute() {
    let server = Server::start(ServerSettings::default()).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let began = Instant::now();
    let mut said = Vec::new();
    // The server closes the connection, which may arrive as an error.
    let _ = io.read_to_end(&mut said).await;
    let lasted = began.elapsed();
    assert!(
        (Duration::from_secs(29)..Duration::from_secs(32)).contains(&lasted),
        "20 s of quiet and 10 s for an answer: {lasted:?}"
    );
    let ping_of_eight_bytes = [0, 0, 8, PING, 0, 0, 0, 0, 0];
    assert!(said.windows(9).any(|head| head == ping_of_eight_bytes), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_in_good_order_before_it_is_half_an_hour_old() {
    let server = Server::start(ServerSettings::default()).await;
    let mut peer = Peer::connect(server.address, &[]).await;
    let began = Instant::now();
    let mut received = peer
        .next()
        .await
        .expect("the server sends its settings and window updates");
    while received.kind != GOAWAY {
        received = peer.next().await.expect("the server sends GOAWAY");
    }
    // RFC 9113 §6.8: streams up to the highest number are still accepted, and there is no error.
    assert_eq!(received.payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let minutes = began.elapsed().as_secs() / 60;
    assert!((27..=30).contains(&minutes), "{minutes}");
    let mut last = received;
    while let Some(next) = peer.next().await {
        last = next;
    }
    assert_eq!(
        (last.kind, &last.payload[..8]),
        (GOAWAY, &[0; 8][..]),
        "no stream was opened"
    );
    assert!(began.elapsed().as_secs() / 60 <= 30);
}
