//! A process stands still for seconds: it is stopped, or its machine is suspended. Calls that waited in its socket are answered
//! with the revocations that were made meanwhile.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{Tokens, ValidateBatchRequest, ValidateRequest};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::agent::{Agent, listen_anywhere};
use crate::support::caller::assert_refused;
use crate::support::process::send;
use crate::support::proxy::LinkState;
use crate::support::{Caller, Proxy, Servers};

/// The number of calls that wait.
const CALLS: usize = 60;

/// How long the process stands still. Longer than the interval of reconciliations, 1 s.
const PAUSE: Duration = Duration::from_secs(4);

/// Stops the process `pid`, has the sessions revoked at `elsewhere`, sends a call for each to `paused`, and lets the process go
/// on. `link` is cut as long as it is stopped. Returns how many calls were answered as active, inactive, and with an error.
async fn answers_after_a_pause(
    pid: u32,
    elsewhere: &Caller,
    paused: &Caller,
    sessions: &[Tokens],
    link: Option<&Proxy>,
) -> [usize; 3] {
    let set_link = |state| {
        if let Some(link) = link {
            link.set(state);
        }
    };
    for session in sessions {
        // It is in the cache of verified tokens, and the connection is open.
        paused.assert_active(&session.access_token).await;
    }
    send(pid, Signal::SIGSTOP);
    set_link(LinkState::Cut);
    let begun = tokio::time::Instant::now();
    for session in sessions {
        elsewhere
            .revoke(Target::Token(session.refresh_token.clone()))
            .await
            .unwrap();
    }
    let mut calls = JoinSet::new();
    for session in sessions {
        let (paused, token) = (paused.clone(), session.access_token.clone());
        calls.spawn(async move { paused.validate(&token).await.map(|answer| vec![answer.active]) });
    }
    let batch = ValidateBatchRequest {
        requests: sessions
            .iter()
            .map(|session| ValidateRequest {
                access_token: session.access_token.clone(),
                ..ValidateRequest::default()
            })
            .collect(),
    };
    let mut stub = paused.tokens.clone();
    calls.spawn(async move {
        let answers = stub.validate_batch(batch).await?.into_inner().responses;
        Ok(answers.iter().map(|answer| answer.active).collect())
    });
    // The length of the pause is the fault itself: the calls wait in the socket meanwhile.
    tokio::time::sleep_until(begun + PAUSE).await;
    set_link(LinkState::Up(Duration::ZERO));
    send(pid, Signal::SIGCONT);
    let mut counts = [0; 3];
    while let Some(answered) = calls.join_next().await {
        match answered.unwrap() {
            Ok(active) => {
                for active in active {
                    counts[usize::from(!active)] += 1;
                }
            }
            Err(_) => counts[2] += 1,
        }
    }
    counts
}

/// A client gave the call up and went on at another replica, while its first call waited in the socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_waited_in_the_socket_ends_no_session() {
    let servers = Servers::start(&[]).await;
    let (paused, other) = (servers.serve().await, servers.serve().await);
    let (slow, fast) = (Caller::of(&paused), Caller::of(&other));
    let mut sessions = Vec::new();
    for _ in 0..10 {
        // The connection is open, and the store has the script.
        sessions.push(slow.refresh(&slow.login("ada").await.refresh_token).await.unwrap().0);
    }
    send(paused.pid(), Signal::SIGSTOP);
    let begun = tokio::time::Instant::now();
    let mut waiting = JoinSet::new();
    for session in &sessions {
        let (slow, token) = (slow.clone(), session.refresh_token.clone());
        waiting.spawn(async move { slow.refresh_as(&token, "first").await });
    }
    let mut current = Vec::new();
    for session in &sessions {
        let again = fast.refresh_as(&session.refresh_token, "first").await.unwrap();
        let next = fast.refresh(&again.tokens.unwrap().refresh_token).await.unwrap();
        current.push(next.0.refresh_token);
    }
    // The length of the pause is the fault itself.
    tokio::time::sleep_until(begun + PAUSE).await;
    send(paused.pid(), Signal::SIGCONT);
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap().map(drop);
        assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    for token in current {
        // At both replicas: the paused one works again.
        let (next, _) = fast.refresh(&token).await.expect("the session goes on");
        slow.refresh(&next.refresh_token).await.expect("the session goes on");
    }
}

/// The client repeated its call elsewhere, and the user has logged in since.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_of_a_user_that_waited_in_the_socket_ends_no_later_session() {
    let servers = Servers::start(&[]).await;
    let ada = servers.database.scalar("SELECT id FROM users").await;
    let (paused, other) = (servers.serve().await, servers.serve().await);
    let (slow, fast) = (Caller::of(&paused), Caller::of(&other));
    let before = slow.login("ada").await;
    send(paused.pid(), Signal::SIGSTOP);
    let begun = tokio::time::Instant::now();
    let waiting = {
        let (slow, ada) = (slow.clone(), ada.clone());
        tokio::spawn(async move { slow.revoke(Target::UserId(ada)).await })
    };
    fast.revoke(Target::UserId(ada)).await.unwrap();
    let later = fast.login("ada").await;
    tokio::time::sleep_until(begun + PAUSE).await;
    send(paused.pid(), Signal::SIGCONT);
    assert_refused(waiting.await.unwrap(), Code::Unavailable, "STORE_UNAVAILABLE");
    for caller in [&fast, &slow] {
        caller.until_revoked(&before.access_token).await;
        caller.assert_active(&later.access_token).await;
    }
    fast.refresh(&later.refresh_token).await.expect("the session goes on");
    // The end of a single session does no harm, however late it is.
    slow.revoke(Target::Token(later.refresh_token.clone())).await.unwrap();
}

async fn sessions(caller: &Caller) -> Vec<Tokens> {
    let mut sessions = Vec::new();
    for _ in 0..CALLS {
        sessions.push(caller.login("ada").await);
    }
    sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_does_not_answer_from_old_revocations() {
    let servers = Servers::start(&[]).await;
    let (paused, other) = (servers.serve().await, servers.serve().await);
    let caller = Caller::of(&other);
    let sessions = sessions(&caller).await;
    let counts = answers_after_a_pause(paused.pid(), &caller, &Caller::of(&paused), &sessions, None).await;
    assert_eq!(counts, [0, 2 * CALLS, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_does_not_answer_from_old_revocations() {
    let servers = Servers::start(&[]).await;
    let upstream = servers.serve().await;
    let link = Proxy::start(upstream.grpc()).await;
    let (storage, caller) = (servers.storage.clone(), Caller::of(&upstream));
    let sessions = sessions(&caller).await;
    let url = format!("http://{}", link.address());
    let agent = tokio::task::spawn_blocking(move || Agent::start_at(&storage, &url, &listen_anywhere()));
    let agent = agent.await.unwrap();
    // What the agent misses does not even wait in its socket: the link breaks during the pause.
    let paused = agent.caller().await;
    let counts = answers_after_a_pause(agent.process.pid(), &caller, &paused, &sessions, Some(&link)).await;
    assert_eq!(counts, [0, 2 * CALLS, 0]);
}
