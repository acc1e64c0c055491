//! What `grpc.health.v1` says while a store is away: part by part, so that a load balancer and whoever is paged see which.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Countersign, Servers, eventually};

/// Every name, and what it stands on.
const NAMES: [(&str, Part); 9] = [
    ("", Part::Revocations),
    ("revocations", Part::Revocations),
    ("countersign.v1.TokenService", Part::Revocations),
    ("store.sessions", Part::Sessions),
    ("store.users", Part::Users),
    ("countersign.v1.UserService", Part::Users),
    ("countersign.v1.ClientService", Part::Users),
    ("countersign.v1.KeyService", Part::Users),
    ("countersign.v1.AuditService", Part::Users),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Users,
    Sessions,
    Revocations,
}

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn each_name_tells_of_what_it_stands_on() {
    let mut servers = Servers::start(&[])
        .await
        .giving_up_early()
        .set("revocation.max_staleness", "4s");
    let server = servers.serve().await;
    let health = client(&server);
    away(&health, &[]).await;

    servers.redis.kill();
    away(&health, &[Part::Sessions]).await;
    servers.redis.launch();
    away(&health, &[]).await;

    servers.postgres.stop(Signal::SIGQUIT);
    // First the store alone; once the revocations are older than they may be, Validate with it.
    away(&health, &[Part::Users, Part::Revocations]).await;
    servers.postgres.launch();
    away(&health, &[]).await;

    let unknown = health
        .clone()
        .check(HealthCheckRequest {
            service: "countersign.v1.Nothing".to_owned(),
        })
        .await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
}

fn client(server: &Countersign) -> HealthClient<Channel> {
    HealthClient::new(Endpoint::from_shared(server.grpc_url()).unwrap().connect_lazy())
}

/// Waits until the names of these parts, and no others, are not served.
async fn away(health: &HealthClient<Channel>, parts: &[Part]) {
    let wanted: BTreeSet<&str> = NAMES
        .into_iter()
        .filter(|(_, part)| parts.contains(part))
        .map(|(name, _)| name)
        .collect();
    eventually(&format!("not served: {wanted:?}"), PATIENCE, || async {
        let mut down = BTreeSet::new();
        for (name, _) in NAMES {
            let service = name.to_owned();
            let told = health.clone().check(HealthCheckRequest { service }).await.unwrap();
            let status = told.into_inner().status();
            if status == ServingStatus::NotServing {
                down.insert(name);
            } else {
                assert_eq!(status, ServingStatus::Serving, "{name:?}");
            }
        }
        (down == wanted).then_some(())
    })
    .await;
}
