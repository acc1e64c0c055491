//! Callers who write down what they ask and what they are told.

use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::revoke_request::Target;
use countersign::proto::{RefreshOutcome, Tokens};
use countersign::secret::{SystemEntropy, random};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::support::caller::{generation, reason};
use crate::support::history::{Answer, Asked, Call};
use crate::support::{Caller, History};

/// How long a caller insists on an answer: longer than any store is gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// A number below `end`.
pub(crate) fn below(end: usize) -> usize {
    usize::try_from(u64::from_be_bytes(random(&SystemEntropy))).unwrap() % end
}

/// A name that nobody has used: of an attempt, of a caller.
pub(crate) fn unique() -> String {
    format!("{:032x}", u128::from_be_bytes(random(&SystemEntropy)))
}

fn wall() -> i64 {
    SystemClock::new().now().0
}

/// What a refused call means to the history: only an answer about the token is one.
fn refused(status: &Status) -> Answer {
    if status.code() == Code::Unauthenticated {
        Answer::Refused(reason(status).1)
    } else {
        Answer::Unknown
    }
}

/// A call that is written down even if nobody waits for its end.
struct Asking<'a> {
    history: &'a History,
    call: Option<Call>,
}

impl<'a> Asking<'a> {
    fn begin(history: &'a History, session: &str, asked: Asked) -> Self {
        let call = Call {
            session: session.to_owned(),
            asked,
            answer: Answer::Unknown,
            begun: history.now(),
            ended: None,
            ended_at: i64::MAX,
        };
        Self {
            history,
            call: Some(call),
        }
    }

    fn end(mut self, answer: Answer) {
        if let Some(call) = &mut self.call {
            let heard = answer != Answer::Unknown;
            call.ended = heard.then(|| self.history.now());
            call.ended_at = if heard { wall() } else { i64::MAX };
            call.answer = answer;
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.history.push(call);
        }
    }
}

/// A session, as its holder has it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Held {
    fn of(tokens: Tokens) -> Self {
        Self {
            id: tokens.session_id,
            access: tokens.access_token,
            refresh: tokens.refresh_token,
        }
    }
}

/// Logs in, at whichever replica answers.
pub(crate) async fn login(history: &History, callers: &[Caller], user: &str) -> Held {
    let start = Instant::now();
    let (begun, tokens) = loop {
        let begun = history.now();
        match callers[below(callers.len())]
            .issue(user, crate::support::PASSWORD)
            .await
        {
            Ok(tokens) => break (begun, tokens),
            Err(status) => assert!(start.elapsed() < PATIENCE, "nobody can log in: {status:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    history.push(Call {
        session: tokens.session_id.clone(),
        asked: Asked::Login,
        answer: Answer::Tokens {
            token: tokens.refresh_token.clone(),
            generation: 0,
            rotated: true,
        },
        begun,
        ended: Some(history.now()),
        ended_at: wall(),
    });
    Held::of(tokens)
}

/// Refreshes once.
pub(crate) async fn refresh(history: &History, caller: &Caller, held: &Held, attempt: &str) -> Result<Held, Status> {
    let asked = Asked::Refresh {
        generation: generation(&held.refresh),
        attempt: attempt.to_owned(),
    };
    let asking = Asking::begin(history, &held.id, asked);
    match caller.refresh_as(&held.refresh, attempt).await {
        Ok(answer) => {
            let outcome = answer.outcome();
            let tokens = answer.tokens.expect("a refresh without an error has tokens");
            asking.end(Answer::Tokens {
                generation: generation(&tokens.refresh_token),
                token: tokens.refresh_token.clone(),
                rotated: outcome == RefreshOutcome::Rotated,
            });
            Ok(Held::of(tokens))
        }
        Err(status) => {
            asking.end(refused(&status));
            Err(status)
        }
    }
}

/// Refreshes as a good client does: the same attempt again, at any replica, until there is an answer. None if the
/// session is over.
pub(crate) async fn insist(history: &History, callers: &[Caller], held: &Held, attempt: &str) -> Option<Held> {
    let start = Instant::now();
    loop {
        match refresh(history, &callers[below(callers.len())], held, attempt).await {
            Ok(next) => return Some(next),
            Err(status) if status.code() == Code::Unauthenticated => return None,
            Err(status) => assert!(start.elapsed() < PATIENCE, "no answer: {status:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Ends these sessions by one call.
pub(crate) async fn revoke(history: &History, caller: &Caller, held: &[&Held], target: Target) -> Result<u32, Status> {
    let asking: Vec<_> = held
        .iter()
        .map(|held| Asking::begin(history, &held.id, Asked::Revoke))
        .collect();
    let answer = caller.revoke(target).await;
    for asking in asking {
        asking.end(match &answer {
            Ok(_) => Answer::Done,
            Err(_) => Answer::Unknown,
        });
    }
    answer
}

/// Asks whether the access token is good; whether it is, if that can be told.
pub(crate) async fn validate(history: &History, caller: &Caller, held: &Held) -> Option<bool> {
    let asking = Asking::begin(history, &held.id, Asked::Validate);
    let Ok(answer) = caller.validate(&held.access).await else {
        asking.end(Answer::Unknown);
        return None;
    };
    let as_of = answer.revocations_as_of.expect("it says what it knows");
    asking.end(if answer.active {
        Answer::Active {
            as_of: as_of.seconds * 1000 + i64::from(as_of.nanos) / 1_000_000,
        }
    } else {
        Answer::Inactive
    });
    Some(answer.active)
}
