//! Announcements: what is said is heard, and what may have been missed is told of.

use std::time::Duration;

use countersign::model::{Revocation, SessionId, Target};
use countersign::secret::SystemEntropy;
use countersign::store::{Announcements as _, Heard};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{POOL, connected, server};
use crate::sessions::world::now;
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

/// A listener that is past its first gap.
pub struct Ear(mpsc::Receiver<Heard>);

impl Ear {
    pub async fn new(receiver: mpsc::Receiver<Heard>) -> Self {
        let mut ear = Self(receiver);
        ear.gap("the first thing heard is that something may have been missed")
            .await;
        ear
    }

    async fn next(&mut self) -> Heard {
        timeout(Duration::from_secs(10), self.0.recv())
            .await
            .expect("something is heard")
            .expect("the reader lives")
    }

    pub async fn revocations(&mut self) -> Vec<Revocation> {
        match self.next().await {
            Heard::Revocations(revocations) => revocations,
            Heard::Gap => panic!("a gap"),
        }
    }

    /// Waits for a gap; what is heard before it is of no interest.
    pub async fn gap(&mut self, why: &str) {
        while let Heard::Revocations(_) = timeout(Duration::from_secs(10), self.next()).await.expect(why) {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_heard_by_all_in_order() {
    let server = server(&[]).await;
    let (one, other) = (connected(&server).await, connected(&server).await);
    let mut ears = [Ear::new(one.listen()).await, Ear::new(other.listen()).await];
    let said: Vec<_> = (0..300).map(|_| revocation()).collect();
    one.announce(&said).await.unwrap();
    other.announce(&[]).await.unwrap();
    for ear in &mut ears {
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            heard.extend(ear.revocations().await);
        }
        assert_eq!(heard, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_stream_is_a_gap() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let mut ear = Ear::new(store.listen()).await;
    let say = async || {
        let said = revocation();
        store.announce(std::slice::from_ref(&said)).await.unwrap();
        said
    };
    let said = say().await;
    assert_eq!(ear.revocations().await, [said]);

    server.command(&["DEL", STREAM]);
    ear.gap("deleted").await;
    let said = say().await;
    assert_eq!(ear.revocations().await, [said]);

    server.command(&["FLUSHALL"]);
    say().await;
    ear.gap("deleted and begun again").await;

    // Two at once, the first trimmed away before anybody could read it.
    let script = "redis.call('XADD', KEYS[1], '*', 'a', 'b') redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)";
    server.command(&["EVAL", script, "1", STREAM]);
    ear.gap("trimmed").await;

    server.command(&["XADD", STREAM, "*", "message", r#"{"v":2}"#]);
    ear.gap("of a later version").await;

    // A snapshot from before the place that was reached: the ids begin below it.
    server.command(&["DEL", STREAM]);
    server.command(&["XADD", STREAM, "5-1", "after", "0-0", "message", "x"]);
    ear.gap("older").await;
    let said = say().await;
    assert_eq!(ear.revocations().await, [said]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_a_gap_and_what_follows_is_heard() {
    let mut server = server(&["--appendonly", "yes"]).await;
    let store = connected(&server).await;
    let mut ear = Ear::new(store.listen()).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    ear.gap("the connection was killed").await;
    server.kill();
    server.launch();
    ear.gap("the server was restarted").await;
    let said = eventually("it can be announced again", super::RECOVERY, || async {
        let said = revocation();
        store.announce(std::slice::from_ref(&said)).await.ok().map(|()| said)
    })
    .await;
    loop {
        if let Heard::Revocations(heard) = ear.next().await
            && heard.contains(&said)
        {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_a_gap_once_it_is_thawed() {
    let mut server = server(&[]).await;
    let store = connected(&server).await;
    let mut ear = Ear::new(store.listen()).await;
    server.freeze();
    // Longer than a read may take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.thaw();
    ear.gap("it was silent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_lags_is_told_and_holds_up_nobody() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let lagging = store.listen();
    let mut attentive = Ear::new(store.listen()).await;
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
    let mut lagging = Ear::new(lagging).await;
    lagging.gap("more was said than it has room for").await;
    let said = revocation();
    store.announce(std::slice::from_ref(&said)).await.unwrap();
    assert_eq!(lagging.revocations().await, [said]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_its_connections_along() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let connected = async |count: usize| {
        eventually("so many connections are open", Duration::from_secs(10), || async {
            let open = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count();
            // One is that of the question.
            (open == count + 1).then_some(())
        })
        .await;
    };
    connected(POOL).await;
    let ear = Ear::new(store.listen()).await;
    connected(POOL + 1).await;
    drop(ear);
    connected(POOL).await;
    drop(store);
    connected(0).await;
}
