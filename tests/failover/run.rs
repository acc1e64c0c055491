//! One run: replicas on the stores of a scenario, traffic, the fault, and the judgement.

use std::time::Duration;

use tokio::time::sleep;

use crate::judgement::{FaultTimes, Judgement, has_begun};
use crate::support::deployment::add_user;
use crate::support::random::Random;
use crate::support::serve::Storage;
use crate::support::{Countersign, eventually};
use crate::traffic::{Traffic, USERS};

/// How long the traffic goes on after everything is repaired.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The number of replicas and the seed of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) replicas: usize,
    pub(crate) seed: u64,
}

/// The runs of a scenario.
pub(crate) fn sizes() -> Vec<Size> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test itself")]
    let replicas = std::env::var("COUNTERSIGN_FAILOVER_REPLICAS").unwrap_or_else(|_| "3".into());
    let seeds = crate::support::size("COUNTERSIGN_FAILOVER_SEEDS", 1);
    let replicas = replicas
        .split(',')
        .map(|number| number.trim().parse().expect("a number of replicas"));
    let sizes = replicas.flat_map(|replicas| (1..=seeds).map(move |seed| Size { replicas, seed }));
    sizes.collect()
}

/// Runs the replicas, the traffic and the fault. Replica `n` has the configuration `n` of `storages`, or the last one. `fault` blocks until everything is repaired; it gets the servers, so that it
/// can stop some, and puts back as many.
pub(crate) async fn run<S: Send + 'static>(
    scenario: &str,
    size: Size,
    storages: impl Into<Vec<Storage>>,
    stores: S,
    fault: impl FnOnce(&mut S, &mut Vec<Countersign>, &mut Random) + Send + 'static,
) -> (Judgement, S, Vec<Countersign>) {
    let random = Random::new(size.seed);
    let storages = storages.into();
    let servers = tokio::task::spawn_blocking(move || {
        for n in 0..USERS {
            add_user(&storages[0], &format!("user{n}"), &[]);
        }
        let storage = |n: usize| &storages[n.min(storages.len() - 1)];
        let servers: Vec<Countersign> = (0..size.replicas).map(|n| storage(n).serve(&[])).collect();
        servers
    });
    let servers = servers.await.unwrap();
    let urls: Vec<String> = servers.iter().map(Countersign::grpc_url).collect();
    let traffic = Traffic::start(&urls, &random).await;
    let clients = traffic.clients.clone();
    eventually("all kinds of calls succeed", Duration::from_mins(1), || async {
        has_begun(&clients.record.lock()).then_some(())
    })
    .await;

    let mut dice = random.fork(3_000);
    // At another moment of the replicas' intervals in each run.
    sleep(dice.millis(0, 1_500)).await;
    let begun = clients.now();
    let faulty = tokio::task::spawn_blocking(move || {
        let (mut stores, mut servers) = (stores, servers);
        fault(&mut stores, &mut servers, &mut dice);
        (stores, servers)
    });
    let (stores, servers) = faulty.await.unwrap();
    let repaired = clients.now();
    let urls: Vec<String> = servers.iter().map(Countersign::grpc_url).collect();
    clients.follow(&urls);
    let works = |clients: &crate::traffic::Clients| {
        let record = clients.record.lock();
        [&record.refreshes, &record.logins, &record.revocations]
            .iter()
            .all(|times| times.last().is_some_and(|last| *last > repaired))
    };
    eventually("all kinds of calls succeed again", Duration::from_mins(1), || async {
        works(&clients).then_some(())
    })
    .await;
    sleep(AFTERWARDS).await;
    let clients = traffic.stop().await;
    let name = format!("{scenario}, {} replicas, seed {}", size.replicas, size.seed);
    let fault = FaultTimes { begun, repaired };
    let judgement = Judgement::of(name, &clients, &servers, fault, &mut random.fork(4_000)).await;
    (judgement, stores, servers)
}
