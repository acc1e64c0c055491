//! The clients of a run: honest ones, those that end sessions, thieves, and those that ask about ended sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::recording_client::{
    ClientSession, login, note_reuse, note_revocation_under_way, refresh, refresh_until_answered, revoke, unique,
    validate,
};
use crate::support::get::try_get;
use crate::support::history::{Operation, Outcome};
use crate::support::random::Random;
use crate::support::{Caller, History, eventually};

/// Users whose sessions are used in all ways, one after another.
const CALLERS: u64 = 4;

/// Sessions of honest clients only, which last for the whole run.
const HONEST: u64 = 6;

/// Old tokens for the thief: enough for some seconds without a login.
const STEALABLE: usize = 20;

/// The latest revoked sessions, which are asked about.
const RECENT: usize = 60;

/// How long replicas may need to learn of the last revocations, on a busy machine.
const SPREAD: Duration = Duration::from_mins(1);

/// A user, by name and id.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) id: String,
}

/// The clients and all that they know.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) history: Arc<History>,
    /// One for each replica.
    pub(crate) callers: Vec<Caller>,
    /// The side ports of the replicas.
    pub(crate) http: Arc<RwLock<Vec<String>>>,
    pub(crate) users: Vec<User>,
    pub(crate) going: AtomicBool,
    /// Held by a thief that must be the only one; the others share it.
    pub(crate) thieves: tokio::sync::RwLock<()>,
    pub(crate) honest: Mutex<Vec<ClientSession>>,
    /// Sessions whose revocation was acknowledged.
    pub(crate) revoked: Mutex<Vec<ClientSession>>,
    /// Sessions for the thief: a token that was used, and the newest one.
    pub(crate) stealable: Mutex<Vec<(ClientSession, ClientSession)>>,
    /// How often a reuse was found whose revocation could not be recorded.
    pub(crate) unrecorded: AtomicUsize,
}

/// The users that a run needs.
pub(crate) fn user_names() -> Vec<String> {
    let number = CALLERS + HONEST;
    (0..number).map(|n| format!("user{n}")).collect()
}

impl Clients {
    fn going(&self) -> bool {
        self.going.load(Ordering::SeqCst)
    }

    fn user(&self, n: u64) -> User {
        self.users[usize::try_from(n).unwrap()].clone()
    }

    /// Logs the honest clients in, and starts all tasks. Each has random numbers of its own.
    pub(crate) async fn start(self: &Arc<Self>, random: &Random) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for n in 0..HONEST {
            let user = self.user(CALLERS + n);
            let session = login(&self.history, &self.callers, &user.name).await;
            self.honest.lock().push(session);
        }
        for n in 0..HONEST {
            running.spawn(Arc::clone(self).keep(usize::try_from(n).unwrap(), random.fork(n)));
        }
        for n in 0..CALLERS {
            running.spawn(Arc::clone(self).use_sessions(self.user(n), random.fork(100 + n)));
        }
        running.spawn(Arc::clone(self).lose_tokens());
        running.spawn(Arc::clone(self).steal(random.fork(300)));
        for n in 0..2 {
            running.spawn(Arc::clone(self).ask_about_revoked(random.fork(200 + n)));
        }
        running
    }

    fn any(&self, random: &mut Random) -> (usize, &Caller) {
        let n = random.below(self.callers.len());
        (n, &self.callers[n])
    }

    async fn refresh(&self, session: &ClientSession) -> Option<ClientSession> {
        refresh_until_answered(&self.history, &self.callers, session, &unique()).await
    }

    /// Refreshes an honest session and validates its access token until the end of the run.
    async fn keep(self: Arc<Self>, n: usize, mut random: Random) {
        while self.going() {
            sleep(random.millis(50, 400)).await;
            let session = self.honest.lock()[n].clone();
            let Some(next) = self.refresh(&session).await else {
                return;
            };
            self.honest.lock()[n] = next.clone();
            validate(&self.history, self.any(&mut random).1, &next).await;
        }
    }

    /// Begins one session after the other, and uses each in random ways until it ends.
    async fn use_sessions(self: Arc<Self>, user: User, mut random: Random) {
        // Whether a revocation of the user had no answer: it may still end later sessions.
        let mut is_revoking = false;
        while self.going() {
            let mut session = login(&self.history, &self.callers, &user.name).await;
            if is_revoking {
                note_revocation_under_way(&self.history, &session);
            }
            for _ in 0..=random.below(12) {
                match self.use_once(&user, &session, &mut is_revoking, &mut random).await {
                    Some(next) => session = next,
                    None => break,
                }
                if !self.going() {
                    break;
                }
            }
            // Once more, whatever the last answer was: a revoked session stays revoked.
            let _ = self.refresh(&session).await;
        }
    }

    /// Uses a session in one way; the session afterwards, or none if it is over.
    async fn use_once(
        &self,
        user: &User,
        session: &ClientSession,
        is_revoking: &mut bool,
        random: &mut Random,
    ) -> Option<ClientSession> {
        let (history, (_, caller)) = (&self.history, self.any(random));
        match random.below(20) {
            0..=1 => {
                self.revoke(caller, session, Target::SessionId(session.id.clone()))
                    .await;
            }
            2..=3 => {
                self.revoke(caller, session, Target::Token(session.refresh.clone()))
                    .await;
            }
            4 => *is_revoking |= !self.revoke(caller, session, Target::UserId(user.id.clone())).await,
            5..=7 => {
                validate(history, caller, session).await;
            }
            8 => {
                // A thief refreshes at another replica at the same moment.
                let _thieves = self.thieves.read().await;
                let (thief, attempt) = (unique(), unique());
                let (next, _) = tokio::join!(
                    refresh_until_answered(history, &self.callers, session, &attempt),
                    refresh(history, caller, session, &thief)
                );
                return next;
            }
            _ => return self.refresh(session).await,
        }
        Some(session.clone())
    }

    /// Revokes a session; whether that was acknowledged. Without an answer it may be in force all the same.
    async fn revoke(&self, caller: &Caller, session: &ClientSession, target: Target) -> bool {
        let is_acknowledged = revoke(&self.history, caller, &[session], target).await.is_ok();
        if is_acknowledged {
            self.revoked.lock().push(session.clone());
        }
        is_acknowledged
    }

    /// Begins sessions and uses them twice, so that there are old tokens to steal, also when no login succeeds for a while.
    async fn lose_tokens(self: Arc<Self>) {
        let user = self.user(CALLERS + 1);
        while self.going() {
            if self.stealable.lock().len() >= STEALABLE {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            let old = login(&self.history, &self.callers, &user.name).await;
            let Some(next) = self.refresh(&old).await else { continue };
            let Some(next) = self.refresh(&next).await else {
                continue;
            };
            self.stealable.lock().push((old, next));
        }
    }

    /// A thief presents old tokens. The replica counts that it found the reuse, also if it then cannot record the revocation: from
    /// then on the session must be refused.
    async fn steal(self: Arc<Self>, mut random: Random) {
        while self.going() {
            sleep(random.millis(50, 300)).await;
            let Some((old, newest)) = self.stealable.lock().pop() else {
                continue;
            };
            {
                let _only = self.thieves.write().await;
                let (replica, caller) = self.any(&mut random);
                let before = self.reuses_found(replica).await;
                let stolen = refresh(&self.history, caller, &old, &unique()).await;
                let after = self.reuses_found(replica).await;
                if stolen.is_err_and(|status| status.code() != Code::Unauthenticated)
                    && before.zip(after).is_some_and(|(before, after)| after > before)
                {
                    self.unrecorded.fetch_add(1, Ordering::SeqCst);
                    note_reuse(&self.history, &old);
                }
            }
            // The owner tries each replica, and not until it is answered: the thief goes on with the next session. The answers are in
            // the history.
            let attempt = unique();
            for caller in &self.callers {
                let _ = refresh(&self.history, caller, &newest, &attempt).await;
            }
        }
    }

    /// How many reuses a replica has found since its start; none if it does not say.
    async fn reuses_found(&self, replica: usize) -> Option<u64> {
        let url = format!("{}/metrics", self.http.read()[replica]);
        let metrics = try_get(&url, &[]).await?.body;
        let value = |line: &str| {
            let verdict = line.strip_prefix("countersign_refresh_verdicts_total{verdict=\"reused")?;
            verdict.rsplit(' ').next()?.parse::<u64>().ok()
        };
        Some(metrics.lines().filter_map(value).sum())
    }

    /// Presents tokens of sessions whose revocation was acknowledged.
    async fn ask_about_revoked(self: Arc<Self>, mut random: Random) {
        while self.going() {
            sleep(random.millis(10, 60)).await;
            let chosen = {
                let revoked = self.revoked.lock();
                let recent = revoked.len().min(RECENT);
                (recent > 0).then(|| revoked[revoked.len() - 1 - random.below(recent)].clone())
            };
            let Some(session) = chosen else { continue };
            let (_, caller) = self.any(&mut random);
            if random.below(5) == 0 {
                // The answer is in the history.
                let _ = refresh(&self.history, caller, &session, &unique()).await;
            } else {
                validate(&self.history, caller, &session).await;
            }
        }
    }

    /// Waits until each replica logs in, refreshes, validates and revokes.
    pub(crate) async fn until_all_works(&self) {
        // Whose sessions no other client ends.
        let user = self.user(CALLERS);
        for caller in &self.callers {
            let only = std::slice::from_ref(caller);
            let begun = Instant::now();
            loop {
                let session = login(&self.history, only, &user.name).await;
                let next = refresh_until_answered(&self.history, only, &session, &unique()).await;
                if let Some(next) = next
                    && validate(&self.history, caller, &next).await == Some(true)
                    && revoke(&self.history, caller, &[&next], Target::SessionId(next.id.clone()))
                        .await
                        .is_ok()
                {
                    break;
                }
                assert!(
                    begun.elapsed() < SPREAD,
                    "a replica does not work again: {:?}",
                    self.history.errors()
                );
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// After the run: the honest sessions live at every replica, and the revoked ones at none.
    pub(crate) async fn assert_final_state(&self) {
        let honest = self.honest.lock().clone();
        for session in &honest {
            let next = self.refresh(session).await;
            let next = next.unwrap_or_else(|| panic!("the honest session {} ended", session.id));
            for caller in &self.callers {
                eventually("an honest session is active", SPREAD, || async {
                    (validate(&self.history, caller, &next).await == Some(true)).then_some(())
                })
                .await;
            }
        }
        let revoked: Vec<ClientSession> = self.revoked.lock().iter().rev().take(RECENT).cloned().collect();
        for session in &revoked {
            for caller in &self.callers {
                eventually("a revoked session is inactive", SPREAD, || async {
                    (validate(&self.history, caller, session).await == Some(false)).then_some(())
                })
                .await;
            }
            assert!(
                self.refresh(session).await.is_none(),
                "the revoked session {} lives",
                session.id
            );
        }
    }

    /// The number of refreshes that gave tokens.
    pub(crate) fn refreshes(&self) -> usize {
        self.history.count(|call| {
            matches!(call.operation, Operation::Refresh { .. }) && matches!(call.outcome, Outcome::Tokens { .. })
        })
    }
}
