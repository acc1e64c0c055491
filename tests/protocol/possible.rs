//! Which steps are possible in a state.

use super::bounds::{Aim, Fault, Standby};
use super::state::{Action, Login, Phase, REPLICAS, RowSet, State, Target, has};
use super::system::System;

impl System {
    /// Appends the steps that are possible in this state.
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for device in 0..self.bounds.devices {
            self.of_device(state, device, actions);
        }
        self.of_thief(state, actions);
        self.of_revocations(state, actions);
        self.of_replicas(state, actions);
        self.of_stores(state, actions);
        if state.left.time > 0 {
            actions.push(Action::PassTime);
        }
    }

    fn of_device(&self, state: &State, device: usize, actions: &mut Vec<Action>) {
        let own = &state.devices[device];
        match own.login {
            Login::LoggedOut if state.left.logins[device] > 0 => actions.push(Action::ReadCredential { device }),
            Login::LoggedOut => {}
            Login::Hashing { .. } => actions.push(Action::CreateSession { device }),
            Login::LoggedIn(_) => {
                let begins = !own.is_refreshing && own.held < self.bounds.generations;
                let has_room = if self.bounds.retries {
                    own.calls[1].is_none()
                } else {
                    own.calls[0].is_none()
                };
                // Else the calls of the last refresh are over when the next one begins.
                let outlive = self.bounds.late_calls || self.has(Fault::CallsOutliveAttempts);
                if begins && (!outlive || has_room) || own.is_refreshing && has_room {
                    actions.extend(serving(state).map(|replica| Action::Send { device, replica }));
                }
            }
        }
        for (call, sent) in own.calls.iter().enumerate() {
            let Some(sent) = sent else { continue };
            for arrives in [true, false] {
                actions.push(if sent.is_reuse {
                    Action::Record { device, call, arrives }
                } else {
                    Action::Rotate { device, call, arrives }
                });
            }
        }
    }

    fn of_thief(&self, state: &State, actions: &mut Vec<Action>) {
        let device = &state.devices[0];
        if state.left.thefts > 0 && device.session().is_some() {
            actions.push(Action::Steal);
        }
        match (state.thief.call, state.thief.stolen) {
            (Some(call), _) if call.is_reuse => actions.push(Action::ThiefRecord),
            (Some(_), _) => actions.push(Action::ThiefRotate),
            (None, Some((_, generation))) if generation < self.bounds.generations => {
                actions.extend(serving(state).map(|replica| Action::ThiefSend { replica }));
            }
            (None, _) => {}
        }
    }

    fn of_revocations(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.revocations > 0 {
            // Two transactions on the epoch of one level run one after the other.
            let locked = |target| {
                state
                    .rows
                    .iter()
                    .any(|row| row.phase == Phase::Begun && row.target == target)
            };
            let targets = self.bounds.targets.iter().filter_map(|aim| target(state, *aim));
            for target in targets.filter(|target| !locked(*target)) {
                actions.extend(serving(state).map(|replica| Action::Begin { target, replica }));
            }
        }
        let acknowledges_early = self.fault == Some(Fault::AcknowledgedEarly);
        for (row, it) in state.rows.iter().enumerate() {
            let has_begun = it.phase == Phase::Begun && !it.is_excused;
            if has_begun || acknowledges_early && !it.is_stored {
                actions.push(Action::Commit { row });
            }
            if (it.phase == Phase::Committed || acknowledges_early && has_begun) && it.replica.is_some() {
                actions.push(Action::Acknowledge { row });
            }
        }
    }

    fn of_replicas(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.bounds.feed {
            return;
        }
        let visible = state.visible();
        for (replica, its) in state.replicas.iter().enumerate() {
            for (row, it) in state.rows.iter().enumerate() {
                let is_announced = it.phase != Phase::Begun && it.replica != Some(replica);
                if is_announced && !has(its.known, row) && !its.is_loading {
                    actions.push(Action::Hear { replica, row });
                }
            }
            let is_current = its.is_fresh && its.timeline == state.timeline && visible & !its.known == 0;
            let is_read = !self.bounds.late_commits || visible & !its.read == 0;
            if !(is_current && is_read) {
                actions.push(Action::Reconcile { replica });
            }
            if state.left.restarts > 0 {
                actions.push(Action::Restart { replica });
            }
        }
    }

    fn of_stores(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.failovers == 0 {
            return;
        }
        if self.bounds.redis_fails_over {
            if state.standby != state.records {
                actions.push(Action::Replicate);
            }
            actions.push(Action::FailOverRedis);
        }
        let Some(standby) = self.bounds.postgres_is_promoted else {
            return;
        };
        let may_lack = state
            .rows_where(|row| row.is_stored && (standby == Standby::Asynchronous || row.phase != Phase::Acknowledged));
        let sets = 0..=state.rows_where(|_| true);
        let possible = sets.filter(|lost: &RowSet| lost & !may_lack == 0);
        actions.extend(possible.map(|lost| Action::PromotePostgres { lost }));
    }
}

/// The replicas that serve calls.
fn serving(state: &State) -> impl Iterator<Item = usize> {
    (0..REPLICAS).filter(|replica| !state.replicas[*replica].is_loading)
}

/// What a revocation with this aim would revoke now.
fn target(state: &State, aim: Aim) -> Option<Target> {
    const DEVICE: usize = 0;
    let own = &state.devices[DEVICE];
    let number = own.session().map(|session| session.number);
    Some(match aim {
        Aim::Token => Target::Token {
            device: DEVICE,
            number: number?,
            generation: own.held,
        },
        Aim::Session => Target::Session {
            device: DEVICE,
            number: number?,
        },
        Aim::User => Target::User,
        Aim::UserBut => Target::UserBut {
            device: DEVICE,
            number: number?,
        },
        Aim::Client => Target::Client { device: DEVICE },
        Aim::Key => Target::Key,
        Aim::Global => Target::Global,
    })
}
