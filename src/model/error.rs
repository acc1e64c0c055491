//! The error type of all operations. `grpc::status` maps each kind to a status.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::scope::CallerScope;

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, named by what the caller can do about it. `proto::convert::reason` maps it to
/// `ErrorInfo.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is documented, with its cause and cure, in proto/countersign/v1/reason.proto"
)]
pub enum ErrorKind {
    InvalidRequest,
    PasswordTooWeak,
    WiderThanGranted,
    PageTokenInvalid,
    ResumeTokenInvalid,
    InvalidCredentials,
    CallerUnauthenticated,
    ResetTokenInvalid,
    RefreshTokenMalformed,
    UserDisabled,
    SessionRevoked,
    RefreshTokenExpired,
    RefreshTokenReused,
    SessionNotFound,
    CallerNotAllowed,
    ClientDisabled,
    GrantNotAllowed,
    ScopeNotAllowed,
    AudienceNotAllowed,
    UserNotFound,
    ClientNotFound,
    KeyNotFound,
    UserExists,
    ClientExists,
    LastActiveKey,
    StaleUpdate,
    Throttled,
    Overloaded,
    StoreFull,
    StoreUnavailable,
    RevocationsStale,
    ShuttingDown,
    /// The deadline passed before the work was done. It has no reason on the wire.
    DeadlineExceeded,
    /// The RPC is not implemented. It has no reason on the wire.
    Unimplemented,
    /// A defect of Countersign. It has no reason on the wire.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 35] = [
        Self::InvalidRequest,
        Self::PasswordTooWeak,
        Self::WiderThanGranted,
        Self::PageTokenInvalid,
        Self::ResumeTokenInvalid,
        Self::InvalidCredentials,
        Self::CallerUnauthenticated,
        Self::ResetTokenInvalid,
        Self::RefreshTokenMalformed,
        Self::UserDisabled,
        Self::SessionRevoked,
        Self::RefreshTokenExpired,
        Self::RefreshTokenReused,
        Self::SessionNotFound,
        Self::CallerNotAllowed,
        Self::ClientDisabled,
        Self::GrantNotAllowed,
        Self::ScopeNotAllowed,
        Self::AudienceNotAllowed,
        Self::UserNotFound,
        Self::ClientNotFound,
        Self::KeyNotFound,
        Self::UserExists,
        Self::ClientExists,
        Self::LastActiveKey,
        Self::StaleUpdate,
        Self::Throttled,
        Self::Overloaded,
        Self::StoreFull,
        Self::StoreUnavailable,
        Self::RevocationsStale,
        Self::ShuttingDown,
        Self::DeadlineExceeded,
        Self::Unimplemented,
        Self::Internal,
    ];
}

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request (`user.email`, `scope`).
    pub field: Cow<'static, str>,
    /// What is wrong with it, for the caller. It never contains the value.
    pub description: Cow<'static, str>,
}

/// The cause of an [`Error`]: the error of a store or library, or a text.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation failed: a message for the caller and a cause for the log.
#[derive(Clone)]
pub struct Error {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The message for the caller. It contains no secret, no value of the request and no version.
    pub message: Cow<'static, str>,
    /// The cause, for the log only; it contains no secret. It is also the `source` of this error.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// The invalid fields of the request.
    pub violations: Vec<Violation>,
    /// How long the caller should wait before it tries again.
    pub retry_after: Option<Duration>,
    /// The scope that the caller lacks, if that is why it is refused.
    pub required_scope: Option<CallerScope>,
    /// Whether the log tells of the cause by lines of its own, for instance that a store is lost and that it is back. The
    /// calls that fail meanwhile are counted and not logged one by one.
    pub is_logged: bool,
}

impl Error {
    /// An error of this kind with a message for the caller.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
            violations: Vec::new(),
            retry_after: None,
            required_scope: None,
            is_logged: false,
        }
    }

    /// A call is refused because its caller lacks a scope. `authenticated` decides between `CALLER_NOT_ALLOWED` and
    /// `CALLER_UNAUTHENTICATED`. `caller` goes to the log only.
    #[must_use]
    pub fn missing_scope(scope: CallerScope, authenticated: bool, caller: &str) -> Self {
        let scope_name = scope.as_str();
        let error = if authenticated {
            Self::new(
                ErrorKind::CallerNotAllowed,
                format!("the caller lacks the scope {scope_name}"),
            )
            .because(format!("the caller is {caller}"))
        } else {
            Self::new(
                ErrorKind::CallerUnauthenticated,
                format!("the caller is not authenticated; this needs the scope {scope_name}"),
            )
        };
        Self {
            required_scope: Some(scope),
            ..error
        }
    }

    /// An error of the kind `INVALID_REQUEST` for one field.
    #[must_use]
    pub fn invalid(field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) -> Self {
        Self::at(ErrorKind::InvalidRequest, field, description)
    }

    /// An error of `kind` for one field. The message names the field.
    #[must_use]
    pub fn at(kind: ErrorKind, field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) -> Self {
        let (field, description) = (field.into(), description.into());
        let mut error = Self::new(kind, format!("{field}: {description}"));
        error.violations.push(Violation { field, description });
        error
    }

    /// A store cannot be reached. `cause` goes to the log only.
    #[must_use]
    pub fn store_unavailable(cause: impl Into<Cause>) -> Self {
        Self::new(ErrorKind::StoreUnavailable, "a store cannot be reached; try again")
            .because(cause)
            .retry_after(Duration::from_secs(1))
    }

    /// Too little is known of revocations to answer. It allocates nothing: while knowledge is too old, every validation
    /// gets it. The feed logs when that begins and ends.
    #[must_use]
    pub fn revocations_stale() -> Self {
        Self::from(ErrorKind::RevocationsStale)
            .retry_after(Duration::from_secs(1))
            .already_logged()
    }

    /// A defect of Countersign. `cause` goes to the log only.
    #[must_use]
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::new(ErrorKind::Internal, "internal error").because(cause)
    }

    /// Sets the cause, for the log only.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into().into());
        self
    }

    /// The text of the cause; empty if there is none.
    #[must_use]
    pub fn cause_text(&self) -> String {
        self.cause.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Marks that the log tells of the cause by lines of its own.
    #[must_use]
    pub fn already_logged(mut self) -> Self {
        self.is_logged = true;
        self
    }

    /// Sets how long the caller should wait before it tries again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        let message = match kind {
            ErrorKind::InvalidRequest => "the request is not valid",
            ErrorKind::PasswordTooWeak => "the password is too weak",
            ErrorKind::WiderThanGranted => "wider than the session was granted",
            ErrorKind::PageTokenInvalid => return Self::at(kind, "page_token", "not a page token of this query"),
            ErrorKind::ResumeTokenInvalid => {
                return Self::at(kind, "resume_token", "not a resume token of this deployment");
            }
            ErrorKind::UserExists => return Self::at(kind, "user.username", "a user of this name exists"),
            ErrorKind::ClientExists => return Self::at(kind, "client.client_id", "a client of this id exists"),
            ErrorKind::InvalidCredentials => "invalid credentials",
            ErrorKind::CallerUnauthenticated => "the caller is not authenticated",
            ErrorKind::ResetTokenInvalid => "reset_token: unknown, used or expired",
            ErrorKind::RefreshTokenMalformed => "refresh_token: not a refresh token of this deployment",
            ErrorKind::UserDisabled => "the user is disabled",
            ErrorKind::SessionRevoked => "the session was revoked; log in again",
            ErrorKind::RefreshTokenExpired => "the session has expired; log in again",
            ErrorKind::RefreshTokenReused => "the refresh token was used twice; the session is ended",
            ErrorKind::SessionNotFound => "no such session; log in again",
            ErrorKind::CallerNotAllowed => "the caller may not do this",
            ErrorKind::ClientDisabled => "the client is disabled",
            ErrorKind::GrantNotAllowed => "the client may not use this grant",
            ErrorKind::ScopeNotAllowed => "scope: not allowed",
            ErrorKind::AudienceNotAllowed => "audience: not allowed",
            ErrorKind::UserNotFound => "no such user",
            ErrorKind::ClientNotFound => "no such client",
            ErrorKind::KeyNotFound => "no such key",
            ErrorKind::LastActiveKey => "the only usable signing key cannot be revoked",
            ErrorKind::StaleUpdate => "the row was changed since it was read",
            ErrorKind::Throttled => "too many attempts; try again later",
            ErrorKind::Overloaded => "overloaded; try again later",
            ErrorKind::StoreFull => "a store is full",
            ErrorKind::StoreUnavailable => "a store cannot be reached; try again",
            ErrorKind::RevocationsStale => "revocations are not fresh enough to answer",
            ErrorKind::ShuttingDown => "shutting down",
            ErrorKind::DeadlineExceeded => "the deadline passed",
            ErrorKind::Unimplemented => "not implemented",
            ErrorKind::Internal => "internal error",
        };
        Self::new(kind, message)
    }
}
