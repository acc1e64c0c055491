//! Why a command failed, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use tonic_types::StatusExt as _;

use super::output;
use super::text::printable;
use crate::app::StartError;
use crate::config::ConfigError;
use crate::model::{Error, ErrorKind};
use crate::proto::convert::reason;

/// Usage and configuration (`EX_USAGE` of sysexits.h).
pub(super) const USAGE: u8 = 64;
/// A store or server that cannot be reached (`EX_UNAVAILABLE`).
pub(super) const UNREACHABLE: u8 = 69;
/// Anything else.
const OTHER: u8 = 1;

/// Why a command failed. The message is one line for people; none if everything is said already.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// The command was written wrongly.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: Some(message.into()),
        }
    }

    /// A store or server cannot be reached.
    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: UNREACHABLE,
            message: Some(message.into()),
        }
    }

    /// Anything else.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self {
            code: OTHER,
            message: Some(message.into()),
        }
    }

    /// Everything is said already.
    pub(super) fn silent() -> Self {
        Self {
            code: OTHER,
            message: None,
        }
    }

    /// Everything is said already, and this is the exit code.
    pub(super) fn said(code: u8) -> Self {
        Self { code, message: None }
    }

    /// Says why, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        if let Some(message) = &self.message {
            output::complain(message);
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

/// A store cannot be opened, or the service not started.
impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self {
            code: error.exit_code(),
            message: Some(error.to_string()),
        }
    }
}

/// Writing an answer failed. Whoever reads no further (`| head`) wants no complaint.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent();
        }
        Self::other(format!("cannot write the answer: {error}"))
    }
}

/// A rule or a store refused. The owner of the store may read the private half too.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = told(&error.to_string(), reason::of_kind(error.kind).unwrap_or_default());
        if error.kind == ErrorKind::StoreUnavailable {
            return Self::unreachable(message);
        }
        Self::other(message)
    }
}

/// A server refused.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .map(|info| info.reason.as_str())
            .unwrap_or_default();
        if std::error::Error::source(&status).is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>) {
            return Self::unreachable(format!(
                "{}: what answers there does not speak gRPC as --server says (http:// for https://, or the other way?)",
                printable(status.message())
            ));
        }
        let message = told(status.message(), reason);
        // A refusal of the service has a reason, and its INTERNAL no source. This is what became of a connection that broke.
        let code = status.code();
        let broken = [tonic::Code::Unknown, tonic::Code::Cancelled].contains(&code)
            || (code == tonic::Code::Internal && std::error::Error::source(&status).is_some());
        if reason.is_empty() && broken {
            return Self::unreachable(format!("the connection to the server broke ({message}); run it again"));
        }
        if status.code() == tonic::Code::Unavailable {
            return Self::unreachable(message);
        }
        Self::other(message)
    }
}

/// What is wrong, its name in the protocol, and what to do.
fn told(message: &str, reason: &str) -> String {
    let mut told = printable(message);
    if !reason.is_empty() {
        told = format!("{told} ({})", printable(reason));
    }
    if let Some(hint) = hint(reason) {
        told = format!("{told}; {hint}");
    }
    told
}

fn hint(reason: &str) -> Option<&'static str> {
    match reason {
        "CALLER_UNAUTHENTICATED" | "CALLER_NOT_ALLOWED" => {
            Some("put an access token with the scope that this needs into COUNTERSIGN_TOKEN")
        }
        "SCOPE_NOT_ALLOWED" | "AUDIENCE_NOT_ALLOWED" | "GRANT_NOT_ALLOWED" => {
            Some("`countersign client update` can allow it")
        }
        "USER_NOT_FOUND" => Some("`countersign user list` lists them"),
        "CLIENT_NOT_FOUND" => Some("`countersign client list` lists them"),
        "KEY_NOT_FOUND" => Some("`countersign key list` lists them"),
        "STALE_UPDATE" => Some("try again"),
        "STORE_UNAVAILABLE" | "OVERLOADED" | "THROTTLED" => Some("try again in a moment"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn codes_tell_usage_from_outage_from_refusal() {
        let of = |failure: Failure| (failure.code, failure.message.unwrap_or_default());
        assert_eq!(of(ConfigError::new("bad").into()).0, 64);
        assert_eq!(of(Error::store_unavailable("down").into()).0, 69);
        assert_eq!(of(Error::invalid("user.email", "bad").into()).0, 1);
        assert_eq!(of(tonic::Status::unavailable("x").into()).0, 69);
        assert_eq!(of(tonic::Status::internal("a defect").into()).0, 1);
        assert_eq!(of(tonic::Status::unknown("a body that ended").into()).0, 69);
        let details = ErrorDetails::with_error_info("CALLER_NOT_ALLOWED", "countersign", []);
        let status = tonic::Status::with_error_details(tonic::Code::PermissionDenied, "no\u{1b}[2J", details);
        let (code, message) = of(status.into());
        assert_eq!(code, 1);
        assert!(
            message.contains("COUNTERSIGN_TOKEN") && !message.contains('\u{1b}'),
            "{message}"
        );
    }
}
