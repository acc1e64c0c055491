//! Honest sessions, logins and revocations while a store fails over.
//!
//! The clients are correct: a call without an answer, or with `UNAVAILABLE`, is repeated at another replica with the same
//! `attempt_id`. So a session that ends has been ended by the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::Tokens;
use countersign::proto::revoke_request::Target;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::support::Caller;
use crate::support::caller::reason;
use crate::support::errors::Errors;
use crate::support::random::Random;

/// Sessions that are refreshed again and again.
pub(crate) const SESSIONS: usize = 50;

/// The deadline of every call, which a client with a user in front of it would set.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a client repeats a call before it counts as a failure of the test.
const PATIENCE: Duration = Duration::from_mins(2);

/// The latest revocations, whose tokens are asked about.
const RECENT: usize = 40;

/// A session and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) tokens: Tokens,
    /// When the login was answered.
    pub(crate) created: Duration,
    /// When and why the service ended it.
    pub(crate) ended: Option<(Duration, String)>,
}

/// A session whose revocation was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    pub(crate) tokens: Tokens,
    /// When, since the start.
    pub(crate) acknowledged: Duration,
    /// The same by the wall clock, in Unix milliseconds.
    acknowledged_at: i64,
}

/// What Validate called active although its revocation was acknowledged before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeenActive {
    pub(crate) answers: u64,
    /// The longest time since the acknowledgement.
    pub(crate) longest: Duration,
    /// Those with a `revocations_as_of` later than the acknowledgement: these answers are wrong, not old.
    pub(crate) dishonest: u64,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The sessions that are refreshed all the time; all were created before the fault.
    pub(crate) kept: Vec<Session>,
    /// The sessions that were created during the run and not revoked.
    pub(crate) young: Vec<Session>,
    pub(crate) revoked: Vec<Revoked>,
    pub(crate) seen_active: SeenActive,
    /// When calls succeeded.
    pub(crate) refreshes: Vec<Duration>,
    pub(crate) logins: Vec<Duration>,
    pub(crate) revocations: Vec<Duration>,
    /// How often each error was answered.
    pub(crate) errors: Errors,
}

/// The callers and the record, for all tasks.
#[derive(Debug)]
pub(crate) struct Clients {
    /// One for each replica.
    callers: RwLock<Vec<Caller>>,
    start: Instant,
    going: AtomicBool,
    pub(crate) record: Mutex<Record>,
}

/// The running tasks.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) clients: Arc<Clients>,
    running: JoinSet<()>,
}

impl Traffic {
    /// Logs in, and starts all tasks. `urls` are those of the replicas.
    pub(crate) async fn start(urls: &[String], random: &Random) -> Self {
        let clients = Arc::new(Clients {
            callers: RwLock::new(callers(urls)),
            start: Instant::now(),
            going: AtomicBool::new(true),
            record: Mutex::default(),
        });
        let mut running = JoinSet::new();
        for n in 0..SESSIONS {
            let mut random = random.fork(n as u64);
            let tokens = clients.first_login(&mut random).await;
            let created = clients.now();
            clients.record.lock().kept.push(Session {
                tokens,
                created,
                ended: None,
            });
            running.spawn(Arc::clone(&clients).keep(n, random));
        }
        for n in 0..3 {
            running.spawn(Arc::clone(&clients).log_in_and_revoke(random.fork(1_000 + n)));
            running.spawn(Arc::clone(&clients).ask_about_revoked(random.fork(2_000 + n)));
        }
        Self { clients, running }
    }

    /// Stops the tasks, each after its current call.
    pub(crate) async fn stop(self) -> Arc<Clients> {
        self.clients.going.store(false, Ordering::SeqCst);
        self.running.join_all().await;
        self.clients
    }
}

impl Clients {
    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn callers(&self) -> Vec<Caller> {
        self.callers.read().clone()
    }

    /// Calls the replicas at these URLs from now on.
    pub(crate) fn follow(&self, urls: &[String]) {
        *self.callers.write() = callers(urls);
    }

    fn going(&self) -> bool {
        self.going.load(Ordering::SeqCst)
    }

    fn any(&self, random: &mut Random) -> Caller {
        let callers = self.callers.read();
        callers[random.below(callers.len())].clone()
    }

    fn count_error(&self, status: &Status) {
        let (code, why) = reason(status);
        let name = format!("{code:?} {why}").trim_end().to_owned();
        *self.record.lock().errors.entry(name).or_default() += 1;
    }

    /// One login at any replica; none if it was not answered.
    /// Logs in while the stores are up. A busy machine may let a call run into its deadline.
    async fn first_login(&self, random: &mut Random) -> Tokens {
        for _ in 0..20 {
            if let Some(tokens) = self.login(random).await {
                return tokens;
            }
        }
        panic!("no login succeeds: {:?}", self.record.lock().errors);
    }

    async fn login(&self, random: &mut Random) -> Option<Tokens> {
        let user = format!("user{}", random.below(USERS));
        let issued = self.any(random).issue(&user, crate::support::PASSWORD).await;
        issued.inspect_err(|status| self.count_error(status)).ok()
    }

    /// Refreshes until it is answered, at any replica with the same attempt. An error is the reason for which the session is
    /// over.
    pub(crate) async fn refresh(&self, token: &str, random: &mut Random) -> Result<Tokens, String> {
        let attempt = format!("{:016x}{:016x}", random.next(), random.next());
        let begun = Instant::now();
        loop {
            match self.any(random).refresh_as(token, &attempt).await {
                Ok(answer) => {
                    let now = self.now();
                    self.record.lock().refreshes.push(now);
                    return Ok(answer.tokens.expect("a refresh without an error has tokens"));
                }
                Err(status) => {
                    self.count_error(&status);
                    if status.code() == Code::Unauthenticated {
                        return Err(reason(&status).1);
                    }
                    assert!(
                        begun.elapsed() < PATIENCE,
                        "not refreshed within {PATIENCE:?}: {status:?}"
                    );
                    sleep(random.millis(50, 150)).await;
                }
            }
        }
    }

    /// Refreshes a session and validates its access token until the end of the run.
    async fn keep(self: Arc<Self>, n: usize, mut random: Random) {
        while self.going() {
            sleep(random.millis(200, 600)).await;
            let token = self.record.lock().kept[n].tokens.refresh_token.clone();
            let ended = match self.refresh(&token, &mut random).await {
                Err(why) => Some(why),
                Ok(next) => {
                    let validated = self.any(&mut random).validate(&next.access_token).await;
                    self.record.lock().kept[n].tokens = next;
                    match validated {
                        Ok(answer) if !answer.active => Some(format!("Validate {:?}", answer.reason())),
                        Ok(_) => None,
                        Err(status) => {
                            self.count_error(&status);
                            None
                        }
                    }
                }
            };
            if let Some(why) = ended {
                let now = self.now();
                self.record.lock().kept[n].ended = Some((now, why));
                return;
            }
        }
    }

    /// Logs in again and again; every second session is revoked.
    async fn log_in_and_revoke(self: Arc<Self>, mut random: Random) {
        while self.going() {
            sleep(random.millis(100, 300)).await;
            let Some(tokens) = self.login(&mut random).await else {
                continue;
            };
            let created = self.now();
            self.record.lock().logins.push(created);
            if random.below(2) == 0 {
                let ended = None;
                let session = Session { tokens, created, ended };
                self.record.lock().young.push(session);
            } else {
                self.revoke(tokens, &mut random).await;
            }
        }
    }

    /// Revokes a session, until that is acknowledged or the run ends.
    async fn revoke(&self, tokens: Tokens, random: &mut Random) {
        while self.going() {
            let target = if random.below(2) == 0 {
                Target::Token(tokens.refresh_token.clone())
            } else {
                Target::SessionId(tokens.session_id.clone())
            };
            match self.any(random).revoke(target).await {
                Ok(_) => {
                    let acknowledged = self.now();
                    let mut record = self.record.lock();
                    record.revocations.push(acknowledged);
                    record.revoked.push(Revoked {
                        tokens,
                        acknowledged,
                        acknowledged_at: SystemClock::new().now().0,
                    });
                    return;
                }
                Err(status) => {
                    self.count_error(&status);
                    sleep(random.millis(50, 150)).await;
                }
            }
        }
    }

    /// Validates access tokens of sessions whose revocation was acknowledged.
    async fn ask_about_revoked(self: Arc<Self>, mut random: Random) {
        while self.going() {
            sleep(random.millis(10, 40)).await;
            let chosen = {
                let record = self.record.lock();
                let recent = record.revoked.len().min(RECENT);
                (recent > 0).then(|| record.revoked[record.revoked.len() - 1 - random.below(recent)].clone())
            };
            let Some(revoked) = chosen else { continue };
            match self.any(&mut random).validate(&revoked.tokens.access_token).await {
                Ok(answer) if answer.active => {
                    let as_of = answer.revocations_as_of.expect("an active answer says as of when");
                    let as_of = as_of.seconds * 1_000 + i64::from(as_of.nanos / 1_000_000);
                    let age = self.now().saturating_sub(revoked.acknowledged);
                    let seen = &mut self.record.lock().seen_active;
                    seen.answers += 1;
                    seen.longest = seen.longest.max(age);
                    seen.dishonest += u64::from(as_of > revoked.acknowledged_at);
                }
                Ok(_) => {}
                Err(status) => self.count_error(&status),
            }
        }
    }
}

fn callers(urls: &[String]) -> Vec<Caller> {
    urls.iter().map(|url| Caller::with_deadline(url, DEADLINE)).collect()
}

/// The users `user0`, `user1` and so on.
pub(crate) const USERS: usize = 10;
