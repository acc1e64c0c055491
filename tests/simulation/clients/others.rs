//! Thieves, which use the tokens of others, and callers that revoke.

use std::sync::Arc;
use std::time::Duration;

use countersign::account::Principal;
use countersign::secret::SecretText;
use countersign::token::{RevokeRequest, RevokeTarget};
use tokio::time::sleep;

use super::{Answer, CLIENTS, MAX_TRIES, THIEF, World};
use crate::record::{Revocation, Scope, Session};
use crate::support::caller::generation;
use crate::support::random::Random;

impl World {
    fn any_session(&self, dice: &mut Random) -> Option<Arc<Session>> {
        let sessions = self.sim.record.sessions.lock();
        // Mostly one of the latest.
        let recent = sessions.len().min(4);
        let among = if dice.below(4) == 0 { sessions.len() } else { recent };
        (among > 0).then(|| sessions[sessions.len() - 1 - dice.below(among)].clone())
    }

    /// A thief: uses any refresh token of any session with attempt ids of its own, and validates.
    pub(crate) async fn steal(self: Arc<Self>, mut dice: Random) {
        while self.sim.now() < self.sim.plan.length {
            sleep(dice.millis(0, 1_500)).await;
            let Some(session) = self.any_session(&mut dice) else {
                continue;
            };
            let (newest, token) = session.newest();
            let stolen = if dice.below(2) == 0 {
                newest
            } else {
                newest.saturating_sub(1)
            };
            let token = session.refresh.lock().get(&stolen).cloned().unwrap_or(token);
            let presented = (generation(&token), token);
            let attempt = format!("{THIEF}{:x}", dice.next());
            self.refresh_once(&session, presented, &attempt, &mut dice).await;
            self.validate(&session, &mut dice).await;
        }
    }

    /// Revokes something, until it is acknowledged, and looks at what became of it.
    pub(crate) async fn revoke(self: Arc<Self>, mut dice: Random) {
        while self.sim.now() < self.sim.plan.length {
            sleep(dice.millis(100, 2_500)).await;
            let Some(session) = self.any_session(&mut dice) else {
                continue;
            };
            let kind = dice.below(16);
            let disables = (10..12).contains(&kind);
            for _ in 0..MAX_TRIES {
                let done = if disables {
                    self.set_disabled(session.user, true, &mut dice).await
                } else {
                    let (scope, target) = self.target(&session, kind, &mut dice);
                    self.revoke_once(scope, target, &mut dice).await
                };
                if done {
                    break;
                }
                sleep(dice.millis(20, 400)).await;
            }
            for _ in 0..dice.below(4) {
                self.validate(&session, &mut dice).await;
                sleep(dice.millis(0, 300)).await;
            }
            if disables {
                while !self.set_disabled(session.user, false, &mut dice).await {
                    sleep(dice.millis(20, 400)).await;
                }
            }
        }
    }

    fn target(&self, session: &Session, kind: usize, dice: &mut Random) -> (Scope, RevokeTarget) {
        let by_id = Scope::Session(session.id.clone());
        match kind {
            0..3 => (by_id, RevokeTarget::Session(session.id.clone())),
            3..6 => {
                let token = SecretText::new(session.newest().1);
                (by_id, RevokeTarget::Token(token))
            }
            6..8 => (by_id, RevokeTarget::Token(SecretText::new(session.newest_access()))),
            8..12 => {
                let keep = (dice.below(2) == 0).then(|| session.id.clone());
                let scope = Scope::User {
                    user: session.user,
                    keep: keep.clone(),
                };
                let target = RevokeTarget::User {
                    id: self.users[session.user].to_string(),
                    keep: keep.unwrap_or_default(),
                };
                (scope, target)
            }
            12..15 => {
                let id = CLIENTS[session.client].to_owned();
                (Scope::Client(session.client), RevokeTarget::Client(id))
            }
            _ => (Scope::Everything, RevokeTarget::Everything),
        }
    }

    async fn revoke_once(&self, scope: Scope, target: RevokeTarget, dice: &mut Random) -> bool {
        let (replica, patience) = (self.any_replica(dice), self.patience(dice));
        let started = self.sim.now();
        let answer = self.call(&replica, patience, dice, |app| async move {
            let reason = String::new();
            app.revoker.revoke(&self.caller, RevokeRequest { target, reason }).await
        });
        let answer = answer.await;
        self.note_revocation(scope, started, &answer)
    }

    fn note_revocation<T>(&self, scope: Scope, started: Duration, answer: &Answer<T>) -> bool {
        let is_open = matches!(answer, Answer::Lost { is_open: true });
        let is_done = matches!(answer, Answer::Done(_));
        self.sim.trace(|| format!("revoked {scope:?}: {is_done}"));
        self.sim.record.revocations.lock().push(Revocation {
            scope,
            started,
            acknowledged: is_done.then(|| (self.sim.now(), self.sim.wall())),
            over: self.over(is_open),
        });
        is_done
    }

    async fn set_disabled(&self, user: usize, disabled: bool, dice: &mut Random) -> bool {
        let (replica, id, started) = (self.any_replica(dice), self.users[user].to_string(), self.sim.now());
        let patience = self.patience(dice);
        let answer = self.call(&replica, patience, dice, |app| async move {
            app.users.set_disabled(&Principal::owner(), &id, disabled).await
        });
        let answer = answer.await;
        if !disabled {
            return matches!(answer, Answer::Done(_));
        }
        self.note_revocation(Scope::User { user, keep: None }, started, &answer)
    }
}
