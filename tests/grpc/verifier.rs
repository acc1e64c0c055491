//! The verifier of the client library, with a service that sends what a test wants.

use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Client, Credential, Verifier, VerifierConfig};
use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::watch_revocations_response::Message;
use countersign::proto::{Heartbeat, KeySet, Revocation, RevocationList, WatchRevocationsResponse};
use futures_util::stream::{self, StreamExt as _};

use crate::server::{Feed, Server, ServerSettings};

const SOON: Duration = Duration::from_secs(30);

/// A verifier that follows a service with this feed.
async fn verifier(feed: Feed) -> (Verifier, Server) {
    let server = Server::start(ServerSettings::default()).await;
    *server.observed.feed.lock().unwrap() = Some(feed);
    let client = Client::builder(format!("http://{}", server.address))
        .credential(Credential::Token("fading".into()))
        .connect_lazy()
        .unwrap();
    (Verifier::start(client, VerifierConfig::new("https://test")), server)
}

fn heartbeat() -> Message {
    let now = SystemClock::new().now();
    let now = prost_types::Timestamp {
        seconds: now.secs(),
        nanos: 0,
    };
    Message::Heartbeat(Heartbeat {
        as_of: Some(now),
        resume_token: "here".into(),
        now: Some(now),
    })
}

/// Of a level that this version does not know.
fn unreadable() -> Revocation {
    Revocation {
        level: 99,
        id: "a-future-thing".into(),
        ..Revocation::default()
    }
}

fn snapshot(rows: Vec<Revocation>, last: bool) -> Message {
    Message::Snapshot(RevocationList {
        revocations: rows,
        last,
    })
}

/// Sends each message after a pause of this length, then a heartbeat again and again.
fn every(pause: Duration, messages: Vec<Message>) -> stream::BoxStream<'static, WatchRevocationsResponse> {
    let repeated = stream::repeat_with(heartbeat);
    stream::iter(messages)
        .chain(repeated)
        .then(move |message| async move {
            tokio::time::sleep(pause).await;
            WatchRevocationsResponse { message: Some(message) }
        })
        .boxed()
}

/// Waits until the verifier has local knowledge, or until it has none.
async fn until_local(verifier: &Verifier, is_local: bool) {
    let waiting = async {
        while verifier.staleness().is_some() != is_local {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "local knowledge: expected {is_local}");
}

#[tokio::test]
async fn a_revocation_that_cannot_be_read_ends_local_answers() {
    let feed: Feed = Arc::new(|resume: &str| {
        let pause = Duration::from_millis(20);
        if resume.is_empty() {
            let good = vec![
                Message::Keys(KeySet::default()),
                snapshot(Vec::new(), true),
                heartbeat(),
            ];
            let later = (0..20).map(|_| heartbeat()).chain([Message::Event(unreadable())]);
            every(pause, good.into_iter().chain(later).collect())
        } else {
            every(
                pause,
                vec![Message::Keys(KeySet::default()), Message::Event(unreadable())],
            )
        }
    });
    let (verifier, _server) = verifier(feed).await;
    until_local(&verifier, true).await;
    until_local(&verifier, false).await;
    assert!(verifier.verify_local("any", "", &[]).is_none());
    // The next stream begins with it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(verifier.staleness().is_none());
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_gives_no_local_answers() {
    let feed: Feed = Arc::new(|_: &str| {
        let rows = snapshot(vec![unreadable()], true);
        every(Duration::from_millis(5), vec![Message::Keys(KeySet::default()), rows])
    });
    let (verifier, _server) = verifier(feed).await;
    // Long enough for several heartbeats.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!verifier.is_ready());
}

/// The whole process stands still, the service of this test as well: each pause is longer than the interval of heartbeats.
#[tokio::test]
async fn a_verifier_that_pauses_often_completes_its_first_snapshot() {
    let feed: Feed = Arc::new(|resume: &str| {
        if !resume.is_empty() {
            return every(Duration::from_millis(5), vec![Message::Keys(KeySet::default())]);
        }
        let parts = (0..10).map(|n| snapshot(Vec::new(), n == 9));
        every(
            Duration::from_millis(200),
            [Message::Keys(KeySet::default())].into_iter().chain(parts).collect(),
        )
    });
    let (verifier, _server) = verifier(feed).await;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if verifier.is_ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1_100));
    }
    panic!("the first snapshot is not complete");
}
