//! Announcements: every listener receives them in order, and is told of a gap if it may have missed some.

use std::time::Duration;

use countersign::model::{Revocation, SessionId, Target};
use countersign::secret::SystemEntropy;
use countersign::store::{AnnouncementEvent, Announcements as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{POOL, connected, server};
use crate::sessions::backends::now;
use crate::support::eventually;

const STREAM: &str = "cs:revocations";

pub fn revocation() -> Revocation {
    let now = now();
    Revocation {
        target: Target::Session(SessionId::generate(now, &SystemEntropy)),
        epoch: 0,
        expires: now.plus(Duration::from_hours(1)),
        revoked: now,
    }
}

/// A listener that has received its first gap.
pub struct StreamListener(mpsc::Receiver<AnnouncementEvent>);

impl StreamListener {
    pub async fn new(receiver: mpsc::Receiver<AnnouncementEvent>) -> Self {
        let mut listener = Self(receiver);
        listener.gap("the first event is a gap").await;
        listener
    }

    async fn next(&mut self) -> AnnouncementEvent {
        timeout(Duration::from_secs(10), self.0.recv())
            .await
            .expect("an event arrives")
            .expect("the reader runs")
    }

    pub async fn revocations(&mut self) -> Vec<Revocation> {
        match self.next().await {
            AnnouncementEvent::Revocations(revocations) => revocations,
            AnnouncementEvent::Gap => panic!("a gap"),
        }
    }

    /// Waits for a gap and ignores the revocations before it.
    pub async fn gap(&mut self, why: &str) {
        while let AnnouncementEvent::Revocations(_) = timeout(Duration::from_secs(10), self.next()).await.expect(why) {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_receives_all_announcements_in_order() {
    let server = server(&[]).await;
    let (one, other) = (connected(&server).await, connected(&server).await);
    let mut listeners = [
        StreamListener::new(one.listen()).await,
        StreamListener::new(other.listen()).await,
    ];
    let announced: Vec<_> = (0..300).map(|_| revocation()).collect();
    one.announce(&announced).await.unwrap();
    other.announce(&[]).await.unwrap();
    for listener in &mut listeners {
        let mut heard = Vec::new();
        while heard.len() < announced.len() {
            heard.extend(listener.revocations().await);
        }
        assert_eq!(heard, announced);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_the_stream_is_a_gap() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let mut listener = StreamListener::new(store.listen()).await;
    let announce = async || {
        let announced = revocation();
        store.announce(std::slice::from_ref(&announced)).await.unwrap();
        announced
    };
    let announced = announce().await;
    assert_eq!(listener.revocations().await, [announced]);

    server.command(&["DEL", STREAM]);
    listener.gap("deleted").await;
    let announced = announce().await;
    assert_eq!(listener.revocations().await, [announced]);

    server.command(&["FLUSHALL"]);
    announce().await;
    listener.gap("deleted and begun again").await;

    // Two messages at once, the first of which is trimmed before a reader gets it.
    let script = "redis.call('XADD', KEYS[1], '*', 'a', 'b') redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)";
    server.command(&["EVAL", script, "1", STREAM]);
    listener.gap("trimmed").await;

    server.command(&["XADD", STREAM, "*", "message", r#"{"v":2}"#]);
    listener.gap("of a later version").await;

    // An older snapshot: its ids are below the last id that was read.
    server.command(&["DEL", STREAM]);
    server.command(&["XADD", STREAM, "5-1", "after", "0-0", "message", "x"]);
    listener.gap("older").await;
    let announced = announce().await;
    assert_eq!(listener.revocations().await, [announced]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_a_gap_and_later_announcements_arrive() {
    let mut server = server(&["--appendonly", "yes"]).await;
    let store = connected(&server).await;
    let mut listener = StreamListener::new(store.listen()).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    listener.gap("the connection was killed").await;
    server.kill();
    server.launch();
    listener.gap("the server was restarted").await;
    let announced = eventually("announcements work again", super::RECOVERY, || async {
        let announced = revocation();
        store
            .announce(std::slice::from_ref(&announced))
            .await
            .ok()
            .map(|()| announced)
    })
    .await;
    loop {
        if let AnnouncementEvent::Revocations(heard) = listener.next().await
            && heard.contains(&announced)
        {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_a_gap_when_it_resumes() {
    let mut server = server(&[]).await;
    let store = connected(&server).await;
    let mut listener = StreamListener::new(store.listen()).await;
    server.freeze();
    // Longer than a read may take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.thaw();
    listener.gap("Redis was silent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_gets_a_gap_and_delays_no_other() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let lagging = store.listen();
    let mut attentive = StreamListener::new(store.listen()).await;
    let last = revocation();
    let awaited = last.clone();
    let all = tokio::spawn(async move { while !attentive.revocations().await.contains(&awaited) {} });
    while lagging.len() < lagging.max_capacity() {
        store.announce(&[revocation()]).await.unwrap();
    }
    for _ in 0..10 {
        store.announce(&[revocation()]).await.unwrap();
    }
    store.announce(&[last]).await.unwrap();
    all.await.unwrap();
    let mut lagging = StreamListener::new(lagging).await;
    lagging.gap("there were more events than its buffer holds").await;
    let announced = revocation();
    store.announce(std::slice::from_ref(&announced)).await.unwrap();
    assert_eq!(lagging.revocations().await, [announced]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_listeners_and_stores_close_their_connections() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let connected = async |count: usize| {
        eventually(
            "this number of connections is open",
            Duration::from_secs(10),
            || async {
                let open = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count();
                // One more is the connection of this command.
                (open == count + 1).then_some(())
            },
        )
        .await;
    };
    connected(POOL).await;
    let listener = StreamListener::new(store.listen()).await;
    connected(POOL + 1).await;
    drop(listener);
    connected(POOL).await;
    drop(store);
    connected(0).await;
}
