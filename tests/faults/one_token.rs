//! Fifty clients refresh one token at once, at three replicas. The full size is `COUNTERSIGN_RACE_ROUNDS=200 cargo
//! test --all-features --test faults one_token`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use countersign::proto::{RefreshOutcome, RefreshResponse};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::recording_client::below;
use crate::support::caller::{generation, reason};
use crate::support::{Caller, Fleet, size};

const CLIENTS: usize = 50;

async fn at_once(callers: &[Caller], token: &str) -> Vec<Result<RefreshResponse, Status>> {
    let start = Arc::new(Barrier::new(CLIENTS));
    let mut racing = JoinSet::new();
    for _ in 0..CLIENTS {
        let (caller, start, token) = (callers[below(callers.len())].clone(), start.clone(), token.to_owned());
        racing.spawn(async move {
            start.wait().await;
            caller.refresh_as(&token, "one").await
        });
    }
    racing.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_grace_all_clients_get_the_same_successor() {
    let rounds = size("COUNTERSIGN_RACE_ROUNDS", 20_usize);
    let fleet = Fleet::start(&[], &[]).await;
    let callers = fleet.callers();
    let mut token = callers[0].login("ada").await.refresh_token;
    let start = Instant::now();
    for round in 0..rounds {
        let mut rotated = 0;
        let mut successors = HashSet::new();
        for answer in at_once(&callers, &token).await {
            let answer = answer.unwrap_or_else(|e| panic!("round {round}: {e:?}"));
            rotated += usize::from(answer.outcome() == RefreshOutcome::Rotated);
            successors.insert(answer.tokens.unwrap().refresh_token);
        }
        assert_eq!((successors.len(), rotated), (1, 1), "round {round}");
        token = successors.into_iter().next().unwrap();
        assert_eq!(generation(&token) as usize, round + 1);
    }
    println!(
        "{rounds} rounds of {CLIENTS} clients at {} replicas: {} answers, {rounds} rotations, in {:?}",
        callers.len(),
        rounds * CLIENTS,
        start.elapsed()
    );
    fleet.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_one_client_succeeds_and_the_session_is_revoked_once() {
    let rounds = size("COUNTERSIGN_RACE_ROUNDS", 20_usize);
    let fleet = Fleet::start(&[], &[("tokens.refresh_grace", "0s")]).await;
    let callers = fleet.callers();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..rounds {
        let session = callers[round % callers.len()].login("ada").await;
        let mut winner = None;
        for answer in at_once(&callers, &session.refresh_token).await {
            let answer = match answer {
                Ok(answer) => {
                    assert_eq!(answer.outcome(), RefreshOutcome::Rotated, "round {round}");
                    assert!(
                        winner.replace(answer.tokens.unwrap()).is_none(),
                        "round {round}: two winners"
                    );
                    "ROTATED".to_owned()
                }
                Err(status) => {
                    let (code, why) = reason(&status);
                    assert_eq!(code, Code::Unauthenticated, "round {round}: {status:?}");
                    why
                }
            };
            *answers.entry(answer).or_default() += 1;
        }
        // A call that begins after the revocation is stored never reaches the session record, so all the others lost
        // the race for it.
        let winner = winner.unwrap_or_else(|| panic!("round {round}: no winner"));
        for caller in &callers {
            caller.until_revoked(&winner.access_token).await;
            let refused = caller.refresh_as(&winner.refresh_token, "two").await;
            assert_eq!(reason(&refused.unwrap_err()).1, "SESSION_REVOKED");
        }
    }
    let rounds = rounds.to_string();
    let count = async |table: &str, which: &str| {
        fleet
            .database
            .scalar(&format!("SELECT count(*) FROM {table} WHERE {which}"))
            .await
    };
    assert_eq!(count("revocations", "level = 'session'").await, rounds);
    assert_eq!(count("audit_events", "kind = 'token.refresh.reused'").await, rounds);
    println!("{rounds} rounds of {CLIENTS} clients: {answers:?}; {rounds} revocations and audit events");
    fleet.assert_no_panics();
}
