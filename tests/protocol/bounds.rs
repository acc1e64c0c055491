//! The bounds of a search, and the faults that can be put into the rules.

use super::state::{Budget, Event};

/// What a search looks at. Everything within the bounds is visited.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is an independent bound")]
pub struct Bounds {
    pub devices: usize,
    /// Whether the devices are logged in at the start, with their records on the standby.
    pub logged_in: bool,
    /// The last generation; its tokens are not presented.
    pub generations: u8,
    /// What an operator or user may revoke.
    pub targets: &'static [Aim],
    /// Whether a revocation may commit long after its transaction began.
    pub late_commits: bool,
    /// Whether revocations reach the index of replicas that have not recorded them. Without promotions, a refresh gives the
    /// same answer with and without them, because it reads the database too.
    pub feed: bool,
    /// Whether a refresh may have two calls on their way, the second one before the first has an answer.
    pub retries: bool,
    /// Whether a call may reach the store after its deadline. Else it never does.
    pub late_calls: bool,
    pub redis_fails_over: bool,
    pub postgres_is_promoted: Option<Standby>,
    pub left: Budget,
    /// What happens somewhere within these bounds.
    pub shows: &'static [Event],
}

/// A level of a revocation; at the levels token, session and client, that of device 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    Token,
    Session,
    User,
    /// All sessions of the user but that of device 0.
    UserBut,
    Client,
    Key,
    Global,
}

impl Aim {
    pub const ALL: &[Self] = &[
        Self::Token,
        Self::Session,
        Self::User,
        Self::UserBut,
        Self::Client,
        Self::Key,
        Self::Global,
    ];
}

/// The standby of Postgres that is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// It has every acknowledged revocation.
    Synchronous,
    /// It may lack any revocation.
    Asynchronous,
}

/// A mistake in the rules of the service, or of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A reuse is reported, but the record stays as it is.
    NoTombstone,
    /// The previous token is never accepted again.
    NoGrace,
    /// A replay within the grace rotates the session once more.
    ReplayRotates,
    /// Any attempt id counts as the same attempt.
    AttemptsIgnored,
    /// The script decides on a record that was read earlier.
    CheckThenWrite,
    /// A token that is ahead of the record is refused.
    NoFastForward,
    /// The revocation after a reuse is not stored: only the tombstone ends the session.
    ReuseNotStored,
    /// Refresh does not look up revocations.
    NoLookup,
    /// Refresh asks the database only, not the index.
    NoIndexLookup,
    /// A revocation is acknowledged before its transaction commits.
    AcknowledgedEarly,
    /// The feed follows announcements only, and advances `as_of` as if it had read the database.
    AnnouncementsOnly,
    /// The cursor of the feed passes over transactions that had begun and not committed.
    LateCommitsSkipped,
    /// Validate answers from an index of any age.
    StaleServed,
    /// What a promoted standby lacks is not written back.
    NoWriteBack,
    /// A login reads the epochs after it has hashed the password.
    EpochsAfterHashing,
    /// An epoch is the time in coarse units: a login and a revocation can get the same.
    CoarseEpochs,
    /// A revocation of a user also ends the session that it should keep.
    KeepIgnored,
    /// Of the client: each retry has an attempt id of its own.
    NewAttemptEachTime,
    /// Of the client: it retries after the grace.
    LateRetry,
    /// The store uses the token of a call whose deadline has passed.
    DeadlineIgnored,
    /// Of the client: it begins the next refresh before the deadlines of the last one.
    CallsOutliveAttempts,
}
