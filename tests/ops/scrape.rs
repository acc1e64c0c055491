//! Every metric that a dashboard or an alert in `deploy/` names is in a scrape, and every alert has its section in the
//! runbook.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::pki::{Folder, Layout, Pki};
use crate::side_port::{get_tls, value};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Database, KeySpace, eventually};

fn deploy_file(path: &str) -> String {
    let file = format!("{}/deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of Countersign's metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("countersign_").map(|(at, _)| &text[at..]);
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
        .set("server.tls.client_ca", folder.file("ca.crt").to_str().unwrap());
    crate::support::deployment::add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let http: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();

    let scrape = eventually("it is ready", Duration::from_secs(20), || async {
        let (_, scrape) = get_tls(&pki, http, "/metrics").await?;
        value(&scrape, "countersign_ready")
            .filter(|ready| *ready > 0.0)
            .map(|_| scrape)
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

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let (alerts, runbook) = (deploy_file("prometheus/alerts.yaml"), deploy_file("RUNBOOK.md"));
    let names: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(runbook.contains(&format!("\n### {name}\n")), "{name} has no section");
        let link = format!("RUNBOOK.md#{}", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} does not link to its section");
    }
}
