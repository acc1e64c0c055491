//! Traces, as a real collector (rotel) receives them: a span for each call with child spans for its statements and
//! scripts, the trace of the caller continued, and no secret. If the collector is down, calls are not affected.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::Request;

use crate::side_port::{get, value};
use crate::support::collector::Collector;
use crate::support::ports;
use crate::support::serve::MASTER_KEY;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, eventually};

fn http(server: &Countersign) -> SocketAddr {
    server.http_url().trim_start_matches("http://").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_contains_a_call_and_its_statements_and_no_secret() {
    let collector = Collector::start();
    let deployment = Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("telemetry.otlp_endpoint", &format!("http://{}", collector.address));
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let first = caller.login("ada").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut refresh = Request::new(countersign::proto::RefreshRequest {
        refresh_token: first.refresh_token.clone(),
        attempt_id: "canary-attempt".to_owned(),
        ..countersign::proto::RefreshRequest::default()
    });
    let parent = format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap();
    refresh.metadata_mut().insert("traceparent", parent);
    let second = caller
        .tokens
        .clone()
        .refresh(refresh)
        .await
        .unwrap()
        .into_inner()
        .tokens
        .unwrap();
    caller.assert_active(&second.access_token).await;
    // An invalid `traceparent` is ignored.
    let mut odd = Request::new(countersign::proto::ValidateRequest {
        access_token: "garbage".to_owned(),
        ..countersign::proto::ValidateRequest::default()
    });
    odd.metadata_mut()
        .insert("traceparent", "00-zz-\u{7e}-01".parse().unwrap());
    caller.tokens.clone().validate(odd).await.unwrap();

    let wanted = [
        "countersign.v1.TokenService/Refresh",
        "countersign.v1.TokenService/Issue",
        "countersign.v1.TokenService/Validate",
        "password hash",
        "ROTATE",
        "db.query.text",
        "SELECT",
        trace,
    ];
    let seen = eventually("the spans arrive", Duration::from_secs(20), || async {
        let log = collector.process.log();
        wanted.iter().all(|word| log.contains(word)).then_some(log)
    })
    .await;
    // The call, the pool, a statement and a script belong to one trace. The collector prints its id with each span.
    assert!(
        seen.matches(trace).count() >= 4,
        "{} spans of the caller's trace",
        seen.matches(trace).count()
    );
    for secret in [
        PASSWORD,
        MASTER_KEY,
        "canary-attempt",
        &first.access_token,
        &first.refresh_token,
        &second.access_token,
        &second.refresh_token,
        "csr_",
        "eyJ",
        deployment.database.as_ref().unwrap().url(),
    ] {
        assert!(!seen.contains(secret), "a secret is in a span: {secret}");
    }
    let scrape = eventually("spans are counted", Duration::from_secs(10), || async {
        let (_, scrape) = get(http(&server), "/metrics").await?;
        value(&scrape, "countersign_spans_total{outcome=\"sent\"}").filter(|sent| *sent > 0.0)
    })
    .await;
    assert!(scrape > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_the_service() {
    for (variables, expected) in [
        (&[][..], "countersign"),
        (&[("OTEL_SERVICE_NAME", "tokens-of-the-shop")], "tokens-of-the-shop"),
        (&[("OTEL_SERVICE_NAME", "")], "countersign"),
        (
            &[(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=shop-auth,deployment.environment=test",
            )],
            "shop-auth",
        ),
    ] {
        let collector = Collector::start();
        let mut deployment = Deployment::fresh(DeploymentKind::Embedded)
            .await
            .set("telemetry.otlp_endpoint", &format!("http://{}", collector.address));
        for (name, value) in variables {
            deployment.storage = deployment.storage.env(name, value);
        }
        let server = deployment.serve();
        assert!(Caller::of(&server).inactive_reason("garbage").await.is_some());
        eventually("a span arrives", Duration::from_secs(20), || async {
            collector.process.log().contains("TokenService/Validate").then_some(())
        })
        .await;
        let log = collector.process.log();
        let name = log
            .lines()
            .find(|line| line.contains("service.name"))
            .unwrap_or_else(|| panic!("{log}"));
        assert!(name.contains(expected), "{variables:?}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_or_silent_collector_delays_no_call() {
    // It accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [
        silent.local_addr().unwrap(),
        SocketAddr::from(([127, 0, 0, 1], ports::free())),
    ] {
        let deployment = Deployment::fresh(DeploymentKind::Embedded)
            .await
            .set("telemetry.otlp_endpoint", &format!("http://{address}"));
        let server = deployment.serve();
        let caller = Caller::with_deadline(&server.grpc_url(), Duration::from_secs(20));
        // More spans than fit into the queue.
        for _ in 0..50 {
            let calls = (0..200).map(|_| caller.inactive_reason("garbage"));
            assert!(futures_util::future::join_all(calls).await.iter().all(Option::is_some));
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(server.stop().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}
