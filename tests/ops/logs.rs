//! What the log of the service and of the agent tells: the signal, the drain and the end; why a start failed, as JSON where the
//! log is JSON; why the upstream of an agent cannot be reached; that traces are lost; that a proxy may not ask.

use std::net::SocketAddr;
use std::time::Duration;

use countersign::proto::envoy::service::auth::v3::CheckRequest;
use countersign::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::pki::{Folder, Layout, Pki};
use crate::side_port::{get, value};
use crate::support::agent::listen_anywhere;
use crate::support::collector::Collector;
use crate::support::deployment::for_tests;
use crate::support::guard::{self, Ending};
use crate::support::ports;
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, Process, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The lines of a log, except the copies of audit events.
fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] != "audit")
        .collect()
}

/// The lines whose message contains these words.
fn with(log: &str, words: &str) -> Vec<Value> {
    let mut lines = lines(log);
    lines.retain(|line| line["message"].as_str().is_some_and(|message| message.contains(words)));
    lines
}

fn http(server: &Countersign) -> SocketAddr {
    server.http_url().trim_start_matches("http://").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signal_the_drain_and_the_end_are_logged() {
    let mut server = for_tests(Storage::embedded()).serve(&[]);
    server.signal(Signal::SIGTERM);
    let status = eventually("it ends", TIMEOUT, || {
        let ended = server.exited();
        async move { ended }
    })
    .await;
    assert!(status.success());
    let log = lines(&server.log());
    let at = |words: &str| {
        let found = log
            .iter()
            .position(|line| line["message"].as_str().unwrap().contains(words));
        found.unwrap_or_else(|| panic!("{words} is not in {log:#?}"))
    };
    let order = [at("serving"), at("SIGTERM received"), at("drained"), at("stopped")];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(log[order[1]]["signal"], "SIGTERM");
}

#[test]
fn a_failed_start_is_json_where_the_log_is() {
    let storage = for_tests(Storage::embedded());
    let nowhere = format!("postgres://nobody:hush-hush@127.0.0.1:{}/none", ports::free());
    let unreachable = Storage::clustered(&nowhere, "redis://127.0.0.1:1", "cs");
    let agent = ["agent", "--upstream", "http://127.0.0.1:1"];
    for (storage, words, code, named) in [
        // The configuration cannot be loaded.
        (
            storage.clone().set("tokens.access_ttl", "nonsense"),
            &["serve"][..],
            64,
            "tokens.access_ttl",
        ),
        // It can, and is refused.
        (storage.clone(), &["serve", "--listen", "0.0.0.0:0"], 64, "TLS"),
        (unreachable, &["serve"], 69, "database"),
        (storage, &agent, 64, "agent.listen"),
    ] {
        let refused = storage.run(words).finish();
        assert_eq!(refused.code(), Some(code), "{}", refused.stderr);
        let lines: Vec<Value> = refused
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect();
        let line = lines.last().expect("a line");
        assert_eq!((&line["level"], &line["exit_code"]), (&"ERROR".into(), &code.into()));
        assert!(line["message"].as_str().unwrap().contains(named), "{line}");
        assert!(line["timestamp"].is_string() && !refused.stderr.contains("hush-hush"));

        let text = storage.set("telemetry.log_format", "text").run(words).finish();
        assert!(
            text.stderr.contains("error: ") && !text.stderr.contains('{'),
            "{}",
            text.stderr
        );
    }
}

/// Starts an agent that follows `upstream`.
fn agent(upstream: &str) -> Process {
    let storage = for_tests(Storage::embedded());
    let mut command = storage.command();
    command
        .args(["agent", "--upstream", upstream, "--listen", &listen_anywhere()])
        .env("COUNTERSIGN_AGENT__CLIENT_ID", "agent")
        .env("COUNTERSIGN_AGENT__CLIENT_SECRET", "canary-of-the-agent");
    Process::spawn(&mut command, &guard::scratch("agent").join("log"), Ending::Kill)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_tells_why_it_cannot_reach_its_upstream() {
    let (pki, storage) = (Pki::new(), for_tests(Storage::embedded()));
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let own = pki.server(1);
    folder.put(&[("tls.key", &own.key), ("tls.crt", &own.cert)]);
    let server = storage
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap())
        .serve(&[]);
    let nowhere = format!("127.0.0.1:{}", ports::free());
    for (upstream, address, cause) in [
        (format!("http://{nowhere}"), nowhere.clone(), "refused"),
        // The authority is not one of the system's.
        (
            format!("https://{}", server.grpc()),
            server.grpc().to_string(),
            "UnknownIssuer",
        ),
        (
            "http://no-such-host.invalid:50051".to_owned(),
            "no-such-host.invalid:50051".to_owned(),
            "lookup",
        ),
    ] {
        let agent = agent(&upstream);
        let line = eventually("the agent tells why", TIMEOUT, || async {
            with(&agent.log(), "cannot reach the service at").into_iter().next()
        })
        .await;
        assert_eq!(
            (&line["level"], &line["address"]),
            (&"WARN".into(), &address.into()),
            "{line}"
        );
        assert!(line["error"].as_str().unwrap().contains(cause), "{cause}: {line}");
        assert!(!agent.log().contains("canary-of-the-agent"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_logs_the_edges_of_an_outage_of_its_upstream() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.serve();
    let listen = format!("127.0.0.1:{}", server.grpc().port());
    let agent = crate::support::agent::Agent::start(&deployment.storage, &server, &listen_anywhere(), &[]);
    agent.caller().await;
    server.kill();
    eventually("the loss is logged", TIMEOUT, || async {
        with(&agent.process.log(), "cannot reach the service at")
            .first()
            .map(drop)
    })
    .await;
    let storage = deployment.storage.clone();
    let own = guard::scratch("again");
    let mut command = storage.command();
    command.args(["serve", "--listen", &listen, "--http-listen", "127.0.0.1:0"]);
    let _again = Process::spawn(&mut command, &own.join("log"), Ending::Kill);
    eventually("the return is logged", TIMEOUT, || async {
        with(&agent.process.log(), "answers again after").first().map(drop)
    })
    .await;
    let log = agent.process.log();
    assert_eq!(with(&log, "cannot reach the service at").len(), 1, "{log}");
    assert_eq!(with(&log, "answers again after").len(), 1, "{log}");
}

/// Calls the server until this many more exports of spans had the outcome.
async fn until_exported(server: &Countersign, outcome: &str, times: u32) {
    let series = format!("countersign_spans_total{{outcome=\"{outcome}\"}}");
    let caller = Caller::of(server);
    let mut seen = (0_u32, None::<f64>);
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while seen.0 < times {
        assert!(tokio::time::Instant::now() < deadline, "no export was {outcome}");
        caller.inactive_reason("garbage").await;
        let scrape = get(http(server), "/metrics")
            .await
            .map(|(_, scrape)| scrape)
            .unwrap_or_default();
        let now = value(&scrape, &series).unwrap_or_default();
        if seen.1.is_some_and(|before| now > before) {
            seen.0 += 1;
        }
        seen.1 = Some(now);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_cannot_be_sent_are_logged_once_and_their_return_too() {
    let port = ports::free();
    let address = format!("127.0.0.1:{port}");
    let server = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("telemetry.otlp_endpoint", &format!("http://{address}"))
        .serve();
    until_exported(&server, "lost", 3).await;
    let told = with(&server.log(), "traces cannot be sent");
    assert_eq!(told.len(), 1, "{}", server.log());
    assert_eq!(
        (&told[0]["level"], &told[0]["collector"]),
        (&"WARN".into(), &address.into())
    );
    let _collector = Collector::at(port);
    until_exported(&server, "sent", 1).await;
    let back = with(&server.log(), "are sent to");
    assert_eq!(back.len(), 1, "{}", server.log());
    assert!(back[0]["lost"].as_u64().unwrap() > 0, "{}", back[0]);
    let libraries = |line: &Value| !line["target"].as_str().unwrap().starts_with("countersign");
    let chatter: Vec<Value> = lines(&server.log()).into_iter().filter(libraries).collect();
    assert!(chatter.is_empty(), "{chatter:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_may_not_ask_leaves_a_line_and_a_metric() {
    const SECRET: &str = "a-secret-of-the-proxy-that-is-long-enough";
    let server = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("server.anonymous_scopes", "countersign:issue")
        .set("gateway.forward_auth", "true")
        .set("gateway.forward_auth_secret", SECRET)
        .serve();
    let channel = Endpoint::from_shared(server.grpc_url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    for _ in 0..20 {
        let refused = AuthorizationClient::new(channel.clone())
            .check(CheckRequest::default())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let answer = authorize(http(&server), "canary-of-the-proxy").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    assert!(authorize(http(&server), SECRET).await.starts_with("HTTP/1.1 401"));
    let log = server.log();
    for words in ["a proxy may not ask Check", "a proxy may not ask /authorize"] {
        let told = with(&log, words);
        assert_eq!(told.len(), 1, "{words}: {log}");
        assert_eq!(told[0]["level"], "WARN");
    }
    assert!(!log.contains("canary-of-the-proxy"));
    let (_, scrape) = get(http(&server), "/metrics").await.unwrap();
    for (series, expected) in [
        ("countersign_forward_auth_unknown_proxies_total", 20.0),
        (
            r#"countersign_grpc_calls_total{service="envoy.service.auth.v3.Authorization",method="Check",code="Unauthenticated"}"#,
            20.0,
        ),
        (r#"countersign_forward_auth_total{status="401"}"#, 1.0),
        (r#"countersign_forward_auth_total{status="403"}"#, 20.0),
        (r#"countersign_gateway_verdicts_total{verdict="no_token"}"#, 1.0),
        ("countersign_forward_auth_seconds_count", 21.0),
    ] {
        let found = value(&scrape, series).unwrap_or_else(|| panic!("no {series}"));
        assert!((found - expected).abs() < 0.5, "{series} is {found}");
    }
}

async fn authorize(address: SocketAddr, secret: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /authorize HTTP/1.1\r\nhost: localhost\r\nx-forward-auth-secret: {secret}\r\nx-forwarded-method: GET\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_details_of_audit_events_are_objects_in_the_log() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    caller.issue("ada", PASSWORD).await.unwrap();
    // The log of events has a thread of its own.
    let event = eventually("the event is in the log", Duration::from_secs(30), || async {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line: &Value| line["target"] == "audit" && line["type"] == "token.issued")
    })
    .await;
    assert_eq!(event["details"], serde_json::json!({"grant": "password"}));
    assert!(event["timestamp"].is_string() && event["level"] == "INFO", "{event}");
}
