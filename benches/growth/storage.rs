//! What a user, a session, a revocation and an audit event take, and what churn leaves to autovacuum.

use std::time::{Duration, Instant};

use crate::deployment::Deployment;
use crate::figures::from_environment;
use crate::generator::closed;
use crate::operations::{ISSUE, REFRESH, login, refresh};
use crate::population::{Population, Purpose};
use crate::processor::each_once;

/// The tables that grow or change.
const TABLES: [&str; 3] = ["users", "audit_events", "revocations"];

/// The volumes of the stores at one moment, in bytes.
pub struct Volume {
    users: u32,
    /// Heap and indexes of each of [`TABLES`].
    tables: [(f64, f64); 3],
    redis: f64,
    /// The resident memory of a service that has just started.
    service: f64,
}

impl Volume {
    pub async fn of(deployment: &Deployment) -> Self {
        let mut tables = [(0.0, 0.0); 3];
        for (table, volume) in TABLES.into_iter().zip(&mut tables) {
            let sizes = format!("SELECT pg_table_size('{table}'), pg_indexes_size('{table}')");
            let row = deployment.database.rows(&sizes).await.swap_remove(0);
            let number = |column: usize| row[column].as_ref().unwrap().parse().unwrap();
            *volume = (number(0), number(1));
        }
        let info = deployment.redis.command(&["INFO", "memory"]);
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let service = deployment.serve();
        Self {
            users: deployment.population.size,
            tables,
            redis: used.unwrap().trim().parse().unwrap(),
            service: service.resident_kib() as f64 * 1024.0,
        }
    }
}

/// Prints what one more row or record takes. `volumes` are those without users, with few, and with many.
pub fn print(deployment: &Deployment, volumes: &[Volume]) {
    let [none, few, many] = volumes else {
        panic!("three volumes")
    };
    let users = f64::from(many.users - few.users);
    let each = |table: usize| {
        let (before, after) = (few.tables[table], many.tables[table]);
        ((after.0 - before.0) / users, (after.1 - before.1) / users)
    };
    println!(
        "\n{:<44} {:>12} {:>12} {:>12}",
        "bytes each", "table", "indexes", "both"
    );
    for (name, (heap, indexes)) in [
        ("a user", each(0)),
        ("an audit event", each(1)),
        ("a revocation", {
            let count = f64::from(deployment.revocations);
            (none.tables[2].0 / count, none.tables[2].1 / count)
        }),
    ] {
        println!("{name:<44} {heap:>12.0} {indexes:>12.0} {:>12.0}", heap + indexes);
    }
    let session = (many.redis - few.redis) / users;
    println!("{:<44} {session:>38.0}", "a session in Redis, one a user");
    let without = deployment.resident_without_revocations as f64 * 1024.0;
    let revocation = (none.service - without) / f64::from(deployment.revocations);
    println!("{:<44} {revocation:>38.0}", "a revocation in the memory of a service");
}

/// Rows changed in all tables, as Postgres counts them.
async fn changes(deployment: &Deployment) -> Vec<(String, [f64; 6])> {
    let counts = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count,
                         pg_total_relation_size(relid)
                  FROM pg_stat_user_tables ORDER BY relname";
    let rows = deployment.database.rows(counts).await.into_iter().map(|mut row| {
        let name = row.remove(0).unwrap();
        let counts: Vec<f64> = row.into_iter().map(|count| count.unwrap().parse().unwrap()).collect();
        (name, counts.try_into().unwrap())
    });
    rows.collect()
}

/// Refreshes for a while, then logs in for a while, and prints what each leaves in the tables; then how long a VACUUM takes.
pub async fn churn(deployment: &mut Deployment) {
    let span = Duration::from_secs(from_environment("GROWTH_CHURN_SECONDS", 20));
    let service = deployment.serve_calls().await;
    let refreshes = std::iter::from_fn(|| deployment.population.take(Purpose::Use));
    let users: Vec<u32> = refreshes.take(100_000).collect();
    let refreshes: Vec<_> = users
        .iter()
        .map(|&n| refresh(deployment.population.refresh_token(n)))
        .collect();
    let logins: Vec<_> = (0..100_000)
        .map(|_| {
            let n = deployment.population.any(Purpose::LogIn);
            login(Population::name(n), Population::client(n).as_str())
        })
        .collect();
    for (name, path, requests) in [("refreshes", REFRESH, refreshes), ("logins", ISSUE, logins)] {
        // The counters of Postgres are late by up to a second.
        let settle = async || tokio::time::sleep(Duration::from_secs(2)).await;
        settle().await;
        let (before, wal) = (changes(deployment).await, deployment.wal().await);
        let round = closed(&service.target(path), 1, span, each_once(requests.into_iter())).await;
        round.assert_ok();
        settle().await;
        let (calls, wal) = (round.calls(), deployment.wal().await - wal);
        println!(
            "\nafter {calls} {name}: {:.0} bytes of write-ahead log each",
            wal / calls.max(1) as f64
        );
        println!(
            "{:<20} {:>10} {:>10} {:>12} {:>10} {:>14}   autovacuum runs in all",
            "table", "inserted", "updated", "of them HOT", "dead now", "grown by, KiB"
        );
        for ((table, before), (_, after)) in before.into_iter().zip(changes(deployment).await) {
            let [inserted, updated, hot] = [0, 1, 2].map(|column| after[column] - before[column]);
            if inserted + updated > 0.0 {
                println!(
                    "{table:<20} {inserted:>10} {updated:>10} {hot:>12} {:>10} {:>14.0}   {}",
                    after[3],
                    (after[5] - before[5]) / 1024.0,
                    after[4]
                );
            }
        }
    }
    drop(service);
    for table in TABLES {
        let (before, began) = (deployment.stores().spent(), Instant::now());
        deployment.database.execute(&format!("VACUUM {table}")).await;
        let spent = deployment.stores().spent().since(before);
        println!(
            "VACUUM {table}: {:.1} s, {:.1} s of processor time",
            began.elapsed().as_secs_f64(),
            spent.postgres / 1e6
        );
    }
}
