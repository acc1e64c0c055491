//! `WatchRevocations` for watchers that disconnect, resume at another replica, or read too slowly.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, SystemClock, UnixMillis};
use countersign::config::{OnStale, Revocation as RevocationConfig};
use countersign::model::{ErrorKind, Revocation, SessionId, Target as Revoked};
use countersign::proto::WatchRevocationsRequest;
use countersign::proto::revoke_request::Target;
use countersign::proto::watch_revocations_response::Message;
use countersign::revocation::{Feed, Watch, WatchEvent};
use countersign::secret::SystemEntropy;
use countersign::store::sqlite::{Database, Mode};
use nix::sys::signal::Signal;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::support::{Caller, Fleet, assert_refused};

/// Watches until the first heartbeat at which `enough` holds, and returns everything received.
async fn watch(
    caller: &Caller,
    resume: &str,
    enough: impl Fn(&Received) -> bool,
) -> Result<(Received, tonic::Streaming<countersign::proto::WatchRevocationsResponse>), Status> {
    let request = WatchRevocationsRequest {
        resume_token: resume.to_owned(),
    };
    let mut stream = caller.tokens.clone().watch_revocations(request).await?.into_inner();
    let mut received = Received::default();
    received.read(&mut stream, enough).await?;
    Ok((received, stream))
}

#[derive(Debug, Default)]
struct Received {
    /// The ids in the snapshot.
    snapshot: HashSet<String>,
    /// Whether the snapshot was complete.
    snapshot_complete: bool,
    /// The ids in events.
    events: HashSet<String>,
    /// The key ids of each key set.
    keys: Vec<Vec<String>>,
    /// The newest resume token.
    resume: String,
    heartbeats: usize,
    /// How old the data was at the newest heartbeat, in milliseconds.
    age: i64,
}

impl Received {
    async fn read(
        &mut self,
        stream: &mut tonic::Streaming<countersign::proto::WatchRevocationsResponse>,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), Status> {
        let listening = async {
            loop {
                let message = stream.message().await?.expect("the stream is open");
                match message.message.expect("a message") {
                    Message::Snapshot(part) => {
                        self.snapshot.extend(part.revocations.into_iter().map(|r| r.id));
                        self.snapshot_complete |= part.last;
                    }
                    Message::Event(revocation) => {
                        self.events.insert(revocation.id);
                    }
                    Message::Keys(set) => self.keys.push(set.keys.into_iter().map(|key| key.key_id).collect()),
                    Message::Heartbeat(beat) => {
                        let millis = |at: Option<prost_types::Timestamp>| {
                            let at = at.expect("the timestamp is set");
                            at.seconds * 1000 + i64::from(at.nanos) / 1_000_000
                        };
                        self.age = millis(beat.now) - millis(beat.as_of);
                        self.resume = beat.resume_token;
                        self.heartbeats += 1;
                        if enough(self) {
                            return Ok(());
                        }
                    }
                }
            }
        };
        let waited = timeout(Duration::from_secs(30), listening).await;
        waited.unwrap_or_else(|_| panic!("timed out: {self:?}"))
    }
}

async fn session(caller: &Caller) -> String {
    caller.login("ada").await.session_id
}

async fn revoke(caller: &Caller, id: &str) {
    caller.revoke(Target::SessionId(id.to_owned())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_resumes_at_another_replica_where_it_left_off() {
    let mut fleet = Fleet::start(&[], &[]).await;
    let callers = fleet.callers();
    let known = session(&callers[0]).await;
    revoke(&callers[0], &known).await;

    let (mut received, mut stream) = watch(&callers[0], "", |received| received.snapshot_complete)
        .await
        .unwrap();
    assert!(received.snapshot.contains(&known), "{received:?}");
    assert_eq!(received.keys.len(), 1, "the key set comes first, once");
    let announced = session(&callers[1]).await;
    revoke(&callers[1], &announced).await;
    received
        .read(&mut stream, |received| received.events.contains(&announced))
        .await
        .unwrap();
    drop(stream);

    // Another replica sends what was missed, and not the whole snapshot again.
    let missed = [session(&callers[1]).await, session(&callers[1]).await];
    for id in &missed {
        revoke(&callers[2], id).await;
    }
    for caller in &callers {
        let (again, _) = watch(caller, &received.resume, |received| received.heartbeats > 0)
            .await
            .unwrap();
        assert!(again.snapshot.is_empty() && !again.snapshot_complete, "{again:?}");
        assert!(missed.iter().all(|id| again.events.contains(id)), "{again:?}");
        assert!(!again.events.contains(&known), "{again:?}");
    }

    // Postgres is on another timeline: the resume token is outdated, and the whole snapshot is sent again.
    let (postgres, data) = (&mut fleet.postgres, "data/recovery.signal");
    tokio::task::block_in_place(|| {
        postgres.stop(Signal::SIGINT);
        std::fs::write(postgres.folder().join(data), "").unwrap();
        postgres.launch();
    });
    for caller in &callers {
        let restarted =
            crate::support::eventually("the watcher can connect again", Duration::from_secs(30), || async {
                watch(caller, &received.resume, |received| received.heartbeats > 0)
                    .await
                    .ok()
            });
        let (restarted, _) = restarted.await;
        assert!(restarted.snapshot_complete, "{restarted:?}");
        for id in missed.iter().chain([&known, &announced]) {
            assert!(restarted.snapshot.contains(id), "{id} {restarted:?}");
        }
    }
    for bad in ["garbage", "p1.1.00000001.5.742:741:", "\u{0}", &"1".repeat(9_000)] {
        let refused = watch(&callers[0], bad, |_| true).await.map(drop);
        assert_refused(refused, Code::InvalidArgument, "RESUME_TOKEN_INVALID");
    }
    fleet.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_receives_key_sets_and_the_age_of_its_data() {
    let fleet = Fleet::start(&[], &[]).await;
    let callers = fleet.callers();
    let (mut received, mut stream) = watch(&callers[0], "", |received| received.snapshot_complete)
        .await
        .unwrap();
    fleet.run(&["key", "rotate", "--force"]).await;
    received
        .read(&mut stream, |received| received.keys.last() != received.keys.first())
        .await
        .unwrap();

    // Without Postgres the watcher still gets a heartbeat each second, which shows that the data grows older.
    let beats = received.heartbeats;
    fleet.replicas[0].to_postgres.set(crate::support::proxy::LinkState::Cut);
    received
        .read(&mut stream, |received| {
            received.age > 4_000 && received.heartbeats > beats + 3
        })
        .await
        .unwrap();
}

fn revocation(now: UnixMillis) -> Revocation {
    Revocation {
        target: Revoked::Session(SessionId::generate(now, &SystemEntropy)),
        epoch: 0,
        expires: now.plus(Duration::from_hours(1)),
        revoked: now,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_is_disconnected_and_the_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Database::open(folder.path(), Mode::Serve, clock.clone()).unwrap();
    let feed = Feed::new(
        clock.clone(),
        Arc::new(SystemEntropy),
        RevocationConfig {
            reconcile_interval: Duration::from_secs(1),
            max_staleness: Duration::from_mins(10),
            on_stale: OnStale::FailClosed,
        },
    );
    let early = Watch::start(feed.clone(), &store, "").await.map(drop);
    assert_eq!(
        early.unwrap_err().kind,
        ErrorKind::RevocationsStale,
        "no revocations are loaded yet"
    );
    feed.reconcile(&store).await.unwrap();

    let mut slow = Watch::start(feed.clone(), &store, "").await.unwrap();
    let mut quick = Watch::start(feed.clone(), &store, "").await.unwrap();
    // One item more than the buffer holds.
    for _ in 0..=16_384 {
        feed.note(&revocation(clock.now()));
        loop {
            match quick.next(&*clock).await.unwrap() {
                WatchEvent::Revocation(_) => break,
                WatchEvent::Snapshot { .. } | WatchEvent::Keys | WatchEvent::Heartbeat { .. } => {}
            }
        }
    }
    let ended = loop {
        match slow.next(&*clock).await {
            Ok(WatchEvent::Revocation(_)) => panic!("the slow watcher received an event after it missed one"),
            Ok(WatchEvent::Snapshot { .. } | WatchEvent::Keys | WatchEvent::Heartbeat { .. }) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind, ErrorKind::Overloaded);
    // It may connect again, and then gets everything.
    let mut again = Watch::start(feed.clone(), &store, "").await.unwrap();
    let mut rows = 0;
    while rows <= 16_384 {
        if let WatchEvent::Snapshot { rows: some, last } = again.next(&*clock).await.unwrap() {
            rows += some.len();
            assert!(!last || rows == 16_385, "{rows}");
        }
    }
}
