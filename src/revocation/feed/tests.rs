use std::sync::Barrier;

use super::*;
use crate::clock::SystemClock;
use crate::model::{SessionId, Target};
use crate::secret::SystemEntropy;

/// Two threads add the same revocations at once, as the announcements and the reconciliation do. Whichever thread adds a
/// revocation, a watcher must have it as soon as it is in the index: the next event may be a heartbeat that covers it.
#[test]
fn what_is_in_the_index_has_been_told() {
    const ROUNDS: usize = 20_000;
    let clock = Arc::new(SystemClock::new());
    let config = RevocationConfig {
        reconcile_interval: Duration::from_secs(1),
        max_staleness: Duration::from_secs(30),
        on_stale: OnStale::FailClosed,
    };
    let feed = Feed::new(clock.clone(), Arc::new(SystemEntropy), config);
    let now = clock.now();
    let rows: Vec<Revocation> = (0..ROUNDS)
        .map(|_| Revocation {
            target: Target::Session(SessionId::generate(now, &SystemEntropy)),
            epoch: 0,
            expires: now.plus(Duration::from_hours(1)),
            revoked: now,
        })
        .collect();
    let turn = Barrier::new(2);
    let adds = || {
        let mut watcher = feed.subscribe();
        for (n, row) in rows.iter().enumerate() {
            turn.wait();
            feed.note(row);
            assert!(watcher.try_recv().is_ok(), "added and not told, in round {n}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(adds);
        adds();
    });
}
