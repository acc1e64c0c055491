//! Shutdown: replicas are replaced under load without a failed call; a peer that stays connected delays the end by at
//! most `server.drain_timeout`; a second signal ends the process at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::client::Client;
use countersign::proto::{RefreshRequest, WatchRevocationsRequest};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::side_port::get;
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, eventually};

/// How many replicas are replaced, one after another.
fn rounds() -> usize {
    let wanted = std::env::var_os("COUNTERSIGN_TEST_ROUNDS");
    let wanted = wanted.map(|wanted| wanted.to_str().and_then(|wanted| wanted.parse().ok()));
    wanted.map_or(3, |wanted| wanted.expect("a number of rounds"))
}

fn http(server: &Countersign) -> SocketAddr {
    server.http_url().trim_start_matches("http://").parse().unwrap()
}

/// A load balancer without health checks: each connection goes to the first replica that accepts it.
struct Balancer {
    address: SocketAddr,
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replicas: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let known = Arc::clone(&replicas);
        tokio::spawn(async move {
            let mut turn = 0_usize;
            loop {
                let (mut caller, _) = listener.accept().await.unwrap();
                turn += 1;
                let all = known.lock().clone();
                tokio::spawn(async move {
                    for n in 0..all.len() {
                        if let Ok(mut replica) = TcpStream::connect(all[(turn + n) % all.len()]).await {
                            let _ = copy_bidirectional(&mut caller, &mut replica).await;
                            return;
                        }
                    }
                });
            }
        });
        Self { address, replicas }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_are_replaced_under_load_without_a_failed_call() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    deployment.add_user("ada", &[]);
    let balancer = Balancer::start().await;
    let mut replicas = std::collections::VecDeque::from([deployment.serve(), deployment.serve()]);
    let publish = |replicas: &std::collections::VecDeque<Countersign>| {
        *balancer.replicas.lock() = replicas.iter().map(Countersign::grpc).collect();
    };
    publish(&replicas);

    let (running, made) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let client = Client::builder(format!("http://{}", balancer.address));
        let client = client.deadline(Duration::from_secs(10)).connect_lazy().unwrap();
        let (running, made, failures) = (Arc::clone(&running), Arc::clone(&made), Arc::clone(&failures));
        tasks.push(tokio::spawn(async move {
            let session = client.log_in("ada", PASSWORD).await.unwrap();
            let mut tokens = session.tokens();
            while running.load(Ordering::SeqCst) {
                made.fetch_add(2, Ordering::SeqCst);
                let request = RefreshRequest {
                    refresh_token: tokens.refresh_token.clone(),
                    ..RefreshRequest::default()
                };
                match client.refresh(request).await {
                    Ok(next) => tokens = next.tokens.unwrap(),
                    Err(status) => failures.lock().push(format!("refresh: {status}")),
                }
                match client.validate(&tokens.access_token, "api", &[]).await {
                    Ok(answer) if answer.active => {}
                    Ok(answer) => failures.lock().push(format!("validate: {:?}", answer.reason())),
                    Err(status) => failures.lock().push(format!("validate: {status}")),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    for round in 0..rounds() {
        let mut leaving = replicas.pop_front().unwrap();
        let storage = deployment.storage.clone();
        replicas.push_back(tokio::task::spawn_blocking(move || storage.serve(&[])).await.unwrap());
        let before = made.load(Ordering::SeqCst);
        eventually("calls are under way", Duration::from_secs(20), || async {
            (made.load(Ordering::SeqCst) > before + 20).then_some(())
        })
        .await;
        // The balancer learns only later that the replica leaves.
        leaving.signal(Signal::SIGTERM);
        let status = eventually("the process ends", Duration::from_secs(25), || {
            std::future::ready(leaving.exited())
        })
        .await;
        assert_eq!(status.code(), Some(0), "round {round}");
        publish(&replicas);
        assert_eq!(*failures.lock(), Vec::<String>::new(), "round {round}");
    }
    running.store(false, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*failures.lock(), Vec::<String>::new());
    eprintln!(
        "{} rounds, {} calls, none failed",
        rounds(),
        made.load(Ordering::SeqCst)
    );
}

/// A replica that waits six seconds for connected peers, which is less than the default.
fn with_short_drain() -> Countersign {
    for_tests(Storage::embedded())
        .set("server.drain_timeout", "6s")
        .serve(&[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_peer_delays_the_end_only_briefly_and_the_side_port_answers_until_then() {
    let mut server = with_short_drain();
    let silent = TcpStream::connect(server.grpc()).await.unwrap();
    let mut caller = Caller::of(&server);
    let watching = caller
        .tokens
        .watch_revocations(WatchRevocationsRequest::default())
        .await;
    let mut watching = watching.unwrap().into_inner();
    assert!(watching.message().await.unwrap().is_some());
    let (http, begun) = (http(&server), Instant::now());
    assert_eq!(get(http, "/readyz").await.unwrap().0, 200);

    server.signal(Signal::SIGTERM);
    // It is not ready, while calls in progress continue and the side port still answers.
    eventually("it reports that it is not ready", Duration::from_secs(6), || async {
        get(http, "/readyz").await.filter(|(status, _)| *status == 503)
    })
    .await;
    let (status, scrape) = get(http, "/metrics")
        .await
        .expect("the side port answers during the drain");
    assert!(status == 200 && scrape.contains("countersign_calls_in_flight"));
    assert!(server.exited().is_none(), "{}", server.log());
    let status = eventually("the process ends", Duration::from_secs(40), || {
        std::future::ready(server.exited())
    })
    .await;
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    // `drain_timeout` and a second, and some time for a busy machine; with the default it would be twenty seconds.
    assert!(took < Duration::from_secs(18), "{took:?}");
    drop((silent, watching));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let mut server = for_tests(Storage::embedded())
        .set("server.drain_timeout", "1m")
        .serve(&[]);
    let silent = TcpStream::connect(server.grpc()).await.unwrap();
    let http = http(&server);
    server.signal(Signal::SIGTERM);
    eventually("it drains", Duration::from_secs(30), || async {
        get(http, "/readyz").await.filter(|(status, _)| *status == 503)
    })
    .await;
    assert!(server.exited().is_none());
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    let status = eventually("the process ends", Duration::from_secs(40), || {
        std::future::ready(server.exited())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(0), "{}", server.log());
    drop(silent);
}
