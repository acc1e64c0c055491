//! What is searched: a few scopes, each complete within its bounds, because one with everything in it would have no end.

use stateright::{Checker as _, Model as _};

use super::bounds::{Aim, Bounds, Standby};
use super::page;
use super::state::{Budget, Event, Promise, State};
use super::system::System;

/// A named search. `docs/model.md` has a row for each.
#[derive(Debug)]
pub struct Scope {
    pub name: &'static str,
    pub bounds: Bounds,
}

const NOTHING: Bounds = Bounds {
    devices: 1,
    logged_in: true,
    generations: 1,
    targets: Aim::ALL,
    late_commits: false,
    feed: true,
    retries: false,
    late_calls: false,
    redis_fails_over: false,
    postgres_is_promoted: None,
    left: Budget {
        logins: [0, 0],
        revocations: 0,
        time: 0,
        failovers: 0,
        restarts: 0,
        thefts: 0,
    },
    shows: &[],
};

/// One device whose replies get lost, and a thief, over a failover of Redis.
pub const THEFT: Scope = Scope {
    name: "theft",
    bounds: Bounds {
        logged_in: false,
        generations: 2,
        feed: false,
        retries: true,
        late_calls: true,
        redis_fails_over: true,
        left: Budget {
            logins: [1, 0],
            time: 1,
            failovers: 1,
            thefts: 1,
            ..NOTHING.left
        },
        shows: &[
            Event::Replayed,
            Event::LateCallRefused,
            Event::LostRotationHealed,
            Event::SessionLost,
            Event::ThiefRotated,
            Event::ThiefCaught,
        ],
        ..NOTHING
    },
};

/// Two devices, a revocation at each level, and a login that it races with.
pub const LEVELS: Scope = Scope {
    name: "levels",
    bounds: Bounds {
        devices: 2,
        left: Budget {
            logins: [1, 0],
            revocations: 1,
            time: 1,
            ..NOTHING.left
        },
        shows: &[Event::Refused, Event::LoggedInAgain, Event::KeptSessionGoesOn],
        ..NOTHING
    },
};

/// Two revocations whose transactions commit in any order.
pub const LATE_COMMITS: Scope = Scope {
    name: "late commits",
    bounds: Bounds {
        targets: &[Aim::User, Aim::Client],
        late_commits: true,
        left: Budget {
            revocations: 2,
            time: 1,
            ..NOTHING.left
        },
        shows: &[Event::Refused, Event::LateCommitRead],
        ..NOTHING
    },
};

/// A promotion of a standby of Postgres that lacks revocations, .
pub const PROMOTION: Scope = Scope {
    name: "promotion",
    bounds: Bounds {
        targets: &[Aim::Token, Aim::Session, Aim::User, Aim::Global],
        postgres_is_promoted: Some(Standby::Asynchronous),
        left: Budget {
            revocations: 1,
            time: 1,
            failovers: 1,
            restarts: 1,
            ..NOTHING.left
        },
        shows: &[Event::Refused, Event::RefusedByIndexAlone, Event::WrittenBack],
        ..NOTHING
    },
};

/// A promotion of a standby of Postgres that has every acknowledged revocation, and a login after it.
pub const SYNCHRONOUS_PROMOTION: Scope = Scope {
    name: "synchronous promotion",
    bounds: Bounds {
        targets: &[Aim::User, Aim::Client, Aim::Key],
        postgres_is_promoted: Some(Standby::Synchronous),
        left: Budget {
            logins: [1, 0],
            revocations: 1,
            time: 1,
            failovers: 1,
            ..NOTHING.left
        },
        shows: &[Event::Refused, Event::LoggedInAgain],
        ..NOTHING
    },
};

/// Two devices, a thief, a revocation that ends one session or the other, and a failover of Redis.
pub const TOGETHER: Scope = Scope {
    name: "together",
    bounds: Bounds {
        devices: 2,
        targets: &[Aim::Session, Aim::UserBut, Aim::Client],
        feed: false,
        redis_fails_over: true,
        left: Budget {
            revocations: 1,
            failovers: 1,
            thefts: 1,
            ..NOTHING.left
        },
        shows: &[
            Event::Refused,
            Event::ThiefRotated,
            Event::ThiefCaught,
            Event::KeptSessionGoesOn,
        ],
        ..NOTHING
    },
};

pub const SCOPES: [&Scope; 6] = [
    &THEFT,
    &LEVELS,
    &LATE_COMMITS,
    &PROMOTION,
    &SYNCHRONOUS_PROMOTION,
    &TOGETHER,
];

impl Scope {
    /// Visits every state, and prints what was seen.
    #[expect(clippy::print_stdout, reason = "the figures are what the search is run for")]
    fn search(&self) {
        let started = tokio::time::Instant::now();
        let system = System {
            bounds: self.bounds,
            fault: None,
        };
        let checker = system
            .checker()
            .threads(2)
            .symmetry_fn(State::representative)
            .spawn_dfs()
            .join();
        println!(
            "{}: {} states, {} steps, the longest way has {}; {} s",
            self.name,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            started.elapsed().as_secs(),
        );
        for promise in Promise::ALL {
            let broken = checker.discovery(promise.words()).map(stateright::Path::into_actions);
            assert_eq!(broken, None, "broken: {}", promise.words());
        }
        // What must be possible somewhere.
        checker.assert_properties();
        assert_eq!(
            page::states(self),
            Some(page::with_commas(checker.unique_state_count())),
            "the model has changed: write its number of states in docs/model.md, scope {}",
            self.name
        );
    }
}

#[test]
fn theft_keeps_every_promise() {
    THEFT.search();
}

#[test]
fn revocations_at_each_level_keep_every_promise() {
    LEVELS.search();
}

#[test]
fn late_commits_keep_every_promise() {
    LATE_COMMITS.search();
}

#[test]
fn a_promotion_keeps_every_promise() {
    PROMOTION.search();
}

#[test]
fn a_synchronous_promotion_keeps_every_promise() {
    SYNCHRONOUS_PROMOTION.search();
}

#[test]
fn everything_together_keeps_every_promise() {
    TOGETHER.search();
}

/// Shows every step of the scope "together" in a browser, until the test is stopped.
#[test]
#[ignore = "it serves the page http://127.0.0.1:3000 until it is stopped"]
fn explore() {
    let system = System {
        bounds: TOGETHER.bounds,
        fault: None,
    };
    system.checker().serve("127.0.0.1:3000");
}
