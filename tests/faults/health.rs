//! What `grpc.health.v1` reports while a store is down: each part has its own status, so that load balancers and
//! operators see which one failed.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Countersign, Servers, eventually};

/// Every service name, and the part that its status depends on.
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

const TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn each_service_reports_the_health_of_the_part_it_depends_on() {
    let mut servers = Servers::start(&[])
        .await
        .with_default_timeouts()
        .set("revocation.max_staleness", "4s");
    let server = servers.serve().await;
    let health = client(&server);
    until_down(&health, &[]).await;

    servers.redis.kill();
    until_down(&health, &[Part::Sessions]).await;
    servers.redis.launch();
    until_down(&health, &[]).await;

    servers.postgres.stop(Signal::SIGQUIT);
    // First only the database is down. Once the revocations are older than `max_staleness`, Validate is down too.
    until_down(&health, &[Part::Users, Part::Revocations]).await;
    servers.postgres.launch();
    until_down(&health, &[]).await;

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

/// Waits until exactly the services of these parts are `NOT_SERVING`.
async fn until_down(health: &HealthClient<Channel>, parts: &[Part]) {
    let wanted: BTreeSet<&str> = NAMES
        .into_iter()
        .filter(|(_, part)| parts.contains(part))
        .map(|(name, _)| name)
        .collect();
    eventually(&format!("not served: {wanted:?}"), TIMEOUT, || async {
        let mut down = BTreeSet::new();
        for (name, _) in NAMES {
            let service = name.to_owned();
            let response = health.clone().check(HealthCheckRequest { service }).await.unwrap();
            let status = response.into_inner().status();
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
