//! The system that is searched: its first state, and what each step does.

use super::bounds::{Bounds, Fault};
use super::real::{FIRST_EPOCH, Subject, is_revoked};
use super::refresh::{log_out, take_call};
use super::state::{
    Action, DEVICES, Device, Event, Kind, Login, Phase, REPLICAS, Record, Replica, Row, RowSet, Session, State, Target,
    Thief, bit, has,
};
use super::{judge, stores};

/// The model: a bounded system, perhaps with a fault.
#[derive(Clone, Debug)]
pub struct System {
    pub bounds: Bounds,
    pub fault: Option<Fault>,
}

impl System {
    /// The state in which every search begins.
    pub fn initial(&self) -> State {
        let mut state = State {
            devices: [Device::default(); DEVICES],
            thief: Thief::default(),
            records: [None; DEVICES],
            standby: [None; DEVICES],
            rows: Vec::new(),
            replicas: [Replica::default(); REPLICAS],
            overdue: 0,
            timeline: 0,
            redis_failed_over: false,
            lost_rows: false,
            left: self.bounds.left,
            broken: None,
        };
        for replica in &mut state.replicas {
            replica.is_fresh = true;
        }
        if self.bounds.logged_in {
            for device in 0..self.bounds.devices {
                self.create_session(&mut state, device, 0);
            }
            if self.can_redis_fail(&state) {
                state.standby = state.records;
            }
        }
        state
    }

    /// Whether this fault is in the rules.
    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn can_redis_fail(&self, state: &State) -> bool {
        self.bounds.redis_fails_over && state.left.failovers > 0
    }

    /// The epoch of a revocation: larger than those before.
    fn epoch(&self, row: usize) -> u8 {
        let after = u8::try_from(row).unwrap() + 1;
        FIRST_EPOCH + if self.has(Fault::CoarseEpochs) { 0 } else { after }
    }

    /// The epochs of a login of `device` that sees these revocations.
    fn epochs(&self, state: &State, seen: RowSet, device: usize) -> [u8; 3] {
        let of_level = |is_of_level: &dyn Fn(Target) -> bool| {
            let rows = (0..state.rows.len()).filter(|row| has(seen, *row) && is_of_level(state.rows[*row].target));
            rows.map(|row| self.epoch(row)).max().unwrap_or(FIRST_EPOCH)
        };
        [
            of_level(&|target| target == Target::Global),
            of_level(&|target| matches!(target, Target::User | Target::UserBut { .. })),
            of_level(&|target| target == Target::Client { device }),
        ]
    }

    /// What the real index says if it knows these rows.
    pub fn is_revoked(&self, state: &State, known: RowSet, subject: Subject) -> bool {
        let epoch = |row| self.epoch(row);
        if !self.has(Fault::KeepIgnored) {
            return is_revoked(&state.rows, known, epoch, subject);
        }
        let keeps_nothing = |row: &Row| {
            let mut row = *row;
            if let Target::UserBut { .. } = row.target {
                row.target = Target::User;
            }
            row
        };
        let rows: Vec<Row> = state.rows.iter().map(keeps_nothing).collect();
        is_revoked(&rows, known, epoch, subject)
    }

    /// Whether this replica validates tokens now.
    pub fn validates(&self, replica: Replica) -> bool {
        !replica.is_loading && (replica.is_fresh || self.has(Fault::StaleServed))
    }

    /// The state after `action`, and what the step has shown; nothing if the action is not possible.
    pub fn step(&self, before: &State, action: Action) -> (State, Option<Event>) {
        let mut state = before.clone();
        let event = self.apply(&mut state, action);
        if state.broken.is_none() && !state.validates_as(before) {
            state.broken = judge::validations(self, &state);
        }
        if !self.can_redis_fail(&state) {
            state.standby = [None; DEVICES];
        }
        (state.without_the_past(), event)
    }

    fn apply(&self, state: &mut State, action: Action) -> Option<Event> {
        match action {
            Action::ReadCredential { device } => {
                state.left.logins[device] -= 1;
                state.devices[device].login = Login::Hashing { seen: state.visible() };
            }
            Action::CreateSession { device } => {
                if let Login::Hashing { seen } = state.devices[device].login {
                    self.create_session(state, device, seen);
                }
            }
            Action::Send { device, replica } => return self.send(state, device, replica),
            Action::Rotate { device, call, arrives } => return self.rotate(state, device, call, arrives),
            Action::Record { device, call, arrives } => {
                let call = take_call(&mut state.devices[device], call);
                self.record_reuse(state, device, &call);
                if arrives {
                    log_out(&mut state.devices[device]);
                }
            }
            Action::Steal => {
                state.left.thefts -= 1;
                let device = state.devices[0];
                state.thief.stolen = device.session().map(|session| (session, device.held));
            }
            Action::ThiefSend { replica } => return self.thief_send(state, replica),
            Action::ThiefRotate => return self.thief_rotate(state),
            Action::ThiefRecord => {
                if let Some(call) = state.thief.call.take() {
                    self.record_reuse(state, 0, &call);
                }
                state.thief.stolen = None;
            }
            Action::Begin { target, replica } => {
                state.left.revocations -= 1;
                let phase = if self.bounds.late_commits {
                    Phase::Begun
                } else {
                    Phase::Committed
                };
                state.rows.push(Row {
                    target,
                    phase,
                    replica: Some(replica),
                    is_stored: phase == Phase::Committed,
                    is_excused: false,
                });
            }
            Action::Commit { row } => {
                state.rows[row].is_stored = true;
                // One that was acknowledged early stays acknowledged.
                if state.rows[row].phase == Phase::Begun {
                    state.rows[row].phase = Phase::Committed;
                }
            }
            Action::Acknowledge { row } => {
                state.rows[row].phase = Phase::Acknowledged;
                if let Some(replica) = state.rows[row].replica {
                    state.replicas[replica].known |= bit(row);
                }
            }
            Action::Hear { replica, row } => state.replicas[replica].known |= bit(row),
            Action::Reconcile { replica } => return self.reconcile(state, replica),
            Action::Restart { replica } => stores::restart(state, replica),
            Action::Replicate => state.standby = state.records,
            Action::FailOverRedis => {
                state.left.failovers -= 1;
                state.redis_failed_over = true;
                state.records = state.standby;
                for device in &mut state.devices {
                    device.winner = None;
                    device.reuse_found = false;
                }
            }
            Action::PromotePostgres { lost } => self.promote(state, lost),
            Action::PassTime => self.pass_time(state),
        }
        None
    }

    fn create_session(&self, state: &mut State, device: usize, seen: RowSet) {
        let read = if self.has(Fault::EpochsAfterHashing) {
            state.visible()
        } else {
            seen
        };
        let used = self.bounds.left.logins[device] - state.left.logins[device];
        let session = Session {
            number: used,
            seen,
            epochs: self.epochs(state, read, device),
        };
        let new_key = state.rows.iter().any(|row| row.target == Target::Key && row.is_stored);
        state.devices[device] = Device {
            login: Login::LoggedIn(session),
            new_key,
            ..Device::default()
        };
        state.records[device] = Some(Record {
            number: used,
            generation: 0,
            attempt: None,
            is_recent: true,
            state: Kind::Live,
        });
        if device == 0 {
            state.thief = Thief::default();
        }
    }
}
