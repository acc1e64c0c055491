//! Stopping the server.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::server::{Server, ServerSettings, instruction, until};

#[tokio::test]
async fn calls_in_flight_finish_and_new_ones_are_refused() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(instruction("sleep 300")).await });
    until("the work begins", || server.observed.begun() == 1).await;
    server.stop.drain();
    assert!(call.await.unwrap().is_ok());
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.observed.dropped(), 0);
}

#[tokio::test]
async fn silent_and_stuck_peers_do_not_delay_the_stop() {
    let setup = ServerSettings {
        drain_timeout: Duration::from_secs(1),
        ..ServerSettings::default()
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
        "the server waited for the silent peer"
    );
    drop((silent, idle));
}

#[tokio::test]
async fn a_second_signal_stops_the_server_at_once() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.refresh(instruction("sleep 60000")).await });
    until("the work begins", || server.observed.begun() == 1).await;
    server.stop.drain();
    server.stop.stop_now();
    tokio::time::timeout(Duration::from_secs(20), server.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(call.await.unwrap().is_err());
}
