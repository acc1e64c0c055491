//! The only synchronous standby dies: commits wait for it without an end, and reads go on. Behind a pooler, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use countersign::proto::Grant;
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::caller::reason;
use crate::support::web::metric;
use crate::support::{Admin, Caller, Countersign, PASSWORD, Pooler, Postgres, Servers, eventually};

/// Callers that try again soon after a login fails.
const CALLERS: u32 = 40;

/// How long they do, at least.
const OUTAGE: Duration = Duration::from_secs(8);

/// Longer than a recovery takes on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// The most writes that a replica has under way: three quarters of `storage.database_pool`, one for maintenance, and the probe. A
/// wait that was given up may be seen once more until it is terminated.
const MAX_WRITES: u32 = (12 + 1 + 1) * 2;

/// The number of results by code and reason, of calls that are repeated until told to stop.
struct Repeated {
    goes_on: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<BTreeMap<String, u32>>>,
}

impl Repeated {
    /// Repeats a call in `number` tasks, with this pause.
    fn start<F, T>(number: u32, pause: Duration, call: impl Fn() -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<T, Status>> + Send,
        T: Send,
    {
        let goes_on = Arc::new(AtomicBool::new(true));
        let run = |_| {
            let (goes_on, call) = (Arc::clone(&goes_on), call.clone());
            tokio::spawn(async move {
                let mut answers = BTreeMap::new();
                while goes_on.load(Ordering::SeqCst) {
                    let name = match call().await {
                        Ok(_) => "Ok".to_owned(),
                        Err(status) => reason(&status).1,
                    };
                    *answers.entry(name).or_default() += 1;
                    sleep(pause).await;
                }
                answers
            })
        };
        let tasks = (0..number).map(run).collect();
        Self { goes_on, tasks }
    }

    async fn stop(self) -> BTreeMap<String, u32> {
        self.goes_on.store(false, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            for (name, number) in task.await.unwrap() {
                *all.entry(name).or_default() += number;
            }
        }
        all
    }
}

/// Stores whose Postgres has 60 connections and one synchronous standby. The role `app` is no superuser.
async fn with_standby() -> (Servers, Postgres) {
    let mut servers = Servers::start(&["--appendonly", "yes"]).await;
    let database = &servers.database;
    database
        .execute(
            "CREATE ROLE app LOGIN; GRANT ALL ON SCHEMA public TO app; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app",
        )
        .await;
    let (servers, standby) = tokio::task::spawn_blocking(move || {
        servers.postgres.set("max_connections", "60");
        servers.postgres.stop(Signal::SIGINT);
        servers.postgres.launch();
        let standby = servers.postgres.streaming_standby("s1");
        servers.postgres.wait_for_standbys("s1");
        (servers, standby)
    })
    .await
    .unwrap();
    let servers = servers
        .with_default_timeouts()
        .set("storage.acquire_timeout", "3s")
        .set("tokens.reuse_policy", "tolerant")
        .set("tokens.refresh_grace", "300s");
    (servers, standby)
}

/// What an operator sees, who connects again and again: the most waits for the standby, and the refused connections of all.
async fn observe(servers: &Servers, until: Instant) -> (u32, u32, u32) {
    let url = servers.database.url().replace("postgres@", "app@");
    let (mut most, mut refused, mut all) = (0, 0, 0);
    while Instant::now() < until {
        all += 1;
        match PgConnection::connect(&url).await {
            Ok(connection) => drop(connection.close().await),
            Err(_) => refused += 1,
        }
        most = most.max(waits(servers).await);
        sleep(Duration::from_millis(100)).await;
    }
    (most, refused, all)
}

/// The commits that wait for the standby. Uses a connection that is reserved for superusers.
async fn waits(servers: &Servers) -> u32 {
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    servers.database.scalar(asked).await.parse().unwrap()
}

/// The exit code of `doctor`, and the state and message of its check of the standbys.
async fn doctor(servers: &Servers) -> (Option<i32>, String, String) {
    let storage = servers
        .storage
        .clone()
        .set("server.listen", "127.0.0.1:0")
        .set("server.http_listen", "127.0.0.1:0");
    let run = move || storage.run(&["doctor", "--output", "json"]).finish();
    let done = tokio::task::spawn_blocking(run).await.unwrap();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let mut checks = report["checks"].as_array().unwrap().iter();
    let found = checks.find(|check| check["check"] == "standbys");
    let found = found.unwrap_or_else(|| panic!("{report:#}"));
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    (done.code(), text("state"), text("message"))
}

/// Operators learn that no change can be made; load balancers keep the replicas, which all answer reads.
async fn assert_no_writes(server: &Countersign) {
    let channel = Endpoint::from_shared(server.grpc_url()).unwrap().connect_lazy();
    let mut health = HealthClient::new(channel);
    let mut status = async |service: &str| {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await.unwrap();
        answer.into_inner().status()
    };
    assert_eq!(status("store.users").await, ServingStatus::NotServing);
    for name in ["", "countersign.v1.TokenService", "countersign.v1.UserService"] {
        assert_eq!(status(name).await, ServingStatus::Serving, "{name}");
    }
    let up = metric(server, "countersign_store_up{store=\"users\"}");
    assert!(up < 0.5, "the alert fires");
}

/// How commits end again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cure {
    /// The standby is started.
    Standby,
    /// The operator takes it out of `synchronous_standby_names`.
    Setting,
}

/// The number of lines with these words in the log.
fn lines(server: &Countersign, words: &str) -> usize {
    let log = server.log();
    log.lines()
        .filter(|line| line.starts_with('{') && line.contains(words))
        .count()
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn lose_the_standby(name: &str, servers: &Servers, mut standby: Postgres, cure: Cure) {
    let server = servers.serve().await;
    let (caller, admin) = (Caller::of(&server), Admin::of(&server));
    let secret = admin
        .client("billing", &[Grant::ClientSecret], &["countersign:validate"], &["*"])
        .await;
    // Each caller is another user, so that no login waits for the row of another.
    for n in 0..CALLERS {
        admin.user(&format!("user{n}")).await.unwrap();
    }
    let session = caller.login("ada").await;

    let (code, state, message) = doctor(servers).await;
    assert_eq!((code, state.as_str()), (Some(0), "WARNING"), "{message}");
    assert!(message.contains("ANY 1"), "{message}");
    standby.kill();
    let logins = Repeated::start(CALLERS, Duration::from_millis(100), {
        let (caller, next) = (caller.clone(), Arc::new(AtomicU32::new(0)));
        move || {
            let caller = caller.clone();
            let user = format!("user{}", next.fetch_add(1, Ordering::SeqCst) % CALLERS);
            async move { caller.issue(&user, PASSWORD).await }
        }
    });
    let refreshes = Repeated::start(1, Duration::from_millis(50), {
        let (caller, token) = (caller.clone(), session.refresh_token.clone());
        move || {
            let (caller, token) = (caller.clone(), token.clone());
            async move { caller.refresh(&token).await }
        }
    });
    let machines = Repeated::start(1, Duration::from_millis(250), move || {
        let (admin, secret) = (admin.clone(), secret.clone());
        async move { admin.issue_with_secret("billing", &secret, &[], &[]).await }
    });
    let (most, refused, all) = observe(servers, Instant::now() + OUTAGE).await;
    assert_no_writes(&server).await;
    let (code, state, message) = doctor(servers).await;
    let (logins, refreshes, machines) = (logins.stop().await, refreshes.stop().await, machines.stop().await);
    println!(
        "{name}: at most {most} backends in SyncRep; {refused} of {all} connections of the operator refused; logins {logins:?}, \
         refreshes {refreshes:?}, tokens of machines {machines:?}"
    );
    assert!(most > 0 && most <= MAX_WRITES, "{most} backends wait");
    assert_eq!(refused, 0, "the operator cannot log in");
    // The first ones wait, and those behind them find the queue full.
    assert!(
        logins
            .keys()
            .all(|name| name == "STORE_UNAVAILABLE" || name == "OVERLOADED"),
        "no login is acknowledged, and each is refused as an outage: {logins:?}"
    );
    assert!(
        logins.values().sum::<u32>() > CALLERS * 4,
        "logins fail at once after the first: {logins:?}"
    );
    // Before the state is known, all callers together may be too many for the queue.
    for (what, answers) in [("refreshes", &refreshes), ("tokens of machines", &machines)] {
        let overloaded = answers.get("OVERLOADED").copied().unwrap_or_default();
        assert_eq!(
            answers["Ok"] + overloaded,
            answers.values().sum::<u32>(),
            "{what}: {answers:?}"
        );
        assert!(answers["Ok"] > overloaded * 3, "{what}: {answers:?}");
    }
    assert_eq!((code, state.as_str()), (Some(1), "FAILED"), "{message}");
    assert!(
        message.contains("synchronous_standby_names = 's1'") && message.contains("runbook"),
        "{message}"
    );

    // The callers are gone: only the probe of the replica may wait.
    eventually("no abandoned commit is left", RECOVERY, || async {
        (waits(servers).await <= 1).then_some(())
    })
    .await;
    match cure {
        Cure::Standby => standby.launch(),
        Cure::Setting => servers.postgres.set("synchronous_standby_names", ""),
    }
    let back = Instant::now();
    eventually("logins work again", RECOVERY, || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    println!("{name}: logins {:?} after the cure", back.elapsed());
    eventually("the log tells of the return", RECOVERY, || async {
        (lines(&server, "is back after") == 1).then_some(())
    })
    .await;
    assert_eq!(lines(&server, "takes no writes"), 1, "{}", server.log());
    assert_eq!(lines(&server, "lost PostgreSQL"), 0, "{}", server.log());
    // A login that was refused may be in the trail: it was made, and not acknowledged. A token that was sent must be.
    let admin = Admin::of(&server);
    let sent = machines["Ok"];
    eventually("the tokens of machines are in the audit trail", RECOVERY, || async {
        let events = admin.events("token.issued").await;
        let own = events.iter().filter(|event| event.subject == "billing").count();
        (own == sent as usize).then_some(())
    })
    .await;
    let left = eventually("no commit waits", RECOVERY, || async {
        (waits(servers).await == 0).then_some(())
    });
    left.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_retry_leave_no_backends_behind() {
    let (servers, standby) = with_standby().await;
    let url = servers.database.url().replace("postgres@", "app@");
    let servers = servers.set("storage.database_url", &url);
    Box::pin(lose_the_standby("direct", &servers, standby, Cure::Standby)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_behind_a_pooler_leave_no_backends_behind() {
    let (servers, standby) = with_standby().await;
    // More than the writes of the replica: reads need a server connection, too.
    let pooler = Pooler::with_size(&servers.database, 20);
    let url = servers.database.url_through(pooler.address());
    let servers = servers.set("storage.database_url", &url);
    Box::pin(lose_the_standby("behind PgBouncer", &servers, standby, Cure::Setting)).await;
}

/// A transaction that was under way for long and begins to commit is not one that its client has given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_long_transaction_may_wait_like_any_other() {
    let (servers, mut standby) = with_standby().await;
    let url = servers.database.url().replace("postgres@", "app@");
    let servers = servers
        .set("storage.database_url", &url)
        .set("storage.statement_timeout", "5s");
    let url = format!("{url}?application_name=countersign");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // Older than a client waits for a write; its commit has as much time.
    for statement in ["BEGIN", "UPDATE meta SET era = era", "SELECT pg_sleep(6)"] {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    standby.freeze();
    let commit = tokio::spawn(async move { sqlx::raw_sql("COMMIT").execute(&mut connection).await });
    eventually("the commit waits", RECOVERY, || async {
        (waits(&servers).await == 1).then_some(())
    })
    .await;
    let found = async { doctor(&servers).await };
    let thawed = async {
        // `doctor` has looked for commits to terminate, and now tries one of its own.
        let asked =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%FOR KEY SHARE%'";
        eventually("doctor tries a commit", RECOVERY, || async {
            (servers.database.scalar(asked).await == "1").then_some(())
        })
        .await;
        let waiting = waits(&servers).await;
        standby.thaw();
        waiting
    };
    let ((code, state, message), waiting) = tokio::join!(found, thawed);
    assert_eq!(waiting, 2, "the commit still waits");
    commit.await.unwrap().unwrap();
    assert_eq!((code, state.as_str()), (Some(0), "WARNING"), "{message}");
}
