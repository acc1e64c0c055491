//! Reasons: why a token is not active, and why a call failed.

use crate::model::{self, ErrorKind};
use crate::proto;

/// The `ErrorInfo.domain` of every error of Countersign.
pub const DOMAIN: &str = "countersign";

/// The prefix of the names of `proto::ErrorReason`, which `ErrorInfo.reason` leaves out.
const PREFIX: &str = "ERROR_REASON_";

/// The `ErrorInfo.reason` of a kind; `None` for the kinds without a reason.
#[must_use]
pub fn of_kind(kind: ErrorKind) -> Option<&'static str> {
    error_reason(kind)?.as_str_name().strip_prefix(PREFIX)
}

/// The reverse of [`of_kind`]; `None` for a reason of a later version.
#[must_use]
pub fn kind_of(reason: &str) -> Option<ErrorKind> {
    ErrorKind::ALL.into_iter().find(|kind| of_kind(*kind) == Some(reason))
}

/// The documented enum value of a kind; `None` for the kinds without a reason.
#[must_use]
pub const fn error_reason(kind: ErrorKind) -> Option<proto::ErrorReason> {
    use proto::ErrorReason as Reason;
    Some(match kind {
        ErrorKind::InvalidRequest => Reason::InvalidRequest,
        ErrorKind::PasswordTooWeak => Reason::PasswordTooWeak,
        ErrorKind::WiderThanGranted => Reason::WiderThanGranted,
        ErrorKind::PageTokenInvalid => Reason::PageTokenInvalid,
        ErrorKind::ResumeTokenInvalid => Reason::ResumeTokenInvalid,
        ErrorKind::InvalidCredentials => Reason::InvalidCredentials,
        ErrorKind::CallerUnauthenticated => Reason::CallerUnauthenticated,
        ErrorKind::ResetTokenInvalid => Reason::ResetTokenInvalid,
        ErrorKind::RefreshTokenMalformed => Reason::RefreshTokenMalformed,
        ErrorKind::UserDisabled => Reason::UserDisabled,
        ErrorKind::SessionRevoked => Reason::SessionRevoked,
        ErrorKind::RefreshTokenExpired => Reason::RefreshTokenExpired,
        ErrorKind::RefreshTokenReused => Reason::RefreshTokenReused,
        ErrorKind::SessionNotFound => Reason::SessionNotFound,
        ErrorKind::CallerNotAllowed => Reason::CallerNotAllowed,
        ErrorKind::ClientDisabled => Reason::ClientDisabled,
        ErrorKind::GrantNotAllowed => Reason::GrantNotAllowed,
        ErrorKind::ScopeNotAllowed => Reason::ScopeNotAllowed,
        ErrorKind::AudienceNotAllowed => Reason::AudienceNotAllowed,
        ErrorKind::UserNotFound => Reason::UserNotFound,
        ErrorKind::ClientNotFound => Reason::ClientNotFound,
        ErrorKind::KeyNotFound => Reason::KeyNotFound,
        ErrorKind::UserExists => Reason::UserExists,
        ErrorKind::ClientExists => Reason::ClientExists,
        ErrorKind::LastActiveKey => Reason::LastActiveKey,
        ErrorKind::StaleUpdate => Reason::StaleUpdate,
        ErrorKind::Throttled => Reason::Throttled,
        ErrorKind::Overloaded => Reason::Overloaded,
        ErrorKind::StoreFull => Reason::StoreFull,
        ErrorKind::StoreUnavailable => Reason::StoreUnavailable,
        ErrorKind::RevocationsStale => Reason::RevocationsStale,
        ErrorKind::ShuttingDown => Reason::ShuttingDown,
        ErrorKind::DeadlineExceeded | ErrorKind::Unimplemented | ErrorKind::Internal => return None,
    })
}

impl From<model::InactiveReason> for proto::InactiveReason {
    fn from(reason: model::InactiveReason) -> Self {
        match reason {
            model::InactiveReason::Malformed => Self::Malformed,
            model::InactiveReason::Unsupported => Self::Unsupported,
            model::InactiveReason::WrongType => Self::WrongType,
            model::InactiveReason::UnknownKey => Self::UnknownKey,
            model::InactiveReason::RevokedKey => Self::RevokedKey,
            model::InactiveReason::BadSignature => Self::BadSignature,
            model::InactiveReason::WrongIssuer => Self::WrongIssuer,
            model::InactiveReason::NotYetValid => Self::NotYetValid,
            model::InactiveReason::Expired => Self::Expired,
            model::InactiveReason::WrongAudience => Self::WrongAudience,
            model::InactiveReason::InsufficientScope => Self::InsufficientScope,
            model::InactiveReason::Revoked => Self::Revoked,
        }
    }
}

/// The reason of a message; `None` if it is unspecified.
#[must_use]
pub fn inactive(reason: proto::InactiveReason) -> Option<model::InactiveReason> {
    model::InactiveReason::ALL
        .into_iter()
        .find(|known| proto::InactiveReason::from(*known) == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_reasons_are_the_same_list_in_the_same_order() {
        let numbers: Vec<i32> = ErrorKind::ALL
            .into_iter()
            .filter_map(error_reason)
            .map(i32::from)
            .collect();
        assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
        assert!(proto::ErrorReason::try_from(33).is_err(), "every reason has a kind");
        for kind in ErrorKind::ALL {
            assert_eq!(of_kind(kind).map(kind_of), error_reason(kind).map(|_| Some(kind)));
        }
        assert_eq!(of_kind(ErrorKind::RefreshTokenReused), Some("REFRESH_TOKEN_REUSED"));
        assert_eq!(kind_of("OF_A_LATER_VERSION"), None);
    }

    #[test]
    fn inactive_reasons_keep_their_order() {
        let numbers: Vec<i32> = model::InactiveReason::ALL
            .into_iter()
            .map(|reason| proto::InactiveReason::from(reason).into())
            .collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        for reason in model::InactiveReason::ALL {
            assert_eq!(inactive(reason.into()), Some(reason));
        }
        assert_eq!(inactive(proto::InactiveReason::Unspecified), None);
    }
}
