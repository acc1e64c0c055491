//! Signing keys rotate every two seconds on three replicas, one of which freezes and comes back. No valid token is
//! rejected anywhere, exactly one key is active at any time, and no key is removed while a token that it signed is
//! valid.
//!
//! `COUNTERSIGN_TEST_ROTATION_SECONDS=60 cargo test --all-features --test faults key_rotation` is the long run; the
//! default is ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::proto::KeyState;
use nix::sys::signal::Signal;
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::keys::kid;
use crate::support::{Caller, Countersign, Database, Deployment, DeploymentKind, Keys, eventually};

const SECONDS: u64 = 10;
const PERIOD: Duration = Duration::from_secs(2);
/// The lifetime of the tokens: some outlive several rotations, and some a freeze.
const TTL: Duration = Duration::from_secs(20);
/// A token is no longer checked when less than this is left of its life: the machine may stall.
const MARGIN: Duration = Duration::from_secs(8);

/// A token, and the time until which it is certainly valid.
#[derive(Clone, Debug)]
struct Issued {
    token: Arc<str>,
    until: Instant,
}

/// State shared by the tasks that call the replicas.
struct SharedState {
    running: AtomicBool,
    issued: broadcast::Sender<Issued>,
    logins: AtomicU64,
    validations: AtomicU64,
    observations: AtomicU64,
}

impl SharedState {
    fn runs(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// Logs in repeatedly.
    async fn issue(self: Arc<Self>, caller: Caller, freezes: bool) {
        while self.runs() {
            let asked = Instant::now();
            match caller.issue("ada", crate::support::PASSWORD).await {
                Ok(tokens) => {
                    self.logins.fetch_add(1, Ordering::Relaxed);
                    let issued = Issued {
                        token: tokens.access_token.into(),
                        // Counted from before the call: the reply of a frozen replica may be of any age.
                        until: asked + TTL.mul_f64(0.95).saturating_sub(MARGIN),
                    };
                    // At the very end there are no receivers left.
                    drop(self.issued.send(issued));
                }
                Err(status) => assert!(is_timeout(&status, freezes), "{status:?}"),
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Validates every token as soon as it is issued, and older valid ones too.
    async fn validate(self: Arc<Self>, caller: Caller, freezes: bool, mut issued: broadcast::Receiver<Issued>) {
        let mut valid: Vec<Issued> = Vec::new();
        let mut older = 0_usize;
        while self.runs() {
            let Ok(new) = tokio::time::timeout(Duration::from_millis(200), issued.recv()).await else {
                continue;
            };
            valid.push(new.expect("the channel loses no token"));
            valid.retain(|token| token.until > Instant::now());
            older = older.wrapping_add(7919);
            let asked = [valid.len().checked_sub(1), older.checked_rem(valid.len())];
            for index in asked.into_iter().flatten() {
                let Some(Issued { token, until }) = valid.get(index).cloned() else {
                    continue;
                };
                let answer = caller.validate(&token).await;
                self.validations.fetch_add(1, Ordering::Relaxed);
                match answer {
                    Ok(answer) if answer.active => {}
                    // The replica was frozen for so long that the token expired.
                    Ok(_) if Instant::now() > until + MARGIN => {}
                    Ok(answer) => panic!("a valid token is rejected: {:?}, kid {}", answer.reason(), kid(&token)),
                    Err(status) => assert!(is_timeout(&status, freezes), "{status:?}"),
                }
            }
        }
    }

    /// Checks the keys in the database and through `ListKeys` while the load runs.
    async fn observe(
        self: Arc<Self>,
        database: Arc<Database>,
        keys: [Keys; 2],
        mut issued: broadcast::Receiver<Issued>,
    ) {
        let mut valid: Vec<Issued> = Vec::new();
        while self.runs() {
            while let Ok(new) = issued.try_recv() {
                valid.push(new);
            }
            valid.retain(|token| token.until > Instant::now());
            let stored = database.rows("SELECT id, state FROM signing_keys").await;
            let state = |id: &str| {
                let row = stored.iter().find(|row| row[0].as_deref() == Some(id));
                row.and_then(|row| row[1].clone())
                    .unwrap_or_else(|| "removed".to_owned())
            };
            let active = stored.iter().filter(|row| row[1].as_deref() == Some("active")).count();
            assert_eq!(active, 1, "{stored:?}");
            for token in &valid {
                let state = state(&kid(&token.token));
                assert!(
                    ["active", "retired"].contains(&state.as_str()),
                    "a key of valid tokens is {state}"
                );
            }
            for keys in &keys {
                let listed = keys.list().await.expect("ListKeys succeeds");
                let active = listed.iter().filter(|key| key.state() == KeyState::Active).count();
                assert_eq!(active, 1, "{listed:?}");
            }
            self.observations.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether this is a timeout of the caller, the replica or its stores. Timeouts of the last two are accepted only
/// where a replica froze.
fn is_timeout(status: &tonic::Status, freezes: bool) -> bool {
    matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) || (freezes && status.code() == Code::Unavailable)
}

async fn rotating_every_two_seconds() -> Deployment {
    Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("keys.rotation_period", "2s")
        .set("keys.prepublish", "1s")
        .set("keys.jwks_max_age", "1s")
        .set("tokens.access_ttl", &format!("{}s", TTL.as_secs()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_valid_token_is_rejected_while_keys_rotate_and_a_replica_freezes() {
    let seconds = std::env::var_os("COUNTERSIGN_TEST_ROTATION_SECONDS")
        .map_or(SECONDS, |text| text.to_str().unwrap().parse().unwrap());
    let deployment = rotating_every_two_seconds().await;
    deployment.add_user("ada", &[]);
    let replicas: [Countersign; 3] = std::array::from_fn(|_| deployment.serve());
    let database = Arc::new(deployment.database.unwrap());
    let state = Arc::new(SharedState {
        running: AtomicBool::new(true),
        issued: broadcast::channel(1 << 16).0,
        logins: AtomicU64::new(0),
        validations: AtomicU64::new(0),
        observations: AtomicU64::new(0),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for (index, replica) in replicas.iter().enumerate() {
        // Each validator subscribes before the first token is issued.
        tasks.spawn(Arc::clone(&state).validate(Caller::of(replica), index == 2, state.issued.subscribe()));
    }
    let keys = [Keys::of(&replicas[0]), Keys::of(&replicas[1])];
    tasks.spawn(Arc::clone(&state).observe(Arc::clone(&database), keys, state.issued.subscribe()));
    for (index, replica) in replicas.iter().enumerate() {
        tasks.spawn(Arc::clone(&state).issue(Caller::of(replica), index == 2));
    }

    // Frozen twice. In the long run a freeze is longer than the 10 s that the others wait for this replica, so it
    // falls behind them.
    let [_, _, mut frozen] = replicas;
    let part = Duration::from_secs(seconds) / 5;
    let mut freezing = Duration::ZERO;
    for _ in 0..2 {
        sleep(part).await;
        frozen.signal(Signal::SIGSTOP);
        let freeze = (part * 5 / 4).min(Duration::from_secs(14));
        sleep(freeze).await;
        frozen.signal(Signal::SIGCONT);
        freezing += freeze;
        let caller = Caller::of(&frozen);
        eventually("the frozen replica serves again", Duration::from_secs(10), || async {
            caller.issue("ada", crate::support::PASSWORD).await.ok()
        })
        .await;
    }
    sleep(part / 2).await;
    state.running.store(false, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the task succeeds");
    }

    let activated = database
        .rows("SELECT activated::text FROM signing_keys WHERE activated IS NOT NULL ORDER BY activated")
        .await;
    let activated: Vec<i64> = activated
        .iter()
        .map(|row| row[0].as_ref().unwrap().parse().unwrap())
        .collect();
    let rotations = activated.len() - 1;
    println!(
        "{rotations} rotations in {seconds} s (one replica frozen for {freezing:?} of them): {} logins, {} validations, \
         {} checks of the keys; no valid token rejected",
        state.logins.load(Ordering::Relaxed),
        state.validations.load(Ordering::Relaxed),
        state.observations.load(Ordering::Relaxed),
    );
    assert!(rotations >= 2, "{activated:?}");
    // Three replicas want to rotate at the same time, and exactly one does.
    let period = i64::try_from(PERIOD.as_millis()).unwrap();
    assert!(
        activated.windows(2).all(|pair| pair[1] - pair[0] >= period),
        "{activated:?}"
    );
    let said = "SELECT count(*)::text FROM audit_events WHERE kind = 'key.activated'";
    assert_eq!(database.scalar(said).await, rotations.to_string());
    let pending = "SELECT count(*)::text FROM signing_keys WHERE state = 'pending'";
    eventually("there is one standby key", Duration::from_secs(10), || async {
        (database.scalar(pending).await == "1").then_some(())
    })
    .await;
    assert!(!frozen.log().contains("panicked"), "{}", frozen.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_or_rotate_at_once_create_one_key() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    let started = (0..2).map(|_| {
        let storage = deployment.storage.clone();
        spawn_blocking(move || storage.serve(&[]))
    });
    let started: Vec<Countersign> = futures_util::future::try_join_all(started).await.unwrap();
    let keys: Vec<Keys> = started.iter().map(Keys::of).collect();
    let database = deployment.database.unwrap();
    let mut known = keys[0].list().await.unwrap().len();
    assert_eq!(known, 2, "one active and one pending key");

    for round in 0..20 {
        let before = keys[0].active().await;
        let (one, other) = tokio::join!(keys[0].rotate(true), keys[1].rotate(true));
        let (one, other) = (one.unwrap(), other.unwrap());
        let now = keys[0].active().await;
        assert_ne!(now, before);
        // If both rotations were concurrent, one won and both return its key. If they ran one after the other, the
        // second rotated again; the first returns the key of the second if that was faster than its answer.
        let made = keys[0].list().await.unwrap().len() - known;
        let distinct = if one.key_id == other.key_id { 1 } else { 2 };
        assert!(
            (distinct..=2).contains(&made),
            "round {round}: {made} made, {one:?} {other:?}"
        );
        assert!([&one.key_id, &other.key_id].contains(&&now), "{one:?} {other:?}");
        known += made;
        for keys in &keys {
            assert_eq!(keys.active().await, now);
            assert_eq!(keys.in_state(KeyState::Pending).await.len(), 1);
        }
    }
    let twice = "SELECT count(*)::text FROM signing_keys WHERE state = 'active'";
    assert_eq!(database.scalar(twice).await, "1");
}
