//! Why a token is not active. This is a result of `Validate`, not an error.

/// Why a token is not active, in the order of the checks: the first reason that applies is reported. The reasons are
/// documented in `proto/countersign/v1/reason.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is documented in proto/countersign/v1/reason.proto")]
pub enum InactiveReason {
    Malformed,
    Unsupported,
    WrongType,
    UnknownKey,
    RevokedKey,
    BadSignature,
    WrongIssuer,
    NotYetValid,
    Expired,
    WrongAudience,
    InsufficientScope,
    Revoked,
}

impl InactiveReason {
    /// Every reason, in the order of the checks.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Unsupported,
        Self::WrongType,
        Self::UnknownKey,
        Self::RevokedKey,
        Self::BadSignature,
        Self::WrongIssuer,
        Self::NotYetValid,
        Self::Expired,
        Self::WrongAudience,
        Self::InsufficientScope,
        Self::Revoked,
    ];

    /// The name in metrics: that of the wire, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::WrongType => "wrong_type",
            Self::UnknownKey => "unknown_key",
            Self::RevokedKey => "revoked_key",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer => "wrong_issuer",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::WrongAudience => "wrong_audience",
            Self::InsufficientScope => "insufficient_scope",
            Self::Revoked => "revoked",
        }
    }
}
