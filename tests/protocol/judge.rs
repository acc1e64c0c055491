//! The promises, judged step by step. What a revocation covers is decided here from the order of events alone: by which
//! revocations a login had seen, without epochs.

use super::real::Subject;
use super::state::{Call, Holder, Kind, Phase, Promise, Record, Row, RowSet, State, Target, has};
use super::system::System;

/// Whether the revocation ends this session or access token.
fn covers(row: &Row, n: usize, subject: &Subject) -> bool {
    let is_later = !has(subject.session.seen, n);
    match row.target {
        Target::Token {
            device,
            number,
            generation,
        } => {
            device == subject.device
                && number == subject.session.number
                && subject.access.is_some_and(|(own, _)| own == generation)
        }
        Target::Session { device, number } => device == subject.device && number == subject.session.number,
        Target::User | Target::Global => is_later,
        Target::UserBut { device, number } => is_later && (device, number) != (subject.device, subject.session.number),
        Target::Client { device } => is_later && device == subject.device,
        Target::Key => subject.access.is_some_and(|(_, new_key)| !new_key),
    }
}

fn is_covered(state: &State, subject: &Subject, counts: impl Fn(&Row, usize) -> bool) -> bool {
    let mut rows = state.rows.iter().enumerate();
    rows.any(|(n, row)| counts(row, n) && covers(row, n, subject))
}

/// Whether `is_refused` may be said of the subject, by a replica that knows these rows.
fn judge(
    state: &State,
    subject: &Subject,
    is_refused: bool,
    in_force: impl Fn(&Row, usize) -> bool,
) -> Option<Promise> {
    if is_refused {
        let has_cause = is_covered(state, subject, |row, _| row.phase != Phase::Begun);
        return (!has_cause && !state.lost_rows).then_some(Promise::OnlyTheRevoked);
    }
    is_covered(state, subject, in_force).then_some(Promise::RevokedStaysRevoked)
}

/// The look-up of a refresh at a replica that knows `known`.
pub fn look_up(state: &State, subject: Subject, known: RowSet, is_refused: bool) -> Option<Promise> {
    judge(state, &subject, is_refused, |row, n| {
        row.phase == Phase::Acknowledged && (!row.is_excused || has(known, n))
    })
}

/// Every Validate of the newest access token of each device, at every replica that answers.
pub fn validations(system: &System, state: &State) -> Option<Promise> {
    let mut replicas = state.replicas.iter().filter(|replica| system.validates(**replica));
    replicas.find_map(|replica| {
        let mut devices = state.devices.iter().enumerate();
        devices.find_map(|(device, own)| {
            let subject = Subject {
                device,
                session: own.session()?,
                access: Some((own.held, own.new_key)),
            };
            let is_refused = system.is_revoked(state, replica.known, subject);
            judge(state, &subject, is_refused, |row, n| {
                row.phase == Phase::Acknowledged && has(state.overdue, n) && !row.is_excused
            })
        })
    })
}

/// A reconciliation: the index has everything that was acknowledged before.
pub fn reconciled(state: &State, replica: usize) -> Option<Promise> {
    let promised = state.rows_where(|row| row.phase == Phase::Acknowledged && !row.is_excused);
    (promised & !state.replicas[replica].known != 0).then_some(Promise::AsOfIsComplete)
}

/// A presented token that got a successor.
pub fn success(
    state: &mut State,
    device: usize,
    call: &Call,
    before: Record,
    generation: u8,
    holder: Holder,
) -> Option<Promise> {
    let presented = call.generation;
    let own = &mut state.devices[device];
    if own.reuse_found {
        return Some(Promise::ReuseEndsTheSession);
    }
    let after_lost_rotations = before.state == Kind::FastForwarded && generation == presented + 2;
    if generation != presented + 1 && !after_lost_rotations {
        return Some(Promise::OneSuccessor);
    }
    if state.redis_failed_over {
        return None;
    }
    let is_second = own
        .winner
        .is_some_and(|(of, winner)| of == presented && winner != holder);
    own.winner = Some((presented, holder));
    is_second.then_some(Promise::OneWinner)
}

/// A presented token that counts as a reuse.
pub fn reused(state: &mut State, device: usize, holder: Holder) -> Option<Promise> {
    state.devices[device].reuse_found = true;
    let has_thief = device == 0 && state.thief.has_presented;
    (holder == Holder::Device && !has_thief).then_some(Promise::HonestStaysIn)
}

/// A presented token without a record.
pub fn unknown(state: &State, holder: Holder) -> Option<Promise> {
    (holder == Holder::Device && !state.redis_failed_over).then_some(Promise::SuccessorWorks)
}
