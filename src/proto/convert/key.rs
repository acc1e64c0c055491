//! States of signing keys.

use crate::model;
use crate::proto;

impl From<model::KeyState> for proto::KeyState {
    fn from(state: model::KeyState) -> Self {
        match state {
            model::KeyState::Pending => Self::Pending,
            model::KeyState::Active => Self::Active,
            model::KeyState::Retired => Self::Retired,
            model::KeyState::Revoked => Self::Revoked,
        }
    }
}

/// The state of a message; `None` if it is unspecified.
#[must_use]
pub fn state(state: proto::KeyState) -> Option<model::KeyState> {
    match state {
        proto::KeyState::Unspecified => None,
        proto::KeyState::Pending => Some(model::KeyState::Pending),
        proto::KeyState::Active => Some(model::KeyState::Active),
        proto::KeyState::Retired => Some(model::KeyState::Retired),
        proto::KeyState::Revoked => Some(model::KeyState::Revoked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_the_round_trip() {
        for known in model::KeyState::ALL {
            assert_eq!(state(known.into()), Some(known));
        }
    }
}
