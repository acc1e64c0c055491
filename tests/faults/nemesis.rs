//! The distributed nemesis: random faults of the stores, the network, the clocks and the replicas, again and again and several at
//! once, while clients call three replicas. A checker judges the history of all calls.
//!
//! By default each deployment has a few steps of one seed. The full size of one is
//! `COUNTERSIGN_NEMESIS_SECONDS=600 COUNTERSIGN_NEMESIS_SEED=7 cargo test --all-features --test faults nemesis::faults_of_a_cluster
//! -- --nocapture`, and without a name one after the other with `--test-threads 1`. A seed repeats the faults and their order. The
//! calls of the clients differ from run to run.

mod kinds;
mod plan;
mod postgres;
mod redis;
mod replicas;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::kinds::Deployment;
use self::plan::{At, Plan, Step};
use self::postgres::PostgresSide;
use self::redis::RedisSide;
use self::replicas::Replicas;
use self::traffic::{Clients, User, user_names};
use crate::support::deployment::for_outages;
use crate::support::errors::{Errors, unexplained};
use crate::support::history::{Operation, Outcome, Rules};
use crate::support::random::Random;
use crate::support::{Admin, History, size};

/// The number of replicas.
const REPLICAS: usize = 3;

/// The short run ends after so many steps, or begins no step after this time. A step takes half a minute on two cores.
const SHORT: (usize, Duration) = (1, Duration::from_secs(10));

/// The seed of the short run: its first steps replace a master, or promote a standby, on each deployment that has one.
const SHORT_SEED: u64 = 15;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
struct Size {
    seed: u64,
    steps: usize,
    time: Duration,
}

impl Size {
    fn of_environment() -> Self {
        let seconds = size("COUNTERSIGN_NEMESIS_SECONDS", 0);
        let (steps, time) = if seconds == 0 {
            SHORT
        } else {
            (usize::MAX, Duration::from_secs(seconds))
        };
        let seed = size("COUNTERSIGN_NEMESIS_SEED", SHORT_SEED);
        Self { seed, steps, time }
    }
}

/// A run in progress.
struct Run {
    deployment: Deployment,
    size: Size,
    history: Arc<History>,
    redis: RedisSide,
    postgres: PostgresSide,
    replicas: Replicas,
    clients: Arc<Clients>,
    running: JoinSet<()>,
    /// How often each kind of fault was made.
    faults: BTreeMap<String, usize>,
    /// The longest time until all worked again after a step.
    recovery: Duration,
}

/// Makes a fault of one side in a thread that may block.
async fn apply<S: Send + 'static, F: Send + 'static>(side: S, at: Option<At<F>>, apply: fn(&mut S, F)) -> S {
    let Some(At { delay, fault }) = at else { return side };
    sleep(delay).await;
    let mut side = side;
    tokio::task::spawn_blocking(move || {
        apply(&mut side, fault);
        side
    })
    .await
    .unwrap()
}

impl Run {
    async fn start(deployment: Deployment, size: Size) -> Self {
        let history = Arc::new(History::default());
        let (redis, postgres) = tokio::join!(
            RedisSide::start(deployment, REPLICAS, Arc::clone(&history)),
            PostgresSide::start(deployment, REPLICAS)
        );
        let storage = |n| for_outages(&postgres.url(n), &redis.url(n)).set("revocation.max_staleness", "5s");
        let replicas = Replicas::start((0..REPLICAS).map(storage).collect()).await;
        let admin = Admin::of(replicas.server(0));
        let mut users = Vec::new();
        for name in user_names() {
            let id = admin.user(&name).await.expect("the user is created").user_id;
            users.push(User { name, id });
        }
        let clients = Arc::new(Clients {
            history: Arc::clone(&history),
            callers: replicas.callers(),
            http: Arc::clone(&replicas.http),
            users,
            going: AtomicBool::new(true),
            thieves: tokio::sync::RwLock::default(),
            honest: parking_lot::Mutex::default(),
            revoked: parking_lot::Mutex::default(),
            stealable: parking_lot::Mutex::default(),
            unrecorded: AtomicUsize::new(0),
        });
        let running = clients.start(&Random::new(size.seed).fork(1_000)).await;
        Self {
            deployment,
            size,
            history,
            redis,
            postgres,
            replicas,
            clients,
            running,
            faults: BTreeMap::new(),
            recovery: Duration::ZERO,
        }
    }

    /// Makes the faults of a step, repairs all, and waits until all works again.
    async fn step(mut self, step: Step) -> Self {
        let kinds = [
            step.redis.map(|at| format!("Redis {:?}", at.fault)),
            step.postgres.map(|at| format!("Postgres {:?}", at.fault)),
            step.replica.map(|at| format!("Countersign {:?}", at.fault)),
        ];
        for kind in kinds.into_iter().flatten() {
            let name = kind.split(" {").next().unwrap_or_default().to_owned();
            *self.faults.entry(name).or_default() += 1;
        }
        sleep(step.quiet).await;
        let (redis, postgres, replicas) = tokio::join!(
            apply(self.redis, step.redis, RedisSide::apply),
            apply(self.postgres, step.postgres, PostgresSide::apply),
            apply(self.replicas, step.replica, Replicas::apply),
        );
        let repaired = Instant::now();
        self.clients.until_all_works().await;
        let recovery = repaired.elapsed();
        say(&format!("all works again {recovery:.1?} after the repair"));
        self.recovery = self.recovery.max(recovery);
        Self {
            redis,
            postgres,
            replicas,
            ..self
        }
    }

    /// Stops the clients, and judges what they saw.
    async fn judge(mut self, steps: usize) {
        self.clients.going.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.running).join_all().await;
        self.print(steps);
        self.assert_history();
        self.clients.assert_final_state().await;
        // The last answers, too.
        self.assert_history();
        self.replicas.assert_no_panics();
    }

    /// Prints the figures.
    fn print(&self, steps: usize) {
        let count = |outcome: fn(&Outcome) -> bool| self.history.count(|call| outcome(&call.outcome));
        let logins = self.history.count(|call| call.operation == Operation::Login);
        let errors = self.history.errors();
        say(&format!(
            "{:?}, seed {}: {steps} steps in {:.0?}: {:?}, {} keys rotated; {} calls: {logins} logins, {} refreshes, {} \
             revocations acknowledged, {} refusals, {} calls without an answer, {} reuses found and not recorded; at most {:.1?} until \
             all worked again; {errors:?}",
            self.deployment,
            self.size.seed,
            self.history.now(),
            self.faults,
            self.replicas.rotated_keys,
            self.history.calls(),
            self.clients.refreshes(),
            count(|outcome| *outcome == Outcome::Done),
            count(|outcome| matches!(outcome, Outcome::Refused(_))),
            count(|outcome| *outcome == Outcome::Unknown),
            self.clients.unrecorded.load(Ordering::SeqCst),
            self.recovery,
        ));
    }

    #[track_caller]
    fn assert_history(&self) {
        self.history.assert_consistent_under(&Rules {
            losses: self.redis.losses.clone(),
            given_up_calls_end: true,
        });
        let errors = self.history.errors();
        let wrong = wrong_errors(&errors);
        assert!(wrong.is_empty(), "errors that no outage explains: {wrong:?}");
    }
}

/// The errors that no fault of the plan explains. Refusals of Refresh are in the history.
fn wrong_errors(errors: &Errors) -> Vec<&String> {
    let is_outage = |name: &str| {
        let codes = [
            "Unavailable",
            "DeadlineExceeded",
            "ResourceExhausted",
            "Cancelled:",
            "Unknown:",
        ];
        // The clock of one replica may be wrong when it signs or validates.
        let by_clock = ["inactive, NotYetValid", "inactive, Expired"];
        codes.iter().chain(&by_clock).any(|code| name.starts_with(code))
            || name.starts_with("Unauthenticated") && name.ends_with(": Refresh")
    };
    let others = errors.keys().filter(|name| !is_outage(name));
    unexplained(errors).into_iter().chain(others).collect()
}

#[expect(clippy::print_stdout, reason = "the plan and the figures are for people")]
fn say(text: &str) {
    println!("{text}");
}

async fn run(deployment: Deployment) {
    let size = Size::of_environment();
    let again = format!(
        "COUNTERSIGN_NEMESIS_SEED={} COUNTERSIGN_NEMESIS_SECONDS={} tests/run --test faults nemesis::{} -- --nocapture",
        size.seed,
        size.time.as_secs(),
        deployment.test()
    );
    say(&format!("{deployment:?}: repeat this run by {again}"));
    let mut run = Run::start(deployment, size).await;
    let begun = Instant::now();
    let mut steps = 0;
    for step in Plan::new(deployment, REPLICAS, size.seed).take(size.steps) {
        if begun.elapsed() >= size.time {
            break;
        }
        steps += 1;
        say(&format!(
            "{deployment:?}, at {:.1?}: step {steps} {step}",
            run.history.now()
        ));
        run = run.step(step).await;
    }
    run.judge(steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_stores_undoes_nothing_that_was_acknowledged() {
    run(Deployment::Single).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_sentinel_deployment_undo_nothing() {
    run(Deployment::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_cluster_deployment_undo_nothing() {
    run(Deployment::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_streaming_replication_undo_nothing() {
    run(Deployment::Streaming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_behind_a_pooler_undo_nothing() {
    run(Deployment::Pooled).await;
}
