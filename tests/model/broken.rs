//! Stores that are broken on purpose, with three common defects. Each must be detected: a check that finds no defect
//! here would prove nothing about the real stores.

use std::sync::Arc;

use async_trait::async_trait;
use countersign::model::session::{Created, NewSession, Presented, SessionView};
use countersign::model::{Result, Rotation, SessionId, UserId};
use countersign::secret::{SystemEntropy, random};
use countersign::store::{BackupCounter, ComparedCounters, SessionStore};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::machine::{CLIENTS, Model, Step};
use super::support::History;
use super::support::history::{Anomaly, Call, Operation, Outcome};
use super::system::System;
use super::{compare, runtime};
use crate::support::KeySpace;
use crate::support::redis::try_command;

/// A real store with a defect in `rotate`.
struct Broken {
    real: Arc<dyn SessionStore>,
    url: String,
    prefix: String,
    defect: Defect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Reads, decides and writes in three separate steps.
    CheckThenWrite,
    /// Reports a reuse and does not change the record.
    NoTombstone,
}

impl Broken {
    async fn copy(&self, from: &str, to: &str) {
        let key = |name: &str| format!("{}:{name}", self.prefix);
        let (url, from, to) = (self.url.clone(), key(from), key(to));
        let copying = tokio::task::spawn_blocking(move || try_command(&url, &["COPY", &from, &to, "REPLACE"]));
        copying.await.unwrap().unwrap();
    }
}

#[async_trait]
impl SessionStore for Broken {
    async fn rotate(&self, presented: &Presented) -> Result<Rotation> {
        let user = presented.user;
        let own = format!("s:{{{user}}}");
        if self.defect == Defect::CheckThenWrite {
            let draft_user = UserId(uuid::Uuid::from_bytes(random(&SystemEntropy)));
            let draft = format!("s:{{{draft_user}}}");
            self.copy(&own, &draft).await;
            let decided = Presented {
                user: draft_user,
                ..presented.clone()
            };
            let rotation = self.real.rotate(&decided).await?;
            self.copy(&draft, &own).await;
            return Ok(rotation);
        }
        let before = format!("before:{{{user}}}");
        self.copy(&own, &before).await;
        let rotation = self.real.rotate(presented).await?;
        if matches!(rotation, Rotation::Reused(_)) {
            self.copy(&before, &own).await;
        }
        Ok(rotation)
    }

    async fn create(&self, new: &NewSession, limit: u32) -> Result<Created> {
        self.real.create(new, limit).await
    }

    async fn end_all(&self, user: UserId, sessions: &[SessionId]) -> Result<u32> {
        self.real.end_all(user, sessions).await
    }

    async fn end_user(&self, user: UserId, epoch: i64, keep: Option<SessionId>) -> Result<u32> {
        self.real.end_user(user, epoch, keep).await
    }

    async fn list(&self, user: UserId, era: i64) -> Result<Vec<SessionView>> {
        self.real.list(user, era).await
    }

    async fn ping(&self) -> Result<()> {
        self.real.ping().await
    }

    async fn advance_counters(&self, known: &[(String, i64)], backup_steps: i64) -> Result<ComparedCounters> {
        self.real.advance_counters(known, backup_steps).await
    }

    async fn raise_counters(&self, behind: &[BackupCounter]) -> Result<()> {
        self.real.raise_counters(behind).await
    }
}

fn broken(real: Arc<dyn SessionStore>, redis: &KeySpace, defect: Defect) -> Arc<dyn SessionStore> {
    Arc::new(Broken {
        real,
        url: redis.url().to_owned(),
        prefix: redis.prefix().to_owned(),
        defect,
    })
}

/// Enough steps for the model to reach each defect many times.
const STEPS: u32 = 6_000;

/// Few steps to shrink a failure, because a failure is expected.
const SHRINK: u32 = 8;

#[test]
fn the_model_detects_reuse_without_a_tombstone() {
    let runtime = runtime();
    let system = runtime.block_on(System::clustered(
        KeySpace::fresh(),
        Some(|real, redis| broken(real, redis, Defect::NoTombstone)),
    ));
    let found = compare(&runtime, &system, true, STEPS, SHRINK).expect_err("the store is broken");
    println!("{found}");
    assert!(found.contains("RefreshUnrecorded"), "{found}");
}

/// Seconds of the wall clock instead of epochs: a login and a revocation within one second get the same value, so their
/// order is lost.
const WALL_CLOCK: &str = "
    CREATE FUNCTION by_the_clock() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.epoch := extract(epoch FROM clock_timestamp())::bigint * 1000; RETURN NEW; END $$;
    CREATE TRIGGER by_the_clock BEFORE UPDATE OF epoch ON users FOR EACH ROW EXECUTE FUNCTION by_the_clock();
    CREATE TRIGGER by_the_clock BEFORE UPDATE OF epoch ON clients FOR EACH ROW EXECUTE FUNCTION by_the_clock();
    CREATE TRIGGER by_the_clock BEFORE UPDATE OF epoch ON meta FOR EACH ROW EXECUTE FUNCTION by_the_clock();";

#[test]
fn the_model_detects_a_wall_clock_instead_of_epochs() {
    let runtime = runtime();
    let system = runtime.block_on(System::mutated(KeySpace::fresh(), WALL_CLOCK));
    let found = compare(&runtime, &system, true, STEPS, SHRINK).expect_err("the store is broken");
    println!("{found}");
    assert!(found.contains("Revoke") || found.contains("SetDisabled"), "{found}");
}

/// Lets several callers refresh one token at once, each with its own attempt id. Returns what they observed.
async fn race(system: &Arc<System>, rounds: u32) -> History {
    const CALLERS: usize = 8;
    let history = Arc::new(History::default());
    for _ in 0..rounds {
        let mut model = Model::new();
        let mut users = system.users().await;
        let step = Step::Issue { user: 0, client: 0 };
        model.apply(&step);
        system.apply(&mut users, &step, &model).await;
        let (session, token) = users.first();
        let start = Arc::new(Barrier::new(CALLERS));
        let mut racing = JoinSet::new();
        for n in 0..CALLERS {
            let (system, history, start) = (system.clone(), history.clone(), start.clone());
            let (session, token) = (session.clone(), token.clone());
            racing.spawn(async move {
                start.wait().await;
                let (started, attempt) = (history.now(), format!("attempt-{n}"));
                let outcome = match system.present(&token, &attempt).await {
                    Ok((token, generation, replayed)) => Outcome::Tokens {
                        token,
                        generation,
                        rotated: !replayed,
                    },
                    Err(why) => Outcome::Refused(why.to_owned()),
                };
                history.push(Call {
                    session,
                    operation: Operation::Refresh { generation: 0, attempt },
                    outcome,
                    started,
                    ended: Some(history.now()),
                    ended_at: 0,
                });
            });
        }
        racing.join_all().await;
    }
    Arc::into_inner(history).expect("all callers have ended")
}

#[test]
fn the_history_detects_check_then_write_and_accepts_the_real_store() {
    let runtime = runtime();
    assert!(CLIENTS[0].grace && !CLIENTS[0].tolerant);
    let real = Arc::new(runtime.block_on(System::clustered(KeySpace::fresh(), None)));
    runtime.block_on(race(&real, 10)).assert_consistent();

    let system = Arc::new(runtime.block_on(System::clustered(
        KeySpace::fresh(),
        Some(|real, redis| broken(real, redis, Defect::CheckThenWrite)),
    )));
    let found = runtime.block_on(race(&system, 10)).violations();
    println!("{} violations; the first: {:?}", found.len(), found.first());
    assert!(found.iter().any(|violation| violation.anomaly == Anomaly::TwoWinners));
}
