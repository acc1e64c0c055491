//! Callers that open as many connections as they can, on the gRPC port and on the side port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::source::{H2Connection, code_of, connect_from, unfinished};
use crate::support::web::metric;
use crate::support::{Countersign, Deployment, DeploymentKind, eventually, get};

const GET_KEYS: &str = "/countersign.v1.TokenService/GetKeys";

/// The source of the attacker.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn can_call(server: &Countersign, from: Ipv4Addr) -> bool {
    let call = async {
        let mut connection = H2Connection::open(from, server.grpc()).await?;
        let (_, response) = connection.begin(GET_KEYS, unfinished(0, 0), true).await?;
        code_of(response).await
    };
    timeout(Duration::from_secs(20), call).await == Ok(Some(tonic::Code::Ok))
}

/// Opens connections until the server closes one.
async fn fill(server: &Countersign, from: Ipv4Addr) -> Vec<H2Connection> {
    let mut held = Vec::new();
    while let Some(mut connection) = H2Connection::open(from, server.grpc()).await {
        let Some((_, response)) = connection.begin(GET_KEYS, unfinished(0, 0), true).await else {
            break;
        };
        if code_of(response).await.is_none() {
            break;
        }
        held.push(connection);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_keep_others_out() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.set("server.max_connections", "400").serve();
    let mut held = Vec::new();
    for n in 2..6 {
        let from = Ipv4Addr::new(127, 0, 0, n);
        let connections = fill(&server, from).await;
        println!("{from}: {} connections", connections.len());
        assert!((10..=64).contains(&connections.len()));
        held.push(connections);
        assert!(can_call(&server, Ipv4Addr::new(127, 0, 1, n)).await);
    }
    assert!(metric(&server, "countersign_connections_closed_total") >= 4.0);
    let lines = server.log().matches("has its share of the connections").count();
    assert!(
        (1..=3).contains(&lines),
        "{lines} lines, one in ten seconds: {}",
        server.log()
    );
    held.clear();
    eventually("the places are free again", Duration::from_secs(20), || async {
        can_call(&server, ATTACKER).await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_addresses_with_idle_connections_do_not_keep_others_out() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.set("server.max_connections", "200").serve();
    let mut honest = H2Connection::open(Ipv4Addr::new(127, 0, 1, 1), server.grpc())
        .await
        .unwrap();
    let (_, response) = honest.begin(GET_KEYS, unfinished(0, 0), true).await.unwrap();
    assert_eq!(code_of(response).await, Some(tonic::Code::Ok));
    let mut held = Vec::new();
    for n in 2..62 {
        held.extend(fill(&server, Ipv4Addr::new(127, 0, 0, n)).await);
    }
    assert!(held.len() >= 200, "all are in use: {}", held.len());
    for n in 2..12 {
        assert!(can_call(&server, Ipv4Addr::new(127, 0, 1, n)).await, "a new caller");
    }
    let (_, response) = honest
        .begin(GET_KEYS, unfinished(0, 0), true)
        .await
        .expect("its connection lives on");
    assert_eq!(code_of(response).await, Some(tonic::Code::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_have_all_connections() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment
        .set("server.max_connections", "100")
        .set("server.max_connections_per_source", "5")
        .set("server.shared_sources", "127.0.0.2, 10.0.0.0/8")
        .serve();
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(H2Connection::open(ATTACKER, server.grpc()).await.unwrap());
    }
    assert_eq!(fill(&server, Ipv4Addr::new(127, 0, 0, 3)).await.len(), 5);
}

/// The connections of an attacker, most of which the server has closed.
const MOST_HALF_SENT: usize = 2000;

/// A connection that has sent half of a request.
async fn half_sent(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let mut io = timeout(Duration::from_secs(5), connect_from(from, to))
        .await
        .ok()?
        .ok()?;
    io.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        .await
        .ok()?;
    Some(io)
}

/// Probes the side port as a kubelet does: a second for each. Returns how many failed.
#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn failed_probes(server: &Countersign, count: usize) -> usize {
    let url = format!("{}/healthz", server.http_url());
    let mut failed = 0;
    for _ in 0..count {
        let begun = Instant::now();
        let answer = timeout(Duration::from_secs(5), get(&url, &[])).await;
        if !answer.is_ok_and(|answer| answer.status == 200) {
            failed += 1;
        }
        println!("a probe took {:?}", begun.elapsed());
        sleep(Duration::from_millis(200)).await;
    }
    failed
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn probes_beside_half_sent_requests(from: Ipv4Addr) {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.serve();
    let address: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();
    let mut held = Vec::new();
    for _ in 0..300 {
        held.extend(half_sent(from, address).await);
    }
    // The attacker goes on, and closes none of its connections.
    let goes_on = Arc::new(AtomicBool::new(true));
    let attacker = tokio::spawn({
        let goes_on = Arc::clone(&goes_on);
        async move {
            while goes_on.load(Ordering::SeqCst) {
                if held.len() < MOST_HALF_SENT {
                    held.extend(half_sent(from, address).await);
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let failed = failed_probes(&server, 6).await;
    goes_on.store(false, Ordering::SeqCst);
    attacker.await.unwrap();
    println!("{failed} of 6 probes failed beside 300 half-sent requests from {from}");
    assert_eq!(failed, 0);
    assert!(metric(&server, "countersign_connections_closed_total") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_the_side_port_are_answered_beside_half_sent_requests() {
    probes_beside_half_sent_requests(ATTACKER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_from_the_address_of_the_half_sent_requests_are_answered_too() {
    probes_beside_half_sent_requests(Ipv4Addr::LOCALHOST).await;
}
