//! A client whose calls and their results are recorded in a [`History`].

use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, RefreshOutcome, Tokens};
use countersign::secret::{SystemEntropy, random};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::support::caller::{generation, reason};
use crate::support::history::{Call, Operation, Outcome};
use crate::support::{Caller, History};

/// How long a client retries before the test fails: longer than any outage of a store.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A random number below `end`.
pub(crate) fn below(end: usize) -> usize {
    usize::try_from(u64::from_be_bytes(random(&SystemEntropy))).unwrap() % end
}

/// A new unique id, for an attempt or a caller.
pub(crate) fn unique() -> String {
    format!("{:032x}", u128::from_be_bytes(random(&SystemEntropy)))
}

fn unix_millis() -> i64 {
    SystemClock::new().now().0
}

/// What an error means to the history. Only `UNAUTHENTICATED` says something about the token; any other error leaves
/// the effect unknown.
fn refused(status: &Status) -> Outcome {
    if status.code() == Code::Unauthenticated {
        Outcome::Refused(reason(status).1)
    } else {
        Outcome::Unknown
    }
}

/// Counts an error by its code, its reason and its call.
fn note_error(history: &History, status: &Status, call: &str) {
    let (code, why) = reason(status);
    let name = format!("{code:?} {why}");
    history.note_error(format!("{}: {call}", name.trim_end()));
}

/// A call that is recorded even if its caller does not wait for the end.
struct PendingCall<'a> {
    history: &'a History,
    call: Option<Call>,
}

impl<'a> PendingCall<'a> {
    fn begin(history: &'a History, session: &str, operation: Operation) -> Self {
        let call = Call {
            session: session.to_owned(),
            operation,
            outcome: Outcome::Unknown,
            started: history.now(),
            ended: None,
            ended_at: i64::MAX,
        };
        Self {
            history,
            call: Some(call),
        }
    }

    fn end(mut self, outcome: Outcome) {
        if let Some(call) = &mut self.call {
            let answered = outcome != Outcome::Unknown;
            call.ended = answered.then(|| self.history.now());
            call.ended_at = if answered { unix_millis() } else { i64::MAX };
            call.outcome = outcome;
        }
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.history.push(call);
        }
    }
}

/// A session as the client knows it.
#[derive(Clone, Debug)]
pub(crate) struct ClientSession {
    pub(crate) id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl ClientSession {
    fn of(tokens: Tokens) -> Self {
        Self {
            id: tokens.session_id,
            access: tokens.access_token,
            refresh: tokens.refresh_token,
        }
    }
}

/// Logs in at random replicas until one succeeds.
pub(crate) async fn login(history: &History, callers: &[Caller], user: &str) -> ClientSession {
    let start = Instant::now();
    let (started, tokens) = loop {
        let started = history.now();
        match callers[below(callers.len())]
            .issue(user, crate::support::PASSWORD)
            .await
        {
            Ok(tokens) => break (started, tokens),
            Err(status) => {
                note_error(history, &status, "Issue");
                assert!(start.elapsed() < TIMEOUT, "no login succeeds: {status:?}");
            }
        }
        sleep(Duration::from_millis(20)).await;
    };
    history.push(Call {
        session: tokens.session_id.clone(),
        operation: Operation::Login,
        outcome: Outcome::Tokens {
            token: tokens.refresh_token.clone(),
            generation: 0,
            rotated: true,
        },
        started,
        ended: Some(history.now()),
        ended_at: unix_millis(),
    });
    ClientSession::of(tokens)
}

/// Refreshes once.
pub(crate) async fn refresh(
    history: &History,
    caller: &Caller,
    session: &ClientSession,
    attempt: &str,
) -> Result<ClientSession, Status> {
    let operation = Operation::Refresh {
        generation: generation(&session.refresh),
        attempt: attempt.to_owned(),
    };
    let pending = PendingCall::begin(history, &session.id, operation);
    match caller.refresh_as(&session.refresh, attempt).await {
        Ok(answer) => {
            let outcome = answer.outcome();
            let tokens = answer.tokens.expect("a refresh without an error has tokens");
            pending.end(Outcome::Tokens {
                generation: generation(&tokens.refresh_token),
                token: tokens.refresh_token.clone(),
                rotated: outcome == RefreshOutcome::Rotated,
            });
            Ok(ClientSession::of(tokens))
        }
        Err(status) => {
            note_error(history, &status, "Refresh");
            pending.end(refused(&status));
            Err(status)
        }
    }
}

/// Notes that a revocation of this session may still take effect, which was sent before its login.
pub(crate) fn note_revocation_under_way(history: &History, session: &ClientSession) {
    PendingCall::begin(history, &session.id, Operation::Revoke).end(Outcome::Unknown);
}

/// Notes that the service found the reuse of a token of this session, although no call was told so.
pub(crate) fn note_reuse(history: &History, session: &ClientSession) {
    let operation = Operation::Refresh {
        generation: generation(&session.refresh),
        attempt: unique(),
    };
    let now = history.now();
    history.push(Call {
        session: session.id.clone(),
        operation,
        outcome: Outcome::ReuseFound,
        started: now,
        ended: Some(now),
        ended_at: unix_millis(),
    });
}

/// Refreshes as a correct client does: the same attempt again, at any replica, until there is an answer. `None` if
/// the session is over.
pub(crate) async fn refresh_until_answered(
    history: &History,
    callers: &[Caller],
    session: &ClientSession,
    attempt: &str,
) -> Option<ClientSession> {
    let start = Instant::now();
    loop {
        match refresh(history, &callers[below(callers.len())], session, attempt).await {
            Ok(next) => return Some(next),
            Err(status) if status.code() == Code::Unauthenticated => return None,
            Err(status) => assert!(start.elapsed() < TIMEOUT, "no answer: {status:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Revokes these sessions by one call.
pub(crate) async fn revoke(
    history: &History,
    caller: &Caller,
    sessions: &[&ClientSession],
    target: Target,
) -> Result<u32, Status> {
    let pending: Vec<_> = sessions
        .iter()
        .map(|session| PendingCall::begin(history, &session.id, Operation::Revoke))
        .collect();
    let answer = caller.revoke(target).await;
    if let Err(status) = &answer {
        note_error(history, status, "Revoke");
    }
    for pending in pending {
        pending.end(match &answer {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Unknown,
        });
    }
    answer
}

/// Validates the access token: whether it is active, or `None` if the call failed.
pub(crate) async fn validate(history: &History, caller: &Caller, session: &ClientSession) -> Option<bool> {
    let pending = PendingCall::begin(history, &session.id, Operation::Validate);
    let answer = match caller.validate(&session.access).await {
        Ok(answer) => answer,
        Err(status) => {
            note_error(history, &status, "Validate");
            pending.end(Outcome::Unknown);
            return None;
        }
    };
    let as_of = answer.revocations_as_of.expect("the answer has revocations_as_of");
    pending.end(if answer.active {
        Outcome::Active {
            as_of: as_of.seconds * 1000 + i64::from(as_of.nanos) / 1_000_000,
        }
    } else if answer.reason() == InactiveReason::Revoked {
        Outcome::Inactive
    } else {
        history.note_error(format!("inactive, {:?}: Validate", answer.reason()));
        Outcome::Unknown
    });
    Some(answer.active)
}
