//! The state of the model: everything that a run of the system can differ in.

/// The number of replicas of Countersign.
pub const REPLICAS: usize = 2;

/// The number of devices: honest clients of one user, each with its own client id.
pub const DEVICES: usize = 2;

/// A set of revocations: bit n stands for `State::rows[n]`.
pub type RowSet = u8;

/// A state of the whole system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub devices: [Device; DEVICES],
    pub thief: Thief,
    /// The session records of the devices on the Redis master.
    pub records: [Option<Record>; DEVICES],
    /// The copy on the Redis standby; always empty once no failover can happen.
    pub standby: [Option<Record>; DEVICES],
    /// Every revocation that was begun, in that order.
    pub rows: Vec<Row>,
    pub replicas: [Replica; REPLICAS],
    /// The revocations that were acknowledged before the last step of time.
    pub overdue: RowSet,
    /// How often the standby of Postgres was promoted: the timeline.
    pub timeline: u8,
    /// Whether a failover of Redis has happened.
    pub redis_failed_over: bool,
    /// Whether a promotion has lost a committed revocation.
    pub lost_rows: bool,
    pub left: Budget,
    /// The promise that the last step has broken. Nothing follows such a step.
    pub broken: Option<Promise>,
}

/// How often each event may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// Logins of each device.
    pub logins: [u8; DEVICES],
    /// Revocations by an operator or user.
    pub revocations: u8,
    /// Steps of time. Each is longer than the grace, the deadline of a call, and the greatest age of revocations at which
    /// Validate answers.
    pub time: u8,
    /// Failovers of Redis or of Postgres, together.
    pub failovers: u8,
    /// Restarts of a replica.
    pub restarts: u8,
    /// Thefts of the newest refresh token of device 0.
    pub thefts: u8,
}

/// A device that follows the rules: one refresh at a time; retries of it have the same attempt id and begin within the grace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    pub login: Login,
    /// The generation of its refresh token.
    pub held: u8,
    /// Whether its access token was signed after the revocation of the signing key.
    pub new_key: bool,
    /// Whether it has begun to refresh `held` and has no answer.
    pub is_refreshing: bool,
    /// The refresh calls that are on their way; the attempt ends with them.
    pub calls: [Option<Call>; 2],
    /// The last presented generation that got a successor, and its holder; none after a failover of Redis.
    pub winner: Option<(u8, Holder)>,
    /// Whether a reuse of the session was found, until a failover of Redis.
    pub reuse_found: bool,
}

/// How far the login of a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Login {
    #[default]
    LoggedOut,
    /// The credential and the epochs are read; the password is being hashed.
    Hashing {
        seen: RowSet,
    },
    LoggedIn(Session),
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// Which login of the device began it.
    pub number: u8,
    /// The revocations in the database when the credential was read: none of them ends this session.
    pub seen: RowSet,
    /// The epochs that it got: global, user, client.
    pub epochs: [u8; 3],
}

/// A refresh call that passed the look-up of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    pub replica: usize,
    pub session: Session,
    pub generation: u8,
    /// Whose attempt id it carries.
    pub attempt: Holder,
    /// Whether its deadline has passed.
    pub is_late: bool,
    /// Whether the script has found a reuse, and its revocation is to be recorded.
    pub is_reuse: bool,
    /// With the fault `CheckThenWrite`: the record as it was read.
    pub copy: Option<Record>,
}

/// A thief with a copy of a refresh token of device 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thief {
    pub stolen: Option<(Session, u8)>,
    pub call: Option<Call>,
    /// Whether a stolen token has reached the store of sessions.
    pub has_presented: bool,
}

/// The holder of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    Device,
    Thief,
}

/// A session record in Redis: the part of `SessionRecord` that differs between states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The number of the session.
    pub number: u8,
    pub generation: u8,
    /// The holder that presented the token of the last rotation.
    pub attempt: Option<Holder>,
    /// Whether the last rotation is within the grace.
    pub is_recent: bool,
    pub state: Kind,
}

/// The state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Live,
    FastForwarded,
    Tombstone { presented: u8 },
}

/// A revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub target: Target,
    pub phase: Phase,
    /// The replica that serves the call that revokes; none if that replica restarted.
    pub replica: Option<usize>,
    /// Whether the current primary of Postgres has the row.
    pub is_stored: bool,
    /// Whether a promotion lost the row, and no replica that knew it has reconciled since.
    pub is_excused: bool,
}

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The access token that a device held.
    Token {
        device: usize,
        number: u8,
        generation: u8,
    },
    Session {
        device: usize,
        number: u8,
    },
    User,
    /// All sessions of the user but one.
    UserBut {
        device: usize,
        number: u8,
    },
    Client {
        device: usize,
    },
    Key,
    Global,
}

/// How far a revocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The transaction has an id and its epochs; other transactions do not see it.
    Begun,
    Committed,
    /// The caller was told that the revocation is in force.
    Acknowledged,
}

/// A replica of Countersign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The revocations in its index.
    pub known: RowSet,
    /// The revocations that its next reconciliation does not read again; always empty without late commits.
    pub read: RowSet,
    /// Whether it has reconciled since the last step of time.
    pub is_fresh: bool,
    /// Whether it has restarted and not loaded its index yet; it serves no calls then.
    pub is_loading: bool,
    /// The timeline of the database that it has read.
    pub timeline: u8,
}

/// A promise of the system: a property of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    RevokedStaysRevoked,
    AsOfIsComplete,
    ReuseEndsTheSession,
    OneSuccessor,
    OneWinner,
    SuccessorWorks,
    HonestStaysIn,
    OnlyTheRevoked,
}

/// A step of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A login: the credential and the epochs are read.
    ReadCredential {
        device: usize,
    },
    /// The end of the login: the record is stored, and the device gets its tokens.
    CreateSession {
        device: usize,
    },
    /// A device sends its token to a replica, which looks up revocations.
    Send {
        device: usize,
        replica: usize,
    },
    /// The script runs; its answer arrives or is lost.
    Rotate {
        device: usize,
        call: usize,
        arrives: bool,
    },
    /// The revocation after a reuse is recorded; the answer arrives or is lost.
    Record {
        device: usize,
        call: usize,
        arrives: bool,
    },
    Steal,
    ThiefSend {
        replica: usize,
    },
    ThiefRotate,
    ThiefRecord,
    /// A transaction of a revocation begins.
    Begin {
        target: Target,
        replica: usize,
    },
    Commit {
        row: usize,
    },
    Acknowledge {
        row: usize,
    },
    /// A replica gets an announcement.
    Hear {
        replica: usize,
        row: usize,
    },
    /// A replica reads the new revocations from the database.
    Reconcile {
        replica: usize,
    },
    Restart {
        replica: usize,
    },
    /// The standby of Redis catches up.
    Replicate,
    FailOverRedis,
    /// A standby of Postgres that lacks these revocations becomes the primary.
    PromotePostgres {
        lost: RowSet,
    },
    PassTime,
}

/// What a step has shown, for the properties that something can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Replayed,
    LostRotationHealed,
    SessionLost,
    ThiefRotated,
    ThiefCaught,
    Refused,
    RefusedByIndexAlone,
    LoggedInAgain,
    KeptSessionGoesOn,
    LateCommitRead,
    LateCallRefused,
    WrittenBack,
}

impl State {
    /// The rows for which `condition` holds.
    pub fn rows_where(&self, condition: impl Fn(&Row) -> bool) -> RowSet {
        let bits = self.rows.iter().enumerate().filter(|(_, row)| condition(row));
        bits.fold(0, |set, (n, _)| set | bit(n))
    }

    /// The rows that a transaction sees that begins now.
    pub fn visible(&self) -> RowSet {
        self.rows_where(|row| row.phase != Phase::Begun && row.is_stored)
    }

    /// Whether every Validate has the same answer in both states.
    pub fn validates_as(&self, other: &Self) -> bool {
        let token = |device: &Device| (device.login, device.held, device.new_key);
        self.replicas == other.replicas
            && self.rows == other.rows
            && (self.overdue, self.lost_rows) == (other.overdue, other.lost_rows)
            && self.devices.each_ref().map(token) == other.devices.each_ref().map(token)
    }

    /// The state without what can have no effect any more, so that states that differ only in it are one.
    pub fn without_the_past(mut self) -> Self {
        for n in 0..DEVICES {
            let device = &mut self.devices[n];
            if let [Some(first), Some(second)] = device.calls
                && second < first
            {
                device.calls.swap(0, 1);
            }
            let has_thief = n == 0 && (self.thief.stolen.is_some() || self.thief.call.is_some());
            if device.login == Login::LoggedOut && !has_thief {
                *device = Device::default();
                self.records[n] = None;
                self.standby[n] = None;
            }
        }
        self
    }

    /// The same state for each of the two ways in which the replicas can be numbered: they are alike.
    pub fn representative(&self) -> Self {
        let mut swapped = self.clone();
        swapped.replicas.swap(0, 1);
        let other = |replica: &mut usize| *replica = 1 - *replica;
        let calls = swapped.devices.iter_mut().flat_map(|device| &mut device.calls);
        for call in calls.chain([&mut swapped.thief.call]).flatten() {
            other(&mut call.replica);
        }
        for row in &mut swapped.rows {
            if let Some(replica) = &mut row.replica {
                other(replica);
            }
        }
        let swapped = swapped.without_the_past();
        if swapped < *self { swapped } else { self.clone() }
    }
}

impl Device {
    pub fn session(&self) -> Option<Session> {
        match self.login {
            Login::LoggedIn(session) => Some(session),
            Login::LoggedOut | Login::Hashing { .. } => None,
        }
    }
}

pub const fn bit(row: usize) -> RowSet {
    1 << row
}

pub fn has(set: RowSet, row: usize) -> bool {
    set & bit(row) != 0
}
