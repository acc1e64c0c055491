//! How many requests a second `Check` answers, beside `Validate` on the same server in the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::proto::ValidateRequest;
use countersign::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use countersign::proto::token_service_client::TokenServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::site::{Site, allowed, request};

const CONNECTIONS: usize = 4;
const CALLS_AT_ONCE: usize = 16;
const TURN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release --all-features --test edge throughput -- --ignored --nocapture"]
async fn check_keeps_up_with_validate() {
    let site = Site::start();
    let token = site.login("api", &["read"]).await.access_token;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(site.server.grpc_url()).unwrap();
        channels.push(endpoint.connect().await.unwrap());
    }
    let bearer = format!("Bearer {token}");
    // What a browser sends along, more or less.
    let headers = [
        (":path", "/reports/2026"),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("accept-language", "en-GB,en;q=0.5"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        ("x-forwarded-for", "192.0.2.17"),
        ("x-request-id", "7c1f4dbe-5d2e-4d0a-8f4b-0e9b5b7f5f11"),
        ("authorization", &bearer),
    ];
    let asked = request("GET", &headers, &[("scopes", "read")]);

    let (mut validated, mut checked) = (0, 0);
    // In turns, so that what else the machine does falls on both.
    for _ in 0..3 {
        validated += rate(&channels, |channel| {
            let request = ValidateRequest {
                access_token: token.clone(),
                audience: "api".to_owned(),
                required_scopes: vec!["read".to_owned()],
                consistency: 0,
            };
            async move {
                let mut client = TokenServiceClient::new(channel);
                assert!(client.validate(request).await.unwrap().into_inner().active);
            }
        })
        .await;
        checked += rate(&channels, |channel| {
            let asked = asked.clone();
            async move {
                let mut client = AuthorizationClient::new(channel);
                allowed(client.check(asked).await.unwrap().into_inner());
            }
        })
        .await;
    }
    println!("Validate {validated}, Check {checked} in {} s each", 3 * TURN.as_secs());
    assert!(checked * 100 >= validated * 85, "less than 0.85 of it");
}

/// How many calls end in one turn.
async fn rate<F: Future<Output = ()>>(channels: &[Channel], call: impl Fn(Channel) -> F + Clone) -> u64 {
    let (over, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for caller in 0..CALLS_AT_ONCE {
        let channel = channels[caller % channels.len()].clone();
        let (over, ended, call) = (over.clone(), ended.clone(), call.clone());
        callers.push(async move {
            while !over.load(Ordering::Relaxed) {
                call(channel.clone()).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let stop = async {
        tokio::time::sleep(TURN).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(stop, futures_util::future::join_all(callers));
    ended.load(Ordering::Relaxed)
}
