//! Defects that the runs must find.

use countersign::store::sqlite::Database;

use crate::plan::Plan;

/// A defect of a rule or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store of sessions reads, decides and writes in three steps.
    CheckThenWrite,
    /// The reuse of a token leaves no tombstone.
    NoTombstone,
    /// Epochs are whole seconds of the clock.
    WallClock,
    /// A replaced token is never accepted again.
    GraceIgnored,
    /// A replaced token is accepted again under any attempt id.
    AttemptIgnored,
    /// The replay of a token gives a successor of its own.
    ReplayMakesSecondSuccessor,
    /// A refresh is done after its caller has given it up.
    DeadlineIgnored,
    /// Refresh does not ask the database whether the session is revoked.
    RefreshAsksNoRevocations,
    /// The reuse of a token ends another session.
    ReuseEndsAnotherSession,
    /// The feed reads no revocations and gets no announcements, but says that it did.
    FeedMissesRevocations,
    /// What a promoted standby lacks is not written back.
    NothingWrittenBack,
}

impl Mutant {
    /// A plan in which the defect has an effect.
    pub(crate) fn provoke(self, mut plan: Plan) -> Plan {
        plan.scripts |= self.in_rotate().is_some() || self == Self::CheckThenWrite;
        plan.thieves = 1;
        plan.revokers = 2;
        match self {
            Self::NothingWrittenBack => plan = plan.with_promotion(),
            Self::DeadlineIgnored => plan.late_rate = 100,
            Self::RefreshAsksNoRevocations => plan.unannounced_rate = 800,
            Self::CheckThenWrite
            | Self::NoTombstone
            | Self::WallClock
            | Self::GraceIgnored
            | Self::AttemptIgnored
            | Self::ReplayMakesSecondSuccessor
            | Self::ReuseEndsAnotherSession
            | Self::FeedMissesRevocations => {}
        }
        plan
    }

    /// The text of `rotate.lua` that is changed, and what it becomes.
    fn in_rotate(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::NoTombstone => Some((
                "write(user_key, session_id, r)\n  return reuse(r, true)",
                "return reuse(r, true)",
            )),
            Self::GraceIgnored => Some(("math.max(now - r.rotated, 0) < grace", "false")),
            Self::AttemptIgnored => Some(("(tolerant or attempt_id == r.attempt_id)", "true")),
            Self::DeadlineIgnored => Some(("not_after > 0 and now > not_after", "false")),
            Self::ReplayMakesSecondSuccessor => Some((
                "lost_rotations, r.generation,",
                "lost_rotations, r.generation + (rotation == 'replayed' and 1 or 0),",
            )),
            Self::CheckThenWrite
            | Self::WallClock
            | Self::RefreshAsksNoRevocations
            | Self::ReuseEndsAnotherSession
            | Self::FeedMissesRevocations
            | Self::NothingWrittenBack => None,
        }
    }

    /// The text of a script with this defect.
    pub(crate) fn change(self, script: &str, source: &str) -> String {
        match self.in_rotate().filter(|_| script == "ROTATE") {
            Some((right, wrong)) => {
                assert_eq!(
                    source.matches(right).count(),
                    1,
                    "rotate.lua has changed: adapt {self:?}"
                );
                source.replace(right, wrong)
            }
            None => source.to_owned(),
        }
    }

    /// Puts the defect into the database.
    pub(crate) async fn prepare(self, database: &Database) {
        if self != Self::WallClock {
            return;
        }
        for trigger in WALL_CLOCK {
            let done = database.call(|tx| Ok(tx.run(trigger, [])?));
            done.await.unwrap();
        }
    }
}

const WALL_CLOCK: [&str; 4] = [
    "CREATE TRIGGER clock_of_users AFTER UPDATE OF epoch ON users BEGIN
         UPDATE users SET epoch = NEW.epoch / 1000 * 1000 WHERE id = NEW.id; END",
    "CREATE TRIGGER clock_of_clients AFTER UPDATE OF epoch ON clients BEGIN
         UPDATE clients SET epoch = NEW.epoch / 1000 * 1000 WHERE id = NEW.id; END",
    "CREATE TRIGGER clock_of_all AFTER UPDATE OF epoch ON meta BEGIN
         UPDATE meta SET epoch = NEW.epoch / 1000 * 1000; END",
    "CREATE TRIGGER clock_of_rows AFTER INSERT ON revocations BEGIN
         UPDATE revocations SET epoch = NEW.epoch / 1000 * 1000 WHERE seq = NEW.seq; END",
];
