//! What a run consists of: drawn from its seed. Each run has only some of the faults, so that each fault also meets calm
//! surroundings in which its effect is not hidden by another one.

use std::time::Duration;

use crate::support::random::Random;

/// A fault of one call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    DelayBefore,
    DelayAfter,
    ErrorBefore,
    ErrorAfter,
    LostReply,
    CrashBefore,
    CrashAfter,
}

const FAULTS: [Fault; 7] = [
    Fault::DelayBefore,
    Fault::DelayAfter,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::LostReply,
    Fault::CrashBefore,
    Fault::CrashAfter,
];

/// Something that happens to a whole store or process again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// A store is out of reach for some time.
    Outages,
    /// The store of sessions loses what it has acknowledged, as a failover of Redis does.
    Losses,
    /// The clocks of the replicas are set.
    Clocks,
    /// The database is replaced by a standby that is behind.
    Promotion,
    /// All replicas start again before the end, so that they know only what is stored.
    Restart,
}

const DISTURBANCES: [Disturbance; 5] = [
    Disturbance::Outages,
    Disturbance::Losses,
    Disturbance::Clocks,
    Disturbance::Promotion,
    Disturbance::Restart,
];

/// What a run consists of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) replicas: usize,
    pub(crate) verifiers: usize,
    pub(crate) users: usize,
    /// Tasks that log in, refresh and validate.
    pub(crate) owners: usize,
    /// Tasks that use the tokens of others.
    pub(crate) thieves: usize,
    /// Tasks that revoke.
    pub(crate) revokers: usize,
    /// How long they go on.
    pub(crate) length: Duration,
    /// Of a thousand calls of a store, how many have a fault.
    pub(crate) fault_rate: usize,
    pub(crate) faults: Vec<Fault>,
    /// Of a thousand changes of a store, how many happen after their caller has given up.
    pub(crate) late_rate: usize,
    /// Of a thousand calls of a replica, how many lose the request, and as many the reply.
    pub(crate) lost_rate: usize,
    /// Of a thousand calls of a replica, how many are given up by the client while they run.
    pub(crate) abandoned_rate: usize,
    /// Of a thousand announcements to a replica, how many do not arrive.
    pub(crate) unannounced_rate: usize,
    /// The longest delay of an announcement: those of less than a second arrive in another order.
    pub(crate) announcement_delay: Duration,
    /// Whether the store of sessions is the scripts of Redis, or the rules in Rust on SQLite.
    pub(crate) scripts: bool,
    pub(crate) disturbances: Vec<Disturbance>,
}

impl Plan {
    pub(crate) fn of(random: &mut Random) -> Self {
        let mut sometimes = |value: usize| if random.below(3) == 0 { value } else { 0 };
        let (late_rate, lost_rate, abandoned_rate) = (sometimes(30), sometimes(40), sometimes(40));
        let unannounced_rate = sometimes(400);
        let mut faults = FAULTS.to_vec();
        faults.retain(|_| random.below(2) == 0);
        let plan = Self {
            replicas: 2 + random.below(2),
            verifiers: random.below(2),
            users: 1 + random.below(2),
            owners: 2 + random.below(3),
            thieves: random.below(2),
            revokers: random.below(3),
            length: random.millis(3_000, 9_000),
            fault_rate: [0, 10, 40, 100][random.below(4)],
            faults,
            late_rate,
            lost_rate,
            abandoned_rate,
            unannounced_rate,
            announcement_delay: Duration::from_millis([5, 50, 3_000][random.below(3)]),
            scripts: random.below(4) > 0,
            disturbances: DISTURBANCES.into_iter().filter(|_| random.below(5) == 0).collect(),
        };
        if plan.has(Disturbance::Promotion) {
            plan.with_promotion()
        } else {
            plan
        }
    }

    pub(crate) fn has(&self, disturbance: Disturbance) -> bool {
        self.disturbances.contains(&disturbance)
    }

    /// A database that is replaced by its standby, and nothing else that could keep a replica from knowing a revocation: then
    /// no acknowledged revocation is lost.
    pub(crate) fn with_promotion(self) -> Self {
        let mut disturbances = self.disturbances;
        disturbances.retain(|disturbance| *disturbance != Disturbance::Outages);
        if !disturbances.contains(&Disturbance::Promotion) {
            disturbances.push(Disturbance::Promotion);
        }
        Self {
            fault_rate: 0,
            late_rate: 0,
            unannounced_rate: 0,
            announcement_delay: Duration::from_millis(5),
            disturbances,
            ..self
        }
    }
}
