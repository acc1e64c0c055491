//! Many clients refresh one token at once: all get one successor, and no session is revoked.

use std::collections::HashSet;
use std::sync::Arc;

use countersign::proto::RefreshOutcome;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::caller::generation;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind};

const CLIENTS: usize = 50;
const ROUNDS: u32 = 200;

async fn race(deployment_kind: DeploymentKind, replicas: usize) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let servers: Vec<_> = (0..replicas).map(|_| deployment.serve()).collect();
    let callers: Vec<_> = servers.iter().map(Caller::of).collect();
    let mut token = callers[0].login("ada").await.refresh_token;
    for round in 0..ROUNDS {
        assert_eq!(generation(&token), round);
        let start = Arc::new(Barrier::new(CLIENTS));
        let mut racing = JoinSet::new();
        for client in 0..CLIENTS {
            let (caller, start, token) = (callers[client % replicas].clone(), Arc::clone(&start), token.clone());
            racing.spawn(async move {
                start.wait().await;
                caller.refresh(&token).await
            });
        }
        let answers = racing.join_all().await;
        let mut successors = HashSet::new();
        let mut rotated = 0;
        for answer in answers {
            let (tokens, outcome) = answer.unwrap_or_else(|e| {
                let logs: Vec<_> = servers.iter().map(Countersign::log).collect();
                panic!("round {round}: {e:?}\n{}", logs.concat())
            });
            rotated += usize::from(outcome == RefreshOutcome::Rotated);
            successors.insert(tokens.refresh_token);
        }
        assert_eq!((successors.len(), rotated), (1, 1), "round {round}");
        token = successors.into_iter().next().unwrap();
    }
    assert_eq!(generation(&token), ROUNDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_get_one_successor_on_sqlite() {
    race(DeploymentKind::Embedded, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_get_one_successor_from_two_replicas() {
    race(DeploymentKind::Clustered, 2).await;
}
