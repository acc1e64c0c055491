//! `WatchRevocations` for those who come, go, come back elsewhere, or are too slow.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, SystemClock, UnixMillis};
use countersign::model::{ErrorKind, Revocation, SessionId, Target as Revoked};
use countersign::proto::WatchRevocationsRequest;
use countersign::proto::revoke_request::Target;
use countersign::proto::watch_revocations_response::Message;
use countersign::revocation::{Feed, FeedConfig, OnStale, Watch, Watched};
use countersign::secret::SystemEntropy;
use countersign::store::sqlite::{Database, Mode, SqliteStore};
use nix::sys::signal::Signal;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::support::{Caller, Fleet, assert_refused};

/// Everything that is told up to the first heartbeat for which `enough`.
async fn listen(
    caller: &Caller,
    resume: &str,
    enough: impl Fn(&Heard) -> bool,
) -> Result<(Heard, tonic::Streaming<countersign::proto::WatchRevocationsResponse>), Status> {
    let request = WatchRevocationsRequest {
        resume_token: resume.to_owned(),
    };
    let mut stream = caller.tokens.clone().watch_revocations(request).await?.into_inner();
    let mut heard = Heard::default();
    heard.on(&mut stream, enough).await?;
    Ok((heard, stream))
}

#[derive(Debug, Default)]
struct Heard {
    /// The ids of the snapshot.
    snapshot: HashSet<String>,
    /// Whether it came to its end.
    whole: bool,
    /// The ids of events.
    events: HashSet<String>,
    /// The key ids of each key set.
    keys: Vec<Vec<String>>,
    /// The newest resume token.
    resume: String,
    heartbeats: usize,
    /// The age of the newest heartbeat.
    age: i64,
}

impl Heard {
    async fn on(
        &mut self,
        stream: &mut tonic::Streaming<countersign::proto::WatchRevocationsResponse>,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), Status> {
        let listening = async {
            loop {
                let message = stream.message().await?.expect("it goes on");
                match message.message.expect("a message") {
                    Message::Snapshot(part) => {
                        self.snapshot.extend(part.revocations.into_iter().map(|r| r.id));
                        self.whole |= part.last;
                    }
                    Message::Event(revocation) => {
                        self.events.insert(revocation.id);
                    }
                    Message::Keys(set) => self.keys.push(set.keys.into_iter().map(|key| key.key_id).collect()),
                    Message::Heartbeat(beat) => {
                        let millis = |at: Option<prost_types::Timestamp>| {
                            let at = at.expect("it is set");
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
        waited.unwrap_or_else(|_| panic!("not told: {self:?}"))
    }
}

async fn session(caller: &Caller) -> String {
    caller.login("ada").await.session_id
}

async fn revoke(caller: &Caller, id: &str) {
    caller.revoke(Target::SessionId(id.to_owned())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_goes_on_at_another_replica_where_it_left_off() {
    let mut fleet = Fleet::start(&[], &[]).await;
    let callers = fleet.callers();
    let known = session(&callers[0]).await;
    revoke(&callers[0], &known).await;

    let (mut heard, mut stream) = listen(&callers[0], "", |heard| heard.whole).await.unwrap();
    assert!(heard.snapshot.contains(&known), "{heard:?}");
    assert_eq!(heard.keys.len(), 1, "the keys come first, once");
    let told = session(&callers[1]).await;
    revoke(&callers[1], &told).await;
    heard
        .on(&mut stream, |heard| heard.events.contains(&told))
        .await
        .unwrap();
    drop(stream);

    // What was missed, from another replica, and nothing from the start.
    let missed = [session(&callers[1]).await, session(&callers[1]).await];
    for id in &missed {
        revoke(&callers[2], id).await;
    }
    for caller in &callers {
        let (again, _) = listen(caller, &heard.resume, |heard| heard.heartbeats > 0)
            .await
            .unwrap();
        assert!(again.snapshot.is_empty() && !again.whole, "{again:?}");
        assert!(missed.iter().all(|id| again.events.contains(id)), "{again:?}");
        assert!(!again.events.contains(&known), "{again:?}");
    }

    // Postgres on another timeline: what the token stood for is no more, and all of it is told again.
    let (postgres, data) = (&mut fleet.postgres, "data/recovery.signal");
    tokio::task::block_in_place(|| {
        postgres.stop(Signal::SIGINT);
        std::fs::write(postgres.folder().join(data), "").unwrap();
        postgres.launch();
    });
    for caller in &callers {
        let anew = crate::support::eventually("it can be watched again", Duration::from_secs(30), || async {
            listen(caller, &heard.resume, |heard| heard.heartbeats > 0).await.ok()
        });
        let (anew, _) = anew.await;
        assert!(anew.whole, "{anew:?}");
        for id in missed.iter().chain([&known, &told]) {
            assert!(anew.snapshot.contains(id), "{id} {anew:?}");
        }
    }
    for bad in ["garbage", "p1.1.00000001.5.742:741:", "\u{0}", &"1".repeat(9_000)] {
        let refused = listen(&callers[0], bad, |_| true).await.map(drop);
        assert_refused(refused, Code::InvalidArgument, "RESUME_TOKEN_INVALID");
    }
    fleet.assert_calm();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_keys_and_of_how_old_everything_is() {
    let fleet = Fleet::start(&[], &[]).await;
    let callers = fleet.callers();
    let (mut heard, mut stream) = listen(&callers[0], "", |heard| heard.whole).await.unwrap();
    fleet.run(&["key", "rotate", "--force"]).await;
    heard
        .on(&mut stream, |heard| heard.keys.last() != heard.keys.first())
        .await
        .unwrap();

    // Without Postgres it is still told each second what is known, and that this grows old.
    let beats = heard.heartbeats;
    fleet.replicas[0].to_postgres.set(crate::support::proxy::Weather::Cut);
    heard
        .on(&mut stream, |heard| heard.age > 4_000 && heard.heartbeats > beats + 3)
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
async fn who_is_too_slow_is_sent_away_and_nobody_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = SqliteStore::new(Database::open(folder.path(), Mode::Serve, clock.clone()).unwrap());
    let feed = Feed::new(
        clock.clone(),
        FeedConfig {
            reconcile_interval: Duration::from_secs(1),
            max_staleness: Duration::from_mins(10),
            on_stale: OnStale::FailClosed,
            timeout: Duration::from_secs(10),
        },
    );
    let early = Watch::start(feed.clone(), &store, "").await.map(drop);
    assert_eq!(
        early.unwrap_err().kind,
        ErrorKind::RevocationsStale,
        "nothing is loaded yet"
    );
    feed.reconcile(&store).await.unwrap();

    let mut slow = Watch::start(feed.clone(), &store, "").await.unwrap();
    let mut quick = Watch::start(feed.clone(), &store, "").await.unwrap();
    // One item more than the buffer holds.
    for _ in 0..=16_384 {
        feed.note(&revocation(clock.now()));
        loop {
            match quick.next(&*clock).await.unwrap() {
                Watched::Event(_) => break,
                Watched::Snapshot { .. } | Watched::Keys | Watched::Heartbeat { .. } => {}
            }
        }
    }
    let ended = loop {
        match slow.next(&*clock).await {
            Ok(Watched::Event(_)) => panic!("it has missed the first"),
            Ok(Watched::Snapshot { .. } | Watched::Keys | Watched::Heartbeat { .. }) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind, ErrorKind::Overloaded);
    // It may come again, and has missed nothing then.
    let mut again = Watch::start(feed.clone(), &store, "").await.unwrap();
    let mut rows = 0;
    while rows <= 16_384 {
        if let Watched::Snapshot { rows: some, last } = again.next(&*clock).await.unwrap() {
            rows += some.len();
            assert!(!last || rows == 16_385, "{rows}");
        }
    }
}
