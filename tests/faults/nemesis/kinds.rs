//! The deployments, and the kinds of faults.

use std::time::Duration;

/// The stores of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One Postgres and one Redis.
    Single,
    /// One Postgres; a master of Redis with two replicas and three Sentinels.
    Sentinel,
    /// One Postgres; a Redis Cluster of three masters with a replica each.
    Cluster,
    /// A primary of Postgres with two synchronous standbys; one Redis.
    Streaming,
    /// The same behind `PgBouncer`.
    Pooled,
}

impl Deployment {
    /// The name of its test, for the command that repeats a run.
    pub(crate) fn test(self) -> &'static str {
        match self {
            Self::Single => "killing_the_stores_undoes_nothing_that_was_acknowledged",
            Self::Sentinel => "faults_of_a_sentinel_deployment_undo_nothing",
            Self::Cluster => "faults_of_a_cluster_deployment_undo_nothing",
            Self::Streaming => "faults_of_streaming_replication_undo_nothing",
            Self::Pooled => "faults_behind_a_pooler_undo_nothing",
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Single => 0,
            Self::Sentinel => 1,
            Self::Cluster => 2,
            Self::Streaming => 3,
            Self::Pooled => 4,
        }
    }

    pub(crate) fn has_groups_of_redis(self) -> bool {
        matches!(self, Self::Sentinel | Self::Cluster)
    }

    pub(crate) fn has_standbys(self) -> bool {
        matches!(self, Self::Streaming | Self::Pooled)
    }
}

/// What happens to a connection between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    /// Connections are closed, and new ones refused.
    Cut,
    /// Connections stay open, and their bytes are held back until the end.
    Held,
}

/// A fault of Redis. `shard` chooses one of the masters; there is only one without a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisFault {
    /// The master is killed, and started again after this time.
    Kill { shard: usize, down: Duration },
    /// The master is stopped (SIGSTOP) for this time.
    Pause { shard: usize, time: Duration },
    /// The master cannot be reached: by any process in a group, else by one of the replicas of Countersign.
    Isolate {
        shard: usize,
        replica: usize,
        how: Partition,
        time: Duration,
    },
    /// A replica of the master is killed, and started again after this time.
    KillReplica { shard: usize, down: Duration },
    /// A Sentinel is killed, and started again after this time.
    KillSentinel { sentinel: usize, down: Duration },
    /// An operator replaces the master.
    Promote { shard: usize },
    /// So many slots move to the next master.
    MoveSlots { shard: usize, slots: u32 },
}

/// A fault of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostgresFault {
    /// The primary is killed, and started again after this time.
    Kill { down: Duration },
    /// The primary is stopped (SIGSTOP) for this time.
    Pause { time: Duration },
    /// One replica of Countersign does not reach Postgres.
    Isolate {
        replica: usize,
        how: Partition,
        time: Duration,
    },
    /// The primary fails or is stopped, and a standby is promoted after this time.
    Promote { first: BeforePromotion, after: Duration },
    /// All standbys are stopped, so that no commit ends.
    StopStandbys { time: Duration },
    /// One standby is killed, and started again after this time.
    KillStandby { standby: usize, down: Duration },
    /// The pooler is killed, and started again after this time.
    KillPooler { down: Duration },
}

/// What happens to a primary before its standby is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeforePromotion {
    /// It is killed.
    Kill,
    /// It is stopped (SIGSTOP), and killed after the promotion.
    Pause,
    /// It is stopped in order.
    Stop,
}

/// A fault of a replica of Countersign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaFault {
    /// Killed, and started again after this time.
    Kill { replica: usize, down: Duration },
    /// Stopped in order (SIGTERM), and started again.
    Restart { replica: usize },
    /// Stopped (SIGSTOP) for this time.
    Pause { replica: usize, time: Duration },
    /// The clock of one replica is wrong by so many seconds for this time.
    StepClock { seconds: i32, time: Duration },
    /// The signing key is rotated by way of this replica.
    RotateKey { replica: usize, force: bool },
}
