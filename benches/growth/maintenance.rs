//! What a service does by itself: it starts, reconciles its revocations, and removes expired rows.

use std::time::{Duration, Instant};

use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::config::DatabaseUrl;
use countersign::store::postgres::{PostgresConfig, PostgresStore};
use countersign::store::{AuditStore as _, RevocationStore as _};

use crate::cores::cpu_micros;
use crate::deployment::Deployment;
use crate::figures::{median, round_length, rounds};
use crate::population::sql_id;
use crate::processor::Cost;
use crate::support::get;
use crate::table::Row;

/// How many rows are removed, and how many of them by one statement, as the service does.
const EXPIRED: u32 = 20_000;
const BATCH: u32 = 1000;

pub async fn measure(deployment: &Deployment) -> Vec<Row> {
    let mut rows = vec![starts(deployment), reconciliation(deployment).await];
    rows.extend(clean_up(deployment).await);
    rows
}

/// From the start of the process until it answers, with all revocations in memory.
fn starts(deployment: &Deployment) -> Row {
    let stores = deployment.stores();
    let (mut times, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let (before, began) = (stores.spent(), Instant::now());
        let service = deployment.serve();
        times.push(micros(began.elapsed()));
        costs.push(Cost {
            service: cpu_micros(service.pid()) as f64,
            ..stores.spent().since(before)
        });
        assert!(service.stop().success());
    }
    Row {
        name: "start, until it answers",
        time: Some(median(times.into_iter())),
        cost: Cost::median(&costs),
        wal: 0.0,
    }
}

/// Reconciles a hundred times a second, so that the processor time of one reconciliation can be measured.
async fn reconciliation(deployment: &Deployment) -> Row {
    let storage = deployment.storage.clone().set("revocation.reconcile_interval", "10ms");
    let process = crate::cores::on_server_core(|| storage.serve(&[]));
    let reconciled = async || -> u64 {
        let page = get(&format!("{}/metrics", process.http_url()), &[]).await;
        let name = r#"countersign_reconciliations_total{outcome="done"}"#;
        let line = page
            .body
            .lines()
            .find(|line| line.starts_with(name))
            .expect("the metric is there");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let stores = deployment.stores();
    let mut costs = Vec::new();
    for _ in 0..rounds() {
        let (before, count) = (stores.spent_with(&[process.pid()]), reconciled().await);
        tokio::time::sleep(round_length()).await;
        let spent = stores.spent_with(&[process.pid()]).since(before);
        costs.push(spent.each(reconciled().await - count));
    }
    Row {
        name: "reconciliation without a new revocation",
        time: None,
        cost: Cost::median(&costs),
        wal: 0.0,
    }
}

/// Removes expired revocations and old audit events by the statements of the service. The figures are of one row.
async fn clean_up(deployment: &Deployment) -> Vec<Row> {
    let config = PostgresConfig {
        url: DatabaseUrl::parse(&deployment.database.url().into()).unwrap(),
        pool: 2,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_mins(1),
    };
    let store = PostgresStore::connect(&config).await.unwrap();
    let now = SystemClock::new().now().0;
    let (expired, long_ago) = (now - 3_600_000, now - 500 * 86_400_000);
    let add_revocations = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         SELECT 'session', gen_random_uuid()::text, 0, {expired}, {expired} FROM generate_series(1, {EXPIRED})"
    );
    let add_events = format!(
        "INSERT INTO audit_events
         SELECT {id}, {long_ago}, kind, actor, ip_address, request_id, subject, client_id, session_id, outcome,
                details
         FROM generate_series(1::bigint, {EXPIRED}) AS n, (SELECT * FROM audit_events LIMIT 1) AS t",
        // Ids of that time. Later ones would stay in the way of queries for the newest events until the next VACUUM.
        id = sql_id(long_ago, "8004")
    );
    deployment.database.execute(&add_revocations).await;
    let revocations = timed(deployment, "clean-up of one revocation", async || {
        while store.purge_revocations(BATCH).await.unwrap() == BATCH {}
    });
    let revocations = revocations.await;
    deployment.database.execute(&add_events).await;
    let before = UnixMillis(long_ago + 1);
    let events = timed(deployment, "clean-up of one audit event", async || {
        while store.purge_audit(before, BATCH).await.unwrap() == BATCH {}
    });
    let events = events.await;
    vec![revocations, events]
}

/// Runs `work`, which removes [`EXPIRED`] rows.
async fn timed(deployment: &Deployment, name: &'static str, work: impl AsyncFnOnce()) -> Row {
    let (before, wal, began) = (deployment.stores().spent(), deployment.wal().await, Instant::now());
    work().await;
    let time = micros(began.elapsed());
    Row {
        name,
        time: Some(time / f64::from(EXPIRED)),
        cost: deployment.stores().spent().since(before).each(EXPIRED.into()),
        wal: (deployment.wal().await - wal) / f64::from(EXPIRED),
    }
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
