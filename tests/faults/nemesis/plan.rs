//! The faults of a run, all from its seed: which, to what, for how long, and which of them at once.

use std::fmt;
use std::time::Duration;

use super::kinds::{BeforePromotion, Deployment, Partition, PostgresFault, RedisFault, ReplicaFault};
use crate::support::random::Random;

/// A fault, and how long after the begin of its step it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At<F> {
    pub(crate) delay: Duration,
    pub(crate) fault: F,
}

/// Faults that overlap. Everything is repaired before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The time without a fault before it.
    pub(crate) quiet: Duration,
    pub(crate) redis: Option<At<RedisFault>>,
    pub(crate) postgres: Option<At<PostgresFault>>,
    pub(crate) replica: Option<At<ReplicaFault>>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}:", self.quiet)?;
        if let Some(At { delay, fault }) = &self.redis {
            write!(f, " [Redis +{delay:?} {fault:?}]")?;
        }
        if let Some(At { delay, fault }) = &self.postgres {
            write!(f, " [Postgres +{delay:?} {fault:?}]")?;
        }
        if let Some(At { delay, fault }) = &self.replica {
            write!(f, " [Countersign +{delay:?} {fault:?}]")?;
        }
        Ok(())
    }
}

/// The steps of a run, without an end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    deployment: Deployment,
    replicas: usize,
    random: Random,
}

impl Plan {
    /// The plan of this seed, for so many replicas of Countersign.
    pub(crate) fn new(deployment: Deployment, replicas: usize, seed: u64) -> Self {
        Self {
            deployment,
            replicas,
            // Other faults on each deployment.
            random: Random::new(seed).fork(1 + deployment.number()),
        }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn replica(&mut self) -> usize {
        self.random.below(self.replicas)
    }

    fn how(&mut self) -> Partition {
        if self.chance(50) {
            Partition::Cut
        } else {
            Partition::Held
        }
    }

    /// Shorter and longer than the time after which a master counts as down.
    fn outage(&mut self) -> Duration {
        if self.chance(50) {
            self.random.millis(50, 900)
        } else {
            self.random.millis(900, 5_000)
        }
    }

    fn at<F>(&mut self, fault: F) -> At<F> {
        let delay = self.random.millis(0, 1_500);
        At { delay, fault }
    }

    fn redis(&mut self) -> RedisFault {
        let shard = self.random.below(3);
        let (replica, time) = (self.replica(), self.outage());
        if !self.deployment.has_groups_of_redis() {
            return match self.random.below(10) {
                0..=4 => RedisFault::Kill { shard, down: time },
                5..=6 => RedisFault::Pause { shard, time },
                _ => {
                    let how = self.how();
                    RedisFault::Isolate {
                        shard,
                        replica,
                        how,
                        time,
                    }
                }
            };
        }
        match self.random.below(12) {
            0..=2 => RedisFault::Kill { shard, down: time },
            3..=5 => RedisFault::Pause { shard, time },
            6..=7 => {
                let how = self.how();
                RedisFault::Isolate {
                    shard,
                    replica,
                    how,
                    time,
                }
            }
            8 => RedisFault::KillReplica { shard, down: time },
            9..=10 if self.deployment == Deployment::Cluster => {
                let slots = 200 + u32::try_from(self.random.below(1_800)).unwrap();
                RedisFault::MoveSlots { shard, slots }
            }
            9 => RedisFault::KillSentinel {
                sentinel: self.random.below(3),
                down: time,
            },
            _ => RedisFault::Promote { shard },
        }
    }

    fn postgres(&mut self) -> PostgresFault {
        let (replica, time) = (self.replica(), self.outage());
        let how = self.how();
        let isolate = PostgresFault::Isolate { replica, how, time };
        if !self.deployment.has_standbys() {
            return match self.random.below(10) {
                0..=4 => PostgresFault::Kill { down: time },
                5..=6 => PostgresFault::Pause { time },
                _ => isolate,
            };
        }
        match self.random.below(12) {
            0 => PostgresFault::Kill { down: time },
            1 => PostgresFault::Pause { time },
            2 => isolate,
            3..=4 => PostgresFault::StopStandbys {
                time: time + Duration::from_secs(1),
            },
            5 => PostgresFault::KillStandby {
                standby: self.random.below(2),
                down: time,
            },
            6 if self.deployment == Deployment::Pooled => PostgresFault::KillPooler { down: time },
            other => PostgresFault::Promote {
                first: match other % 3 {
                    0 => BeforePromotion::Kill,
                    1 => BeforePromotion::Pause,
                    _ => BeforePromotion::Stop,
                },
                after: self.random.millis(100, 3_000),
            },
        }
    }

    fn of_replica(&mut self) -> ReplicaFault {
        let (replica, time) = (self.replica(), self.outage());
        match self.random.below(10) {
            0..=2 => ReplicaFault::Kill { replica, down: time },
            3 => ReplicaFault::Restart { replica },
            4..=5 => ReplicaFault::Pause { replica, time },
            6..=7 => {
                let steps = [-3_600, -90, -7, -2, 2, 7, 90, 3_600];
                let seconds = steps[self.random.below(steps.len())];
                ReplicaFault::StepClock { seconds, time }
            }
            _ => ReplicaFault::RotateKey {
                replica,
                force: self.chance(30),
            },
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (redis, postgres) = match self.deployment {
            Deployment::Single => (60, 60),
            Deployment::Sentinel | Deployment::Cluster => (85, 25),
            Deployment::Streaming | Deployment::Pooled => (25, 85),
        };
        let quiet = self.random.millis(200, 2_000);
        let mut step = Step {
            quiet,
            redis: None,
            postgres: None,
            replica: None,
        };
        if self.chance(redis) {
            let fault = self.redis();
            step.redis = Some(self.at(fault));
        }
        if self.chance(postgres) {
            let fault = self.postgres();
            step.postgres = Some(self.at(fault));
        }
        if self.chance(40) || step.redis.is_none() && step.postgres.is_none() {
            let fault = self.of_replica();
            step.replica = Some(self.at(fault));
        }
        Some(step)
    }
}

const ALL: [Deployment; 5] = [
    Deployment::Single,
    Deployment::Sentinel,
    Deployment::Cluster,
    Deployment::Streaming,
    Deployment::Pooled,
];

#[test]
fn a_seed_repeats_its_plan() {
    for deployment in ALL {
        let plan = |seed| -> Vec<Step> { Plan::new(deployment, 3, seed).take(1_000).collect() };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }
    // Also in other processes and builds. If the faults or their order change, old seeds repeat no run, and this text changes.
    let steps: Vec<String> = Plan::new(Deployment::Sentinel, 3, 7)
        .take(3)
        .map(|step| step.to_string())
        .collect();
    assert_eq!(
        steps,
        [
            "after 948ms: [Redis +14ms Kill { shard: 1, down: 3.189s }] [Countersign +88ms Pause { replica: 1, time: 1.57s }]",
            "after 1.991s: [Redis +755ms Promote { shard: 1 }]",
            "after 1.417s: [Redis +1.304s Isolate { shard: 1, replica: 0, how: Held, time: 2.816s }] \
             [Countersign +315ms StepClock { seconds: 90, time: 4.812s }]",
        ]
    );
}

#[test]
fn each_kind_of_fault_is_planned_for_the_deployments_that_have_it() {
    let kinds = |deployment| {
        let mut kinds = std::collections::BTreeSet::new();
        for step in Plan::new(deployment, 3, 1).take(2_000) {
            let faults = [
                step.redis.map(|at| format!("Redis{:?}", at.fault)),
                step.postgres.map(|at| format!("Postgres{:?}", at.fault)),
                step.replica.map(|at| format!("Replica{:?}", at.fault)),
            ];
            let name = |fault: String| fault.split(' ').next().unwrap().to_owned();
            kinds.extend(faults.into_iter().flatten().map(name));
        }
        kinds.into_iter().collect::<Vec<_>>().join(" ")
    };
    let replica = "ReplicaKill ReplicaPause ReplicaRestart ReplicaRotateKey ReplicaStepClock";
    let one_postgres = "PostgresIsolate PostgresKill PostgresPause";
    let one_redis = "RedisIsolate RedisKill RedisPause";
    let standbys = "PostgresKillStandby PostgresPause PostgresPromote PostgresStopStandbys";
    assert_eq!(kinds(Deployment::Single), [one_postgres, one_redis, replica].join(" "));
    assert_eq!(
        kinds(Deployment::Sentinel),
        [
            one_postgres,
            "RedisIsolate RedisKill RedisKillReplica RedisKillSentinel RedisPause RedisPromote",
            replica
        ]
        .join(" ")
    );
    assert_eq!(
        kinds(Deployment::Cluster),
        [
            one_postgres,
            "RedisIsolate RedisKill RedisKillReplica RedisMoveSlots RedisPause RedisPromote",
            replica
        ]
        .join(" ")
    );
    assert_eq!(
        kinds(Deployment::Streaming),
        ["PostgresIsolate PostgresKill", standbys, one_redis, replica].join(" ")
    );
    assert_eq!(
        kinds(Deployment::Pooled),
        [
            "PostgresIsolate PostgresKill PostgresKillPooler",
            standbys,
            one_redis,
            replica
        ]
        .join(" ")
    );
}
