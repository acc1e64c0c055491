//! The promise of a heartbeat: every revocation that was acknowledged before it has been sent to the watchers.

use std::sync::Arc;

use countersign::clock::UnixMillis;
use countersign::model::{Revocation, SessionId, Target};
use loom::thread;
use uuid::Uuid;

use super::index::Index;
use super::publishing::Publishing;
use super::sync::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Revocation,
    Heartbeat,
}

/// A feed with one watcher, as `Feed` is made of these parts.
#[derive(Default)]
struct Feed {
    index: Index,
    publishing: Publishing,
    watcher: Mutex<Vec<Event>>,
}

impl Feed {
    fn note(&self, revocation: &Revocation) {
        let tell = || self.watcher.lock().push(Event::Revocation);
        self.publishing.publish(|| self.index.insert(revocation), tell);
    }
}

/// The reconciliation and the announcement bring the same revocation at the same moment. The one that finds it in the index
/// must not send its heartbeat before the other one has sent the revocation.
#[test]
fn a_revocation_is_sent_before_every_heartbeat_that_counts_it() {
    loom::model(|| {
        let revocation = Revocation {
            target: Target::Session(SessionId(Uuid::from_u128(1))),
            epoch: 0,
            expires: UnixMillis(i64::MAX),
            revoked: UnixMillis(0),
        };
        let feed = Arc::new(Feed::default());
        let announced = {
            let (feed, revocation) = (Arc::clone(&feed), revocation.clone());
            thread::spawn(move || feed.note(&revocation))
        };
        feed.note(&revocation);
        feed.watcher.lock().push(Event::Heartbeat);
        announced.join().unwrap();
        let events = feed.watcher.lock();
        assert_eq!(*events, [Event::Revocation, Event::Heartbeat]);
    });
}
