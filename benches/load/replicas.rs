//! What one, two, four and eight replicas cost the stores that they share. Runs only when it is named:
//! `cargo bench --bench load replicas`.

use std::time::Duration;

use countersign::proto::ValidateRequest;

use crate::cores;
use crate::cost::{Deployment, REVOKE, revocations};
use crate::figures::{round_length, rounds};
use crate::generator::{Target, framed};
use crate::processor::{Cost, Measured, PARTS, StoreProcesses, always, each_once};
use crate::refresh::{REFRESH, STREAMS, Sessions};
use crate::report::ReportRow;
use crate::support::{Countersign, PASSWORD};

const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
const REPLICAS: [usize; 4] = [1, 2, 4, 8];

/// How many sessions are revoked. Each is opened first.
const REVOCATIONS: usize = 500;

/// How many other replicas are made up, to see what a replica costs beside so many.
const MADE_UP: u32 = 1000;

/// The figures of one number of replicas.
struct Figures {
    replicas: usize,
    refresh: Cost,
    validate: Cost,
    revoke: Cost,
    /// Of one replica in one second.
    idle: Cost,
    transactions: f64,
    commands: f64,
    connections: f64,
    redis_connections: f64,
}

/// Over these processes of the service, Refresh and Validate at full load, and nothing for a while.
async fn measure(deployment: &Deployment, servers: &[&Countersign], sessions: &Sessions) -> Figures {
    let stores = StoreProcesses::of(&deployment.postgres, &deployment.redis);
    let targets = |path: &'static str| -> Vec<Target> {
        let of = |server: &&Countersign| Target {
            address: server.grpc(),
            pid: server.pid(),
            ..deployment.target(path)
        };
        servers.iter().map(of).collect()
    };
    let session = deployment.client.log_in("ada", PASSWORD).await.unwrap();
    let request = framed(&ValidateRequest {
        access_token: session.tokens().access_token,
        ..ValidateRequest::default()
    });
    let [mut refresh, mut validate] = [(); 2].map(|()| Measured::default());
    for _ in 0..rounds() {
        refresh
            .round(stores, &targets(REFRESH), STREAMS, round_length(), sessions.sources())
            .await;
        validate
            .round(
                stores,
                &targets(VALIDATE),
                STREAMS,
                round_length(),
                always(request.clone()),
            )
            .await;
    }
    let mut revoke = Measured::default();
    let requests = each_once(revocations(deployment, REVOCATIONS).await.into_iter());
    revoke
        .round(stores, &targets(REVOKE), STREAMS, round_length(), requests)
        .await;
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let connections: f64 = deployment.number(connections).await;

    // What the calls have left to do is done after a while, and Postgres counts its transactions with a delay.
    let (settle, span) = (Duration::from_secs(2), round_length() * 5);
    tokio::time::sleep(settle).await;
    let pids: Vec<u32> = servers.iter().map(|server| server.pid()).collect();
    let counts = async || {
        let transactions = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        let commands = f64::from(u32::try_from(deployment.redis.commands()).unwrap());
        (deployment.number(transactions).await, commands)
    };
    let (before, count) = (stores.spent_with(&pids), counts().await);
    tokio::time::sleep(span).await;
    let (spent, after) = (stores.spent_with(&pids).since(before), counts().await);
    let share = 1.0 / (servers.len() as f64 * span.as_secs_f64());
    Figures {
        replicas: servers.len(),
        refresh: refresh.median(),
        validate: validate.median(),
        revoke: revoke.median(),
        idle: spent.times(share),
        transactions: (after.0 - count.0) * share,
        commands: (after.1 - count.1) * share,
        connections: connections / servers.len() as f64,
        redis_connections: redis_connections(deployment) / servers.len() as f64,
    }
}

fn redis_connections(deployment: &Deployment) -> f64 {
    let clients = deployment.redis.command(&["INFO", "clients"]);
    let count = clients.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    // The one that asks is not counted.
    count.unwrap().trim().parse::<f64>().unwrap() - 1.0
}

/// What the only replica costs in one second if Redis knows the database servers of many others, which it compares with its own
/// at each reconciliation.
async fn beside_many(deployment: &Deployment) -> Cost {
    // The same server as that of the replica itself. The notes last ten seconds.
    let note = "local own = string.match(redis.call('HVALS', KEYS[1])[1], '^%d+ (.*)$')
                local time = redis.call('TIME')
                local now = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
                for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], 'bench' .. i, now .. ' ' .. own) end";
    let stores = StoreProcesses::of(&deployment.postgres, &deployment.redis);
    let pids = [deployment.server.pid()];
    let mut spent = Vec::new();
    for _ in 0..rounds() {
        deployment
            .redis
            .command(&["EVAL", note, "1", "cs:sides", &MADE_UP.to_string()]);
        let before = stores.spent_with(&pids);
        tokio::time::sleep(round_length()).await;
        spent.push(stores.spent_with(&pids).since(before));
    }
    Cost::median(&spent).times(1.0 / round_length().as_secs_f64())
}

/// All numbers of replicas, each beside a single one.
pub async fn scale_out() -> Vec<ReportRow> {
    let deployment = Deployment::start().await;
    let (mut figures, mut crowd) = (Vec::new(), Cost::default());
    for replicas in REPLICAS {
        let others: Vec<_> = (1..replicas)
            .map(|_| cores::anywhere(|| deployment.storage.serve(&[])))
            .collect();
        let servers: Vec<_> = others.iter().chain([&deployment.server]).collect();
        // New ones each time: a session must be refreshed again within the grace, because the last response of a round is not read.
        let sessions = Sessions::open(replicas.max(4) * STREAMS, &deployment.client).await;
        figures.push(measure(&deployment, &servers, &sessions).await);
        if replicas == 1 {
            crowd = beside_many(&deployment).await;
        }
    }
    let one = &figures[0];
    let mut rows = Vec::new();
    for (part, of) in PARTS {
        let name = format!("idle, a replica beside {MADE_UP} others: CPU of {part} (against alone)");
        rows.push(ReportRow::new(name, "µs/s", of(crowd), of(one.idle)));
    }
    for several in &figures {
        let replicas = several.replicas;
        for (call, several, one) in [
            ("Refresh", several.refresh, one.refresh),
            ("Validate", several.validate, one.validate),
            ("Revoke", several.revoke, one.revoke),
        ] {
            for (part, of) in PARTS {
                let name = format!("{call}, {replicas} replicas: CPU of {part} (against one)");
                rows.push(ReportRow::new(name, "µs/call", of(several), of(one)));
            }
        }
        for (part, of) in PARTS {
            let name = format!("idle, {replicas} replicas: CPU of {part} for each (against one)");
            rows.push(ReportRow::new(name, "µs/s", of(several.idle), of(one.idle)));
        }
        for (name, several, one) in [
            (
                "transactions of Postgres a second",
                several.transactions,
                one.transactions,
            ),
            ("commands of Redis a second", several.commands, one.commands),
            (
                "connections of Postgres after the load",
                several.connections,
                one.connections,
            ),
            ("connections of Redis", several.redis_connections, one.redis_connections),
        ] {
            let name = format!("idle, {replicas} replicas: {name} for each (against one)");
            rows.push(ReportRow::new(name, "", several, one));
        }
    }
    rows
}
