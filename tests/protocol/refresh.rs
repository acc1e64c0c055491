//! The steps of a refresh: the look-up of revocations, the rotation, and the revocation after a reuse.

use countersign::model::{ReusePolicy, Rotation};

use super::bounds::Fault;
use super::judge;
use super::real::{Presentation, Subject, present};
use super::state::{
    Call, Device, Event, Holder, Kind, Login, Phase, Promise, Record, Row, Session, State, Target, bit,
};
use super::system::System;

impl System {
    /// Looks up revocations for a refresh at `replica`. Returns whether it is refused, and what that shows.
    fn look_up(&self, state: &mut State, device: usize, session: Session, replica: usize) -> (bool, Option<Event>) {
        let subject = Subject {
            device,
            session,
            access: None,
        };
        let known = state.replicas[replica].known;
        let in_database = !self.has(Fault::NoLookup) && self.is_revoked(state, state.visible(), subject);
        let in_index =
            !self.has(Fault::NoLookup) && !self.has(Fault::NoIndexLookup) && self.is_revoked(state, known, subject);
        let is_refused = in_database || in_index;
        state.broken = judge::look_up(state, subject, known, is_refused);
        let event = match (is_refused, in_database) {
            (false, _) => None,
            (true, true) => Some(Event::Refused),
            (true, false) => Some(Event::RefusedByIndexAlone),
        };
        (is_refused, event)
    }

    pub fn send(&self, state: &mut State, device: usize, replica: usize) -> Option<Event> {
        let session = state.devices[device].session()?;
        let (is_refused, event) = self.look_up(state, device, session, replica);
        if is_refused {
            log_out(&mut state.devices[device]);
            return event;
        }
        let copy = self
            .has(Fault::CheckThenWrite)
            .then_some(state.records[device])
            .flatten();
        let own = &mut state.devices[device];
        let is_retry = own.is_refreshing;
        if !is_retry && !self.has(Fault::CallsOutliveAttempts) {
            // The device waits for the deadlines of the last refresh.
            self.pass_deadlines(own);
        }
        own.is_refreshing = true;
        let attempt = if is_retry && self.has(Fault::NewAttemptEachTime) {
            Holder::Thief
        } else {
            Holder::Device
        };
        let call = Call {
            replica,
            session,
            generation: own.held,
            attempt,
            is_late: false,
            is_reuse: false,
            copy,
        };
        match &mut own.calls {
            [free @ None, _] | [Some(_), free] => *free = Some(call),
        }
        event
    }

    pub fn thief_send(&self, state: &mut State, replica: usize) -> Option<Event> {
        let (session, generation) = state.thief.stolen?;
        let (is_refused, event) = self.look_up(state, 0, session, replica);
        if is_refused {
            state.thief.stolen = None;
            return event;
        }
        state.thief.call = Some(Call {
            replica,
            session,
            generation,
            attempt: Holder::Thief,
            is_late: false,
            is_reuse: false,
            copy: self.has(Fault::CheckThenWrite).then_some(state.records[0]).flatten(),
        });
        event
    }

    pub fn rotate(&self, state: &mut State, device: usize, call: usize, arrives: bool) -> Option<Event> {
        let slot = call;
        let call = take_call(&mut state.devices[device], slot);
        let outcome = self.present(state, device, &call, Holder::Device);
        let event = outcome.event(state, device, &call);
        let new_key = state.rows.iter().any(|row| row.target == Target::Key && row.is_stored);
        let own = &mut state.devices[device];
        match outcome {
            Outcome::Success { generation, .. } => {
                if arrives && own.is_refreshing && own.held == call.generation {
                    own.held = generation;
                    own.new_key = new_key;
                    own.is_refreshing = false;
                }
            }
            Outcome::Reused => {
                let call = Call { is_reuse: true, ..call };
                match &mut own.calls {
                    [free @ None, _] | [Some(_), free] => *free = Some(call),
                }
            }
            Outcome::Unknown if arrives && !call.is_late => log_out(own),
            Outcome::Unknown | Outcome::Late => {}
        }
        event
    }

    pub fn thief_rotate(&self, state: &mut State) -> Option<Event> {
        let call = state.thief.call.take()?;
        state.thief.has_presented = true;
        let outcome = self.present(state, 0, &call, Holder::Thief);
        let event = outcome.event(state, 0, &call);
        match outcome {
            Outcome::Success { generation, is_replay } => {
                state.thief.stolen = Some((call.session, generation));
                return if is_replay { event } else { Some(Event::ThiefRotated) };
            }
            Outcome::Reused => state.thief.call = Some(Call { is_reuse: true, ..call }),
            Outcome::Unknown | Outcome::Late => state.thief.stolen = None,
        }
        event
    }

    /// The deadline of every call of the device passes. A revocation after a reuse is recorded all the same.
    pub fn pass_deadlines(&self, device: &mut Device) {
        for slot in (0..device.calls.len()).rev() {
            let Some(call) = &mut device.calls[slot] else { continue };
            call.is_late = true;
            if !self.bounds.late_calls && !call.is_reuse {
                take_call(device, slot);
            }
        }
    }

    /// Runs the script, and judges its result.
    fn present(&self, state: &mut State, device: usize, call: &Call, holder: Holder) -> Outcome {
        let stored = call.copy.or(state.records[device]);
        let Some(record) = stored.filter(|record| record.number == call.session.number) else {
            state.broken = judge::unknown(state, holder);
            return Outcome::Unknown;
        };
        let policy = if self.has(Fault::AttemptsIgnored) {
            ReusePolicy::Tolerant
        } else {
            ReusePolicy::Strict
        };
        let presentation = Presentation {
            device,
            number: call.session.number,
            generation: call.generation,
            holder: call.attempt,
            has_grace: !self.has(Fault::NoGrace),
            is_late: call.is_late && !self.has(Fault::DeadlineIgnored),
            policy,
        };
        let (rotation, mut after) = present(record, presentation);
        let is_ahead = call.generation > record.generation;
        let outcome = match rotation {
            Rotation::FastForwarded { .. } if self.has(Fault::NoFastForward) && is_ahead => {
                after = Some(record);
                Outcome::Unknown
            }
            Rotation::Replayed(_) if self.has(Fault::ReplayRotates) => {
                let generation = record.generation + 1;
                after = Some(Record { generation, ..record });
                Outcome::Success {
                    generation,
                    is_replay: true,
                }
            }
            Rotation::Rotated(_) | Rotation::FastForwarded { .. } => Outcome::Success {
                generation: after.map_or(0, |record| record.generation),
                is_replay: false,
            },
            Rotation::Replayed(_) => Outcome::Success {
                generation: record.generation,
                is_replay: true,
            },
            Rotation::Reused(_) => {
                if self.has(Fault::NoTombstone) {
                    after = Some(record);
                }
                Outcome::Reused
            }
            Rotation::Late => Outcome::Late,
            Rotation::Unknown | Rotation::TooFarAhead | Rotation::Expired | Rotation::Refused(_) => Outcome::Unknown,
        };
        state.records[device] = after;
        state.broken = match outcome {
            Outcome::Success { generation, .. } => judge::success(state, device, call, record, generation, holder),
            Outcome::Reused => judge::reused(state, device, holder),
            Outcome::Late if call.is_late => None,
            Outcome::Late | Outcome::Unknown => Some(Promise::SuccessorWorks).filter(|_| holder == Holder::Device),
        };
        outcome
    }

    /// Makes the end of a session after a reuse durable, and tells the caller.
    pub fn record_reuse(&self, state: &mut State, device: usize, call: &Call) {
        let target = Target::Session {
            device,
            number: call.session.number,
        };
        let row = state.rows.iter().position(|row| row.target == target && row.is_stored);
        let row = row.unwrap_or_else(|| {
            state.rows.push(Row {
                target,
                phase: Phase::Acknowledged,
                replica: None,
                is_stored: !self.has(Fault::ReuseNotStored),
                is_excused: false,
            });
            state.rows.len() - 1
        });
        state.rows[row].phase = Phase::Acknowledged;
        if !self.has(Fault::ReuseNotStored) {
            state.replicas[call.replica].known |= bit(row);
        }
    }
}

/// What a presented token meant.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Success { generation: u8, is_replay: bool },
    Reused,
    Late,
    Unknown,
}

impl Outcome {
    fn event(self, state: &State, device: usize, call: &Call) -> Option<Event> {
        let session = call.session;
        let number = session.number;
        let is_kept = |row: &Row| row.target == Target::UserBut { device, number } && row.phase == Phase::Acknowledged;
        match self {
            Self::Success { is_replay: true, .. } => Some(Event::Replayed),
            Self::Success { .. } if state.records[device].is_some_and(|record| record.state == Kind::FastForwarded) => {
                Some(Event::LostRotationHealed)
            }
            Self::Success { .. } if session.seen != 0 => Some(Event::LoggedInAgain),
            Self::Success { .. } if state.rows.iter().any(is_kept) => Some(Event::KeptSessionGoesOn),
            Self::Success { .. } => None,
            Self::Reused => Some(Event::ThiefCaught),
            Self::Late => Some(Event::LateCallRefused),
            Self::Unknown => Some(Event::SessionLost),
        }
    }
}

pub fn take_call(device: &mut Device, call: usize) -> Call {
    let taken = device.calls[call].take().expect("the call is on its way");
    if device.calls[0].is_none() {
        device.calls.swap(0, 1);
    }
    taken
}

/// The device forgets its session; its calls are over.
pub fn log_out(device: &mut Device) {
    device.login = Login::LoggedOut;
    device.is_refreshing = false;
    device.calls = [None; 2];
}
