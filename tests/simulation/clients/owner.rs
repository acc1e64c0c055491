//! Owners: clients that follow the rules. They repeat a call without an answer under the same attempt id.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Clock as _;
use countersign::model::SessionContext;
use countersign::secret::SecretText;
use countersign::token::{IssuedTokens, PasswordRequest};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Answer, CLIENTS, MAX_TRIES, PASSWORD, World};
use crate::record::Session;
use crate::support::history::{Operation, Outcome};
use crate::support::random::Random;

impl World {
    /// An owner: one session after the other.
    pub(crate) async fn own(self: Arc<Self>, mut dice: Random) {
        while self.sim.now() < self.sim.plan.length {
            let Some(session) = self.login(&mut dice).await else {
                return;
            };
            for _ in 0..=dice.below(12) {
                sleep(dice.millis(0, 600)).await;
                match dice.below(3) {
                    0 => self.validate(&session, &mut dice).await,
                    _ => self.refresh(&session, &mut dice).await,
                }
            }
        }
    }

    /// Logs in, until it is answered.
    async fn login(&self, dice: &mut Random) -> Option<Arc<Session>> {
        let (user, client) = (dice.below(self.users.len()), dice.below(CLIENTS.len()));
        for _ in 0..MAX_TRIES {
            let began = self.sim.now();
            let replica = self.any_replica(dice);
            let patience = self.patience(dice);
            let deadline = replica.clock.monotonic() + patience;
            let answer = self.call(&replica, patience, dice, |app| async move {
                let request = PasswordRequest {
                    client_id: CLIENTS[client].to_owned(),
                    username: format!("user{user}"),
                    password: SecretText::new(PASSWORD),
                    audience: Vec::new(),
                    scope: Vec::new(),
                    context: SessionContext::default(),
                    deadline,
                };
                app.password_issuer.issue(&self.caller, request).await
            });
            if let Answer::Done(issued) = answer.await {
                return Some(self.logged_in(user, client, began, &issued));
            }
            sleep(dice.millis(50, 400)).await;
        }
        None
    }

    fn logged_in(&self, user: usize, client: usize, began: Duration, issued: &IssuedTokens) -> Arc<Session> {
        let refresh = issued.refresh.as_ref().expect("a session has a refresh token");
        let token = refresh.token.expose().to_owned();
        let session = Arc::new(Session {
            id: refresh.session.to_string(),
            user,
            client,
            login: (began, self.sim.now()),
            refresh: Mutex::new([(0, token.clone())].into()),
            access: Mutex::new(vec![issued.access.token.expose().to_owned()]),
        });
        self.sim.record.sessions.lock().push(session.clone());
        let outcome = Outcome::Tokens {
            token,
            generation: 0,
            rotated: true,
        };
        self.note(&session, Operation::Login, outcome, began, Some(self.sim.now()));
        session
    }

    /// Refreshes by the rules: one attempt id, repeated until there is an answer, sometimes twice at the same moment.
    async fn refresh(&self, session: &Session, dice: &mut Random) {
        let (presented, attempt) = (session.newest(), format!("{:x}", dice.next()));
        for _ in 0..MAX_TRIES {
            let answered = if dice.below(5) == 0 {
                let mut other = Random::new(dice.next());
                let (one, two) = tokio::join!(
                    self.refresh_once(session, presented.clone(), &attempt, dice),
                    self.refresh_once(session, presented.clone(), &attempt, &mut other),
                );
                one || two
            } else {
                self.refresh_once(session, presented.clone(), &attempt, dice).await
            };
            if answered {
                return;
            }
            sleep(dice.millis(20, 400)).await;
        }
    }
}
