//! The clients: owners that follow the rules, thieves that use their tokens, and callers that revoke.

mod others;
mod owner;

use std::sync::Arc;
use std::time::Duration;

use countersign::app::App;
use countersign::clock::{Clock as _, Deadline};
use countersign::model::audit::Origin;
use countersign::model::{Caller, CallerScope, Error, ErrorKind, Identity, SessionContext, UserId};
use countersign::proto::convert::reason;
use countersign::secret::SecretText;
use countersign::token::{RefreshRequest, ValidateRequest};
use tokio::time::{sleep, timeout};

use crate::record::Session;
use crate::replica::{Deployment, Replica};
use crate::sim::Sim;
use crate::support::caller::generation;
use crate::support::history::{Call, Operation, Outcome};
use crate::support::random::Random;
use crate::verifier::Verifier;

pub(crate) const PASSWORD: &str = "correct horse battery staple 42";
pub(crate) const CLIENTS: [&str; 2] = ["web", "app"];

/// How the attempt ids of thieves begin.
pub(crate) const THIEF: &str = "thief-";

/// The errors that a client may get, beside those of stores that do not answer.
const REFUSALS: [ErrorKind; 5] = [
    ErrorKind::UserDisabled,
    ErrorKind::InvalidCredentials,
    ErrorKind::SessionRevoked,
    ErrorKind::RefreshTokenReused,
    ErrorKind::SessionNotFound,
];

/// The longest time that a request is on its way.
const ON_THE_WAY: Duration = Duration::from_millis(10);

/// How often a client repeats a call.
const MAX_TRIES: usize = 40;

/// What became of a call, as the client knows it.
enum Answer<T> {
    Done(T),
    Refused(ErrorKind),
    /// No answer. Whether the call may still take effect.
    Lost {
        is_open: bool,
    },
}

/// Everything that the clients call.
pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) verifiers: Vec<Arc<Verifier>>,
    pub(crate) users: Vec<UserId>,
    pub(crate) deployment: Arc<Deployment>,
    caller: Caller,
}

impl World {
    pub(crate) fn new(
        sim: &Arc<Sim>,
        deployment: &Arc<Deployment>,
        replicas: Vec<Arc<Replica>>,
        verifiers: Vec<Arc<Verifier>>,
        users: Vec<UserId>,
    ) -> Arc<Self> {
        let caller = Caller {
            identity: Identity::Anonymous,
            scopes: CallerScope::ALL.map(|scope| scope.as_str().to_owned()).to_vec(),
            origin: Origin::system(),
        };
        Arc::new(Self {
            sim: sim.clone(),
            replicas,
            verifiers,
            users,
            deployment: deployment.clone(),
            caller,
        })
    }

    fn any_replica(&self, dice: &mut Random) -> Arc<Replica> {
        self.replicas[dice.below(self.replicas.len())].clone()
    }

    /// How long a client waits for an answer. Some give up while the call runs.
    fn patience(&self, dice: &mut Random) -> Duration {
        if dice.below(1_000) < self.sim.plan.abandoned_rate && !self.sim.is_calm() {
            dice.millis(1, 60)
        } else {
            dice.millis(800, 5_000)
        }
    }

    /// Calls a replica over a network that loses messages.
    async fn call<T, F>(
        &self,
        replica: &Replica,
        patience: Duration,
        dice: &mut Random,
        request: impl FnOnce(Arc<App>) -> F,
    ) -> Answer<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (plan, calm) = (&self.sim.plan, self.sim.is_calm());
        let lost = dice.below(1_000);
        sleep(dice.millis(0, 4)).await;
        let Some(running) = replica.running() else {
            return Answer::Lost { is_open: false };
        };
        if lost < plan.lost_rate && !calm {
            return Answer::Lost { is_open: false };
        }
        let answer = tokio::select! {
            biased;
            () = running.life.ended() => return Answer::Lost { is_open: self.sim.has_late() },
            answer = timeout(patience, request(running.app.clone())) => answer,
        };
        if lost >= 1_000 - plan.lost_rate && !calm {
            return Answer::Lost {
                is_open: answer.is_err() || self.sim.has_late(),
            };
        }
        match answer {
            Ok(Ok(done)) => Answer::Done(done),
            Ok(Err(error)) => self.refused(&error),
            Err(_) => Answer::Lost { is_open: true },
        }
    }

    fn refused<T>(&self, error: &Error) -> Answer<T> {
        if matches!(
            error.kind,
            ErrorKind::StoreUnavailable | ErrorKind::RevocationsStale | ErrorKind::DeadlineExceeded
        ) {
            let is_open = self.sim.has_late();
            return Answer::Lost { is_open };
        }
        if !REFUSALS.contains(&error.kind) {
            self.sim.record.find(format!("UnexpectedError: {error:?}"));
        }
        Answer::Refused(error.kind)
    }

    /// The end of a call that ended now: none if it may still take effect.
    fn over(&self, is_open: bool) -> Option<Duration> {
        (!is_open).then(|| self.sim.now())
    }

    fn note(
        &self,
        session: &Session,
        operation: Operation,
        outcome: Outcome,
        started: Duration,
        ended: Option<Duration>,
    ) {
        self.sim
            .trace(|| format!("session {} {operation:?}: {outcome:?}", session.id));
        self.sim.record.calls.lock().push(Call {
            session: session.id.clone(),
            operation,
            outcome,
            started,
            ended,
            ended_at: self.sim.wall(),
        });
    }

    /// One refresh with this token. Returns whether it was answered. The owner of the session does not learn the tokens that a
    /// thief gets.
    pub(crate) async fn refresh_once(
        &self,
        session: &Session,
        presented: (u32, String),
        attempt: &str,
        dice: &mut Random,
    ) -> bool {
        let (started, replica, patience) = (self.sim.now(), self.any_replica(dice), self.patience(dice));
        let clock = replica.clock.clone();
        let answer = self.call(&replica, patience, dice, |app| async move {
            let request = RefreshRequest {
                refresh_token: SecretText::new(presented.1),
                audience: Vec::new(),
                scope: Vec::new(),
                attempt_id: attempt.to_owned(),
                context: SessionContext::default(),
            };
            let deadline = Deadline::after(clock.read(), patience);
            app.refresher.refresh(&self.caller, request, deadline).await
        });
        let (outcome, is_open) = match answer.await {
            Answer::Done(refreshed) => {
                let token = refreshed.issued.refresh.expect("a session has a refresh token").token;
                let (token, generation) = (token.expose().to_owned(), generation(token.expose()));
                if !attempt.starts_with(THIEF) {
                    let access = refreshed.issued.access.token.expose().to_owned();
                    session.learn(generation, token.clone(), access);
                }
                let rotated = !refreshed.replayed;
                let outcome = Outcome::Tokens {
                    token,
                    generation,
                    rotated,
                };
                (outcome, false)
            }
            Answer::Refused(kind) => (
                Outcome::Refused(reason::of_kind(kind).unwrap_or("none").to_owned()),
                false,
            ),
            Answer::Lost { is_open } => (Outcome::Unknown, is_open),
        };
        let answered = outcome != Outcome::Unknown;
        let attempt = attempt.to_owned();
        let generation = presented.0;
        // The scripts do nothing after the call was given up, by the client or by the replica.
        let latest = self.sim.plan.scripts.then(|| self.sim.now() + ON_THE_WAY);
        let ended = self.over(is_open).or(latest);
        let operation = Operation::Refresh { generation, attempt };
        self.note(session, operation, outcome, started, ended);
        answered
    }

    /// Validates the newest access token at a replica or a verifier.
    async fn validate(&self, session: &Session, dice: &mut Random) {
        let access = session.newest_access();
        let verifier = dice.below(self.replicas.len() + self.verifiers.len());
        if let Some(verifier) = self.verifiers.get(verifier) {
            self.validate_locally(verifier, session, &access);
        } else {
            let replica = self.any_replica(dice);
            self.validate_at(&replica, session, &access, dice).await;
        }
    }

    pub(crate) fn validate_locally(&self, verifier: &Verifier, session: &Session, access: &str) -> Option<bool> {
        let started = self.sim.now();
        let outcome = match verifier.validator.validate(access, "", &[]) {
            Ok(validation) => match validation.token {
                Ok(_) => Outcome::Active {
                    as_of: validation.as_of.0,
                },
                Err(_) => Outcome::Inactive,
            },
            Err(_) => return None,
        };
        let is_active = outcome != Outcome::Inactive;
        self.note(session, Operation::Validate, outcome, started, Some(self.sim.now()));
        Some(is_active)
    }

    pub(crate) async fn validate_at(
        &self,
        replica: &Replica,
        session: &Session,
        access: &str,
        dice: &mut Random,
    ) -> Option<bool> {
        let patience = self.patience(dice);
        let (started, wall, strong) = (self.sim.now(), self.sim.wall(), dice.below(3) == 0);
        let asked = replica.clock.monotonic();
        let answer = self.call(replica, patience, dice, |app| async move {
            let request = ValidateRequest {
                access_token: access,
                audience: "",
                required_scopes: &[],
                strong,
                asked,
            };
            app.validator.validate(request).await
        });
        let outcome = match answer.await {
            Answer::Done(validation) => match validation.token {
                // A strong answer knows every revocation that was acknowledged before the call.
                Ok(_) => Outcome::Active {
                    as_of: if strong {
                        wall.max(validation.as_of.0)
                    } else {
                        validation.as_of.0
                    },
                },
                Err(_) => Outcome::Inactive,
            },
            Answer::Refused(_) | Answer::Lost { .. } => return None,
        };
        let is_active = outcome != Outcome::Inactive;
        self.note(session, Operation::Validate, outcome, started, Some(self.sim.now()));
        Some(is_active)
    }
}
