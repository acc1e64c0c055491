//! A process stands still for seconds: it is stopped, or its machine is suspended. Calls that waited in its socket are answered
//! with the revocations that were made meanwhile.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{Tokens, ValidateBatchRequest, ValidateRequest};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::agent::{Agent, listen_anywhere};
use crate::support::caller::assert_refused;
use crate::support::process::send;
use crate::support::proxy::LinkState;
use crate::support::{Caller, Countersign, Proxy, Servers, eventually};

/// The number of calls that wait.
const CALLS: usize = 60;

/// How long the process stands still. Longer than the interval of reconciliations, 1 s.
const PAUSE: Duration = Duration::from_secs(4);

/// A process that stands still.
struct Paused<'a> {
    pid: u32,
    begun: Instant,
    caller: &'a Caller,
    calls: JoinSet<Result<Vec<bool>, tonic::Status>>,
}

impl<'a> Paused<'a> {
    /// Stops the process `pid`, which `caller` calls and which knows the sessions.
    async fn stop(pid: u32, caller: &'a Caller, sessions: &[Tokens]) -> Self {
        for session in sessions {
            // It is in the cache of verified tokens, and the connection is open.
            caller.assert_active(&session.access_token).await;
        }
        send(pid, Signal::SIGSTOP);
        Self {
            pid,
            begun: Instant::now(),
            caller,
            calls: JoinSet::new(),
        }
    }

    /// Sends a call for each of the sessions, and one for them all.
    fn call(&mut self, sessions: &[Tokens]) {
        for session in sessions {
            let (caller, token) = (self.caller.clone(), session.access_token.clone());
            self.calls
                .spawn(async move { caller.validate(&token).await.map(|answer| vec![answer.active]) });
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
        let mut stub = self.caller.tokens.clone();
        self.calls.spawn(async move {
            let answers = stub.validate_batch(batch).await?.into_inner().responses;
            Ok(answers.iter().map(|answer| answer.active).collect())
        });
    }

    /// Lets the process go on, and returns since when. The length of the pause is the fault itself: the calls wait in the socket
    /// meanwhile.
    async fn wake(&self) -> Instant {
        tokio::time::sleep_until(self.begun + PAUSE).await;
        let woken = Instant::now();
        send(self.pid, Signal::SIGCONT);
        woken
    }

    /// How many calls were answered as active, inactive, and with an error.
    async fn answers(mut self) -> [usize; 3] {
        let mut counts = [0; 3];
        while let Some(answered) = self.calls.join_next().await {
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
}

async fn revoke(caller: &Caller, sessions: &[Tokens]) {
    for session in sessions {
        let target = Target::Token(session.refresh_token.clone());
        caller.revoke(target).await.unwrap();
    }
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
    let begun = Instant::now();
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
    let begun = Instant::now();
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
    let (replica, other) = (servers.serve().await, servers.serve().await);
    let (caller, elsewhere) = (Caller::of(&replica), Caller::of(&other));
    let sessions = sessions(&elsewhere).await;
    let mut paused = Paused::stop(replica.pid(), &caller, &sessions).await;
    revoke(&elsewhere, &sessions).await;
    paused.call(&sessions);
    paused.wake().await;
    assert_eq!(paused.answers().await, [0, 2 * CALLS, 0]);
}

/// The connections to the database broke meanwhile, and new ones cannot be made at once: its first questions fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_with_broken_connections_does_not_answer_from_old_revocations() {
    let servers = Servers::start(&[]).await;
    let (replica, other) = (servers.serve().await, servers.serve().await);
    let (caller, elsewhere) = (Caller::of(&replica), Caller::of(&other));
    let sessions = sessions(&elsewhere).await;
    let mut paused = Paused::stop(replica.pid(), &caller, &sessions).await;
    revoke(&elsewhere, &sessions).await;
    servers.to_postgres.set(LinkState::Cut);
    paused.call(&sessions);
    let woken = paused.wake().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    servers.to_postgres.set(LinkState::Up(Duration::ZERO));
    // After a second of failures the age of what it knows decides.
    let is_soon = woken.elapsed() < Duration::from_secs(1);
    let answers = paused.answers().await;
    assert!(answers == [0, 2 * CALLS, 0] || !is_soon, "{answers:?}");
}

/// An upstream, an agent that reaches it by a link, and sessions of the upstream.
struct Linked {
    _servers: Servers,
    _upstream: Countersign,
    link: Proxy,
    agent: Agent,
    caller: Caller,
    elsewhere: Caller,
    sessions: Vec<Tokens>,
}

impl Linked {
    async fn start() -> Self {
        let servers = Servers::start(&[]).await;
        let upstream = servers.serve().await;
        let link = Proxy::start(upstream.grpc()).await;
        let elsewhere = Caller::of(&upstream);
        let sessions = sessions(&elsewhere).await;
        let (storage, url) = (servers.storage.clone(), format!("http://{}", link.address()));
        let agent = tokio::task::spawn_blocking(move || Agent::start_at(&storage, &url, &listen_anywhere()));
        let agent = agent.await.unwrap();
        Self {
            _servers: servers,
            _upstream: upstream,
            link,
            caller: agent.caller().await,
            agent,
            elsewhere,
            sessions,
        }
    }

    /// Stops the agent. What it misses does not even wait in its socket: the link breaks meanwhile.
    async fn stop(&self) -> Paused<'_> {
        let mut paused = Paused::stop(self.agent.process.pid(), &self.caller, &self.sessions).await;
        self.link.set(LinkState::Cut);
        revoke(&self.elsewhere, &self.sessions).await;
        paused.call(&self.sessions);
        paused
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_does_not_answer_from_old_revocations() {
    let linked = Linked::start().await;
    let paused = linked.stop().await;
    linked.link.set(LinkState::Up(Duration::ZERO));
    paused.wake().await;
    assert_eq!(paused.answers().await, [0, 2 * CALLS, 0]);
}

/// Its first questions fail, because the link is not yet back. Only after a second of failures the age of what it knows decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_without_upstream_does_not_answer_from_old_revocations() {
    let linked = Linked::start().await;
    let paused = linked.stop().await;
    let woken = paused.wake().await;
    let is_soon = || woken.elapsed() < Duration::from_secs(1);
    assert!(paused.answers().await[0] == 0 || !is_soon());
    let token = &linked.sessions[0].access_token;
    while is_soon() {
        let answer = linked.caller.validate(token).await;
        let is_active = answer.is_ok_and(|answer| answer.active);
        assert!(!is_active || !is_soon());
    }
    linked.link.set(LinkState::Up(Duration::ZERO));
    // Until it has reached its upstream it may answer that it cannot know.
    eventually("the agent knows the revocation", Duration::from_secs(30), || async {
        let answer = linked.caller.validate(token).await.ok()?;
        (!answer.active).then_some(())
    })
    .await;
}
