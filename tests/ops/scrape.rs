//! Every metric that a dashboard or an alert in `deploy/` names is in a scrape, and counts what its name says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{ValidateBatchRequest, ValidateRequest};

use crate::pki::{Folder, Layout, Pki};
use crate::side_port::{get, get_tls, value};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Caller, Database, Deployment, DeploymentKind, KeySpace, PASSWORD, eventually};

/// The metrics of a process that every Prometheus client has.
const PROCESS: [&str; 6] = [
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_open_fds",
    "process_max_fds",
];

fn deploy_file(path: &str) -> String {
    let file = format!("{}/deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of Countersign's metrics in a text, and of those of its process.
fn metric_names(text: &str) -> BTreeSet<String> {
    let starts = ["countersign_", "process_"]
        .into_iter()
        .flat_map(|prefix| text.match_indices(prefix).map(|(at, _)| &text[at..]));
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect()
    };
    starts.map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_dashboard_and_alerts_are_in_a_scrape() {
    let (database, keys, pki) = (Database::fresh().await, KeySpace::fresh(), Pki::new());
    let storage = for_tests(Storage::shared(&database, &keys));
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let own = pki.server(1);
    folder.put(&[("tls.key", &own.key), ("tls.crt", &own.cert), ("ca.crt", &pki.pem())]);
    let storage = storage
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap())
        .set("server.tls.client_ca", folder.file("ca.crt").to_str().unwrap())
        .set("gateway.forward_auth", "true");
    crate::support::deployment::add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let http: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();

    let scrape = eventually("it is ready", Duration::from_secs(20), || async {
        let (_, scrape) = get_tls(&pki, http, "/metrics").await?;
        let is_ready = value(&scrape, "countersign_ready").is_some_and(|ready| ready > 0.0);
        // What is stored is read a moment after the start.
        let is_measured = ["countersign_sessions", "countersign_redis_memory_used_bytes"]
            .iter()
            .all(|name| value(&scrape, name).is_some());
        (is_ready && is_measured).then_some(scrape)
    })
    .await;
    let scraped: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut count = 0;
    for file in ["prometheus/alerts.yaml", "grafana/countersign.json"] {
        for name in metric_names(&deploy_file(file)) {
            // Histograms without a sample must be present as well, or a rate would miss their first sample.
            assert!(
                scraped.contains(name.as_str()),
                "{file} names {name}, which no scrape has:\n{scrape}"
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count} names were found");

    for name in PROCESS {
        assert!(value(&scrape, name).is_some_and(|value| value > 0.0), "{name}");
    }
    // Rate, errors and duration of each method, even if it was not called yet.
    for method in ["Issue", "Refresh", "Validate", "CreateUser", "RotateKey"] {
        assert!(scrape.contains(&format!("method=\"{method}\",code=\"Ok\"")), "{method}");
    }
    let expiry = value(
        &scrape,
        "countersign_tls_certificate_expiry_timestamp_seconds{of=\"server\"}",
    );
    assert!(expiry.is_some_and(|expiry| expiry > 1_700_000_000.0), "{expiry:?}");
    let series = scrape.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1500, "{series} series");
    for (metric, help) in [
        ("countersign_store_up", "# HELP"),
        ("countersign_refresh_verdicts_total", "# TYPE"),
    ] {
        assert!(scrape.contains(&format!("{help} {metric} ")), "{metric}");
    }
}

/// Calls that differ in their result, and the series that counts each.
#[tokio::test(flavor = "multi_thread")]
async fn logins_and_validations_are_counted_by_their_result() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    for _ in 0..2 {
        caller.issue("ada", "a wrong guess").await.unwrap_err();
        caller.issue("no-such-user", PASSWORD).await.unwrap_err();
    }
    caller.assert_active(&tokens.access_token).await;
    caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    caller.until_revoked(&tokens.access_token).await;
    for _ in 0..3 {
        caller.inactive_reason("garbage").await;
    }
    let batch = ValidateBatchRequest {
        requests: (0..2)
            .map(|_| ValidateRequest {
                access_token: "garbage".to_owned(),
                ..ValidateRequest::default()
            })
            .collect(),
    };
    caller.tokens.clone().validate_batch(batch).await.unwrap();
    let http: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();
    let (_, scrape) = get(http, "/metrics").await.unwrap();
    for (series, least) in [
        (
            r#"countersign_logins_total{grant="password",outcome="success",reason=""}"#,
            1.0,
        ),
        // An unknown user and a wrong password look the same to a reader of the metrics, too.
        (
            r#"countersign_logins_total{grant="password",outcome="denied",reason="INVALID_CREDENTIALS"}"#,
            4.0,
        ),
        (r#"countersign_validate_verdicts_total{verdict="active"}"#, 1.0),
        (r#"countersign_validate_verdicts_total{verdict="revoked"}"#, 1.0),
        (r#"countersign_validate_verdicts_total{verdict="malformed"}"#, 5.0),
    ] {
        let counted = value(&scrape, series).unwrap_or_else(|| panic!("no {series}"));
        assert!(counted >= least, "{series} is {counted}");
    }
}
