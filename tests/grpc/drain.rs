//! The end of a server.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::server::{Server, Setup, told, until};

#[tokio::test]
async fn what_was_begun_is_finished_and_nothing_new_is_taken() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(told("sleep 300")).await });
    until("the work begins", || server.seen.begun() == 1).await;
    server.stop.drain();
    assert!(call.await.unwrap().is_ok());
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.seen.dropped(), 0);
}

#[tokio::test]
async fn silent_and_stuck_peers_do_not_hold_the_end_up() {
    let setup = Setup {
        drain_timeout: Duration::from_secs(1),
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let idle = server.client().await;
    server.stop.drain();
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "the silent one is waited for"
    );
    drop((silent, idle));
}

#[tokio::test]
async fn the_second_signal_ends_it_now() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(told("sleep 60000")).await });
    until("the work begins", || server.seen.begun() == 1).await;
    server.stop.drain();
    server.stop.now();
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(call.await.unwrap().is_err());
}
