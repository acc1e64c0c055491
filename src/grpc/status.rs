//! The conversion of an [`Error`] to a [`tonic::Status`].
//!
//! The caller gets the code, the public message and details (`google.rpc.ErrorInfo`, `BadRequest`, `RetryInfo`). The
//! private part of the error stays in the status as its source, only for [`log`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::model::{Error, ErrorKind};
use crate::proto::convert::reason::{DOMAIN, of_kind};

/// Delay before a retry if the error gives none.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The method with which Envoy asks about each request. It answers a request that it refuses with OK, so its errors concern
/// the proxy.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Metadata key with the delay before a retry, for gRPC clients that retry by themselves (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Key in the metadata of `ErrorInfo` with the scope that the caller lacks.
const REQUIRED_SCOPE: &str = "required_scope";

/// Converts an error to a status.
#[must_use]
pub fn status(error: Error) -> Status {
    let code = code(error.kind);
    let mut details = ErrorDetails::new();
    if let Some(reason) = of_kind(error.kind) {
        let scope = error.required_scope.map(|scope| scope.as_str().to_owned());
        let metadata: HashMap<_, _> = scope
            .map(|scope| (REQUIRED_SCOPE.to_owned(), scope))
            .into_iter()
            .collect();
        details.set_error_info(reason, DOMAIN, metadata);
    }
    for violation in &error.violations {
        details.add_bad_request_violation(violation.field.as_ref(), violation.description.as_ref());
    }
    let mut metadata = MetadataMap::new();
    if matches!(code, Code::ResourceExhausted | Code::Unavailable) {
        let after = error.retry_after.unwrap_or(RETRY_AFTER);
        details.set_retry_info(Some(after));
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        metadata.insert(PUSHBACK, MetadataValue::from(millis));
    }
    let mut status = Status::with_error_details_and_metadata(code, error.message.as_ref(), details, metadata);
    status.set_source(Arc::new(error));
    status
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(error)
    }
}

/// The gRPC code of each kind of error.
#[must_use]
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::PasswordTooWeak
        | ErrorKind::WiderThanGranted
        | ErrorKind::PageTokenInvalid
        | ErrorKind::ResumeTokenInvalid => Code::InvalidArgument,
        ErrorKind::InvalidCredentials
        | ErrorKind::CallerUnauthenticated
        | ErrorKind::ResetTokenInvalid
        | ErrorKind::RefreshTokenMalformed
        | ErrorKind::UserDisabled
        | ErrorKind::SessionRevoked
        | ErrorKind::RefreshTokenExpired
        | ErrorKind::RefreshTokenReused
        | ErrorKind::SessionNotFound => Code::Unauthenticated,
        ErrorKind::CallerNotAllowed
        | ErrorKind::ClientDisabled
        | ErrorKind::GrantNotAllowed
        | ErrorKind::ScopeNotAllowed
        | ErrorKind::AudienceNotAllowed => Code::PermissionDenied,
        ErrorKind::UserNotFound | ErrorKind::ClientNotFound | ErrorKind::KeyNotFound => Code::NotFound,
        ErrorKind::UserExists | ErrorKind::ClientExists => Code::AlreadyExists,
        ErrorKind::LastActiveKey | ErrorKind::StaleUpdate => Code::FailedPrecondition,
        ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::StoreFull => Code::ResourceExhausted,
        ErrorKind::StoreUnavailable | ErrorKind::RevocationsStale | ErrorKind::ShuttingDown => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Logs a failed call with the private part of its error. Call it once for each status, where it goes to the transport.
pub fn log(status: &Status, method: &str, request_id: &str) {
    use std::error::Error as _;
    let error = status.source().and_then(|source| source.downcast_ref::<Error>());
    let cause = error.map(Error::cause_text).unwrap_or_default();
    let (code, message) = (status.code(), status.message());
    // Method, code and reason make the kind of a line, of which telemetry writes a limited number.
    let reason = error.and_then(|error| of_kind(error.kind)).unwrap_or_default();
    let is_logged = error.is_some_and(|error| error.is_logged);
    let is_kind = |kind| error.is_some_and(|error| error.kind == kind);
    let needs_operator =
        (code == Code::Unavailable && !is_kind(ErrorKind::ShuttingDown)) || is_kind(ErrorKind::StoreFull);
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        tracing::error!(method, request_id, ?code, reason, error = cause, "{message}");
    } else if method == CHECK && matches!(code, Code::Unauthenticated | Code::PermissionDenied) {
        tracing::warn!(
            method,
            request_id,
            ?code,
            reason,
            error = cause,
            "a proxy may not ask Check, and refuses every request: {message}; give it a client with countersign:validate"
        );
    } else if needs_operator && !is_logged {
        tracing::warn!(method, request_id, ?code, reason, error = cause, "{message}");
    } else if let Some(scope) = error.and_then(|error| error.required_scope) {
        // A deployment that was set up wrongly looks like this, and its callers often hide what they were told.
        let required_scope = scope.as_str();
        tracing::info!(
            method,
            request_id,
            ?code,
            reason,
            required_scope,
            error = cause,
            "refused a call because its caller lacks a scope; if it should have the scope: `countersign client update \
             --add-scope`, and request the scope with the token"
        );
    } else {
        // Errors of callers are returned to them and must not fill the log; the audit trail has the important ones. Calls
        // that fail because a store is lost are counted in the lines about that.
        tracing::debug!(method, request_id, ?code, reason, error = cause, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scope::CallerScope;

    #[test]
    fn every_kind_has_a_code_and_details() {
        for kind in ErrorKind::ALL {
            let sent = status(Error::from(kind).because("canary-private"));
            let details = sent.get_error_details();
            let without_reason = matches!(
                kind,
                ErrorKind::DeadlineExceeded | ErrorKind::Unimplemented | ErrorKind::Internal
            );
            let info = details.error_info();
            assert_eq!(info.is_none(), without_reason, "{kind:?}");
            if let Some(info) = info {
                assert_eq!(
                    (info.domain.as_str(), Some(info.reason.as_str())),
                    (DOMAIN, of_kind(kind))
                );
            }
            let retried = matches!(sent.code(), Code::ResourceExhausted | Code::Unavailable);
            assert_eq!(details.retry_info().is_some(), retried, "{kind:?}");
            assert_eq!(sent.metadata().contains_key(PUSHBACK), retried, "{kind:?}");
            assert!(!sent.message().is_empty(), "{kind:?}");
            assert!(!format!("{:?}", sent.details()).contains("canary"));
            assert!(!sent.message().contains("canary"), "{kind:?}");
        }
    }

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let of = |code: Code| -> Vec<&str> {
            ErrorKind::ALL
                .into_iter()
                .filter(|kind| self::code(*kind) == code)
                .filter_map(of_kind)
                .collect()
        };
        assert_eq!(
            of(Code::NotFound),
            ["USER_NOT_FOUND", "CLIENT_NOT_FOUND", "KEY_NOT_FOUND"]
        );
        assert_eq!(of(Code::AlreadyExists), ["USER_EXISTS", "CLIENT_EXISTS"]);
        assert_eq!(of(Code::FailedPrecondition), ["LAST_ACTIVE_KEY", "STALE_UPDATE"]);
        assert_eq!(of(Code::ResourceExhausted), ["THROTTLED", "OVERLOADED", "STORE_FULL"]);
        assert_eq!(
            of(Code::Unavailable),
            ["STORE_UNAVAILABLE", "REVOCATIONS_STALE", "SHUTTING_DOWN"]
        );
        assert_eq!(of(Code::PermissionDenied).len(), 5);
        assert_eq!(of(Code::InvalidArgument).len(), 5);
        assert_eq!(of(Code::Unauthenticated).len(), 9);
    }

    #[test]
    fn invalid_fields_and_retry_delays_are_in_the_details() {
        let sent = status(Error::invalid("user.email", "is too long"));
        let details = sent.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("user.email", "is too long")
        );
        let sent = status(Error::from(ErrorKind::Throttled).retry_after(Duration::from_millis(1500)));
        assert_eq!(sent.metadata().get(PUSHBACK).unwrap(), "1500");
        let retry = sent.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(retry, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_missing_scope_is_named_and_its_caller_is_not() {
        for authenticated in [true, false] {
            let sent = status(Error::missing_scope(CallerScope::Revoke, authenticated, "canary"));
            let details = sent.get_error_details();
            let metadata = &details.error_info().unwrap().metadata;
            assert_eq!(
                metadata.get("required_scope").map(String::as_str),
                Some("countersign:revoke")
            );
            assert!(sent.message().contains("countersign:revoke"));
            assert!(!format!("{} {:?}", sent.message(), sent.details()).contains("canary"));
        }
        let other = status(ErrorKind::CallerNotAllowed.into());
        assert!(other.get_error_details().error_info().unwrap().metadata.is_empty());
    }

    #[test]
    fn the_private_part_is_not_in_the_headers() {
        let sent = status(Error::store_unavailable("password=canary at db:5432"));
        let response = sent.into_http::<tonic::body::Body>();
        let headers = format!("{:?}", response.headers());
        assert!(!headers.contains("canary"), "{headers}");
    }
}
