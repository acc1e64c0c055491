//! The model as the checker sees it, with its properties in words.

use stateright::{Model, Property};

use super::state::{Action, Event, Promise, State};
use super::system::System;

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.step(state, action).0)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<_> = Promise::ALL.map(always).into();
        properties.extend(self.bounds.shows.iter().map(|event| sometimes(*event)));
        properties
    }
}

impl System {
    /// Whether the next step can show `event`.
    fn can_show(&self, state: &State, event: Event) -> bool {
        let mut actions = Vec::new();
        self.possible(state, &mut actions);
        actions
            .into_iter()
            .any(|action| self.step(state, action).1 == Some(event))
    }
}

impl Promise {
    pub const ALL: [Self; 8] = [
        Self::RevokedStaysRevoked,
        Self::AsOfIsComplete,
        Self::ReuseEndsTheSession,
        Self::OneSuccessor,
        Self::OneWinner,
        Self::SuccessorWorks,
        Self::HonestStaysIn,
        Self::OnlyTheRevoked,
    ];

    /// The promise in words, as `docs/model.md` has it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::RevokedStaysRevoked => "nothing succeeds after an acknowledged revocation",
            Self::AsOfIsComplete => "a reconciled index has every revocation that was acknowledged before",
            Self::ReuseEndsTheSession => "no token of a session works after a reuse of one was found",
            Self::OneSuccessor => "each generation has one successor",
            Self::OneWinner => "of two holders of one generation, one gets its successor",
            Self::SuccessorWorks => "an acknowledged successor works",
            Self::HonestStaysIn => "a device that follows the rules is not ended for reuse",
            Self::OnlyTheRevoked => "only what a revocation covers is refused",
        }
    }
}

fn always(promise: Promise) -> Property<System> {
    type Condition = fn(&System, &State) -> bool;
    let condition: Condition = match promise {
        Promise::RevokedStaysRevoked => |_, state| state.broken != Some(Promise::RevokedStaysRevoked),
        Promise::AsOfIsComplete => |_, state| state.broken != Some(Promise::AsOfIsComplete),
        Promise::ReuseEndsTheSession => |_, state| state.broken != Some(Promise::ReuseEndsTheSession),
        Promise::OneSuccessor => |_, state| state.broken != Some(Promise::OneSuccessor),
        Promise::OneWinner => |_, state| state.broken != Some(Promise::OneWinner),
        Promise::SuccessorWorks => |_, state| state.broken != Some(Promise::SuccessorWorks),
        Promise::HonestStaysIn => |_, state| state.broken != Some(Promise::HonestStaysIn),
        Promise::OnlyTheRevoked => |_, state| state.broken != Some(Promise::OnlyTheRevoked),
    };
    Property::always(promise.words(), condition)
}

/// What can happen, in words, as `docs/model.md` has it.
pub const fn words(event: Event) -> &'static str {
    match event {
        Event::Replayed => "a retry gets the same successor",
        Event::LostRotationHealed => "a lost rotation is healed",
        Event::SessionLost => "a failover loses a session",
        Event::ThiefRotated => "a thief is first",
        Event::ThiefCaught => "a theft is found",
        Event::Refused => "a revoked session is refused",
        Event::RefusedByIndexAlone => "the index refuses what the database has lost",
        Event::LoggedInAgain => "a login after a revocation goes on",
        Event::KeptSessionGoesOn => "a kept session goes on",
        Event::LateCommitRead => "a late commit is read",
        Event::LateCallRefused => "a call that comes too late is refused",
        Event::WrittenBack => "a lost revocation is written back",
    }
}

fn sometimes(event: Event) -> Property<System> {
    type Condition = fn(&System, &State) -> bool;
    // A condition is a plain function, so there is one for each event.
    let condition: Condition = match event {
        Event::Replayed => |system, state| system.can_show(state, Event::Replayed),
        Event::LostRotationHealed => |system, state| system.can_show(state, Event::LostRotationHealed),
        Event::SessionLost => |system, state| system.can_show(state, Event::SessionLost),
        Event::ThiefRotated => |system, state| system.can_show(state, Event::ThiefRotated),
        Event::ThiefCaught => |system, state| system.can_show(state, Event::ThiefCaught),
        Event::Refused => |system, state| system.can_show(state, Event::Refused),
        Event::RefusedByIndexAlone => |system, state| system.can_show(state, Event::RefusedByIndexAlone),
        Event::LoggedInAgain => |system, state| system.can_show(state, Event::LoggedInAgain),
        Event::KeptSessionGoesOn => |system, state| system.can_show(state, Event::KeptSessionGoesOn),
        Event::LateCommitRead => |system, state| system.can_show(state, Event::LateCommitRead),
        Event::LateCallRefused => |system, state| system.can_show(state, Event::LateCallRefused),
        Event::WrittenBack => |system, state| system.can_show(state, Event::WrittenBack),
    };
    Property::sometimes(words(event), condition)
}
